"""Attacks a running HyperBEAM node that has the device, and shows what its subscribers got. README.md tells more."""

import argparse
import sys

import flows
import idling
import limits
import polling
import replaying
import resuming
import runs
import seams
from node import Node
from signing import Wallet

PARTS = {
    "attacks": runs.attacks,
    "silence": runs.silence,
    "hints": runs.hints,
    "flows": flows.flows,
    "before": flows.before,
    "after": flows.after,
    "slots": flows.slots,
    "lua": flows.lua,
    "delay": flows.delay,
    "quiet": idling.quiet,
    "limits": limits.limits,
    "resume": resuming.resume,
    "follow": resuming.follow,
    "polling": polling.polling,
    "seams": seams.seams,
    "replays": replaying.replays,
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", required=True, help="the node, like http://127.0.0.1:8734")
    parser.add_argument("--websocket", required=True, help="the device, like ws://127.0.0.1:8735/ws; - for a node without it")
    parser.add_argument("--wallet", required=True, help="the stranger's wallet; it is made if it is not there")
    parser.add_argument("--state", default="node-state.json", help="the file that carries processes over a restart of the node")
    parser.add_argument("--process", help="processes of the operator: one for the part slots; for the part quiet many with commas, of which slot 0 is computed, or none, for new ones")
    parser.add_argument("--pid", type=int, help="the node's VM, for the part quiet")
    parser.add_argument("--count", type=int, default=300, help="slots of the parts slots, resume, follow and polling, processes of the part quiet, 300")
    parser.add_argument("--seams", type=int, default=1000, help="replays of the part seams, 1,000")
    parser.add_argument("--restart", help="a command for the part resume that restarts the node, and returns when it serves again")
    parser.add_argument("--hints", type=int, default=20_000, help="ids of the part hints, 20,000")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the part silence, 3")
    parser.add_argument("--only", help="only attacks whose name contains this text")
    parser.add_argument("--sample", type=int, default=1, help="each how manyth attack of a table, 1 for all")
    parser.add_argument("--batch", type=int, default=20, help="attacks at once, after which the victim must get a further slot, 20")
    parser.add_argument("parts", nargs="+", choices=PARTS)
    return parser.parse_args()


def main():
    options = arguments()
    options.stranger = Wallet.load(options.wallet)
    failed = 0
    for name in options.parts:
        failures = PARTS[name](Node(options.node), options)
        print(f"{name}: {'passed' if not failures else 'FAILED'}", *failures, sep="\n  ", flush=True)
        failed += bool(failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
