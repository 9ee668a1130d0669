"""Attacks on slots by paths: results set behind a computation, bases from the URL, other devices over the process."""

from attack import FAR, FEW, FORGED, Call, results, spelled


def slot_calls(scene):
    """Keys set behind a computation, and computations of slots that are claimed."""
    process = f"{scene.victim}~process@1.0"
    claim = {"at-slot+integer": scene.next} | results()
    for kind, slot in scene.slots().items():
        if not (scene.pending and kind == "next"):
            yield Call(f"compute of a {kind} slot with results", (process, "compute"), {"slot+integer": slot} | results())
        yield Call(f"set behind a {kind} slot", (process, f"compute&slot={slot}", "set"), {"at-slot+integer": slot} | results())
    yield Call("set on the process", (scene.victim, "set"), claim)
    yield Call("set by message@1.0", (f"{scene.victim}~message@1.0", "set"), claim)
    yield Call("set, then compute", (process, f"set&at-slot+integer={scene.next}", "compute"), {"slot+integer": scene.newest} | results())
    yield Call("set of the results' output", (process, f"compute&slot={scene.newest}", "results", "set"), {"output": FORGED})
    yield Call("set with a device", (process, "set"), {"device": "websocket@1.0"} | claim)


def other_calls(scene):
    """Other ways to a state: keys of the process device, and other devices over the victim's message."""
    victim, process = scene.victim, f"{scene.victim}~process@1.0"
    claim = {"at-slot+integer": scene.next, "slot+integer": scene.next, "process": victim} | results()
    # A slot that is computed is served from the cache, and one that is not scheduled cannot be computed.
    for slot in (scene.newest, FAR):
        base = {"initialized+atom": "true", "at-slot+integer": slot - 1, "slot+integer": slot} | results()
        yield Call(f"a base from the URL, slot {slot}", (process, "compute"), base)
        base = {"initialized": "true", "at-slot+integer": slot, "slot+integer": slot} | results()
        yield Call(f"a base from the URL at slot {slot}", (process, "compute"), base)
    for key in ("now", "results", "snapshot", "as", "process", "keys", "remove", "id", "commit", "verify", "info", "restore", "init"):
        yield Call(f"the key {key}", (process, key), claim)
    if not scene.pending:
        yield Call("a push of a slot", (process, "push"), {"slot+integer": scene.next} | results())
        yield Call("now from the cache", (process, "now", "results"), {"process_now_from_cache": "true"} | results())
    for device in (
        "stack@1.0", "message@1.0", "patch@1.0", "multipass@1.0", "dedup@1.0", "test-device@1.0", "json-iface@1.0", "push@1.0",
        "cron@1.0", "poda@1.0", "simple-pay@1.0", "node-process@1.0", "websocket@1.0", "httpsig@1.0", "ans104@1.0", "flat@1.0",
        "structured@1.0", "json@1.0", "apply@1.0", "faff@1.0", "monitor@1.0", "compute@1.0", "manifest@1.0", "local-name@1.0",
    ):
        yield Call(f"the process as {device}", (f"{victim}~{device}", "compute"), claim | {"device-stack+list": '"websocket@1.0"'})
    yield Call("lua of the stranger over the process", (f"{victim}~lua@5.3a", "compute"), claim | {"module": scene.stored["lua"]})
    yield Call("a device of the stranger in the process", (process, "compute"), claim | {"execution-device": "websocket@1.0", "slot+integer": FAR})
    yield Call("the process of another", (f"{scene.own}~process@1.0", "compute"), claim | {"process": victim, "slot+integer": 0})
    yield Call("the process of another, resolved", (f"{scene.own}~process@1.0", "compute"), {"slot+integer": 0, "process+resolve": f"/{victim}"})
    yield Call("the id of another's state", (scene.state, "compute"), {"slot+integer": FAR} | results())
    yield Call("the state as a process", (f"{scene.state}~process@1.0", "compute"), {"slot+integer": FAR, "process": victim} | results())
    yield Call("an assignment as a process", (f"{scene.assignment}~process@1.0", "compute"), {"slot+integer": FAR, "process": victim} | results())
    yield Call("priv keys", (process, "compute"), {"slot+integer": FAR, "priv": FORGED, "priv+map": f'hashpath="{victim}/compute"'})
    yield Call("a hashpath of its own", (process, "compute"), {"slot+integer": FAR, "hashpath": f"{victim}/{scene.assignment}"} | results())
    yield Call("commitments in keys", (process, "set"), claim | {"commitments+map": f'a="{scene.sender}"'})
    yield Call("an empty process key", ("~process@1.0", "compute"), claim | {"process+resolve": f"/{victim}", "initialized+atom": "true", "slot+integer": FAR})
    yield Call("a slot below zero", (process, "compute"), {"slot+integer": -1} | results())
    yield Call("a slot that is no number", (process, "compute"), {"slot": "1e1"} | results())
    yield Call("a slot of 400 digits", (process, "compute"), {"slot": "9" * 400} | results())
    yield Call("a slot with a path in it", (process, "compute"), {"slot": f"{scene.newest}/../{FAR}"} | results())


def spellings_of_a_slot(scene):
    """Slots as the last part of a path, in odd forms."""
    victim = scene.victim
    for name, path in (
        ("as a value of the key", (f"{victim}~process@1.0", f"compute={FAR}")),
        ("as a value of results", (f"{victim}~process@1.0", "compute", f"results={FAR}")),
        ("as a typed value", (f"{victim}~process@1.0", f"compute+integer={FAR}")),
        ("by two devices", (f"{victim}~process@1.0~websocket@1.0", "compute")),
        ("by a device in a subpath", (f"{victim}~(process@1.0)", "compute")),
        ("by the path of the cache", ("~cache@1.0", f"read&target=computed/{victim}/slot/{FAR}")),
        ("with dots", (".", victim, "..", victim, f"compute&slot={FAR}")),
        ("with the id in another case", (victim.swapcase(), f"compute&slot={FAR}")),
        ("with a longer id", (victim + "A~process@1.0", f"compute&slot={FAR}")),
        ("with four ids", (victim, scene.own, scene.state, f"{victim}~process@1.0", "compute")),
        ("with six hundred characters", (f"{victim}~process@1.0", "compute&slot=" + "0" * 600 + "1")),
    ):
        yield Call(f"a slot {name}", path, results())


def attacks(scene):
    yield from spelled(slot_calls(scene), scene.wallet)
    yield from spelled(other_calls(scene), scene.wallet, FEW)
    yield from spelled(spellings_of_a_slot(scene), scene.wallet, FEW)
