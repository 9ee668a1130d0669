"""Clients that never get as far as a WebSocket: slow, silent, cut off, oversized, ambiguous. Healthy ones stay beside them."""

import contextlib
import json
import selectors

from support.clients import PythonClient, Refused
from support.hostile import HostileTest
from support.raw import RawClient, frame, TEXT

SILENT = 200
SLOW = 100
PLACES = 50
HEADERS = 100


class Besieged(HostileTest):
    """Each test leaves none of its sockets behind."""

    def several(self, count):
        clients = contextlib.ExitStack()
        return clients, [clients.enter_context(RawClient(self.uri)) for _ in range(count)]


class SlowHandshakes(Besieged):
    async def test_requests_that_come_byte_by_byte_for_ever_are_cut_off_without_an_answer(self):
        def drip():
            # A selector rather than a loop with pauses: the server's end of each connection is what the test waits for.
            sockets, clients = self.several(SLOW)
            with sockets, selectors.DefaultSelector() as ends:
                for client in clients:
                    client.send(client.head()[:-2] + b"X-Slow: ")
                    ends.register(client.socket, selectors.EVENT_READ, client)
                while ends.get_map():
                    for key, _ in ends.select(0.02):
                        self.assertEqual(key.data.end(), b"")
                        ends.unregister(key.fileobj)
                    for key in ends.get_map().values():
                        with contextlib.suppress(ConnectionError):
                            key.data.send(b"x")

        async with self.siege(handshakes=SLOW):
            await self.attack(drip)

    async def test_sockets_that_say_nothing_are_closed_without_an_answer(self):
        def wait():
            sockets, clients = self.several(SILENT)
            with sockets:
                return {client.end() for client in clients}

        async with self.siege(handshakes=SILENT):
            self.assertEqual(await self.attack(wait), {b""})

    async def test_a_request_that_comes_byte_by_byte_and_ends_in_time_is_served(self):
        def drip():
            sockets, clients = self.several(SLOW)
            with sockets:
                for byte in zip(*(client.head("/ws?topic=slow") for client in clients)):
                    for client, part in zip(clients, byte):
                        client.send(bytes([part]))
                return {(client.response()[0], client.json()["type"]) for client in clients}

        # Twenty thousand writes, which a busy machine does not make within the usual time.
        with self.vm.settings(handshake_timeout=60_000):
            async with self.siege(idle=SLOW, handshakes=SLOW):
                self.assertEqual(await self.attack(drip), {(101, "connection_established")})

    async def test_silent_sockets_lose_their_places_to_those_who_speak(self):
        lost = self.vm.stats()["handshakes_dropped"]
        # All have places, and more wait than places there are.
        with self.vm.settings(max_handshakes=PLACES, handshake_timeout=600_000):
            async with self.siege(handshakes=PLACES):
                sockets, clients = self.several(2 * PLACES)
                with sockets:
                    client = await self.subscriber("last")
                    # Those who came first have gone.
                    self.assertEqual(await self.attack(clients[0].end), b"")
                    await client.close()
                    self.assertLessEqual(self.vm.stats()["handshakes"], PLACES)
        self.assertGreaterEqual(self.vm.stats()["handshakes_dropped"], lost + PLACES)


class CutHandshakes(Besieged):
    async def test_a_connection_may_be_reset_at_each_byte_of_its_request_and_right_after_it(self):
        def cut():
            length = len(RawClient(self.uri).head())
            for end in range(length + 1):
                client = RawClient(self.uri)
                client.send(client.head("/ws?topic=cut")[:end])
                client.reset()

        async with self.siege(handshakes=SLOW):
            await self.attack(cut)

    async def test_a_connection_may_be_half_closed_after_its_request(self):
        def half_close():
            for target in ("/ws?topic=half", "/nowhere"):
                for _ in range(50):
                    with RawClient(self.uri) as client:
                        client.send(client.head(target))
                        client.half_close()
                        client.end()

        async with self.siege(handshakes=50):
            await self.attack(half_close)


def with_line(line):
    """A request with a line more."""
    return lambda client: client.head()[:-2] + line + b"\r\n\r\n"


class HostileRequests(Besieged):
    """What is answered, and with what. Each on a connection that must end."""

    def answer(self, request):
        """The status of the answer, its error code or, without a body, None."""
        with RawClient(self.uri) as client:
            # The server may answer and close before it has read all.
            with contextlib.suppress(ConnectionError):
                client.send(request(client) if callable(request) else request)
            status, _, body = client.response()
            self.assertEqual(client.end(), b"")
        return status, json.loads(body)["error"] if body else None

    async def check_answers(self, *cases):
        async with self.siege(handshakes=1):
            for expected, *requests in cases:
                for request in requests:
                    self.assertEqual(await self.attack(self.answer, request), expected, request)

    async def test_oversized_requests_are_refused_without_a_body(self):
        await self.check_answers(
            ((431, None), with_line(b"\r\n".join([b"X-Many: x"] * HEADERS)), lambda client: client.head("/ws?x=" + "x" * 140_000)),
            ((414, None), lambda client: client.head("/ws?x=" + "x" * 65_535)),
        )

    async def test_what_is_no_http_is_refused_without_a_body(self):
        await self.check_answers(
            (
                (400, None),
                b"\x16\x03\x01\x02\x00 TLS\r\n\r\n",
                b"GET /ws\r\n\r\n",
                b"GET  /ws HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET /ws HTTP/9.9\r\nHost: a\r\n\r\n",
                with_line(b"X-Folded: a\r\n b"),
                with_line(b"X-Space : a"),
                with_line(b"X-Null: a\0b"),
                with_line(b"X-Return: a\rX-Other: b"),
                with_line(b"Content-Length: 5\r\nContent-Length: 6"),
                with_line(b"Content-Length: -1"),
                with_line(b"Transfer-Encoding: chunked, identity"),
            )
        )

    async def test_a_request_that_could_be_read_in_two_ways_is_refused(self):
        await self.check_answers(
            ((400, "bad_host"), with_line(b"Host: other"), lambda client: client.head(Host=None)),
            (
                (400, "bad_handshake"),
                with_line(b"Content-Length: 5"),
                lambda client: with_line(b"Content-Length: 5")(client) + b"hello",
                with_line(b"Transfer-Encoding: chunked"),
                lambda client: with_line(b"Transfer-Encoding: chunked\r\nContent-Length: 5")(client) + b"0\r\n\r\n",
                with_line(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
                lambda client: client.head().replace(b"HTTP/1.1", b"HTTP/1.0"),
            ),
        )

    async def test_a_body_that_never_comes_is_not_waited_for(self):
        await self.check_answers(
            ((405, "bad_method"), lambda client: client.head(method="POST", Content_Length="1000000")),
            (
                (404, "not_found"),
                lambda client: client.head("/nowhere", Content_Length="1000000"),
                lambda client: client.head("/nowhere", Transfer_Encoding="chunked"),
            ),
        )

    async def test_behind_a_refusal_nothing_is_read(self):
        await self.check_answers(((404, "not_found"), lambda client: client.head("/nowhere") + client.head() + b"\xff" * 1000))

    async def test_behind_an_upgrade_only_frames_are_read(self):
        def pipelined():
            with RawClient(self.uri) as client:
                client.send(client.head() + client.head())
                self.assertEqual(client.response()[0], 101)
                # The first byte of GET is a fragment with reserved bits.
                self.assertEqual(client.close_code(), 1002)
            with RawClient(self.uri) as client:
                client.send(client.head() + frame(TEXT, b'{"type":"ping"}'))
                self.assertEqual(client.response()[0], 101)
                self.assertEqual([client.json()["type"] for _ in range(2)], ["connection_established", "pong"])

        async with self.siege(idle=1, handshakes=1):
            await self.attack(pipelined)

    async def test_pages_of_other_origins_are_refused_and_programs_and_allowed_pages_are_not(self):
        evil = ("https://evil.example", "https://app.example.evil.example", "http://app.example", "null", "")
        with self.vm.settings(origins='<<"https://app.example,https://*.trusted.example">>'):
            await self.check_answers(((403, "bad_origin"), *(lambda client, origin=origin: client.head(Origin=origin) for origin in evil)))
            for origin in ("https://app.example", "https://a.trusted.example"):
                client = await PythonClient.connect(self.uri, origin=origin)
                await client.close()
            with self.assertRaises(Refused) as refused:
                await PythonClient.connect(self.uri, origin=evil[0])
            self.assertEqual((refused.exception.status, refused.exception.body["error"]), (403, "bad_origin"))

    async def test_a_page_on_a_rebound_name_is_refused_everywhere(self):
        evil = "evil.example:8735"
        targets = ("/ws", "/ws?format=raw", "/events", "/info", "/metrics", "/health", "/", "/nowhere")

        def rebound(target, **headers):
            return lambda client: client.head(target, Host=evil, **headers)

        # The VM listens on this machine only.
        await self.check_answers(
            (
                (403, "unknown_host"),
                *(rebound(target) for target in targets),
                *(rebound(target, Upgrade=None, Connection=None, Accept="text/event-stream") for target in targets),
                *(rebound(target, Sec_Fetch_Site="same-origin") for target in targets),
            ),
            ((403, "cross_site"), *(lambda client, target=target: client.head(target, Sec_Fetch_Site="cross-site") for target in targets)),
        )
