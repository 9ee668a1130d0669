"""The ways in which a node comes to compute a slot. Each slot must come once and in order, whichever way it was."""

import hashlib
import json
import os
import statistics
import time

import programs
from node import Request, until
from watching import Judge, counters, expect, raised, watch_process, watch_topic

# Keys of a state that differ between two nodes, or with the time: ids of signatures, the Lua machine, the transport.
PASSING = ("date", "server", "signature", "signature-input", "process+link", "snapshot+link", "snapshot", "transfer-encoding")
SPELLINGS = (
    "/{0}~process@1.0/compute&slot={1}",
    "/{0}~process@1.0/compute?slot={1}",
    "/{0}/compute&slot={1}",
    "/{0}~process@1.0/compute&slot+integer={1}",
    "/{0}~process@1.0/compute/results?slot={1}",
    "/{0}%7Eprocess@1.0%2Fcompute&slot={1}",
    "//{0}~process@1.0//compute&slot={1}/",
    "/{0}~process@1.0/compute={1}",
)


class Follow:
    """Honest processes, each with a subscriber from before its first slot."""

    def __init__(self, node, options):
        self.node, self.wallet, self.uri = node, options.stranger, options.websocket
        self.everything = watch_topic(self.uri, "*")
        self.watches = {}
        self.failures = []

    def process(self, lua):
        process = self.node.process(self.wallet, lua)
        self.watches[process] = watch_process(self.uri, process)
        return process

    def expect(self, what, process, slots, watch=None):
        """Notes a failure unless the slots came, in this order, and with what the node serves."""
        watch = watch or self.watches[process]
        came = expect(watch, process, slots)
        outputs = {slot: (output or {}).get("body") for slot, output in watch.results(process)}
        served = {slot: self.node.output(process, slot) for slot in slots}
        print(f"  {what}: slots {watch.slots(process)}{'' if came and outputs == served else ' WRONG'}", flush=True)
        if not came or outputs != served:
            self.failures.append(f"{what}: {watch.slots(process)} instead of {list(slots)}: {outputs} {served}")

    def ask(self, path):
        return self.node.send(Request("GET", path))


def flows(node, options):
    run = Follow(node, options)
    before = counters(options.websocket)

    process = run.process(programs.LEDGER)
    for number, path in enumerate(SPELLINGS):
        run.ask(path.format(process, number))
        node.schedule(run.wallet, process, amount=str(number))
    for number, path in enumerate(SPELLINGS):
        run.ask(path.format(process, number))
        run.ask(path.format(process, number))
    node.compute(process, len(SPELLINGS))
    run.expect("spellings, asked twice", process, range(len(SPELLINGS) + 1))
    for number in range(3):
        node.schedule(run.wallet, process, amount=f"1{number}")
    run.ask(f"/{process}~process@1.0/now")
    run.expect("now", process, range(len(SPELLINGS) + 4))
    node.schedule(run.wallet, process, amount="20")
    run.ask(f"/{process}~process@1.0/compute/results&slot={len(SPELLINGS) + 4}")
    node.compute(process, len(SPELLINGS) + 4)
    run.expect("compute/results", process, range(len(SPELLINGS) + 5))

    first, second, third = (run.process(lua) for lua in (programs.FORWARDER, programs.LEDGER, programs.LEDGER))
    for process in (first, second, third):
        node.compute(process, 0)
        until(lambda p=process: run.watches[p].slots(p) == [0], 30)
    for number in range(4):
        node.schedule(run.wallet, first, first=second, second=third, amount=f"3{number}")
        node.push(first, number + 1)
    run.expect("pushed by a client", first, range(5))
    for process in (second, third):
        # A push may end before the node has written all slots, so the node tells their number.
        scheduled = int(run.ask(f"/{process}~process@1.0/slot/current").body)
        run.expect("pushed from process to process", process, range(scheduled + 1))
        if not scheduled:
            run.failures.append("nothing was pushed")
    senders = {frame["data"].get("sender") for process in (second, third) for frame in run.watches[process].messages() if frame["slot"] and "from" not in frame}
    if senders != {first}:
        run.failures.append(f"pushed slots name the senders {senders} instead of {first}")

    process = run.process(programs.LEDGER)
    path = f"/{process}~process@1.0/now"
    task = run.ask(f"/~cron@1.0/every?cron-path={path}&interval=1-second").body.decode()
    for number in range(4):
        node.schedule(run.wallet, process, amount=f"4{number}")
        if not until(lambda p=process, n=number: len(run.watches[p].slots(p)) >= n + 2, 30):
            run.failures.append(f"cron: slot {number + 1} was not computed")
    run.ask(f"/~cron@1.0/stop?task={task}")
    run.expect("cron", process, range(5))

    quiet = len(run.everything.messages())
    for process in run.watches:
        run.ask(f"/{process}~process@1.0/now/results")
        run.ask(f"/{process}~process@1.0/compute&slot=0")
        run.expect("asked again", process, range(len(run.watches[process].slots(process))))
    if len(run.everything.messages()) != quiet:
        run.failures.append("cached slots came again")
    for process in run.watches:
        run.expect("everything", process, range(len(run.watches[process].slots(process))), run.everything)
    if grown := raised(before, counters(options.websocket)):
        run.failures.append(f"legal requests were counted as attacks: {grown}")
    return run.failures


def before(node, options):
    """Twenty slots, and the processes written to a file: restart the node, then run `after`."""
    run = Follow(node, options)
    process = run.process(programs.LEDGER)
    for number in range(19):
        node.schedule(run.wallet, process, amount=f"5{number}")
    node.compute(process, 9)
    node.compute(process, 19)
    run.expect("before the restart", process, range(20))
    cursor = run.watches[process].messages()[-1]["seq"]
    epoch = run.watches[process].frames[0]["epoch"]
    with open(options.state, "w", encoding="utf-8") as file:
        json.dump({"process": process, "since": f"{epoch}:{cursor}"}, file)
    return run.failures


def after(node, options):
    with open(options.state, encoding="utf-8") as file:
        state = json.load(file)
    run = Follow(node, options)
    process = state["process"]
    run.watches[process] = watch_process(run.uri, f"{process}&since={state['since']}")
    for number in range(20):
        node.schedule(run.wallet, process, amount=f"6{number}")
        if number % 5 == 4:
            node.compute(process, 20 + number)
    run.expect("after the restart", process, range(20, 40))
    reasons = [frame["reason"] for frame in run.watches[process].gaps()]
    if reasons != ["epoch"]:
        run.failures.append(f"gaps after the restart: {reasons}")
    return run.failures


def digest(node, process, count):
    """A hash over the keys of all states, without those that no two nodes have in common."""
    states = []
    for slot in range(count):
        headers = node.compute(process, slot).headers
        states.append(sorted((name, value) for name, value in headers if name not in PASSING))
    return hashlib.sha256(json.dumps(states).encode()).hexdigest(), states


def slots(node, options):
    """So many slots of one process in three requests. Prints the digest, to be compared with that of a node without the device."""
    process, count = options.process, options.count
    failures = []
    if options.websocket != "-":
        watch = watch_process(options.websocket, process)
    began = time.monotonic()
    for part in (1, 2, 3):
        node.compute(process, count * part // 3 - 1)
    took = time.monotonic() - began
    if options.websocket != "-":
        came = expect(watch, process, range(count), 60)
        messages = sum(1 for frame in watch.messages() if "from" in frame)
        print(f"  {len(watch.slots(process))} results in {'order' if came else 'DISORDER'}, {messages} messages, {len(watch.gaps())} gaps, {took:.0f} s")
        if not came or messages != count or watch.gaps():
            failures.append(f"slots {watch.slots(process)[:20]}.., {messages} messages, gaps {watch.gaps()[:3]}")
        if list(Judge("").faults(watch)) and any("process that nobody" not in fault for fault, _ in Judge("").faults(watch)):
            failures.append(str(next(Judge("").faults(watch))))
    summary, states = digest(node, process, count)
    print(f"  states of {count} slots: sha256 {summary}; keys {[name for name, _ in states[-1]]}")
    return failures


def lua(node, options):
    """Four slots of a process that calls ao.resolve. Prints their outputs, which must be those of a node without the device."""
    process = node.process(options.stranger, programs.RESOLVER)
    watch = watch_process(options.websocket, process) if options.websocket != "-" else None
    for number in range(3):
        node.schedule(options.stranger, process, amount=str(number))
    node.compute(process, 3)
    outputs = [node.output(process, slot) for slot in range(4)]
    print(*outputs, sep="\n  ")
    if watch and not expect(watch, process, range(4)):
        return [f"slots {watch.slots(process)}"]
    return [] if all(output.startswith("ok 42 ok found ok") for output in outputs) else ["ao.resolve fails"]


def delay(node, options):
    """From the answer of `compute` to the frame at a client, in milliseconds."""
    process = node.process(options.stranger, programs.LEDGER)
    watch = watch_process(options.websocket, process)
    delays = []
    for slot in range(80):
        if slot:
            node.schedule(options.stranger, process, amount=str(slot))
        # The next probe of the cache may be near or far.
        time.sleep(0.037 * (slot % 7))
        node.compute(process, slot)
        answered = time.monotonic()
        if not until(lambda s=slot: watch.slots(process)[-1:] == [s], 10):
            return [f"slot {slot} did not come"]
        arrived = next(at for at, frame in zip(watch.times, watch.frames) if frame.get("slot") == slot)
        delays.append(1000 * max(0.0, arrived - answered))
    delays.sort()
    print(f"  {len(delays)} slots: median {statistics.median(delays):.0f} ms, p99 {delays[-1 - len(delays) // 100]:.0f} ms; load {os.getloadavg()[0]:.2f}")
    return []
