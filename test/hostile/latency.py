"""What hostile clients cost healthy ones: the latency of the same steady stream without and with each attack.

Rounds are paired and interleaved. In each the stream runs three times, in turn: with nobody else; while the attack goes to
another server of the same kind on this machine, which takes the same cores away; and under the attack. The second is
what shows the server's share of it: an attacker on the same machine is not to be had for nothing.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../..")
sys.path[:0] = [os.path.join(ROOT, "bench"), os.path.join(ROOT, "test/e2e")]

from support.tokens import keys  # noqa: E402
from wsbench import measure, prepare, stats  # noqa: E402
from wsbench.procs import raise_file_limit  # noqa: E402
from wsbench.servers import Load, Server  # noqa: E402

GOAL, WORST_GOAL = 1.3, 1.5
CLIENTS, RATE = 500, 100
# Slow handshakes end soon enough to be made again.
SETTINGS = {"handshake_timeout": 2000, "max_inbound_rate": 0}
VARIANTS = ("calm", "elsewhere", "attacked")
# Messages beside the stream, in every variant: an attack that makes each message dearer needs some.
FRESH = {"rate": 100, "tags": 5, "size": 100}
LARGE = {"rate": 200, "tags": 1, "size": 2000}
# The healthy clients have no token: their topic is public. No attacker is told to come later.
TOKENS = {"access": "token", "token_keys": keys(), "public_topics": "t", "max_logins": 10_000}


@dataclass
class Plan:
    """What else an attack needs: settings, messages beside the stream, how many are kept before it begins, and slots of a
    process in a node's cache. One that takes its time says for how long it is measured, and how often at the most. `fault` finds one in the attackers' counts."""

    settings: dict = field(default_factory=dict)
    background: dict = None
    kept: int = 0
    slots: int = 0
    clients: int = CLIENTS
    seconds: float = None
    rounds: int = None
    fault: Callable[[dict], str] = lambda counts: None


def not_all_closed(counts):
    """Each connection was there in time, and was closed with 3000."""
    if counts["late"] or counts.get("closed_3000") != counts["held"]:
        return f"not all connections were closed with 3000: {counts}"
    return None


def not_verified(counts):
    """The attackers have the answers to as many forged tokens as they mean to send, or nearly so."""
    if counts["forged"] < 900 * counts["seconds"]:
        return f"less than 900 forged tokens a second were verified: {counts}"
    return None


def not_replayed(counts):
    """The attackers have read slots, so the server had them to read from the cache."""
    return None if counts.get("received") else f"no slot was replayed: {counts}"


ATTACKS = {
    **{
        name: Plan()
        for name in (
            "silent_sockets", "slow_requests", "never_reading", "resets", "ping_floods", "frames_of_one_byte",
            "frames_of_no_bytes", "subscription_storms", "crowds", "garbage", "resets_behind_requests",
            "unsubscribing_of_12000_names",
        )
    },
    "globs": Plan(background=FRESH),
    "templates": Plan(background=FRESH),
    "latest_of_many_topics": Plan({"send_buffer_bytes": 256 * 1024}, LARGE),
    "infos": Plan(background=FRESH),
    "replays_with_expressions": Plan(kept=20_000),
    "requests_put_off": Plan(kept=20_000),
    "replays_of_10000_slots": Plan(slots=10_000, clients=1000, seconds=10, fault=not_replayed),
    "slow_readers": Plan({"send_buffer_bytes": 4 << 20, "ping_interval": 1000}, LARGE),
    "tokens_that_end_within_a_minute": Plan(TOKENS, seconds=62, rounds=2, fault=not_all_closed),
    "tokens_that_end_at_once": Plan(TOKENS, seconds=5, fault=not_all_closed),
    "forged_tokens_in_requests": Plan(TOKENS, fault=not_verified),
    "forged_tokens_in_frames": Plan(TOKENS, fault=not_verified),
}


def say(line):
    print(line, flush=True)


class Attackers:
    """A process that attacks a server while the block runs."""

    def __init__(self, attack, server, process):
        command = [sys.executable, os.path.join(HERE, "attackers.py"), str(server.port), attack, process]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        line = self.process.stdout.readline()
        if line != "ready\n":
            raise measure.Failure(f"the attackers say {line!r}")
        return self

    def __exit__(self, *_):
        said, _ = self.process.communicate(timeout=120)
        if self.process.returncode != 0:
            raise measure.Failure("the attackers have failed")
        self.counts = json.loads(said)


def compare(attack, rounds, seconds, ready):
    """Figures of each round, by variant."""
    results = []
    plan = ATTACKS[attack]
    settings = SETTINGS | plan.settings
    seconds = plan.seconds or seconds
    with Server("device", ready, settings=settings) as server, Server("device", ready, settings=settings) as other:
        processes = {}
        for each in (server, other):
            processes[each] = each.ask(120, cmd="slots", count=plan.slots)["process"] if plan.slots else ""
            if plan.kept:
                each.ask(60, cmd="keep", count=plan.kept, size=300)
            if plan.background:
                each.ask(10, cmd="background", **plan.background)
        with Load(server, plan.clients) as load:
            measure.steady(server, load, RATE, 1)
            for number in range(min(rounds, plan.rounds or rounds)):
                turn = number % len(VARIANTS)
                results.append({})
                for variant in VARIANTS[turn:] + VARIANTS[:turn]:
                    if variant == "calm":
                        figures = measure.steady(server, load, RATE, seconds)
                    else:
                        target = other if variant == "elsewhere" else server
                        with Attackers(attack, target, processes[target]) as attackers:
                            figures = measure.steady(server, load, RATE, seconds)
                        figures["connections"] = attackers.counts.get("connections", 0)
                        if fault := plan.fault(attackers.counts):
                            raise measure.Failure(fault)
                    results[-1][variant] = figures
    return results


def row(attack, results):
    def of(variant, name):
        return [figures[variant][name] for figures in results]

    faults = sum(figures[variant][fault] for figures in results for variant in VARIANTS for fault in measure.FAULTS)
    def by(variant, name):
        """Where nothing arrived under the attack, that is no short time."""
        return [
            pair["attacked"][name] / max(pair[variant][name], 1e-3) if pair["attacked"]["deliveries"] else math.inf
            for pair in results
        ]

    ratios, fair = by("calm", "p99_ms"), by("elsewhere", "p99_ms")
    return {
        "attack": attack.replace("_", " "),
        "faults": faults,
        "connections": round(stats.median(of("attacked", "connections"))),
        **{variant: stats.median(of(variant, "p99_ms")) for variant in VARIANTS},
        "ratio": stats.median(ratios),
        "range": (min(ratios), max(ratios)),
        "fair": stats.median(fair),
        "fair_range": (min(fair), max(fair)),
        "worst_calm": stats.median(of("calm", "max_ms")),
        "worst": stats.median(of("attacked", "max_ms")),
        "worst_ratio": stats.median(by("calm", "max_ms")),
        # Of the server's whole process, and less disturbed by what else the machine does.
        "cpu": stats.median([pair["attacked"]["cpu"] / pair["calm"]["cpu"] for pair in results]),
    }


def shown(row):
    def ratio(value, least_most):
        return f"{value:.2f} ({least_most[0]:.2f}-{least_most[1]:.2f})"

    return (
        f"| {row['attack']} | {row['connections']:,} | {row['calm']:.2f} | {row['elsewhere']:.2f} | {row['attacked']:.2f} "
        f"| {ratio(row['ratio'], row['range'])} | {ratio(row['fair'], row['fair_range'])} "
        f"| {row['worst_calm']:.2f} | {row['worst']:.2f} | {row['worst_ratio']:.2f} | {row['cpu']:.2f} | {row['faults']} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS") or 5))
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("attacks", nargs="*", help=", ".join(ATTACKS))
    options = parser.parse_args()
    raise_file_limit()
    ready = prepare.prepare({"device"}, say)
    if not ready.device:
        raise SystemExit("the device is not built yet: make build")
    rows, failed = [], []
    for attack in options.attacks or ATTACKS:
        try:
            rows.append(row(attack, compare(attack, options.rounds, options.seconds, ready)))
        except measure.Failure as failure:
            # A server that such an attack holds up for longer than anybody waits.
            say(f"| {attack.replace('_', ' ')} | not measured: {failure} |")
            failed.append(attack)
            continue
        say(shown(rows[-1]))
    print(f"\n{CLIENTS} healthy clients, {RATE} messages a second, median of {options.rounds} rounds (least-most), p99 in ms:\n")
    say(
        "| attack | connections | calm | elsewhere | attacked | by calm | by elsewhere | worst calm | worst attacked | worst by calm "
        "| CPU by calm | lost, doubled, reordered, closed |"
    )
    say("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for figures in rows:
        say(shown(figures))
    missed = [figures["attack"] for figures in rows if figures["ratio"] > GOAL]
    print(f"\nwithin {GOAL} x of calm: {len(rows) - len(missed)} of {len(rows)}" + (f"; not: {', '.join(missed)}" if missed else ""))
    worse = [figures["attack"] for figures in rows if figures["worst_ratio"] > WORST_GOAL]
    print(
        f"the worst latency of a bystander within {WORST_GOAL} x of calm: {len(rows) - len(worse)} of {len(rows)}"
        + (f"; not: {', '.join(worse)}" if worse else "")
    )
    # Latency is told, frames are a promise.
    return 1 if failed or any(figures["faults"] for figures in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
