"""Two public WebSocket clients behind one face: Python `websockets` here, Node `ws` in a process of its own."""

import asyncio
import base64
import json
import os

from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State

from .vm import OUT

DEADLINE = 20
NODE_CLIENT = os.path.join(os.path.dirname(__file__), "../clients/client.cjs")


class Refused(Exception):
    """The server answered the handshake with an HTTP error."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = json.loads(body)


class Client:
    """What tests do with a client. A frame is the parsed JSON of one text frame."""

    async def frame(self):
        """The next frame."""
        text = await self.text()
        try:
            return json.loads(text)
        except ValueError:
            raise AssertionError(f"not JSON: {text!r}") from None

    async def message(self):
        """The next frame, which must be a message."""
        frame = await self.frame()
        assert frame["type"] == "message", frame
        return frame

    async def ask(self, **request):
        """Sends a request and gives the next frame."""
        await self.send(json.dumps(request))
        return await self.frame()


class PythonClient(Client):
    name = "python-websockets"

    @classmethod
    async def connect(cls, url, **options):
        client = cls()
        try:
            # Not through a proxy of the environment; frames as large as they come.
            client.socket = await websockets_connect(url, proxy=None, max_size=None, ping_interval=None, **options)
        except InvalidStatus as refusal:
            raise Refused(refusal.response.status_code, refusal.response.body) from None
        return client

    async def text(self):
        frame = await asyncio.wait_for(self.socket.recv(), DEADLINE)
        assert isinstance(frame, str), "a binary frame"
        return frame

    async def send(self, data):
        await asyncio.wait_for(self.socket.send(data), DEADLINE)

    async def ping(self, payload):
        """Sends a WebSocket ping and waits for the pong."""
        pong = await self.socket.ping(payload)
        await asyncio.wait_for(pong, DEADLINE)

    async def close(self, code=1000, reason=""):
        """Closes, and gives the code and reason of the server's close frame."""
        # The package fails at closing a connection that ended while it still had something to send.
        if self.socket.state is not State.CLOSED:
            await asyncio.wait_for(self.socket.close(code, reason), DEADLINE)
        return self.socket.close_code, self.socket.close_reason

    async def closed(self):
        """Waits for the end, and gives the code and reason of the server's close frame."""
        try:
            while True:
                await self.text()
        except ConnectionClosed:
            return self.socket.close_code, self.socket.close_reason


class NodeClient(Client):
    name = "node-ws"

    @classmethod
    async def connect(cls, url, subprotocols=()):
        client = cls()
        client.process = await asyncio.create_subprocess_exec(
            "node",
            NODE_CLIENT,
            url,
            *subprotocols,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"NODE_PATH": os.path.join(OUT, "node_modules")},
            limit=32 * 1024 * 1024,
        )
        client.frames = asyncio.Queue()
        client.pongs = asyncio.Queue()
        client.reader = asyncio.create_task(client._read())
        opened = await asyncio.wait_for(client.frames.get(), DEADLINE)
        if opened["event"] == "refused":
            await client._end()
            raise Refused(opened["status"], opened["body"])
        assert opened["event"] == "open", opened
        return client

    async def _read(self):
        while line := await self.process.stdout.readline():
            event = json.loads(line)
            await (self.pongs if event["event"] == "pong" else self.frames).put(event)
        await self.frames.put({"event": "exit"})

    async def _do(self, **command):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await asyncio.wait_for(self.process.stdin.drain(), DEADLINE)

    async def text(self):
        event = await asyncio.wait_for(self.frames.get(), DEADLINE)
        assert event["event"] == "text", event
        return event["text"]

    async def send(self, data):
        if isinstance(data, bytes):
            await self._do(do="binary", base64=base64.b64encode(data).decode())
        else:
            await self._do(do="text", text=data)

    async def ping(self, payload):
        await self._do(do="ping", text=payload.decode())
        pong = await asyncio.wait_for(self.pongs.get(), DEADLINE)
        assert pong["text"] == payload.decode(), pong

    async def close(self, code=1000, reason=""):
        if self.process.returncode is not None:
            return None
        await self._do(do="close", code=code, reason=reason)
        return await self.closed()

    async def closed(self):
        while True:
            event = await asyncio.wait_for(self.frames.get(), DEADLINE)
            if event["event"] == "close":
                await self._end()
                return event["code"], event["reason"]
            assert event["event"] == "text", event

    async def _end(self):
        """The process ends with its connection."""
        self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), DEADLINE)
        await self.reader
