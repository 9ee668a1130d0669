"""Attempts at silence: what could keep a slot that is scheduled from its subscribers, before the node computes it."""

from attack import FAR, FEW, FORGED, Attack, Call, quoted, spelled
from node import Request
from signing import data_item


def foretell(node, wallet, processes, amounts):
    """Computes the results that the victim will have, in processes of the stranger: equal content has one place in the store."""
    for process, amount in zip(processes, amounts, strict=True):
        node.schedule(wallet, process, action="Transfer", amount=amount)
        node.compute(process, 1)


def kept(scene, name, base):
    """Answers that the node keeps beside the keys of a message, under the id of the request or under a name."""
    for control in ("always", "store"):
        for kind, key in {
            "set": f"set&output={FORGED}",
            "outbox": f"set&outbox={FORGED}",
            # Further keys leave the commitment over the others as it is, so the node writes them at the same place.
            "further key": f"set&a-key={FORGED}",
            # A key of the message itself leaves the lists of its commitments.
            "key of the output": f"set&body={FORGED}",
            "key of the message": f"set&amount={FORGED}",
            "both forms of a key": f"set&outbox={FORGED}&body%2Blink={FORGED}",
            "id as key": f"set&{scene.own}={FORGED}",
            "get": "output",
            "deep": "output/body",
            "keys": "keys",
            "id": "id",
            "commit": "commit",
            "signed set": f"set&commitments={FORGED}",
            "remove": "remove&item=output",
            "name": quoted(scene.own),
            "types": "set&ao-types=output%3D%22integer%22",
            "link": f"set&results%2Blink={scene.results}",
            "number": "1",
            "slot": f"compute&slot={FAR}",
        }.items():
            yield Attack(f"kept ({control}): {kind} of {name}", (Request("GET", f"/{base}/{key}", (("cache-control", control),)),))
            headers = (("cache-control", control), ("codec-device", "json@1.0"))
            yield Attack(f"kept ({control}), posted: {kind} of {name}", (Request("POST", f"/{base}/{key}", headers, b'{"results":"FORGED"}'),))


def foretold(scene, node, processes):
    """The messages that the victim's next slots will share: their results, by the ids that the stranger's own slots have."""
    for number, process in enumerate(processes[:2]):
        answer = node.compute(process, 1)
        results = answer.header("results+link")
        state = f"{process}~process@1.0/compute&slot=1"
        for name, base in {"results": results, "slot": state, "output": f"{results}/output", "outbox": f"{results}/outbox", "message": f"{results}/outbox/1"}.items():
            yield from kept(scene, f"foretold {name} {number}", base)


def far_slots(scene):
    """Slots far ahead, by all ways that might store one."""
    process = f"{scene.victim}~process@1.0"
    for distance in (1, 2, 3, 4, 8, 64, 4096, FAR):
        slot = scene.newest + 4 + distance
        yield Call(f"compute {distance} slots ahead", (process, "compute"), {"slot+integer": slot, "cache-control": "always"})
        yield Call(f"set {distance} slots ahead", (process, "set"), {"at-slot+integer": slot, "cache-control": "always"})
        yield Call(f"a base {distance} slots ahead", (process, "compute"), {"slot+integer": slot, "at-slot+integer": slot, "initialized": "true", "cache-control": "always"})
        yield Call(f"a base behind {distance} slots ahead", (process, "compute"), {"slot+integer": slot, "at-slot+integer": slot - 1, "initialized": "true"})


def floods(scene, wallet):
    """Subscribers, hints and messages that claim the victim's slots."""
    victim = scene.victim
    for slot in range(scene.next, scene.next + 4):
        yield Attack(f"hints of slot {slot}", tuple(Request("GET", f"/~websocket@1.0/compute?process={victim}&slot={slot}") for _ in range(20)))
        yield Attack(f"a step of slot {slot}", (Request("GET", f"/{victim}~websocket@1.0/step&slot={slot}&at-slot={slot}"),))
        item, _ = data_item(wallet, {"type": "Assignment", "process": victim, "slot": slot, "path": "compute", "epoch": "0"}, b"FORGED")
        yield Attack(f"an assignment of slot {slot}", (Request("POST", f"/{scene.own}~process@1.0/schedule", (("codec-device", "ans104@1.0"),), item),))
        yield Attack(f"start and stop {slot}", (Request("POST", "/~websocket@1.0/start", (), b"{}"), Request("GET", "/~websocket@1.0/stop")))


def attacks(scene, node, wallet, processes):
    for name, base in {"results": scene.results, "state": scene.state, "assignment": scene.assignment, "process": scene.victim}.items():
        # A stranger who keeps an answer under the process itself puts other content at its id: that limit is shown apart.
        if name != "process":
            yield from kept(scene, name, base)
    yield from foretold(scene, node, processes)
    yield from spelled(far_slots(scene), wallet, FEW)
    yield from floods(scene, wallet)
