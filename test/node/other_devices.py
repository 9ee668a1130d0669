"""Attacks by the other devices of a node: those that write, call back, run later, or answer in somebody's name."""

import json

from attack import FAR, FEW, FORGED, Attack, Call, quoted, results, spelled
from node import Request

JSON = (("content-type", "application/json"),)


def device_calls(scene):
    victim, slot = scene.victim, scene.next
    path = f"/{victim}~process@1.0/compute&slot={slot}"
    hint = f"/~websocket@1.0/compute&process={victim}&slot+integer={slot}&results={FORGED}"
    claim = {"process": victim, "slot+integer": slot} | results()
    place = f"computed/{victim}/slot/{FAR}"
    yield Call("a write of the cache", ("~cache@1.0", "write"), {"location": place, "body": FORGED, "type": "single"})
    yield Call("a batch of writes", ("~cache@1.0", "write"), {"type": "batch", "body+map": f'{victim}="{FORGED}"'})
    yield Call("a link in the cache", ("~cache@1.0", "link"), {"source": scene.stored["state"], "destination": place})
    yield Call("a read of the cache", ("~cache@1.0", "read"), {"target": f"computed/{victim}/slot/{scene.newest}"})
    yield Call("a read of the cache, set", ("~cache@1.0", f"read&target=computed%2F{victim}%2Fslot%2F{scene.newest}", "set"), claim)
    yield Call("cron, once", ("~cron@1.0", "once"), {"cron-path": hint} | claim)
    yield Call("cron, once, the process", ("~cron@1.0", "once"), {"cron-path": f"/{victim}~process@1.0/compute&slot={FAR}"} | claim)
    yield Call("cron, every", ("~cron@1.0", "every"), {"cron-path": hint, "interval": "1-day"} | claim)
    yield Call("a relay", ("~relay@1.0", "call"), {"relay-path": "http://127.0.0.1:1" + hint, "target": victim} | claim)
    yield Call("a relay that does not wait", ("~relay@1.0", "cast"), {"relay-path": "http://127.0.0.1:1" + path} | claim)
    yield Call("apply", ("~apply@1.0", "pair"), {"base": f"/{victim}", "request": "/~websocket@1.0/compute"} | claim)
    yield Call("lookup", ("~lookup@1.0", "read"), {"target": scene.state} | claim)
    yield Call("patch", ("~patch@1.0", "compute"), {"patch-from": "/results", "patch-to": f"/{victim}"} | claim)
    yield Call("patch over the process", (f"{victim}~patch@1.0", "compute"), {"patch-from": "/", "patch-to": "/results"} | claim)
    yield Call("dedup", ("~dedup@1.0", "compute"), claim | {"subject": "request"})
    yield Call("multipass", ("~multipass@1.0", "compute"), claim | {"passes+integer": 2, "pass+integer": 1})
    yield Call("test-device", ("~test-device@1.0", "compute"), claim | {"already-seen+list": "1, 2"})
    yield Call("test-device, postprocess", ("~test-device@1.0", "postprocess"), claim | {"body+resolve": f"/{victim}"})
    yield Call("router", ("~router@1.0", "routes"), {"template": "/.*", "node": "http://127.0.0.1:1"} | claim)
    yield Call("name", ("~name@1.0", victim), claim)
    yield Call("local name", ("~local-name@1.0", "register"), {"key": victim, "value": scene.own})
    yield Call("compute@1.0", ("~compute@1.0", "compute"), claim)
    yield Call("delegated-compute", ("~delegated-compute@1.0", "compute"), claim)
    yield Call("genesis-wasm", ("~genesis-wasm@1.0", "compute"), claim)
    yield Call("json-iface", ("~json-iface@1.0", "compute"), claim | {"results/json/body": f'{{"Output":"{FORGED}"}}'})
    yield Call("p4", ("~p4@1.0", "response"), claim)
    yield Call("greenzone", ("~greenzone@1.0", "join"), {"peer-location": "http://127.0.0.1:1"} | claim)
    yield Call("poda", ("~poda@1.0", "push"), claim)
    yield Call("monitor", ("~monitor@1.0", "signal"), claim)
    yield Call("hyperbuddy", ("~hyperbuddy@1.0", "events"), claim)
    yield Call("a scheduler of the stranger's choice", ("~scheduler@1.0", "next"), {"process": victim, "slot+integer": slot, "at-slot+integer": scene.newest})
    yield Call("scheduler, status", ("~scheduler@1.0", "status"), claim)
    yield Call("the schedule of another, set", (f"{victim}~process@1.0", "schedule", "set"), {"current+integer": FAR} | claim)
    yield Call("push of an assignment", ("~push@1.0", "push"), {"process": victim, "slot+integer": scene.newest} | claim)
    yield Call("options of the node", ("~meta@1.0", "info"), {"websocket-cast": "open", "on+map": 'response="x"', "initialized": "true"})
    yield Call("options of the request", (f"{victim}~process@1.0", "compute"), {"store+list": '"x"', "process_store": FORGED, "slot+integer": FAR})
    for device in ("snp@1.0", "volume@1.0", "wasi@1.0", "wasm-64@1.0", "cacheviz@1.0", "manifest@1.0", "faff@1.0", "simple-pay@1.0"):
        yield Call(device, (f"~{device}", "compute"), claim)


def scheduling(scene):
    """What the scheduler gets: assignments that nobody made, messages that nobody signed, slots that are claimed."""
    victim, slot = scene.victim, scene.next
    bodies = (
        {"type": "Assignment", "process": victim, "slot": FAR, "body": {"data": FORGED}},
        {"target": victim, "type": "Message", "data": FORGED, "slot": FAR},
        {"target": victim, "type": "Message", "from-process": victim, "data": FORGED, "slot": slot},
        {"type": "Process", "device": "process@1.0", "at-slot": FAR, "initialized": "true", "process": victim, "results": {"output": FORGED}},
        {"body": {"type": "Assignment", "slot": FAR, "process": victim, "hash-chain": FORGED}, "subject": "body"},
    )
    for number, body in enumerate(bodies):
        # An unsigned message with a target is a legal one for the scheduler of June 2025, and would make a slot.
        if number in (1, 2):
            continue
        text = json.dumps(body).encode()
        for path in (f"/{victim}~process@1.0/schedule", f"/{victim}/schedule", "/~scheduler@1.0/schedule", f"/{victim}~scheduler@1.0/schedule"):
            for codec in ("json@1.0", "httpsig@1.0"):
                headers = (("codec-device", codec), ("type", body.get("type", FORGED)), *JSON)
                yield Attack(f"schedule {number} {codec} {path[-24:]}", (Request("POST", path + f"&slot={FAR}", headers, text),))


def stored_answers(scene):
    """Requests whose answers the node is asked to keep, beside and under what the victim's slot is made of."""
    # An answer that is kept under the process itself puts other content at its id: limits.py shows that.
    bases = {
        "the state": scene.state,
        "the results": scene.results,
        "the assignment": scene.assignment,
        "a slot": f"{scene.victim}~process@1.0/compute&slot={scene.newest}",
    } | {name: message for name, message in scene.stored.items()}
    keys = {
        "set results": f"set&results={FORGED}&at-slot+integer={scene.next}",
        "set output": f"set&output={FORGED}",
        "set the outbox": f"set&outbox+map=1%3D%22{FORGED}%22",
        "remove": "remove&item=results",
        "a key of its own": quoted(scene.own),
        "commit": "commit",
        "the device": f"compute~websocket@1.0&slot={scene.next}",
        "commitments": f"set&commitments+map={scene.victim[:8]}%3D%22{FORGED}%22",
        "an id as key": f"set&{scene.victim}={FORGED}",
    }
    for control in ("always", "store", "store, always", "only-if-cached"):
        for name, base in bases.items():
            for kind, key in keys.items():
                yield Attack(f"kept ({control}): {kind} of {name}", (Request("GET", f"/{base}/{key}", (("cache-control", control),)),))


def attacks(scene):
    yield from spelled(device_calls(scene), scene.wallet, FEW)
    yield from scheduling(scene)
    yield from stored_answers(scene)
