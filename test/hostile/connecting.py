"""Connections of hostile clients to one server of this machine: one, one after the other, many, and at a pace."""

import asyncio
import collections
import contextlib
import itertools
import socket
import struct
import time

from support.crowd import SOURCES
from support.raw import head

# So many connections a second are for no attacker much work to make.
PACE = 200
RESET = struct.pack("ii", 1, 0)

counts = collections.Counter()
under_way = asyncio.Event()
_sources = itertools.cycle(SOURCES)
_target = None


def aim(port):
    """Names the server, before anything else."""
    global _target  # pylint: disable=global-statement
    _target = ("127.0.0.1", port)


def host():
    return f"{_target[0]}:{_target[1]}"


class Connection:
    """A connection to the server, in the middle of an event loop. What goes wrong with it is what was wanted."""

    def __init__(self, receive_buffer=None):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.bind((next(_sources), 0))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)

    async def __aenter__(self):
        await asyncio.get_running_loop().sock_connect(self.socket, _target)
        counts["connections"] += 1
        return self

    async def __aexit__(self, *_):
        self.socket.close()

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self):
        data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        if not data:
            raise ConnectionError("the server has closed it")
        return data

    async def upgrade(self, target="/ws", **headers):
        """Gives what the server has said so far."""
        await self.send(head(host(), target, **headers))
        received = b""
        while b"connection_established" not in received:
            received += await self.receive()
        return received

    async def end(self):
        """Waits for the server to have enough."""
        while True:
            await self.receive()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def once(act, **options):
    with contextlib.suppress(OSError):
        async with Connection(**options) as connection:
            await act(connection)


async def again(act, **options):
    """One connection after the other, each used up by the same deed."""
    while True:
        await once(act, **options)
        # The pace of one: all of them together keep to that of the attack.
        await asyncio.sleep(0.001)


async def many(count, act, **options):
    await asyncio.gather(*(again(act, **options) for _ in range(count)))


async def paced(act, pace=PACE):
    """A new connection at the pace of the attack, whether others are still there or not."""
    running = set()
    begun = time.monotonic()
    for number in itertools.count(1):
        task = asyncio.create_task(once(act))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(max(0, begun + number / pace - time.monotonic()))
