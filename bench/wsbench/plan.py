"""Which measurements a run makes, in which order: round after round, each round all servers."""

import time
from dataclasses import dataclass, field

from . import measure, storms
from .casts import Pace, cast_cost
from .procs import Failure
from .servers import ALL, ERLANG, RAW, TLS, Asker, Load, Server, available


# How calls are paced when the cost of a cast is measured: 10,000 a second at the most, in short bursts or hot in long
# ones. To 10,000 subscribers that would be a hundred million deliveries a second, so there they come in trains, with a
# rest in which the up to two million deliveries are made.
EVERY_MS = Pace(10, 1)
HOT = Pace(200, 20)
TRAINS = Pace(10, 1, 5, 2000)
TRAINS_OF_ONE_KIND = Pace(10, 1, 20, 2000)

# Peers that stand in no goal and are measured in as many rounds as the rest that stands in none.
BESIDE = ("axum", "nats", "nchan", "node")
# Those of them that are fed as their users would feed them, which takes seconds for what others do in one.
SLOWLY_FED = ("nats", "nchan", "node")
SLOWER = ("floor-write", "cowboy-pg", "cowboy-ets")
# With whom the device is compared as subscribers and topics grow.
COMPARED = ("floor-coalesce", "uws", "device")

# How a connection chooses one topic of 10,000; what follows `?topic=` in its URL.
CHOICES = {
    "topic": "t{mod:1000}",
    "glob": "*t{mod:1000}",
    "match": "&match=%5Et{mod:1000}$",
    "template": "&template=%7B%22topic%22:%22t{mod:1000}%22%7D",
}

# Points of the two tables of growth that stand in goals.
FEW_SUBSCRIBERS = (10,)
TOPICS_IN_GOALS = (10, 1000, 100_000)


@dataclass
class Mode:
    """How much of everything."""
    name: str
    minutes: float
    rounds: int
    # Rounds of what is measured for its own sake and stands in no goal.
    wide_rounds: int
    servers: list
    steady_seconds: float = 5
    slow_seconds: float = 10
    cast_seconds: float = 4
    # With 10,000 subscribers, where a train takes more than two seconds.
    train_seconds: float = 8
    storm_seconds: float = 3
    ping_seconds: float = 4
    burst_seconds: float = 1.0
    # Of bursts with and without measuring.
    pairs: int = 300
    rates: tuple = (100,)


def modes():
    goals = ["floor-write", "floor-coalesce", "uws", "cowboy-pg", "cowboy-ets", "device"]
    quick = ["floor-write", "floor-coalesce", "uws", "cowboy-pg", "device"]
    return {
        "quick": Mode("quick", 2.8, 1, 0, quick, 2, 3, 1.5, 2, 2, 2, 0.3),
        "goals": Mode("goals", 14, 5, 0, goals, 4, 6, 3, 8, 3, 3, 0.7),
        "full": Mode("full", 55, 5, 2, ALL, rates=(20, 100)),
    }


@dataclass
class Results:
    """figures[scenario][server] is a list with one entry per round, None where a round failed."""
    figures: dict = field(default_factory=dict)
    failures: list = field(default_factory=list)

    def add(self, scenario, server, round_number, figures):
        rounds = self.figures.setdefault(scenario, {}).setdefault(server, [])
        rounds += [None] * (round_number - len(rounds))
        rounds.append(figures)

    def of(self, scenario, server):
        return self.figures.get(scenario, {}).get(server, [])


def _by_kind(scenario, figures):
    """A row for each kind of call."""
    return ((f"{scenario}:{kind}", of_kind) for kind, of_kind in figures.items())


class Run:
    def __init__(self, mode, ready, say, only=None, servers=None):
        self.mode, self.ready, self.say, self.only = mode, ready, say, only
        self.servers = [name for name in servers or mode.servers if available(name, ready)]
        self.results = Results()
        self._deadline = time.monotonic() + mode.minutes * 60
        self._longest_round = 0.0

    def go(self):
        for number in range(self.mode.rounds):
            self._round(number, "round", self._goal_steps(number))
        for number in range(self.mode.wide_rounds):
            self._round(number, "wide round", self._wide_steps())
        return self.results

    def _round(self, number, label, steps):
        begun = time.monotonic()
        if number and begun + self._longest_round > self._deadline:
            self.say(f"{label} {number + 1}: left out, time is nearly up")
            return
        for scenario, servers, step in steps:
            if self.only and scenario not in self.only:
                continue
            chosen = [name for name in self.servers if name in servers]
            # Each round begins with another server, so that none always follows the same neighbour.
            turn = number % max(1, len(chosen))
            for name in chosen[turn:] + chosen[:turn]:
                self._step(number, scenario, name, step)
        self._longest_round = max(self._longest_round, time.monotonic() - begun) if number else time.monotonic() - begun
        self.say(f"{label} {number + 1} done in {time.monotonic() - begun:.0f} s")

    def _step(self, number, scenario, name, step):
        if time.monotonic() > self._deadline:
            self.results.failures.append(f"{scenario}, {name}, round {number + 1}: left out, time is up")
            return
        begun = time.monotonic()
        try:
            for part, figures in step(name):
                self.results.add(part, name, number, figures)
        except (Failure, OSError) as failure:
            self.results.failures.append(f"{scenario}, {name}, round {number + 1}: {failure}")
            self.say(f"  {scenario} {name}: FAILED: {failure}")
        else:
            self.say(f"  {scenario} {name}: {time.monotonic() - begun:.1f} s")

    # --- what stands in the table of goals ---------------------------------------------------------------------------

    def _goal_steps(self, number):
        is_full = self.mode.name == "full"
        late = BESIDE if is_full and number >= self.mode.wide_rounds else ()
        every = [name for name in self.servers if name not in (TLS, *late)]
        # The goals compare bursts to many and to topics with the fastest only.
        fast = [name for name in every if is_full or name not in SLOWER]
        compared = [name for name in fast if not is_full or name in COMPARED]
        yield "thousand", every, self._thousand
        yield "ten-thousand", fast, self._ten_thousand
        yield "ten", compared, self._ten
        yield "topics", fast, self._topics
        yield "thousand-on-topics", compared, self._thousand_on_topics
        yield "tls", ["device", TLS] if TLS in self.servers else [], self._tls
        yield "slow", ["device"], self._slow
        yield "connects", ["uws", "device"], self._connects
        yield "ping-pong", ["device"], self._ping_pong
        yield "cast", ["device"], self._cast

    def _thousand(self, name):
        with Server(name, self.ready) as server, Load(server, 1000) as load:
            yield "burst-1000", measure.burst(server, load, 500, seconds=self.mode.burst_seconds)
            # Of the peers only the full run wants to know how they do at a steady pace.
            if name != RAW and (self.mode.name == "full" or name in ("floor-write", "device")):
                for rate in self.mode.rates:
                    yield f"steady-{rate}", measure.steady(server, load, rate, self.mode.steady_seconds)

    def _ten_thousand(self, name):
        with Server(name, self.ready) as server:
            load, memory = measure.idle_memory(server, 10_000)
            with load:
                yield "memory", memory
                yield "burst-10000", measure.burst(server, load, 50, seconds=self.mode.burst_seconds)

    def _topics(self, name):
        with Server(name, self.ready, channel=64) as server, Load(server, 5000, "t{i}") as load:
            yield "topics-5000", measure.topics_burst(server, load, 5000, 10, seconds=self.mode.burst_seconds)
            if name == "device":
                yield "topics-5000-six", measure.topics_burst(server, load, 5000, 10, seconds=self.mode.burst_seconds, kind="six")

    def _ten(self, name):
        yield from self._growth_subscribers(name, FEW_SUBSCRIBERS)

    def _thousand_on_topics(self, name):
        yield from self._growth_topics(name, TOPICS_IN_GOALS)

    def _tls(self, name):
        with Server(name, self.ready) as server:
            load, memory = measure.idle_memory(server, 10_000)
            load.close()
        with Server(name, self.ready) as server, Load(server, 1000) as load:
            yield "tls", memory | measure.burst(server, load, 500, seconds=self.mode.burst_seconds)

    def _slow(self, name):
        yield "slow", measure.slow_readers(name, self.ready, self.mode.slow_seconds)

    def _connects(self, name):
        with Server(name, self.ready) as server, Load(server, 500) as load:
            yield "connects", storms.connects(server, load, 12_000, self.mode.storm_seconds)

    def _ping_pong(self, name):
        with Server(name, self.ready) as server, Load(server, 1000) as load:
            yield "ping-pong", measure.ping_pong(server, load, self.mode.ping_seconds)

    def _cast(self, name):
        seconds = self.mode.cast_seconds
        with Server(name, self.ready, settings={"history_bytes": 0}) as server:
            yield from _by_kind("cast-unheard", cast_cost(server, None, 1024, EVERY_MS, seconds))
        with Server(name, self.ready) as server:
            yield from _by_kind("cast-0", cast_cost(server, None, 1024, EVERY_MS, seconds))
            yield from _by_kind("cast-0-hot", cast_cost(server, None, 1024, HOT, seconds))
        with Server(name, self.ready) as server, Load(server, 10_000) as load:
            yield from _by_kind("cast-10000", cast_cost(server, load, 1024, TRAINS, self.mode.train_seconds))

    # --- the rest ----------------------------------------------------------------------------------------------------

    def _wide_steps(self):
        every = [name for name in self.servers if name not in (RAW, TLS, *SLOWLY_FED)]
        yield "sizes", [*every, RAW], self._sizes
        yield "overlapping", ["device"], self._overlapping
        yield "choices", ["device"], self._choices
        yield "measuring", ["device"], self._measuring
        yield "asked", ["device"], self._asked
        yield "storm", every, self._storm
        yield "slow-peers", [name for name in every if name in ("uws", "axum", "cowboy-pg", "cowboy-ets")], self._slow
        yield "cast-matrix", ERLANG, self._cast_matrix
        yield "ping-pong", [name for name in ERLANG if name != "device"], self._ping_pong
        yield "growth-subscribers", COMPARED, self._growth_subscribers
        yield "growth-topics", COMPARED, self._growth_topics

    def _sizes(self, name):
        with Server(name, self.ready) as server, Load(server, 1000) as load:
            for size, count in ((200, 500), (4096, 100), (65_536, 10)):
                yield f"size-{size}", measure.burst(server, load, count, size, 0.5)

    def _overlapping(self, name):
        for topics in (1, 10, 1000):
            # A message may have 64 topics unless told otherwise.
            with Server(name, self.ready, settings={"max_topics_per_message": 1000}) as server:
                yield f"overlapping-{topics}", measure.overlapping(server, topics)

    def _choices(self, name):
        """10,000 connections that choose the same topics in different ways, 1,000 distinct ones of each kind."""
        for kind, choice in CHOICES.items():
            with Server(name, self.ready) as server, Load(server, 10_000, choice) as load:
                yield f"choices-{kind}", measure.choices(server, load, 10_000)

    def _measuring(self, name):
        with Server(name, self.ready) as server, Load(server, 1000) as load:
            yield "measuring", measure.measuring(server, load, self.mode.pairs)

    def _asked(self, name):
        with Server(name, self.ready) as server, Server(name, self.ready) as other, Load(server, 1000) as load, Asker() as asker:
            yield "asked", measure.asked(server, other, load, asker, self.mode.pairs // 3)

    def _storm(self, name):
        with Server(name, self.ready) as server, Load(server, 1000) as load:
            yield "storm", storms.storm(server, load, 5)

    def _cast_matrix(self, name):
        # Cowboy's ways cost up to a millisecond a call at 1,000 subscribers and more at 10,000.
        paces = {
            0: (EVERY_MS, Pace(1, 10)),
            1000: (Pace(20, 50), Pace(1, 10)),
            10_000: (TRAINS_OF_ONE_KIND, Pace(1, 50)),
        }
        for conns, (hot, cold) in paces.items():
            if conns == 10_000 and name != "device":
                continue
            with Server(name, self.ready) as server:
                load = Load(server, conns) if conns else None
                try:
                    for temperature, pace in (("hot", hot), ("cold", cold)):
                        for procs in (1, 8):
                            figures = cast_cost(server, load, 1024, pace.shared_by(procs), 2, procs, ["topic"])
                            yield from _by_kind(f"cast-{conns}-{temperature}-{procs}", figures)
                finally:
                    if load:
                        load.close()

    def _growth_subscribers(self, name, points=(100, 1000, 5000, 10_000, 15_000)):
        with Server(name, self.ready) as server:
            for conns in points:
                with Load(server, conns) as load:
                    count = max(33, min(2000, 500_000 // conns))
                    yield f"subscribers-{conns}", measure.burst(server, load, count, seconds=0.5)

    def _growth_topics(self, name, points=(100, 10_000)):
        with Server(name, self.ready) as server:
            for topics in points:
                conns = min(topics, 1000)
                with Load(server, conns, f"{{every:{conns}:{topics // conns}}}") as load:
                    per_topic = max(1, 100_000 // topics)
                    yield f"topics-growth-{topics}", measure.topics_burst(server, load, topics, per_topic, seconds=0.5)
