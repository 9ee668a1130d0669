"""The reconnecting clients of this repository behind one face: Python here, JavaScript in Node and in Chromium."""

import asyncio
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from .page import PageServer
from .vm import OUT, ROOT

sys.path.insert(0, os.path.join(ROOT, "clients/python"))

from dev_websocket import Client, GaveUp  # noqa: E402

DEADLINE = 30
DRIVER = os.path.join(ROOT, "test/e2e/clients/reconnecting.mjs")
# Tests need not wait as long as clients in the field do. Milliseconds, as JavaScript has them.
QUICK = {"minReconnectDelay": 10, "maxReconnectDelay": 50}
EVENTS = ("gap", "state", "error", "reply", "live", "stale", "direct")


class Reconnecting:
    """What tests do with a client. Options are those of JavaScript."""

    # None where the machine cannot run it.
    command = sys.executable

    def __init__(self):
        self.queues = collections.defaultdict(asyncio.Queue)
        self.cursor = None
        self.slots = {}

    @classmethod
    async def start(cls, url, **options):
        client = cls()
        await client.launch(url, {**QUICK, **options})
        return client

    def happened(self, event, value, cursor, slots):
        self.cursor, self.slots = cursor, slots
        self.queues[event].put_nowait(value)

    async def next(self, event):
        """The next event of a kind."""
        return await asyncio.wait_for(self.queues[event].get(), DEADLINE)

    async def message(self):
        return await self.next("message")

    async def texts(self, count):
        """The `data` tags of the next messages."""
        return [(await self.message())["data"]["data"] for _ in range(count)]

    async def until(self, state):
        """Waits for a state, and gives what was told with it."""
        while (told := await self.next("state"))["state"] != state:
            assert told["state"] != "closed", told
        return told

    def none_waits(self, event):
        """Whether no event of a kind came, besides those that were asked for."""
        return self.queues[event].empty()


class PythonReconnecting(Reconnecting):
    name = "Python"

    # Options as Python names them, and those that are times.
    NAMES = {
        "minReconnectDelay": "min_reconnect_delay",
        "maxReconnectDelay": "max_reconnect_delay",
        "stableAfter": "stable_after",
        "maxFaults": "max_faults",
        "pingInterval": "ping_interval",
        "maxQueue": "max_queue",
        "fromSlot": "from_slot",
    }
    TIMES = ("min_reconnect_delay", "max_reconnect_delay", "stable_after", "ping_interval", "timeout")

    @classmethod
    def make(cls, url, **options):
        named = {cls.NAMES.get(name, name): value for name, value in options.items()}
        seconds = {name: named[name] / 1000 for name in cls.TIMES if name in named}
        # Not through a proxy of the environment.
        return Client(url, proxy=None, **{**named, **seconds})

    async def launch(self, url, options):
        tokens = options.pop("tokens", None)
        if tokens:
            # Each call of the function takes the next token; the last one stays.
            options["token"] = lambda: tokens.pop(0) if len(tokens) > 1 else tokens[0]
        self.client = self.make(url, **options)
        for event in EVENTS:
            self.client.on(event, lambda value, event=event: self.happened(event, self.plain(value), self.client.cursor, self.client.slots))
        self.iteration = asyncio.create_task(self.iterate())

    @staticmethod
    def plain(value):
        """As JavaScript tells it."""
        if isinstance(value, dict):
            return value | {"delay": value["delay"] * 1000} if "delay" in value else value
        return {"code": value.code, "fatal": value.fatal, "status": value.status, "id": value.id, "message": str(value)}

    async def iterate(self):
        try:
            async for message in self.client:
                self.happened("message", message, self.client.cursor, self.client.slots)
        except GaveUp as problem:
            assert problem.fatal, problem

    async def do(self, method, *args):
        if method == "close":
            return await self.client.close()
        return getattr(self.client, method)(**args[0]) if method != "send" else self.client.send(*args)

    async def close(self):
        await self.client.close()
        await asyncio.wait_for(self.iteration, DEADLINE)


class NodeReconnecting(Reconnecting):
    name = "Node"
    command = shutil.which("node")
    implementation = "ws"

    async def launch(self, url, options):
        self.process = await asyncio.create_subprocess_exec(
            "node",
            DRIVER,
            url,
            json.dumps(options),
            self.implementation,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"NODE_PATH": os.path.join(OUT, "node_modules")},
            limit=32 * 1024 * 1024,
        )
        self.reader = asyncio.create_task(self.read())

    async def read(self):
        while line := await self.process.stdout.readline():
            self.happened(**json.loads(line))

    async def do(self, method, *args):
        self.process.stdin.write(json.dumps({"method": method, "args": args}).encode() + b"\n")
        await self.process.stdin.drain()

    async def close(self):
        """The process ends by itself once nothing is left that it could do."""
        try:
            await self.do("close")
        except ConnectionError:
            pass  # It was closed before.
        status = await asyncio.wait_for(self.process.wait(), DEADLINE)
        await self.reader
        assert status == 0, f"the Node client ended with status {status}"


def _node_has_websocket():
    said = subprocess.run(["node", "-p", "typeof WebSocket"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return said.stdout.strip() == "function"


class NodeAloneReconnecting(NodeReconnecting):
    """Node 22 and later, with its own WebSocket."""

    name = "NodeAlone"
    command = "node" if _node_has_websocket() else None
    implementation = "own"


class ChromiumReconnecting(Reconnecting):
    name = "Chromium"
    command = shutil.which("chromium")

    async def launch(self, url, options):
        self.page = PageServer({"url": url, "options": options}, self.happened)
        self.profile = tempfile.TemporaryDirectory()
        self.process = await asyncio.create_subprocess_exec(
            self.command,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            f"--user-data-dir={self.profile.name}",
            self.page.uri("/test/e2e/clients/browser.html"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def do(self, method, *args):
        self.page.commands.put({"method": method, "args": args})

    async def close(self):
        await self.do("close")
        while (await self.next("state"))["state"] != "closed":
            pass
        self.process.terminate()
        await asyncio.wait_for(self.process.wait(), DEADLINE)
        self.page.close()
        self.profile.cleanup()


CLIENTS = (PythonReconnecting, NodeReconnecting, NodeAloneReconnecting, ChromiumReconnecting)


def with_clients(*clients):
    """Makes a test case for each client of one: `self.client` is the class of the client."""

    def decorate(tests):
        module = sys.modules[tests.__module__]
        for client in clients:
            name = f"{tests.__name__}With{client.name}"
            case = type(name, (tests,), {"client": client, "__module__": tests.__module__})
            if client.command is None:
                # One line for all of it.
                skipped = unittest.skip(f"there is no {client.name} on this machine")(lambda _: None)
                case = type(name, (unittest.TestCase,), {"test_all_of_it": skipped, "__module__": tests.__module__})
            setattr(module, name, case)

    return decorate
