"""Soaks the device: many kinds of clients, casts at full speed and overload, for minutes. Checks that nothing is lost without
a word, that everything adds up, and that nothing is left behind."""

import os
import random
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../e2e"))

from support.vm import ROOT, Vm  # noqa: E402

import process  # noqa: E402
from accounts import Accounts  # noqa: E402
from clients import Clients  # noqa: E402

MIB = 1024 * 1024
# A cycle ends with everything at rest.
CYCLE_SECONDS = 25
# After so many cycles the server restarts with another number of shards.
CYCLES_OF_A_SERVER = 8
# Every so many cycles nobody dies, so that deliveries must be what was received.
CYCLES_WITHOUT_DEATH = 3
CONTROL_SECONDS = 10
LONG_SCHEDULE_MS = 10

SETTINGS = {"max_inbound_rate": 0, "handshake_timeout": 5000}
# One of them changes between two paces.
CHANGING = {
    "pending_bytes": (MIB, 4 * MIB, 16 * MIB),
    "history_bytes": (MIB, 16 * MIB),
    "max_known_topics": (100, 10_000),
    "ping_interval": (10_000, 25_000),
    "max_last": (1000, 10_000),
    "commitments": ("true", "false"),
}
INGRESS_BYTES, LITTLE_INGRESS_BYTES = 64 * MIB, 2 * MIB


class Soak:
    def __init__(self, out, minutes, seed):
        self.minutes = minutes
        self.random = random.Random(seed)
        self.vm = Vm(**SETTINGS)
        self.pid = self.vm.process.pid
        self.vm.eval(f'code:add_patha("{ROOT}/{out}/ebin")')
        assert self.vm.eval("e2e_vm:echo()") == "ok"
        self.vm.eval(f"soak_sources:start({seed})")
        self.vm.eval(f"soak_schedules:start({LONG_SCHEDULE_MS})")
        self.clients = Clients(os.path.join(ROOT, out, "target/release/soak-clients"))
        self.accounts = Accounts()
        self.tally = {}
        self.shards = 1
        self.cycles = 0
        self.rests = []

    def run(self):
        started = time.monotonic()
        # The first connection makes what is made once.
        self.hold()
        self.release()
        self.process_before = self.process_now()
        self.control = self.schedules_of_control()
        self.memory = process.MemorySamples(self.pid)
        self.hold()
        while self.cycles == 0 or time.monotonic() - started < self.minutes * 60 - CYCLE_SECONDS / 2:
            self.cycle()
            if self.cycles % CYCLES_OF_A_SERVER == 0:
                self.restart()
        self.release()
        self.samples = self.memory.stop()
        self.schedules = self.vm.eval("soak_schedules:take()")
        # What stays known without subscribers is bounded by this alone.
        self.start(max_known_topics=1)
        self.stats = self.vm.settle('maps:get(<<"topics">>, S) =< 1')
        now = self.process_now()
        self.accounts.nothing_left(self.stats, {name: (before, now[name]) for name, before in self.process_before.items()})
        self.seconds = time.monotonic() - started

    def cycle(self):
        """Some time at all paces, and then everything comes to rest."""
        nobody_dies = self.cycles % CYCLES_WITHOUT_DEATH == CYCLES_WITHOUT_DEATH - 1
        before = self.vm.stats()
        self.clients.order("churn", may_die=not nobody_dies)
        end = time.monotonic() + CYCLE_SECONDS
        while time.monotonic() < end:
            self.some_paces()
        self.pace("rest")
        self.vm.settle('maps:get(<<"ingress_waiting_bytes">>, S) =:= 0')
        answer = self.clients.order("settle")
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
            self.start(ingress_bytes=LITTLE_INGRESS_BYTES)
            self.pace(self.random.choice(("heavy", "full")), 0.2 + chance() / 2)
            self.start(ingress_bytes=INGRESS_BYTES)

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

    def restart(self):
        """Casts go on meanwhile, and each of them must be counted."""
        self.release()
        self.shards = 3 - self.shards
        assert self.vm.eval(f"soak_sources:restart(#{{shards => {self.shards}}})") == "ok"
        self.accounts.casts(self.vm.eval("soak_sources:totals()"), self.vm.stats())
        self.hold()

    def check(self, before, answer, nobody_died):
        stats = self.vm.stats()
        casts = self.vm.eval("soak_sources:totals()")
        accounts, tally, seen = self.accounts, answer["tally"], answer["observers"]
        accounts.casts(casts, stats)
        accounts.observers({name: casts[name] - self.casts_before_hold[name] for name in casts}, seen)
        accounts.deliveries(stats)
        accounts.rest(stats, self.held)
        received = tally["received"] - self.tally.get("received", 0)
        received += sum(observer["received"] for observer in seen) - sum(observer["received"] for observer in self.seen)
        echoes = tally["echoes"] - self.tally.get("echoes", 0)
        accounts.received(received, echoes, {name: stats[name] - before[name] for name in stats}, nobody_died)
        accounts.expect(f"failures of clients ({tally['failed']})", tally["failures"], 0)
        self.tally, self.seen = tally, seen
        self.rests.append((self.memory.now(), process.resident_bytes(self.pid), self.vm.eval("erlang:memory(total)")))
        print(self.cycles, nobody_died, {name: stats[name] - before[name] for name in stats if stats[name] != before[name]}, self.rests[-1], self.process_now(), flush=True)
        print(tally, seen, accounts.failures[-3:], flush=True)

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
    print(f"seed {seed}")
    soak = Soak(out, minutes, seed)
    soak.run()
    print(soak.tally)
    print(soak.control, soak.schedules)
    print(soak.clients.close(), soak.vm.close(), soak.vm.log)
    print(soak.accounts.failures)
    return 1 if soak.accounts.failures else 0


sys.exit(main(sys.argv[1]))
