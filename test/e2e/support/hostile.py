"""Hostile clients beside healthy ones: what the latter must not notice, and what the VM must be like afterwards."""

import asyncio
import contextlib
import time

from .case import EngineTest
from .clients import NodeClient, PythonClient
from .process import DEADLINE, Process, settle

KIB, MIB = 1024, 1024 * 1024

# What the engine allows itself beside the settings.
CONTROL_BYTES = 64 * KIB  # replies that a client does not take
HEAD_BYTES = 2 * 64 * KIB  # a request's head, with the last read beyond its limit
REQUEST_BYTES = 8 * KIB  # a request that comes at once
CONNECTION_BYTES = 8 * KIB  # a task, a link, buffers
# What an allocator adds, and what the Erlang side of the tests takes.
ALLOCATOR = 1.25
VM_BYTES = 16 * MIB

# Topics that tests publish to. The server remembers them.
PUBLISHED = {"healthy", "flood", "last", "still-serving"}


def memory_bound(settings, idle=0, slow=0, handshakes=0):
    """By how many bytes the VM may grow at the most: with connections that take what they are sent, with those that do not
    or send as much as they may, and with those whose requests come slowly."""
    connections = (idle + slow) * (CONNECTION_BYTES + REQUEST_BYTES)
    connections += slow * (settings["send_buffer_bytes"] + CONTROL_BYTES + settings["max_inbound_bytes"])
    handshakes *= HEAD_BYTES + CONNECTION_BYTES
    # An eighth more waits for those who are told of losses.
    publications = settings["publish_queue_bytes"] * 9 // 8 + settings["history_bytes"]
    return int(ALLOCATOR * (connections + handshakes + publications)) + VM_BYTES


class Healthy:
    """A client that must get every message."""

    def __init__(self, client):
        self.client = client
        self.numbers = []
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        seq = 0
        while True:
            frame = await self.client.message()
            assert frame["seq"] > seq, frame
            seq = frame["seq"]
            self.numbers.append(frame["data"]["data"])

    async def check(self, count):
        """Waits for the last message; none may have been lost, doubled or reordered before."""
        deadline = time.monotonic() + DEADLINE
        while len(self.numbers) < count and not self.task.done() and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        assert not self.task.done(), self.task.exception()
        self.task.cancel()
        await asyncio.wait([self.task])
        assert self.numbers == list(range(1, count + 1)), (len(self.numbers), count)


class HostileTest(EngineTest):
    # Small where that makes a test quick or a bound sharp.
    settings = {
        "publish_queue_bytes": 8 * MIB,
        "history_bytes": MIB,
        "send_buffer_bytes": 256 * KIB,
        "handshake_timeout": 2000,
    }

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.process = Process(self.vm.process.pid)
        for topic in PUBLISHED:
            self.vm.cast(f'#{{<<"topic">> => <<"{topic}">>}}')

    def rest(self):
        """What must be as before when hostile clients are gone."""
        stats = self.vm.stats()
        return {
            "topics": set(self.vm.topics()) - PUBLISHED,
            "threads": self.process.threads(),
            "descriptors": self.process.descriptors(),
            **{name: stats[name] for name in ("connections", "handshakes", "regexes")},
        }

    @contextlib.asynccontextmanager
    async def siege(self, **hostile):
        """Healthy clients get messages while the hostile ones do what they do in here. The arguments are those of
        `memory_bound`: how many there are."""
        bound = memory_bound(self.vm.eval("dev_websocket:config()"), **hostile)
        rest = self.rest()
        clients = [await kind.connect(f"{self.uri}?topic=healthy") for kind in (PythonClient, PythonClient, NodeClient)]
        for client in clients:
            self.addAsyncCleanup(client.close)
            await client.frame()
        healthy = [Healthy(client) for client in clients]
        for client in healthy:
            self.addCleanup(client.task.cancel)
        self.process.forget_peak()
        before = self.process.memory()
        self.vm.eval('e2e_vm:start_casting(<<"healthy">>)')
        try:
            yield bound
        finally:
            count = self.cast_count = self.vm.eval("e2e_vm:stop_casting()")
        for client in healthy:
            await client.check(count)
        grown = self.process.peak() - before
        self.assertLess(grown, bound)
        print(f"grown {grown / MIB:.1f} of {bound / MIB:.1f} MiB, {count} healthy: ", end="")
        for client in clients:
            await client.close()
        await self.is_at_rest(rest)

    async def is_at_rest(self, expected):
        """Waits until everything is as it was before."""
        self.assertEqual(await settle(self.rest, expected), expected)

    async def attack(self, act, *arguments):
        """Runs what blocks beside the healthy clients."""
        return await asyncio.to_thread(act, *arguments)
