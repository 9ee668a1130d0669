"""Who a client talks to when the real server would not do what a test needs: a scripted server, and a bad network."""

import asyncio
import collections
import json
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import serve

DEADLINE = 30


class ScriptedServer:
    """Says to each connection what the test says."""

    @classmethod
    async def start(cls):
        server = cls()
        server.connections = asyncio.Queue()
        server.refusals = collections.deque()
        server.requests = 0
        server.server = await serve(server._serve, "127.0.0.1", 0, process_request=server._request, ping_interval=None)
        port = server.server.sockets[0].getsockname()[1]
        server.uri = f"ws://127.0.0.1:{port}/ws"
        return server

    def _request(self, connection, _):
        self.requests += 1
        if not self.refusals:
            return None
        status, error = self.refusals.popleft()
        return connection.respond(status, json.dumps({"error": error, "message": "as the test says"}))

    async def _serve(self, socket):
        await self.connections.put(Peer(socket))
        await socket.wait_closed()

    def refuse(self, status, error):
        """Answers the next request that is not refused yet with an HTTP error."""
        self.refusals.append((status, error))

    async def accept(self):
        """The next connection."""
        return await asyncio.wait_for(self.connections.get(), DEADLINE)

    async def established(self, seq, **more):
        """The next connection, which has its first frame."""
        peer = await self.accept()
        await peer.establish(seq, **more)
        return peer

    async def close(self):
        self.server.close()
        await self.server.wait_closed()


class Peer:
    """The server's end of one connection."""

    def __init__(self, socket):
        self.socket = socket
        self.query = parse_qs(urlsplit(socket.request.path).query)

    async def tell(self, **frame):
        await self.socket.send(json.dumps(frame))

    async def establish(self, seq, epoch="e", **more):
        await self.tell(type="connection_established", epoch=epoch, seq=seq, subscribed_topics=[], ignored=[], **more)

    async def message(self, seq):
        await self.tell(type="message", seq=seq, timestamp=0, topic="t", topics=["t"], data={"data": str(seq)})

    async def asked(self, kind):
        """The next request, which must be of a kind."""
        request = json.loads(await asyncio.wait_for(self.socket.recv(), DEADLINE))
        assert request["type"] == kind, request
        return request

    async def close(self, code):
        await self.socket.close(code)

    def cut(self):
        """Ends the connection with no goodbye."""
        self.socket.transport.abort()


class BadNetwork:
    """Relays connections to a server, and can cut them or swallow what they carry."""

    @classmethod
    async def start(cls, target):
        network = cls()
        network.target = target
        network.connections = set()
        network.frozen = set()
        network.server = await asyncio.start_server(network._accept, "127.0.0.1", 0)
        port = network.server.sockets[0].getsockname()[1]
        network.uri = f"ws://127.0.0.1:{port}/ws"
        return network

    def cut(self):
        """Ends all connections that there are."""
        for connection in self.connections:
            for writer in connection:
                writer.transport.abort()

    def freeze(self):
        """Nothing comes through any more on the connections that there are; later ones are well."""
        self.frozen |= self.connections

    async def close(self):
        self.server.close()
        self.cut()
        await self.server.wait_closed()

    async def _accept(self, client_reader, client_writer):
        target = urlsplit(self.target)
        try:
            server_reader, server_writer = await asyncio.open_connection(target.hostname, target.port)
        except OSError:
            client_writer.transport.abort()
            return
        connection = (client_writer, server_writer)
        self.connections.add(connection)
        relays = (
            asyncio.create_task(self._relay(connection, client_reader, server_writer)),
            asyncio.create_task(self._relay(connection, server_reader, client_writer)),
        )
        await asyncio.wait(relays)
        self.connections.discard(connection)
        self.frozen.discard(connection)

    async def _relay(self, connection, reader, writer):
        try:
            while data := await reader.read(65536):
                if connection not in self.frozen:
                    writer.write(data)
                    await writer.drain()
            writer.close()
        except ConnectionError:
            writer.transport.abort()


class PathProxy(BadNetwork):
    """Serves a server below a path, as a proxy in front of several would."""

    PATH = b"/node/live/"

    async def _relay(self, connection, reader, writer):
        _, server_writer = connection
        if writer is server_writer:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()  # A browser opens connections that it may not need.
                return
            assert self.PATH in head.split(b"\r\n")[0], head
            writer.write(head.replace(self.PATH, b"/", 1))
        await super()._relay(connection, reader, writer)
