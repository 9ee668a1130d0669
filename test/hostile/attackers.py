"""A process of hostile clients: they do one thing to a server, again and again at a bounded pace, until its input ends.

usage: attackers.py PORT ATTACK
Says `ready` when it is under way, and at the end how often it did what.
"""

import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))

from support.crowd import SOURCES, most_connections  # noqa: E402
from support.raw import CONTINUATION, PING, TEXT, frame, head  # noqa: E402

# So many connections at a time, and so many of anything in a second, are for none of these much work to make.
SILENT, DRIPPING, NEVER_READING, FLOODING, CROWD = 2000, 500, 50, 20, 3000
PACE = 200
TOPIC = "t"
RESET = struct.pack("ii", 1, 0)

counts = collections.Counter()
sources = itertools.cycle(SOURCES)


class Connection:
    """A connection to the server, in the middle of an event loop. What goes wrong with it is what was wanted."""

    def __init__(self, receive_buffer=None):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.bind((next(sources), 0))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)

    async def __aenter__(self):
        await asyncio.get_running_loop().sock_connect(self.socket, ADDRESS)
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

    async def upgrade(self, target="/ws"):
        await self.send(head(HOST, target))
        received = b""
        while b"connection_established" not in received:
            received += await self.receive()

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


async def paced(act):
    """A new connection at the pace of the attack, whether others are still there or not."""
    running = set()
    while True:
        task = asyncio.create_task(once(act))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(1 / PACE)


async def silent_sockets():
    await many(most_connections(SILENT), Connection.end)


async def slow_requests():
    async def drip(connection):
        await connection.send(head(HOST)[:-2] + b"X-Slow: ")
        while True:
            await connection.send(b"x")
            await asyncio.sleep(1)

    await many(DRIPPING, drip)


async def never_reading():
    async def sleep(connection):
        await connection.send(head(HOST, f"/ws?topic={TOPIC}"))
        await asyncio.sleep(3600)

    await many(NEVER_READING, sleep, receive_buffer=4096)


async def resets():
    """At any byte of a request or of a first frame."""
    bytes_ = head(HOST, f"/ws?topic={TOPIC}") + frame(TEXT, b'{"type":"subscribe","topics":["reset"]}')

    async def cut(connection):
        await connection.send(bytes_[: random.randrange(len(bytes_))])
        connection.reset()

    await paced(cut)


async def ping_floods():
    flood = frame(PING, b"p" * 125) * 100

    async def ping(connection):
        await connection.upgrade()
        await connection.send(flood)
        await connection.end()

    await paced(ping)


async def frames_of_one_byte():
    request = b'{"type":"ping"}' + b" " * 985
    small = frame(TEXT, request[:1], first_bits=0)
    small += b"".join(frame(CONTINUATION, bytes([byte]), first_bits=0) for byte in request[1:]) + frame(CONTINUATION)

    async def send(connection):
        await connection.upgrade()
        while True:
            await connection.send(small)
            await connection.receive()
            await asyncio.sleep(FLOODING / PACE)

    await many(FLOODING, send)


async def frames_of_no_bytes():
    empty = frame(TEXT, b"{", first_bits=0) + frame(CONTINUATION, first_bits=0) * 100_000

    async def send(connection):
        await connection.upgrade()
        with contextlib.suppress(OSError):
            await connection.send(empty)
        await connection.end()

    await many(FLOODING, send)


async def subscription_storms():
    numbers = itertools.count()

    async def storm(connection):
        await connection.upgrade()
        while True:
            name = next(numbers)
            request = {
                "type": "subscribe",
                "topics": [f"storm-{name}-{n}" for n in range(100)] + [f"storm-{name}-*"],
                "match": [f"^storm-{name}-[0-9]{{0,{n}}}$" for n in range(1, 8)],
                "template": [{"storm": str(name)}, f"/storm-{name}"],
            }
            await connection.send(frame(TEXT, json.dumps(request).encode()))
            await connection.receive()
            request["type"] = "unsubscribe"
            await connection.send(frame(TEXT, json.dumps(request).encode()))
            await connection.receive()
            await asyncio.sleep(2 * FLOODING / PACE)

    await many(FLOODING, storm)


async def crowds():
    """All come, get their first frame and go, over and over."""

    async def come(connection):
        await connection.upgrade(f"/ws?topic={TOPIC}")

    while True:
        await asyncio.gather(*(once(come) for _ in range(most_connections(CROWD))))


async def garbage():
    """What is no HTTP, oversized heads, and frames that are none."""
    requests = (
        os.urandom(1000),
        head(HOST)[:-2] + b"X-Large: " + b"x" * 100_000 + b"\r\n\r\n",
        head(HOST, "/ws?" + "x" * 66_000),
        head(HOST) * 2,
        head(HOST) + os.urandom(1000),
    )

    async def send(connection):
        await connection.send(random.choice(requests))
        await connection.end()

    await paced(send)


ATTACKS = {
    attack.__name__: attack
    for attack in (
        silent_sockets, slow_requests, never_reading, resets, ping_floods, frames_of_one_byte, frames_of_no_bytes,
        subscription_storms, crowds, garbage,
    )
}


async def main(attack):
    under_way = asyncio.create_task(ATTACKS[attack]())
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    if under_way.done():
        under_way.result()
    under_way.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await under_way
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    ADDRESS = ("127.0.0.1", int(sys.argv[1]))
    HOST = f"127.0.0.1:{ADDRESS[1]}"
    asyncio.run(main(sys.argv[2]))
