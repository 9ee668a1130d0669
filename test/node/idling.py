"""The price of idle processes that clients subscribed to: CPU of the node's VM and probes, without and with subscribers."""

import os
import time
import urllib.parse

import programs
from node import until
from watching import Watch, counters

# Topics of one connection, below the limit of a server.
TOPICS = 100
# Seconds until a process without a slot counts as quiet, and more.
QUIET = 25
SECONDS = 60
FOLLOWED = 'tails{state="running"}'
# Per cent of a core that a thousand processes may cost.
ALLOWED = 3.0


def cpu(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(options, name):
    """Per cent of a core over a minute."""
    spent, probes, began = cpu(options.pid), counters(options.websocket)["tail_probes"], time.monotonic()
    time.sleep(SECONDS)
    took, probed = time.monotonic() - began, counters(options.websocket)["tail_probes"] - probes
    share = 100 * (cpu(options.pid) - spent) / took
    print(f"  {name}: {share:.2f} % of a core, {probed / took:.0f} probes a second; load {os.getloadavg()[0]:.2f}", flush=True)
    return share


def computed(node, wallet):
    process = node.process(wallet, programs.LEDGER)
    node.compute(process, 0)
    return process


def quiet(node, options):
    """Subscribes to processes of which slot 0 is computed and nothing else is scheduled: those of `--process`, or new ones."""
    processes = options.process.split(",") if options.process else [computed(node, options.stranger) for _ in range(options.count)]
    alone = measured(options, "without subscribers")
    groups = [processes[at : at + TOPICS] for at in range(0, len(processes), TOPICS)]
    watches = [Watch(options.websocket, "&".join("process=" + urllib.parse.quote(one) for one in group)) for group in groups]
    if not until(lambda: counters(options.websocket)[FOLLOWED] >= len(processes), 300):
        return [f"{counters(options.websocket)[FOLLOWED]:.0f} of {len(processes)} are followed"]
    time.sleep(QUIET)
    cost = measured(options, f"{len(processes)} followed") - alone
    for watch in watches:
        watch.close()
    print(f"  {len(processes)} idle processes cost {cost:.2f} % of a core")
    return [] if cost <= ALLOWED else [f"more than {ALLOWED} %"]
