"""Soaks the device: many kinds of clients, casts at full speed and overload, for minutes. Checks that nothing is lost without
a word, that everything adds up, that nothing is left behind, and that memory stays flat. See README.md."""

import os
import random
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../e2e"), os.path.join(HERE, "../../bench")]

from support.vm import ROOT, ErlangError, Vm  # noqa: E402
from wsbench import machine  # noqa: E402

import process  # noqa: E402
from accounts import Accounts  # noqa: E402
from clients import Clients, ClientsError  # noqa: E402
from report import Empty, Report, Rest  # noqa: E402

MIB = 1024 * 1024
# A cycle ends with everything at rest.
CYCLE_SECONDS = 20
# After so many cycles everybody goes.
CYCLES_OF_A_CREW = 2
# At these parts of the time the server restarts, with so many shards.
RESTARTS = ((0.4, 2), (0.8, 1))
# Every so many cycles nobody dies, so that deliveries must be what was received.
CYCLES_WITHOUT_DEATH = 3
CONTROL_SECONDS = 10
LONG_SCHEDULE_MS = 10
# A thread's cache of freed memory counts as in use, and there are as many as threads: without them what is in use is exact.
os.environ["GLIBC_TUNABLES"] = "glibc.malloc.tcache_count=0"
# What the clients count a connection under that ended without a close frame.
BROKEN = "1006"

PUBLISH_QUEUE_BYTES, LITTLE_PUBLISH_QUEUE_BYTES = 16 * MIB, 2 * MIB
SETTINGS = {"max_inbound_rate": 0, "handshake_timeout": 5000, "publish_queue_bytes": PUBLISH_QUEUE_BYTES}
# One of them changes between two paces.
CHANGING = {
    "send_buffer_bytes": (MIB // 4, MIB, 4 * MIB),
    "history_bytes": (MIB, 16 * MIB),
    "max_known_topics": (100, 10_000),
    "ping_interval": (10_000, 25_000),
    "max_last": (1000, 10_000),
    "commitments": ("true", "false"),
}
# At rest little is kept on purpose, so that what is left can be compared.
AT_REST = {"history_bytes": 0, "max_known_topics": 100}


class Broken(Exception):
    """A client found something wrong, so what follows means nothing."""


class Soak:
    control_seconds = CONTROL_SECONDS
    long_schedule_ms = LONG_SCHEDULE_MS

    def __init__(self, out, minutes, seed):
        self.minutes, self.seed = minutes, seed
        self.random = random.Random(seed)
        self.vm = Vm(**SETTINGS)
        self.pid = self.vm.process.pid
        self.vm.eval(f'code:add_patha("{os.path.join(ROOT, out, "ebin")}")')
        assert self.vm.eval("e2e_vm:echo()") == "ok"
        self.vm.eval(f'ok = soak_heap:load("{os.path.join(ROOT, out, "soak_heap")}")')
        self.vm.eval(f"soak_sources:start({seed})")
        self.vm.eval(f"soak_schedules:start({LONG_SCHEDULE_MS})")
        self.clients = Clients(os.path.join(ROOT, out, "target/release/soak-clients"))
        self.accounts = Accounts()
        self.shards, self.cycles, self.observed, self.tally = 1, 0, 0, {}
        self.rests, self.empty = [], []

    def run(self):
        started = time.monotonic()
        # The first connections make what is made once.
        self.hold()
        self.release()
        before = self.process_now()
        self.control = self.schedules_of_control()
        self.memory = process.MemorySamples(self.pid)
        try:
            restarts = list(RESTARTS)
            while self.cycles == 0 or time.monotonic() - started < self.minutes * 60 - CYCLE_SECONDS / 2:
                self.hold()
                for _ in range(CYCLES_OF_A_CREW):
                    self.cycle()
                self.release()
                self.measure_empty()
                if restarts and time.monotonic() - started > restarts[0][0] * self.minutes * 60:
                    self.restart(restarts.pop(0)[1])
            for _, shards in restarts:
                self.restart(shards)
        finally:
            self.soak_seconds = self.memory.now()
            self.samples = self.memory.stop()
        self.schedules = self.vm.eval("soak_schedules:take()")
        # What stays known without subscribers is bounded by this alone.
        self.start(max_known_topics=1)
        self.stats = self.vm.settle('maps:get(<<"topics">>, S) =< 1')
        self.casts = self.vm.eval("soak_sources:totals()")
        after = self.process_now()
        self.accounts.casts(self.casts, self.stats)
        self.accounts.deliveries(self.stats)
        self.accounts.nothing_left(self.stats, {name: (before[name], after[name]) for name in before})
        self.seconds = time.monotonic() - started

    def close(self):
        """Ends both processes, which must end well."""
        self.accounts.expect("exit status of the clients", self.clients.close(), 0)
        self.accounts.expect("exit status of the VM", self.vm.close(), 0)
        self.accounts.expect("log of the VM", self.vm.log, [])

    def cycle(self):
        """Some time at all paces, and then everything comes to rest."""
        nobody_dies = self.cycles % CYCLES_WITHOUT_DEATH == CYCLES_WITHOUT_DEATH - 1
        before = self.vm.stats()
        self.clients.order("churn", may_die=not nobody_dies)
        end = time.monotonic() + CYCLE_SECONDS
        while time.monotonic() < end:
            self.some_paces()
        # What is kept is cut down with what is published.
        self.start(**AT_REST)
        self.pace("steady", 0.2)
        self.pace("rest")
        self.vm.settle('maps:get(<<"publish_queued_bytes">>, S) =:= 0')
        answer = self.clients.order("settle")
        if answer["tally"]["failures"]:
            self.accounts.failures += answer["tally"]["failed"]
            raise Broken(f"{answer['tally']['failures']} failures of clients")
        self.vm.settle(f'maps:get(<<"connections">>, S) =:= {self.held} andalso maps:get(<<"handshakes">>, S) =:= 0')
        self.check(before, answer, nobody_dies)
        self.cycles += 1

    def some_paces(self):
        chance = self.random.random
        self.pace("steady", 1 + 4 * chance())
        self.pace("rest", chance() / 2)
        self.pace("full", 0.05 + chance() / 4)
        name = self.random.choice(list(CHANGING))
        self.start(**{name: self.random.choice(CHANGING[name])})
        self.pace("steady", 0.5 + chance())
        if chance() < 0.5:
            self.start(publish_queue_bytes=LITTLE_PUBLISH_QUEUE_BYTES)
            self.pace(self.random.choice(("heavy", "full")), 0.2 + chance() / 2)
            self.start(publish_queue_bytes=PUBLISH_QUEUE_BYTES)

    def pace(self, pace, seconds=0.0):
        assert self.vm.eval(f"soak_sources:pace({pace})") == "ok"
        time.sleep(seconds)

    def start(self, **settings):
        given = ", ".join(f"{name} => {value}" for name, value in settings.items())
        answer = self.vm.eval(f"dev_websocket:start(#{{{given}}})")
        assert answer == "ok", answer

    def hold(self):
        """Connects those who stay."""
        self.casts_before_hold = self.vm.eval("soak_sources:totals()")
        self.seen = []
        self.held = self.clients.order("hold", uri=self.vm.uri())["connections"]
        self.vm.await_connections(self.held)

    def release(self):
        self.clients.order("release")
        self.vm.await_connections(0)

    def measure_empty(self):
        """What is in use now that nobody is connected is what was in use before, or was left behind."""
        self.vm.settle('maps:get(<<"regexes">>, S) =:= 0')
        in_use, _ = self.vm.eval("soak_heap:bytes()")
        assert self.vm.eval("soak_heap:trim()") == "ok"
        self.empty.append(Empty(self.memory.now(), in_use, process.resident_bytes(self.pid), self.shards))

    def restart(self, shards):
        """Casts go on meanwhile, and each of them must be counted."""
        self.shards = shards
        assert self.vm.eval(f"soak_sources:restart(#{{shards => {shards}}})") == "ok"
        self.accounts.casts(self.vm.eval("soak_sources:totals()"), self.vm.stats())

    def check(self, before, answer, nobody_died):
        stats = self.vm.stats()
        casts = self.vm.eval("soak_sources:totals()")
        accounts, tally, seen = self.accounts, answer["tally"], answer["observers"]
        accounts.casts(casts, stats)
        accounts.observers({name: casts[name] - self.casts_before_hold[name] for name in casts}, seen)
        accounts.deliveries(stats)
        accounts.rest(stats, self.held)
        accounts.broken(tally["closed"].get(BROKEN, 0), stats)
        observed = sum(observer["received"] for observer in seen) - sum(observer["received"] for observer in self.seen)
        self.observed += observed
        received = observed + tally["received"] - self.tally.get("received", 0)
        echoes = tally["echoes"] - self.tally.get("echoes", 0)
        added = {name: stats[name] - before[name] for name in stats}
        # Who is reset for not reading at all loses what the system had for it.
        is_whole = nobody_died and tally["closed"].get(BROKEN) == self.tally.get("closed", {}).get(BROKEN)
        accounts.received(received, echoes, added, is_whole)
        self.tally, self.seen = tally, seen
        resident = process.resident_bytes(self.pid)
        self.rests.append(Rest(self.memory.now(), resident, self.vm.eval("erlang:memory(total)")))
        print(
            f"cycle {self.cycles + 1}, minute {self.memory.now() / 60:.1f}: {added['publications']:,} publications,"
            f" {added['deliveries_expected']:,} to deliver, {added['deliveries']:,} delivered, {added['dropped_overload']:,} lost in overload,"
            f" {added['connections_opened']:,} connections, {resident / MIB:.0f} MiB resident, {len(accounts.failures)} failures",
            flush=True,
        )

    def process_now(self):
        return {"threads": process.threads(self.pid), "file descriptors": process.descriptors(self.pid)}

    def schedules_of_control(self):
        """Long schedules while the engine does nothing and the cores are as busy."""
        self.vm.eval("soak_schedules:take()")
        self.clients.tell("spin", seconds=CONTROL_SECONDS)
        self.pace("idle_work", CONTROL_SECONDS)
        self.pace("rest")
        self.clients.answer("spin")
        return self.vm.eval("soak_schedules:take()")


def main(out):
    minutes = float(os.environ.get("MINUTES") or 30)
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    print(f"{minutes:g} minutes, seed {seed}", flush=True)
    # What is tested is what was there at the start, whatever is committed meanwhile.
    tested = machine.describe(ROOT)
    quietness = machine.Quietness()
    soak = Soak(out, minutes, seed)
    try:
        soak.run()
    except (Broken, ClientsError, ErlangError) as error:
        print("\n".join([*soak.accounts.failures, f"the soak broke off: {error}"]))
        return 1
    finally:
        soak.close()
    report = Report(soak)
    print(f"\n{report.text()}\n")
    if os.environ.get("RECORD"):
        report.record(tested, quietness)
    print(f"soak of {soak.seconds / 60:.1f} minutes: {len(report.failures)} failures")
    return 1 if report.failures else 0


sys.exit(main(sys.argv[1]))
