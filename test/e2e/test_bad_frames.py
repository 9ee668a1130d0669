"""What clients send wrong after the upgrade: an error frame and the connection goes on, or a close code."""

import asyncio
import json

from support.case import EngineTest, with_each_client
from support.raw import BINARY, CLOSE, CONTINUATION, PING, TEXT, RawClient

LARGEST = 65536


@with_each_client
class BadMessages:
    async def error(self, client, sent):
        """Sends, and gives the error that comes back; the connection must go on."""
        await client.send(sent if isinstance(sent, (str, bytes)) else json.dumps(sent))
        error = await client.frame()
        self.assertEqual(error["type"], "error", sent)
        self.assertLessEqual(set(error), {"type", "id", "code", "message", "timestamp"})
        self.assertTrue(error["message"])
        self.assertEqual((await client.ask(type="ping"))["type"], "pong")
        return error

    async def test_a_binary_frame_is_answered_with_an_error(self):
        client = await self.connect("a")
        self.assertEqual((await self.error(client, b'{"type":"ping"}'))["code"], "bad_frame")

    async def test_broken_json_is_answered_with_an_error(self):
        client = await self.connect("a")
        for text in ('{"type":', "", "ping", "{'type':'ping'}", "[" * 5000):
            self.assertEqual((await self.error(client, text))["code"], "bad_json", text[:20])

    async def test_json_that_is_no_request_is_answered_with_an_error(self):
        client = await self.connect("a")
        for value in ([], 1, None, "ping", {}, {"id": 1}, {"type": 7}, {"type": None}):
            self.assertEqual((await self.error(client, json.dumps(value)))["code"], "bad_message", value)

    async def test_an_unknown_type_is_answered_with_an_error_that_has_the_requests_id(self):
        client = await self.connect("a")
        error = await self.error(client, {"type": "publish", "id": "p1", "topics": ["a"]})
        self.assertEqual((error["code"], error["id"]), ("unknown_type", "p1"))

    async def test_unknown_and_bad_fields_are_answered_with_an_error(self):
        client = await self.connect("a")
        for request, code in (
            ({"type": "ping", "topic": "a"}, "unknown_field"),
            ({"type": "subscribe", "topics": ["b"], "speed": 1}, "unknown_field"),
            ({"type": "subscribe"}, "bad_field"),
            ({"type": "subscribe", "topics": []}, "bad_field"),
            ({"type": "subscribe", "topics": "b"}, "bad_field"),
            ({"type": "subscribe", "topics": ["b", 5]}, "bad_field"),
            ({"type": "unsubscribe", "topics": {"a": 1}}, "bad_field"),
        ):
            self.assertEqual((await self.error(client, request | {"id": 9}))["code"], code, request)

    async def test_a_bad_id_is_answered_with_an_error(self):
        client = await self.connect("a")
        for bad in ([], {}, True, "i" * 255):
            self.assertEqual((await self.error(client, {"type": "ping", "id": bad}))["code"], "bad_id", bad)
        longest = "i" * 254
        self.assertEqual((await client.ask(type="ping", id=longest))["id"], longest)

    async def test_a_request_with_a_bad_topic_is_refused_whole(self):
        client = await self.connect("a")
        for bad in ("", "x,y", "a\0b", "a\nb", "t" * 256):
            error = await self.error(client, {"type": "subscribe", "topics": ["good", bad]})
            self.assertEqual(error["code"], "bad_topic", bad)
        response = await client.ask(type="unsubscribe", topics=["never held"])
        self.assertEqual(response["subscribed_topics"], ["a"])

    async def test_a_request_for_too_many_topics_is_refused_whole(self):
        client = await self.connect("a")
        topics = [f"t{number}" for number in range(128)]
        error = await self.error(client, {"type": "subscribe", "topics": topics})
        self.assertEqual(error["code"], "too_many_topics")
        response = await client.ask(type="subscribe", topics=topics[:127])
        self.assertEqual(len(response["subscribed_topics"]), 128)

    async def test_a_message_of_10_megabytes_closes_the_connection_with_1009(self):
        client = await self.connect("a")
        sending = asyncio.create_task(client.send("x" * 10_000_000))
        self.assertEqual((await client.closed())[0], 1009)
        # The client may or may not have got all of it out before it heard the answer.
        await asyncio.gather(sending, return_exceptions=True)


class BadFrames(EngineTest):
    def close_code(self, *frames):
        """Sends frames on a connection of their own and gives the code it is closed with."""
        with RawClient(self.uri) as client:
            client.upgrade("/ws?topic=a")
            for frame in frames:
                client.send_frame(*frame[:2], **(frame[2] if len(frame) > 2 else {}))
            return client.close_code()

    async def test_an_unmasked_frame_closes_the_connection_with_1002(self):
        self.assertEqual(self.close_code((TEXT, b'{"type":"ping"}', {"masked": False})), 1002)

    async def test_reserved_bits_and_opcodes_close_the_connection_with_1002(self):
        for frame in (
            (TEXT, b"{}", {"first_bits": 0xC0}),
            (3, b""),
            (11, b""),
            (CONTINUATION, b"of nothing"),
            (PING, b"p" * 126),
            (PING, b"in two", {"first_bits": 0}),
        ):
            self.assertEqual(self.close_code(frame), 1002, frame)

    async def test_a_new_message_inside_another_closes_the_connection_with_1002(self):
        self.assertEqual(self.close_code((TEXT, b"{", {"first_bits": 0}), (TEXT, b"}")), 1002)

    async def test_text_that_is_not_utf8_closes_the_connection_with_1007(self):
        self.assertEqual(self.close_code((TEXT, b"\xff\xfe")), 1007)

    async def test_a_close_frame_of_one_byte_closes_the_connection_with_1002(self):
        self.assertEqual(self.close_code((CLOSE, b"x")), 1002)

    async def test_a_message_of_64_kibibytes_is_the_largest(self):
        request = b'{"type":"ping"}'
        with RawClient(self.uri) as client:
            client.upgrade()
            client.send_frame(TEXT, request + b" " * (LARGEST - len(request)))
            self.assertEqual(client.json()["type"], "pong")
        self.assertEqual(self.close_code((TEXT, request + b" " * (LARGEST + 1 - len(request)))), 1009)

    async def test_a_message_in_pieces_counts_as_one(self):
        with RawClient(self.uri) as client:
            client.upgrade()
            client.send_frame(TEXT, b'{"type":', first_bits=0)
            client.send_frame(PING, b"between")
            client.send_frame(CONTINUATION, b'"ping"}')
            self.assertEqual(client.frame()[0], 10)
            self.assertEqual(client.json()["type"], "pong")
        piece = b" " * 40_000
        self.assertEqual(self.close_code((TEXT, piece, {"first_bits": 0}), (CONTINUATION, piece)), 1009)

    async def test_a_length_that_no_message_has_is_refused_before_it_arrives(self):
        with RawClient(self.uri) as client:
            client.upgrade()
            client.send(bytes([0x80 | BINARY, 0xFF]) + (2**62).to_bytes(8, "big") + b"\0\0\0\0")
            self.assertEqual(client.close_code(), 1009)

    async def test_51_messages_in_a_second_close_the_connection_with_1008(self):
        with RawClient(self.uri) as client:
            client.upgrade()
            # Counted in whole seconds from the first, so twice the number cannot fit into two of them.
            for _ in range(102):
                client.send_frame(TEXT, b'{"type":"ping"}')
            self.assertEqual(client.close_code(), 1008)

    async def test_50_messages_at_once_are_served(self):
        with RawClient(self.uri) as client:
            client.upgrade()
            for number in range(50):
                client.send_json({"type": "ping", "id": number})
            self.assertEqual([client.json()["id"] for _ in range(50)], list(range(50)))

    async def test_a_subscriber_notices_nothing_of_another_that_misbehaves(self):
        client = await self.subscriber("a")
        self.close_code((TEXT, b'{"type":"ping"}', {"masked": False}))
        with RawClient(self.uri) as other:
            other.upgrade("/ws?topic=a")
            other.send(b"\x81\xfe\x10")
        self.vm.cast('#{<<"topic">> => <<"a">>}')
        self.assertEqual((await client.message())["topic"], "a")
