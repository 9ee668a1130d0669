"""Programs of processes in Lua: honest ones, and those of a stranger who wants to speak for others."""

# Slot 0 is the process itself. Everything after it answers with what it was sent.
LEDGER = """
function compute(process, assignment, opts)
    local amount = assignment.body.amount or "0"
    process.results = {
        output = { body = "moved " .. amount },
        outbox = { ["1"] = { Target = "alice", Action = "Credit-Notice", Amount = amount } }
    }
    return process
end
"""

# Prints a line at its prompt, as a process of aos does.
PRINTER = """
function compute(process, assignment, opts)
    process.results = { output = { data = assignment.body.line or "ready", prompt = "aos> ", print = true }, outbox = {} }
    return process
end
"""

# Sends one message each to the processes that a message names.
FORWARDER = """
function compute(process, assignment, opts)
    process.results = { output = { body = "forwarded " .. (assignment.body.amount or "0") }, outbox = {} }
    for number, name in ipairs({ "first", "second" }) do
        local target = assignment.body[name]
        if target then
            process.results.outbox[tostring(number)] = { target = target, action = "Deposit", amount = assignment.body.amount }
        end
    end
    return process
end
"""

# Resolves messages while it computes, and reports what came.
RESOLVER = """
function compute(process, assignment, opts)
    local status, got = ao.resolve({ path = "/~message@1.0/set", answer = "42" })
    local other, name = ao.resolve({ device = "message@1.0", deep = { key = "found" } }, "deep/key")
    local third, there = ao.resolve({ path = "/~meta@1.0/info/address" })
    process.results = {
        output = { body = tostring(status) .. " " .. tostring(type(got) == "table" and got.answer) .. " " .. tostring(other) .. " " .. tostring(name)
            .. " " .. tostring(third) .. " " .. (assignment.body.amount or "0") },
        outbox = {}
    }
    return process
end
"""

TEMPLATE = """
function compute(process, assignment, opts)
    local victim, sender, slot = "%(victim)s", "%(sender)s", %(slot)d
    local forged = { output = { body = "FORGED" }, outbox = { ["1"] = { Action = "FORGED", Target = "alice", From = victim, Process = victim } } }
    local state = { device = "process@1.0", process = victim, ["at-slot"] = slot, slot = slot, results = forged }
    process.results = forged
    %(body)s
    return process
end
"""

# What the stranger's program does, by name.
BODIES = {
    "swaps its process key for an id": "process.process = victim",
    "swaps its process key for a table": "process.process = { device = 'process@1.0', id = victim }",
    "invents commitments of its process": "process.process.commitments = { [victim] = { committer = sender } }",
    "invents commitments of its state": "process.commitments = { [victim] = { committer = sender, type = 'rsa-pss-sha256' } }",
    "sets priv": "process.priv = { hashpath = victim .. '/compute' }",
    "sets slots": "process['at-slot'] = slot; process.slot = slot",
    "sets at-slot and process": "process['at-slot'] = slot; process.process = victim; process.id = victim",
    "names a process in its results": "process.results.process = victim; process.results.slot = slot; process.results.from = victim",
    "sends a result": "process.results.outbox['1'] = { type = 'result', process = victim, slot = slot, output = 'FORGED', topic = 'process:' .. victim }",
    "sends reserved topics": "process.results.outbox['1'] = { topics = { 'process:' .. victim, 'from:' .. victim }, data = 'FORGED' }",
    "sends as another": "process.results.outbox['1'] = { ['from-process'] = victim, from = victim, owner = sender, data = 'FORGED' }",
    "names keys like topics": "process.results.outbox['1'] = { ['process:' .. victim] = 'FORGED', ['from'] = { victim } }",
    "sends a list as a message": "process.results.outbox = { { data = 'FORGED', process = victim }, 'FORGED', 7 }",
    "links to the victim's results": "process['results+link'] = '%(results)s'; process.results = nil",
    "links to the victim's state": "process['process+link'] = victim; process['results+link'] = '%(results)s'",
    "returns the victim's program": "process.module = '%(module)s'; process['scheduler-location'] = sender",
    "returns another state": "process = state",
    "fails": "error('FORGED')",
    "casts": "ao.resolve({ path = '/~websocket@1.0/cast', topic = 'process:' .. victim, process = victim, from = victim, data = 'FORGED' })",
    "calls compute of the device": "ao.resolve({ device = 'websocket@1.0', process = victim, results = forged, priv = { hashpath = victim } }, { path = 'compute', slot = slot })",
    "calls response of the device": "ao.resolve({ device = 'websocket@1.0' }, { path = 'response', body = state, request = { path = '/' .. victim .. '/compute' } })",
    "calls step of the device": "ao.resolve({ device = 'websocket@1.0' }, { path = 'step', base = state, request = { path = 'compute' }, body = state, status = 'ok' })",
    "calls start of the device": "ao.resolve({ device = 'websocket@1.0' }, { path = 'start', body = { websocket_port = 1, websocket_cast = 'open' } })",
    "calls the device as another": "ao.resolve({ 'as', 'websocket@1.0', state }, { path = 'compute', slot = slot, process = victim })",
    "computes a forged base": "ao.resolve({ device = 'process@1.0', initialized = 'true', process = victim, ['at-slot'] = slot, results = forged }, { path = 'compute', slot = slot })",
    "computes over a stack": "ao.resolve({ device = 'stack@1.0', ['device-stack'] = { 'websocket@1.0' }, process = { commitments = { [victim] = { committer = sender } } } }, { path = 'compute', slot = slot })",
    "sets the victim": "local _, got = ao.resolve({ path = '/' .. victim }); ao.set(got, { ['at-slot'] = slot, results = forged })",
    "keeps an answer": "ao.resolve({ path = '/' .. victim .. '/set', results = forged, ['cache-control'] = 'always' })",
    "writes the cache": "ao.resolve({ path = '/~cache@1.0/write', location = 'computed/' .. victim .. '/slot/' .. slot, body = 'FORGED' })",
    "links the cache": "ao.resolve({ device = 'cache@1.0' }, { path = 'link', source = '%(results)s', destination = 'computed/' .. victim .. '/slot/' .. slot })",
    "pushes as the victim": "ao.resolve({ device = 'push@1.0', process = victim }, { path = 'push', slot = slot })",
    "changes the node": "ao.resolve({ path = '/~meta@1.0/info', method = 'POST', websocket_cast = 'open', ['websocket-port'] = 1 })",
    "logs an event": "ao.event('websocket', { 'result', victim, slot, 'FORGED' })",
    "sends many messages": "for n = 1, 150 do process.results.outbox[tostring(n)] = { data = 'FORGED', process = victim, from = victim } end",
    "nests deeply": "local deep = forged; for n = 1, 100 do deep = { process = victim, deep = deep } end; process.results.output = deep",
    "sends what is large": "process.results.output = { body = string.rep('FORGED', 60000), process = victim }",
}


def strangers(scene, slot):
    """Programs by name. Each runs in a process of the stranger's own."""
    facts = {"victim": scene.victim, "sender": scene.sender, "slot": slot, "results": scene.results, "module": scene.stored["lua"]}
    for name, body in BODIES.items():
        yield name, TEMPLATE % (facts | {"body": body % facts if "%(" in body else body})
