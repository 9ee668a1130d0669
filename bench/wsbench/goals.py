"""The table of goals: what this project must reach, and whether this run did."""

from dataclasses import dataclass

from . import casts
from .measure import FAULTS
from .servers import RAW, TLS
from .stats import median, paired_ratio, ratio

# What a connection may have waiting (the server's default), and so what a client that never reads may cost.
PENDING_LIMIT_MB = 1.0
SLOW_CLIENTS = 10
COWBOYS = ("cowboy-pg", "cowboy-ets")
CAST_CASES = {"0": "0 subscribers", "0-hot": "0 subscribers, hot", "10000": "10,000 subscribers"}
UNHEARD = ("topic", "six")


@dataclass
class Goal:
    measure: str
    goal: str
    value: float
    unit: str
    met: bool

    def shown(self):
        if self.value is None:
            return "-"
        if self.unit == "x":
            return f"{self.value:.2f} x"
        return f"{self.value:,.2f} {self.unit}".strip()

    def verdict(self):
        return "not measured" if self.value is None else "met" if self.met else "MISSED"


def _at_least(measure, goal, value):
    return Goal(measure, f">= {goal:g} x", value, "x", value is not None and value >= goal)


def _at_most(measure, goal, value, unit="x"):
    return Goal(measure, f"<= {goal:g} {unit}", value, unit, value is not None and value <= goal)


class Table:
    def __init__(self, results):
        self._results = results

    def _rounds(self, scenario, server="device"):
        return self._results.of(scenario, server)

    def _median(self, scenario, name, server="device"):
        return median([figures.get(name) for figures in self._rounds(scenario, server) if figures])

    def _ratio(self, scenario, peer, name):
        return paired_ratio(self._rounds(scenario), self._rounds(scenario, peer), name)

    def _cowboy(self, scenario):
        """By the better of the two, round by round the one with the better median."""
        rates = {name: self._median(scenario, "rate", name) or 0 for name in COWBOYS}
        return self._ratio(scenario, max(rates, key=rates.get), "rate")

    def rows(self):
        return [*self._bursts(), *self._topics(), *self._steady(), *self._cast(), *self._connects(), self._ping_pong(),
                *self._memory(), *self._slow(), self._errors()]

    def _bursts(self):
        yield self._rate("burst-1000", "burst to 1,000", "floor-coalesce", 0.9)
        yield self._rate("burst-1000", "burst to 1,000", "uws", 3)
        yield _at_least("burst to 1,000: deliveries/s vs cowboy (the better)", 60, self._cowboy("burst-1000"))
        yield _at_most("burst to 1,000: CPU vs floor-coalesce", 1.2, self._ratio("burst-1000", "floor-coalesce", "cpu"))
        yield self._rate("burst-10000", "burst to 10,000", "floor-coalesce", 1)
        yield self._rate("burst-10000", "burst to 10,000", "uws", 2)
        yield self._rate("subscribers-10", "burst to 10", "floor-coalesce", 0.7)

    def _topics(self):
        yield self._rate("topics-5000", "5,000 topics", "floor-coalesce", 0.75)
        yield self._rate("topics-5000", "5,000 topics", "uws", 1)
        for topics in (10, 1000, 100_000):
            label = f"{topics:,} topics, {min(topics, 1000):,} connections"
            yield self._rate(f"topics-growth-{topics}", label, "floor-coalesce", 0.5)
            yield self._rate(f"topics-growth-{topics}", label, "uws", 1)

    def _rate(self, scenario, label, peer, goal):
        name = {"uws": "uWebSockets"}.get(peer, peer)
        return _at_least(f"{label}: deliveries/s vs {name}", goal, self._ratio(scenario, peer, "rate"))

    def _steady(self):
        yield _at_most("steady 100/s: CPU vs floor-write", 1.05, self._ratio("steady-100", "floor-write", "cpu"))
        yield _at_most("steady 100/s: p99 vs floor-write", 1.2, self._ratio("steady-100", "floor-write", "p99_ms"))

    def _cast(self):
        """By a spawn beside the same load: an absolute time is that of a machine."""
        for case, label in CAST_CASES.items():
            for kind, message in casts.MESSAGES.items():
                scenario = f"cast-{case}:{kind}"
                of = f"cast, {message}, {label}"
                yield _at_most(f"{of}: median vs spawn", 0.7, self._median(scenario, "p50_ratio"))
                yield _at_most(f"{of}: p99 vs spawn", 1.5, self._median(scenario, "p99_ratio"))
        for kind in UNHEARD:
            value = self._median(f"cast-unheard:{kind}", "p50_ratio")
            yield _at_most(f"cast, {casts.MESSAGES[kind]}, nobody and no history: median vs spawn", 0.3, value)

    def _connects(self):
        label = "12,000 connects at once: p99 of 500 others"
        yield _at_most(f"{label} vs uWebSockets", 1.3, self._ratio("connects", "uws", "p99_ms"))
        yield _at_most(f"{label} vs calm", 3, self._median("connects", "p99_ratio"))

    def _ping_pong(self):
        value = self._median("ping-pong", "p99_ratio")
        return _at_most("round trip of other processes during 100/s to 1,000: p99 vs quiet", 1.5, value)

    def _memory(self):
        value = self._median("memory", "bytes")
        yield _at_most("memory per idle connection at 10,000", 2, None if value is None else value / 1024, "KB")

    def _slow(self):
        with_them, without = self._median("slow", "p99_with_ms"), self._median("slow", "p99_without_ms")
        label = "10 of 1,000 never read"
        yield _at_most(f"{label}: p99 of the others vs without", 1.2, ratio(with_them, without))
        # A quarter more for what the allocator and the kernel's rounding add.
        bound = SLOW_CLIENTS * PENDING_LIMIT_MB * 1.25
        yield _at_most(f"{label}: memory cost", bound, self._median("slow", "grown_mb"), "MB")
        rounds = [figures for figures in self._rounds("slow") if figures]
        faults = sum(figures[f"{fault}_with"] for figures in rounds for fault in FAULTS) if rounds else None
        yield _at_most(f"{label}: lost, duplicated or reordered for the others", 0, faults, "frames")

    def _errors(self):
        faults = None
        for scenario, servers in self._results.figures.items():
            for figures in [*servers.get("device", []), *servers.get(RAW, []), *servers.get(TLS, [])]:
                if figures and scenario != "slow":
                    faults = (faults or 0) + sum(figures.get(fault) or 0 for fault in FAULTS)
        return _at_most("all other scenarios: lost, duplicated, reordered, closed", 0, faults, "frames")
