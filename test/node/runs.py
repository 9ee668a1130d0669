"""The runs of attacks: processes to attack, subscribers beside them, and slots afterwards that must all come."""

import concurrent.futures
import secrets
import time

import device_keys
import other_devices
import paths
import programs
import silencing
from attack import Scene
from node import Request, until
from signing import encoded
from watching import Judge, Watch, counters, expect, raised, watch_process, watch_topic

THREADS = 2
# Seconds for one program of the stranger's. A node takes long to print some of their errors.
PATIENCE = 40


def stored_messages(node, wallet, victim, facts):
    """Messages of the stranger in the node's cache, each of which pretends to be something."""
    forged = {"at-slot": 7, "initialized": "true", "process": victim, "results": "FORGED", "output": "FORGED"}
    state = {"device": "process@1.0"}
    lua = node.store(wallet, {"content-type": "application/lua"}, (programs.TEMPLATE % ({"body": ""} | facts)).encode())

    def stored(tags, data=b""):
        """Its id, or that of the program where a newer node refuses it."""
        try:
            return node.store(wallet, tags, data)
        except RuntimeError:
            return lua

    return {
        "lua": lua,
        "state": stored(state | forged),
        "program": stored(state | forged | {"execution-device": "websocket@1.0", "module": victim}),
        "stack": stored(state | forged | {"execution-device": "stack@1.0", "device-stack": '"websocket@1.0"'}),
        "device": stored(forged | {"execution-device": "websocket@1.0", "slot": "7", "hashpath": victim}),
        "assignment": stored({"slot": "7", "process": victim, "epoch": "0", "hash-chain": "FORGED"}, b"FORGED"),
    }


class Field:
    """Victims, subscribers and the judge of one run."""

    def __init__(self, node, options):
        self.node = node
        self.wallet = options.stranger
        self.uri = options.websocket
        self.judge = Judge(self.wallet.address)
        self.watches = {}
        self.failures = []
        # Slots that are scheduled, by process. Slot 0 is the process itself.
        self.next = {}
        self.served_otherwise = []
        # Attacks after which a counter had grown.
        self.grown = {}

    def note(self, attacks, grown):
        for name in grown:
            self.grown.setdefault(name, []).append(attacks[0] if len(attacks) == 1 else f"{attacks[0]} to {attacks[-1]}")

    def victim(self, computed, pending=0):
        """A process with subscribers before its first slot, with slots that are computed, and slots that are only scheduled."""
        process = self.node.process(self.wallet, programs.LEDGER)
        self.watches[f"process {process[:5]}"] = watch_process(self.uri, process)
        self.watches[f"from {process[:5]}"] = watch_topic(self.uri, "from:" + process)
        self.judge.honest[process] = {0: "moved 0"}
        self.next[process] = 1
        for _ in range(computed - 1):
            self.schedule(process)
        self.compute(process)
        if not expect(self.watches[f"process {process[:5]}"], process, range(computed)):
            raise RuntimeError(f"the first slots did not come: {self.watches[f'process {process[:5]}'].frames}")
        for _ in range(pending):
            self.schedule(process)
        return process

    def schedule(self, process, amount=None):
        amount = amount or f"{self.next[process]}00{secrets.randbelow(1000)}"
        slot = self.node.schedule(self.wallet, process, action="Transfer", amount=amount)
        # The program tells the output, whoever computes the slot. Strangers may schedule as well: what they sent has no amount.
        self.judge.honest[process] |= {between: "moved 0" for between in range(self.next[process], slot)}
        self.judge.honest[process][slot] = f"moved {amount}"
        self.next[process] = slot + 1
        return slot

    def compute(self, process):
        """Computes all that is scheduled. The program tells the outputs; a stranger may make the node serve others."""
        for slot in range(self.next[process]):
            self.node.compute(process, slot)
            if self.node.output(process, slot) != self.judge.honest[process][slot]:
                self.served_otherwise.append((process, slot))

    def goes_on(self, process):
        """Whether the node computes one more slot. If so, it must come."""
        try:
            slot = self.schedule(process)
        except RuntimeError:
            return False
        if not self.node.serves(process, slot):
            return False
        if not expect(self.watches[f"process {process[:5]}"], process, range(slot + 1)):
            self.failures.append(f"slot {slot} of {process} was computed and did not come")
        return True

    def scene(self, process, stored, pending=False):
        watch = self.watches[f"process {process[:5]}"]
        newest = watch.slots(process)[-1]
        frame = next(frame for frame in watch.messages() if frame.get("slot") == newest and "from" not in frame)
        return Scene(
            victim=process, newest=newest, sender=self.wallet.address, operator=self.node.operator(), wallet=self.wallet,
            results=frame["data"]["results-id"], state=frame["data"]["state-id"], assignment=frame["assignment"],
            stored=stored, own=stored["own"], pending=pending,
        )

    def finish(self):
        """Every slot of every victim came once and in order, and nothing else did."""
        for process in self.next:
            if process in self.judge.blocked:
                continue
            slots = range(self.next[process])
            for name in (f"process {process[:5]}", "everything"):
                watch = self.watches[name]
                if not expect(watch, process, list(slots)):
                    self.failures.append(f"{name}: slots {watch.slots(process)} instead of {slots}")
            sent = [frame["slot"] for frame in self.watches[f"from {process[:5]}"].messages()]
            if sent != list(slots):
                self.failures.append(f"from {process[:5]}: messages of {sent} instead of {slots}")
        for name, watch in self.watches.items():
            faults = list(self.judge.faults(watch))
            if faults:
                self.failures.append(f"{name}: {len(faults)} faults, the first: {faults[0]}")
            print(f"  {name}: {len(watch.messages())} messages, {len(watch.gaps())} gaps, {len(faults)} forged or wrong")
        if self.served_otherwise:
            print(f"  the node itself served another output of {len(set(self.served_otherwise))} slots")
        stats = counters(self.uri)
        print(f"  reads that failed and were tried again: {stats['tail_read_failures']}")
        if stats["panics"]:
            self.failures.append(f"panics: {stats['panics']}")
        # A read of content that is not whole raises, and so does the node over a signed message that is none.
        refused = stats['messages_dropped{reason="refused"}'] + stats['messages_dropped{reason="malformed"}']
        if stats["exceptions"] > stats["tail_read_failures"] + refused:
            self.failures.append(f"exceptions: {stats['exceptions']}")
        for watch in self.watches.values():
            watch.close()


def field(node, options):
    made = Field(node, options)
    made.watches["everything"] = watch_topic(options.websocket, "*")
    made.watches["actions"] = watch_topic(options.websocket, "action:Credit-Notice")
    made.watches["template"] = Watch(options.websocket, "template=%7B%22type%22:%22result%22%7D")
    return made


def chosen(attacks, options):
    attacks = list(attacks)
    if len({attack.name for attack in attacks}) != len(attacks):
        raise RuntimeError("two attacks have one name")
    return [attack for attack in attacks if not options.only or options.only in attack.name][:: options.sample]


def send(node, attack):
    for request in attack.requests:
        node.send(request() if callable(request) else request, timeout=PATIENCE)


def run_all(node, attacks):
    """Runs attacks by several strangers at once. Gives how many there were."""
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return len(list(pool.map(lambda attack: send(node, attack), attacks)))


def run_table(run, table, victim, stored, pending, options):
    """Runs a table in batches, each by several strangers at once. A batch after which the node itself serves the victim
    no more, or computes no further slot of it, runs again on a new victim, one attack after the other, which finds the
    attack. Gives the number of attacks, and the last victim."""

    def attacks():
        return chosen(table.attacks(run.scene(victim, stored, pending)), options)

    def next_victim():
        return run.victim(*((1, 3) if pending else (3,)))

    total, number = len(attacks()), 0
    while number < total:
        batch = attacks()[number : number + options.batch]
        if not holds(run, victim, batch, pending):
            victim = next_victim()
            for place in range(number, number + len(batch)):
                attack = attacks()[place]
                if not holds(run, victim, [attack], pending):
                    print(f"  the node itself serves the process no more, or no further slot, after: {attack.name}", flush=True)
                    victim = next_victim()
        number += len(batch)
    return total, victim


def holds(run, victim, batch, pending):
    """Whether the node still serves the victim after these attacks. It must then come to its subscribers as well."""
    before = counters(run.uri)
    run_all(run.node, batch)
    run.note([attack.name for attack in batch], raised(before, counters(run.uri)))
    # A further slot would compute those that wait.
    if run.node.serves(victim) and (pending or run.goes_on(victim)):
        return True
    run.judge.blocked.add(victim)
    return False


def legal(run, node, processes):
    """Two more slots of each process, by legal requests alone: no counter of attacks may grow."""
    before = counters(run.uri)
    for process in processes:
        try:
            run.schedule(process)
            run.schedule(process)
            run.compute(process)
        except RuntimeError as error:
            run.failures.append(f"after the attacks the node computes no slot of {process}: {error}")
            continue
        if not until(lambda p=process: run.watches["everything"].slots(p)[-1:] == [run.next[p] - 1], 30):
            run.failures.append(f"after the attacks slot {run.next[process] - 1} of {process} did not come")
    if grown := raised(before, counters(run.uri)):
        run.failures.append(f"legal requests were counted as attacks: {grown}")


def own_processes(node, run, scene):
    """Programs of the stranger, each in a process that somebody subscribes to."""
    for name, lua in programs.strangers(scene, scene.next):
        process = node.process(run.wallet, lua)
        run.judge.strangers.add(process)
        watch = watch_process(run.uri, process)
        node.schedule(run.wallet, process, amount="1")
        began = time.monotonic()
        answer = node.send(Request("GET", f"/{process}~process@1.0/compute&slot=1"), timeout=PATIENCE)
        if time.monotonic() - began > 10:
            print(f"  a program that {name}: {answer.status} after {time.monotonic() - began:.0f} s", flush=True)
        until(lambda w=watch, p=process: w.slots(p)[-1:] == [1], 1)
        run.watches[f"stranger: {name}"] = watch


def attacks(node, options):
    """All tables, on a process of which all is computed, and on one with slots that wait."""
    run = field(node, options)
    settled, waiting = run.victim(3), run.victim(1, pending=3)
    facts = {"victim": settled, "sender": run.wallet.address, "slot": 3, "results": settled, "module": settled}
    stored = stored_messages(node, run.wallet, settled, facts)
    stored["own"] = node.process(run.wallet, programs.LEDGER)
    run.judge.strangers.update(stored.values())
    before, began, total = counters(options.websocket), time.monotonic(), 0
    for pending, tables in ((False, (paths, device_keys, other_devices)), (True, (paths,))):
        # What a device is told from outside is the same for every victim, so one table has both.
        for table in tables:
            count, victim = run_table(run, table, waiting if pending else settled, stored, pending, options)
            settled, waiting = (settled, victim) if pending else (victim, waiting)
            total += count
            print(f"  {table.__name__}, {'waiting' if pending else 'computed'} slots: {count} attacks, {time.monotonic() - began:.0f} s", flush=True)
    own_processes(node, run, run.scene(settled, stored))
    print(f"  {total} attacks and {len(programs.BODIES)} programs, {time.monotonic() - began:.0f} s, answers {dict(sorted(node.statuses.items()))}")
    print(f"  victims that the node itself serves no more: {len(run.judge.blocked)}")
    print(f"  counters that grew: {raised(before, counters(options.websocket))}")
    for name, attacks_of in run.grown.items():
        print(f"    {name}: after {len(attacks_of)} attacks or batches, like {attacks_of[:5]}")
    legal(run, node, (settled, waiting))
    run.finish()
    return run.failures


def silence(node, options):
    """Rounds of: slots are scheduled, the stranger tries to silence them, the node computes them."""
    run = field(node, options)
    victim = run.victim(3)
    facts = {"victim": victim, "sender": run.wallet.address, "slot": 3, "results": victim, "module": victim}
    stored = stored_messages(node, run.wallet, victim, facts)
    stored["own"] = node.process(run.wallet, programs.LEDGER)
    run.judge.strangers.update(stored.values())
    count = 0
    for number in range(options.rounds):
        amounts = [f"{number}{place}7" for place in range(4)]
        for amount in amounts:
            run.schedule(victim, amount)
        scene = run.scene(victim, stored, pending=True)
        foretold = [node.process(run.wallet, programs.LEDGER) for _ in amounts]
        run.judge.strangers.update(foretold)
        silencing.foretell(node, run.wallet, foretold, amounts)
        count += run_all(node, chosen(silencing.attacks(scene, node, run.wallet, foretold), options))
        run.compute(victim)
        if not until(lambda: run.watches["everything"].slots(victim)[-1:] == [run.next[victim] - 1], 30):
            run.failures.append(f"round {number}: slots {run.watches['everything'].slots(victim)}")
    print(f"  {count} attempts at silence in {options.rounds} rounds, answers {dict(sorted(node.statuses.items()))}")
    legal(run, node, (victim,))
    run.finish()
    return run.failures


def hints(node, options):
    """Paths with ids that are none, that nobody computed, and that are real, while slots come."""
    run = field(node, options)
    victim = run.victim(2)
    before, began = counters(options.websocket), time.monotonic()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    def request(number):
        ids = [encoded(secrets.token_bytes(32)), "".join(secrets.choice(alphabet) for _ in range(43)), "A" * (42 + number % 3), victim]
        key = ("info", "compute", "response", "cast")[number % 4]
        return Request("GET", f"/~{'meta' if key == 'info' else 'websocket'}@1.0/{key}?a=" + "&b=".join(ids[: 3 + number % 2]) + f"/{ids[0]}/{ids[1]}")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(node.send, request(number)) for number in range(options.hints // 2)]
        while not all(wait.done() for wait in waits):
            run.schedule(victim)
            run.compute(victim)
            until(lambda: all(wait.done() for wait in waits), 3)
    after = counters(options.websocket)
    print(f"  {options.hints} ids in {len(waits)} requests and {time.monotonic() - began:.0f} s: {raised(before, after, ('hints', 'hints_dropped', 'tail_probes'))}")
    followed = after['tails{state="running"}']
    print(f"  {run.next[victim] - 2} slots meanwhile; processes followed: {followed:.0f}")
    legal(run, node, (victim,))
    run.finish()
    return run.failures
