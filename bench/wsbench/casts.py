"""The cost of a cast for its caller, beside that of a bare `spawn` in the same loop."""

import time
from dataclasses import dataclass, replace

from .measure import faults
from .stats import ratio

SPAWN = "spawn"
# The messages: a map with a topic and data, and recorded ones (servers/bench_messages.erl).
MESSAGES = {
    "topic": "one topic",
    "six": "AO message, 6 tags",
    "twelve": "AO message, 12 tags",
    "signed": "AO message, signed",
}
LABELS = MESSAGES | {SPAWN: "a bare `spawn` instead"}


@dataclass
class Pace:
    """So many calls of each kind in a burst, so many milliseconds between bursts, and after so many turns a rest."""
    burst: int
    pause_ms: int
    train: int = 1
    rest_ms: int = 0

    def shared_by(self, procs):
        """The same number of casts a second, made by so many processes."""
        if procs <= self.burst:
            return replace(self, burst=self.burst // procs)
        return replace(self, burst=1, pause_ms=self.pause_ms * procs // self.burst)


def cast_cost(server, load, size, pace, seconds, procs=1, messages=tuple(MESSAGES)):
    """Figures by kind of message, in ns, and of `spawn`; with `load` None nobody listens.

    All kinds have their bursts in turn in the same processes, so what one costs is compared with a spawn beside the same
    deliveries: `p50_ratio` and `p99_ratio`, both without what reading the clock costs.
    """
    kinds = [*messages, SPAWN]
    command = {"cmd": "cast_cost", "topic": "t", "size": size, "procs": procs, "kinds": ",".join(kinds)}
    command |= {"burst": pace.burst, "pause_ms": pace.pause_ms, "train": pace.train, "rest_ms": pace.rest_ms or pace.pause_ms}
    streams = procs * len(kinds)
    if load:
        command["stream"] = load.expect(0, streams, seconds + 60, seconds + 60)
    server.ask(30, **command, seconds=0.3)
    if load:
        load.stop()
        command["stream"] = load.expect(0, streams, seconds + 60, seconds + 60)
    done = server.ask(seconds + 30, **command, seconds=seconds)
    figures = {kind: _figures(done["costs"][kind], done["timing_ns"]["p50"]) for kind in kinds}
    for kind in messages:
        for name in ("p50", "p99"):
            figures[kind][f"{name}_ratio"] = ratio(*(_without_clock(figures[each], name) for each in (kind, SPAWN)))
    for each in figures.values():
        each["per_second"] = done["count"] / seconds
    if load:
        time.sleep(0.5)
        # Of all kinds together.
        figures[kinds[0]] |= faults([load.stop()])
    return figures


def _figures(cost, timing_ns):
    times = {f"{key}_ns": value for key, value in cost.items() if key not in ("samples", "over_1ms")}
    return {**times, "samples": cost["samples"], "over_1ms": cost["over_1ms"], "timing_ns": timing_ns}


def _without_clock(figures, name):
    # A step of the histogram at least: nothing is free.
    return max(10, figures[f"{name}_ns"] - figures["timing_ns"])
