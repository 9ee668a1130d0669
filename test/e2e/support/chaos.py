"""A proxy at its worst: it refuses, cuts, stalls and delays as chance has it."""

import asyncio
import random
from urllib.parse import urlsplit

PAGE = b"<!doctype html><title>Sign in to the network</title>"
REFUSALS = {
    401: b"Unauthorized",
    403: b"Forbidden",
    429: b"Too Many Requests",
    502: b"Bad Gateway",
    200: b"OK",
}


class ChaosProxy:
    """`accepted` counts the connections. While it is `calm` it only relays."""

    @classmethod
    async def start(cls, target, seed):
        proxy = cls()
        proxy.target = urlsplit(target)
        proxy.random = random.Random(seed)
        proxy.calm = True
        proxy.accepted = 0
        proxy.kinds = dict.fromkeys([*REFUSALS, "cut", "stall", "delay"], 0)
        proxy.writers = set()
        proxy.changed = asyncio.Event()
        proxy.server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.uri = f"ws://127.0.0.1:{proxy.server.sockets[0].getsockname()[1]}/ws"
        return proxy

    async def until(self, accepted):
        """Waits for so many connections."""
        while self.accepted < accepted:
            self.changed.clear()
            await self.changed.wait()

    def cut(self):
        for writer in list(self.writers):
            writer.transport.abort()

    async def close(self):
        self.server.close()
        self.cut()
        await self.server.wait_closed()

    async def _accept(self, reader, writer):
        self.accepted += 1
        self.changed.set()
        self.writers.add(writer)
        try:
            if self.calm:
                await self._relay(reader, writer, None, 0)
            elif self.random.random() < 0.3:
                await self._refuse(reader, writer)
            else:
                kind = self.random.choices(("cut", "stall", "delay"), (70, 3, 27))[0]
                self.kinds[kind] += 1
                await self._relay(reader, writer, kind, int(self.random.expovariate(1 / 12_000)) + 1)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(writer)
            writer.transport.abort()

    async def _refuse(self, reader, writer):
        status = self.random.choice(list(REFUSALS))
        self.kinds[status] += 1
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} {REFUSALS[status].decode()}\r\nContent-Type: text/html\r\nConnection: close\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _relay(self, reader, writer, kind, budget):
        """Relays so many bytes to the client, and then does the worst."""
        server_reader, server_writer = await asyncio.open_connection(self.target.hostname, self.target.port)
        self.writers.add(server_writer)
        asking = asyncio.ensure_future(self._copy(reader, server_writer))
        try:
            while data := await server_reader.read(4096):
                if kind == "delay":
                    # The distance of another continent now and then.
                    await asyncio.sleep(self.random.random() * 0.01)
                if kind is not None and len(data) >= budget:
                    writer.write(data[:budget])
                    if kind == "stall":
                        # Nothing comes any more; the client has to find out.
                        await asking
                    return
                budget -= len(data) if kind is not None else 0
                writer.write(data)
                await writer.drain()
        finally:
            self.writers.discard(server_writer)
            server_writer.transport.abort()
            asking.cancel()

    @staticmethod
    async def _copy(reader, writer):
        try:
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()


class Account:
    """Checks that every number comes once and in order, or that a gap has named it."""

    def __init__(self):
        self.last = 0
        self.seq = 0
        self.covered = 0
        self.gaps = 0

    def take(self, update):
        if update["type"] == "gap":
            self.gaps += 1
            self.covered += update.get("dropped") or 0
            return
        number, seq = update["data"]["data"], update["seq"]
        assert number > self.last and seq > self.seq, f"{number} after {self.last}, seq {seq} after {self.seq}"
        missing = number - self.last - 1
        assert missing <= self.covered, f"{missing} messages before {number} are missing, gaps name {self.covered}"
        self.covered -= missing
        self.last, self.seq = number, seq
