"""Requests that are refused before the upgrade, each with its status and code."""

import json

from support.case import EngineTest, with_each_client
from support.clients import Refused
from support.raw import RawClient


@with_each_client
class Refusals:
    async def test_a_client_is_told_why_it_was_refused(self):
        with self.assertRaises(Refused) as refused:
            await self.connect("a%00b")
        self.assertEqual(refused.exception.status, 400)
        self.assertEqual(refused.exception.body["error"], "bad_topic")
        self.assertIn("topic", refused.exception.body["message"])


class BadRequests(EngineTest):
    def refusal(self, target, **request):
        """Gives the status and the code of a refusal, which must have the documented form."""
        before = self.vm.stats()["requests_refused"]
        with RawClient(self.uri) as client:
            status, self.headers, body = client.request(target, **request)
        self.assertEqual(self.headers["content-type"], "application/json")
        refusal = json.loads(body)
        self.assertEqual(set(refusal), {"error", "message"})
        self.assertTrue(refusal["message"])
        self.assertEqual(self.vm.stats()["requests_refused"], before + 1)
        return status, refusal["error"]

    async def test_a_topic_of_255_bytes_is_the_longest(self):
        self.assertEqual(self.refusal("/ws?topic=" + "t" * 256), (400, "bad_topic"))
        client = await self.subscriber("t" * 255)
        self.assertEqual(client.established["subscribed_topics"], ["t" * 255])

    async def test_control_characters_are_no_topic(self):
        for character in ("%00", "%0A", "%1f", "%7F"):
            self.assertEqual(self.refusal(f"/ws?topic=a{character}b"), (400, "bad_topic"), character)

    async def test_empty_topics_subscribe_to_nothing(self):
        client = await self.subscriber(",%20,&topic=")
        self.assertEqual(client.established["subscribed_topics"], [])

    async def test_more_topics_than_a_connection_may_have_are_refused(self):
        topics = [f"t{number}" for number in range(129)]
        self.assertEqual(self.refusal("/ws?topic=" + ",".join(topics)), (400, "too_many_topics"))
        client = await self.subscriber(",".join(topics[:128]))
        self.assertEqual(len(client.established["subscribed_topics"]), 128)

    async def test_a_bad_percent_encoding_is_refused(self):
        for value in ("%", "%2", "%zz", "%ff", "%C3"):
            self.assertEqual(self.refusal(f"/ws?topic={value}"), (400, "bad_encoding"), value)

    async def test_an_unknown_format_is_refused(self):
        self.assertEqual(self.refusal("/ws?format=xml"), (400, "bad_format"))

    async def test_any_other_path_is_not_found(self):
        for path in ("/index.html", "/ws/", "/WS", "/wss", "/ws2?topic=a", "/../ws", "/%77s"):
            self.assertEqual(self.refusal(path), (404, "not_found"), path)

    async def test_a_plain_get_is_told_to_upgrade(self):
        for headers in ({"Connection": None, "Upgrade": None}, {"Connection": "close"}, {"Upgrade": None}, {"Upgrade": "h2c"}):
            self.assertEqual(self.refusal("/ws", **headers), (426, "not_an_upgrade"), headers)
            self.assertEqual(self.headers["upgrade"], "websocket")

    async def test_another_method_is_refused(self):
        self.assertEqual(self.refusal("/ws", method="POST", Content_Length="0"), (405, "bad_method"))
        self.assertEqual(self.headers["allow"], "GET, OPTIONS")

    async def test_another_websocket_version_is_refused(self):
        self.assertEqual(self.refusal("/ws", Sec_WebSocket_Version="8"), (426, "bad_version"))
        self.assertEqual(self.headers["sec-websocket-version"], "13")

    async def test_a_missing_or_malformed_key_is_refused(self):
        for key in (None, "short", "!" * 24):
            self.assertEqual(self.refusal("/ws", Sec_WebSocket_Key=key), (400, "bad_handshake"), key)

    async def test_one_connection_more_than_allowed_is_refused(self):
        with self.vm.settings(max_connections=1):
            client = await self.subscriber("a")
            self.assertEqual(self.refusal("/ws"), (503, "full"))
            await client.close()
            self.vm.await_connections(0)
            await self.subscriber("a")

    async def test_one_connection_more_than_an_address_may_have_is_refused(self):
        with self.vm.settings(max_connections_per_ip=1):
            client = await self.subscriber("a")
            self.assertEqual(self.refusal("/ws"), (429, "too_many_connections"))
            await client.close()

    async def test_what_is_no_http_is_refused(self):
        with RawClient(self.uri) as client:
            client.send(b"\x16\x03\x01\x02\x00 this is TLS, say\r\n\r\n")
            self.assertEqual(client.response()[0], 400)

    async def test_a_head_that_never_ends_is_refused(self):
        with RawClient(self.uri) as client:
            client.send(b"GET /ws HTTP/1.1\r\nHost: here\r\nX-Long: ")
            try:
                for _ in range(64):
                    client.send(b"x" * 16384)
                status = client.response()[0]
            except (BrokenPipeError, ConnectionResetError):
                # Answered and closed while we were still sending.
                status = 431
            self.assertEqual(status, 431)

    async def test_a_client_that_sends_no_request_is_closed_in_time(self):
        with self.vm.settings(handshake_timeout=100), RawClient(self.uri) as client:
            client.send(b"GET /ws HT")
            self.assertEqual(client.stream.read(), b"")

    async def test_a_subscriber_notices_nothing_of_others_that_are_refused(self):
        client = await self.subscriber("kept")
        self.refusal("/nowhere")
        self.refusal("/ws?topic=%")
        self.vm.cast('#{<<"topic">> => <<"kept">>}')
        self.assertEqual((await client.message())["topic"], "kept")
