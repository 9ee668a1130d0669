"""The limit that stays, as docs/HYPERBEAM.md has it: what a stranger makes a node of 2025 itself store. It is shown, not passed."""

from node import Request, until
from watching import watch_process

COUNTER = """
function compute(process, assignment, opts)
    process.count = (tonumber(process.count) or 0) + 1
    process.results = { output = { body = "count " .. tostring(math.floor(process.count)) }, outbox = {} }
    return process
end
"""
# Bases with a state of the stranger's choice, for a slot that is scheduled and not computed.
BASES = (
    "/{0}~process@1.0&initialized=true&at-slot+integer={1}&count=1000/compute&slot+integer={2}",
    "/{0}/set&initialized=true&at-slot+integer={1}&count=1000/compute&slot+integer={2}",
    "/{0}~process@1.0/set&initialized=true&at-slot+integer={1}&count=1000/compute&slot+integer={2}",
    "/{0}~process@1.0/compute&slot={1}/set&count=1000/compute~process@1.0&slot={2}",
    "/{0}~message@1.0/set&initialized=true&at-slot+integer={1}&count=1000/compute~process@1.0&slot+integer={2}",
)
BLOCKS = ("/{0}/set&count=1000", "/{0}/set&initialized=true&at-slot+integer=7", "/{0}/set&random=1", "/{0}~process@1.0/commit&random=1")


def forged_slot(node, options, number, base):
    """Whether a base makes the node serve a slot of the stranger's. Subscribers must get what the node serves."""
    process = node.process(options.stranger, COUNTER)
    watch = watch_process(options.websocket, process)
    node.compute(process, 0)
    node.schedule(options.stranger, process, amount="1")
    answer = node.send(Request("GET", base.format(process, 0, 1)))
    node.compute(process, 1)
    served = node.output(process, 1)
    came = until(lambda: len(watch.slots(process)) == 2, 20)
    sent = [(output or {}).get("body") for _, output in watch.results(process)]
    print(f"  base {number}: {answer.status}; slot 1 of the node: {served!r}; published: {sent}", flush=True)
    return [] if came and sent == ["count 1", served] else [f"base {number}: published {sent}, the node serves {served!r}"]


def blocked(node, options, number, path):
    """Whether other content at the id of a process blocks it. Nothing may come that the node does not serve."""
    process = node.process(options.stranger, COUNTER)
    watch = watch_process(options.websocket, process)
    node.compute(process, 0)
    until(lambda: watch.slots(process) == [0], 20)
    answer = node.send(Request("GET", path.format(process), (("cache-control", "always"),)))
    node.schedule(options.stranger, process, amount="1")
    computed = node.send(Request("GET", f"/{process}~process@1.0/compute&slot=1/results/output/body"))
    until(lambda: watch.slots(process) == [0, 1] or watch.gaps(), 8)
    sent = [(output or {}).get("body") for _, output in watch.results(process)]
    reasons = [frame["reason"] for frame in watch.gaps()]
    served = computed.body.decode() if computed.status == 200 else computed.status
    print(f"  content {number} at the id: {answer.status}; slot 1 of the node: {str(served)[:40]!r}; published: {sent}, gaps {reasons}", flush=True)
    expected = [["count 1"], ["count 1", served]][computed.status == 200]
    return [] if sent == expected else [f"content {number}: published {sent}, the node serves {served!r}"]


def limits(node, options):
    failures = []
    for number, base in enumerate(BASES):
        failures += forged_slot(node, options, number, base)
    for number, path in enumerate(BLOCKS):
        failures += blocked(node, options, number, path)
    return failures
