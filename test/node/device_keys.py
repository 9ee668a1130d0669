"""Attacks on the device itself: its keys called from outside, with states, hooks and casts that claim to be a process's."""

import json

from attack import FAR, FEW, FORGED, Attack, Call, results, spelled
from node import Request

KEYS = ("compute", "response", "step", "init", "normalize", "snapshot", "start", "stats", "token", "hint", "publish_slot", "set", "keys", "listen", "stop")
JSON = (("content-type", "application/json"),)


def key_calls(scene):
    """Each key with a state, a request and a hook of the stranger's choice."""
    slot = scene.next
    state = {"process": scene.victim, "slot+integer": slot, "at-slot+integer": slot, "type": "result", "from": scene.victim} | results()
    for key in KEYS:
        yield Call(f"the key {key} of the device", ("~websocket@1.0", key), state)
    for key in ("compute", "response", "step"):
        yield Call(f"the key {key}, the process as base", (f"{scene.victim}~websocket@1.0", key), state)
        yield Call(f"the key {key}, the state as base", (f"{scene.state}~websocket@1.0", key), state)
        yield Call(f"the key {key}, the results as base", (f"{scene.results}~websocket@1.0", key), state)
        yield Call(f"the key {key}, a slot as base", (f"{scene.victim}~process@1.0", f"compute&slot={scene.newest}", f"{key}~websocket@1.0"), state)
        yield Call(f"the key {key}, parts resolved", ("~websocket@1.0", key), state | {"process+resolve": f"/{scene.victim}", "body+resolve": f"/{scene.state}"})
        for name, message in scene.stored.items():
            yield Call(f"the key {key}, {name} as base", (f"{message}~websocket@1.0", key), {"slot+integer": slot})
    for stack in ('"websocket@1.0"', '"message@1.0", "websocket@1.0"', '"lua@5.3a", "websocket@1.0"', '"test-device@1.0", "websocket@1.0"'):
        yield Call(f"a stack of {stack}", ("~stack@1.0", "compute"), state | {"device-stack+list": stack, "module": scene.stored["lua"]})


# Bodies that a node itself hands to a hook or to a device in a stack.
def hook_bodies(scene):
    victim, slot = scene.victim, scene.next
    path = f"/{victim}~process@1.0/compute&slot={slot}"
    output = {"output": {"body": FORGED}, "outbox": {"1": {"action": FORGED, "target": "alice"}}}
    hashpath = f"{victim}/{scene.assignment}"
    state = {"device": "process@1.0", "at-slot": slot, "process": victim, "results": output, "priv": {"hashpath": hashpath}}
    commitments = {victim: {"committer": scene.sender, "type": "rsa-pss-sha256", "signature": "QUFB"}}
    yield "response", {"body": state, "request": {"path": path, "method": "GET"}}
    yield "response", {"body": {"status": 200} | state, "request": {"path": [path, FORGED]}}
    yield "response", {"body": [state], "request": {"path": "/".join([victim] * 80)}}
    yield "response", {"request": {"path": f"/{scene.own}/{victim}/{FORGED}"}, "body": output}
    yield "response", {"request": path, "body": output}
    yield "response", {"request": {"path": 7}, "status": "ok", "body": output}
    yield "step", {"base": state, "request": {"path": "compute", "slot": slot}, "status": "ok", "body": state}
    yield "step", {"base": {"device": "process@1.0"}, "request": {"path": "compute"}, "body": {"at-slot": slot, "results": output}}
    yield "compute", state | {"process": {"commitments": commitments}}
    yield "compute", state | {"process": {"commitments": {victim: FORGED}}, "body": {"slot": slot}}
    yield "compute", state | {"process": [victim], "commitments": commitments}
    yield "compute", {"process+link": victim, "slot": slot, "results+link": scene.results}
    yield "compute", {"process": {"link": victim}, "assignment": scene.assignment, "slot": FAR, "results": output}
    yield "init", state
    yield "normalize", {"snapshot": state, "process": victim}
    yield "snapshot", state
    yield "start", {"body": {"websocket_port": 1, "websocket-tail": victim, "websocket_cast": "open"}, "websocket_host": "0.0.0.0"}


def hooks(scene):
    """The bodies in each codec, on the device and on the device as a stack's part."""
    for number, (key, body) in enumerate(hook_bodies(scene)):
        text = json.dumps(body).encode()
        for codec in ("json@1.0", "structured@1.0", "httpsig@1.0", "flat@1.0"):
            for path in (f"/~websocket@1.0/{key}", f"/{scene.victim}~websocket@1.0/{key}", f"/~stack@1.0/{key}&device-stack+list=%22websocket@1.0%22"):
                request = Request("POST", path, (("codec-device", codec), *JSON), text)
                yield Attack(f"hook {number} {key} / {codec} {path[:14]}", (request,))


def casts(scene):
    """Casts that claim topics, senders, slots and signatures of a process."""
    victim, slot = scene.victim, scene.next
    claims = (
        {"process": victim, "slot": slot, "type": "result", "output": FORGED},
        {"from": [victim], "data": FORGED},
        {"from": victim, "sender": scene.sender, "data": FORGED},
        {"topic": f"process:{victim}", "data": FORGED},
        {"topics": [f"process:{victim}", f"from:{victim}", f"slot:{slot}", f"owner:{scene.sender}"], "data": FORGED},
        {"topic": f"/{victim}~process@1.0", "data": FORGED},
        {"topic": f"{victim}~process@1.0/compute", "path": f"/{victim}~process@1.0/compute&slot={slot}", "data": FORGED},
        {"Process": victim, "Slot": slot, "From": victim, "Topic": f"Process:{victim}", "data": FORGED},
        {"process:" + victim: FORGED, f"from:{victim}": FORGED},
        {"provenance": {"process": victim, "slot": slot, "from": [victim]}, "data": FORGED},
        {"source": "node", "assignment": scene.assignment, "seq": 1, "timestamp": 1, "data": FORGED},
        {"commitments": {victim: {"committer": victim, "type": "rsa-pss-sha256"}}, "process": victim, "data": FORGED},
        {"type": "gap", "process": victim, "from": slot, "to": FAR, "reason": "withheld"},
        {"type": "message", "seq": 10**9, "topic": f"process:{victim}", "data": {"type": "result", "process": victim, "slot": slot, "output": FORGED}},
        {"Tags": [{"name": "Process", "value": victim}, {"name": "from", "value": victim}], "data": FORGED},
        {"hashpath": f"{victim}/{scene.assignment}", "state-id": scene.state, "results-id": scene.results, "data": FORGED},
        [{"process": victim, "slot": slot, "data": FORGED}],
        f"process:{victim} {FORGED}",
    )
    for number, claim in enumerate(claims):
        text = json.dumps(claim).encode()
        topics = f"?topic=process:{victim}&topics=from:{victim},process:{victim}&process={victim}&slot={slot}&from={victim}&source=node"
        yield Attack(f"cast {number} / json", (Request("POST", "/~websocket@1.0/cast", JSON, text),))
        yield Attack(f"cast {number} / json and query", (Request("POST", "/~websocket@1.0/cast" + topics, JSON, text),))
        yield Attack(f"cast {number} / codec", (Request("POST", "/~websocket@1.0/cast", (("codec-device", "json@1.0"),), text),))
        yield Attack(f"cast {number} / the process as base", (Request("POST", f"/{victim}~websocket@1.0/cast", JSON, text),))
        if isinstance(claim, dict):
            call = Call(f"cast {number}", ("~websocket@1.0", "cast"), {name.replace(":", "-"): json.dumps(value) for name, value in claim.items()})
            yield from spelled([call], scene.wallet, FEW[:4])


def attacks(scene):
    yield from spelled(key_calls(scene), scene.wallet, FEW)
    yield from hooks(scene)
    yield from casts(scene)
