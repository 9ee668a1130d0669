"""The table of goals: what this project must reach, and whether this run did."""

from dataclasses import dataclass

from .measure import FAULTS
from .servers import RAW, TLS
from .stats import median, paired_ratio, ratio

# What a connection may have waiting (the server's default), and so what a client that never reads may cost.
PENDING_LIMIT_MB = 1.0
SLOW_CLIENTS = 10
COWBOYS = ("cowboy-pg", "cowboy-ets")


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
        return [*self._bursts(), *self._steady(), *self._cast(), *self._memory(), *self._slow(), self._errors()]

    def _bursts(self):
        for scenario, label, floor, uws in (
                ("burst-1000", "burst to 1,000", 0.8, 2.5), ("burst-10000", "burst to 10,000", 0.8, 2),
                ("topics-5000", "5,000 topics", 0.7, 1.2)):
            yield _at_least(f"{label}: deliveries/s vs floor-coalesce", floor, self._ratio(scenario, "floor-coalesce", "rate"))
            yield _at_least(f"{label}: deliveries/s vs uWebSockets", uws, self._ratio(scenario, "uws", "rate"))
            if scenario == "burst-1000":
                yield _at_least(f"{label}: deliveries/s vs cowboy (the better)", 40, self._cowboy(scenario))
                yield _at_most(f"{label}: CPU vs floor-coalesce", 1.5, self._ratio(scenario, "floor-coalesce", "cpu"))

    def _steady(self):
        yield _at_most("steady 100/s: CPU vs floor-write", 1.1, self._ratio("steady-100", "floor-write", "cpu"))
        yield _at_most("steady 100/s: p99 vs floor-write", 1.5, self._ratio("steady-100", "floor-write", "p99_ms"))

    def _cast(self):
        for conns in (0, 10_000):
            scenario, label = f"cast-{conns}", f"cost of a cast, 1 KB, {conns:,} subscribers"
            yield _at_most(f"{label}: median", 1.5, self._cast_us(scenario, "p50_ns"), "us")
            yield _at_most(f"{label}: p99", 15, self._cast_us(scenario, "p99_ns"), "us")
        yield _at_most("cast without receivers or history: median", 0.2, self._cast_us("cast-unheard", "p50_ns"), "us")

    def _cast_us(self, scenario, name):
        """Without what reading the clock costs."""
        value, timing = self._median(scenario, name), self._median(scenario, "timing_ns")
        return None if value is None else max(0.0, value - (timing or 0)) / 1000

    def _memory(self):
        value = self._median("memory", "bytes")
        yield _at_most("memory per idle connection at 10,000", 4, None if value is None else value / 1024, "KB")

    def _slow(self):
        with_them, without = self._median("slow", "p99_with_ms"), self._median("slow", "p99_without_ms")
        label = "10 of 1,000 never read"
        yield _at_most(f"{label}: p99 of the others vs without", 1.3, ratio(with_them, without))
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
