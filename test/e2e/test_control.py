"""The control protocol and the life of a connection, as clients see it."""

import asyncio
import time

from support.case import EngineTest, with_each_client
from support.raw import PING, PONG, TEXT, RawClient

LIMITS = {
    "max_topics_per_connection",
    "max_regexes_per_connection",
    "max_templates_per_connection",
    "max_last",
    "max_inbound_bytes",
    "max_inbound_rate",
    "max_message_bytes",
    "send_buffer_bytes",
    "ping_interval",
}


@with_each_client
class Control:
    async def test_the_first_frame_tells_what_holds(self):
        client = await self.connect("prices,action:Transfer")
        first = client.established
        self.assertEqual(
            set(first),
            {"type", "subscribed_topics", "timestamp", "protocol", "epoch", "seq", "limits", "ignored"},
        )
        self.assertEqual(first["subscribed_topics"], ["prices", "action:Transfer"])
        self.assertEqual((first["protocol"], first["ignored"]), (1, []))
        self.assertEqual(set(first["limits"]), LIMITS)
        config = self.vm.eval("dev_websocket:config()")
        self.assertEqual(first["limits"], {name: config[name] for name in LIMITS})

    async def test_a_subscription_holds_from_its_response_on(self):
        client = await self.connect()
        self.vm.cast('#{<<"topic">> => <<"b">>, <<"data">> => <<"too early">>}')
        response = await client.ask(type="subscribe", id=1, topics=["b", "c"])
        self.assertEqual(set(response), {"type", "id", "message", "new_topics", "subscribed_topics", "seq", "timestamp"})
        self.assertEqual((response["type"], response["id"]), ("subscription_response", 1))
        self.assertEqual((response["new_topics"], response["subscribed_topics"]), (["b", "c"], ["b", "c"]))
        self.vm.cast('#{<<"topic">> => <<"b">>, <<"data">> => <<"in time">>}')
        frame = await client.message()
        self.assertEqual(frame["data"]["data"], "in time")
        self.assertEqual(frame["seq"], response["seq"] + 1)

    async def test_an_unsubscription_holds_from_its_response_on(self):
        client = await self.connect("a,b")
        response = await client.ask(type="unsubscribe", id="two", topics=["b", "never held"])
        self.assertEqual(set(response), {"type", "id", "message", "removed_topics", "subscribed_topics", "seq", "timestamp"})
        self.assertEqual((response["type"], response["id"]), ("unsubscription_response", "two"))
        self.assertEqual((response["removed_topics"], response["subscribed_topics"]), (["b"], ["a"]))
        self.vm.cast('#{<<"topic">> => <<"b">>}')
        self.vm.cast('#{<<"topic">> => <<"a">>}')
        self.assertEqual((await client.message())["topic"], "a")

    async def test_a_topic_that_is_held_already_is_no_error(self):
        client = await self.connect("a")
        response = await client.ask(type="subscribe", topics=["a"])
        self.assertNotIn("id", response)
        self.assertEqual((response["new_topics"], response["subscribed_topics"]), ([], ["a"]))

    async def test_a_ping_request_is_answered_with_the_number_of_publications(self):
        client = await self.connect()
        self.vm.cast('#{<<"topic">> => <<"elsewhere">>}')
        pong = await client.ask(type="ping", id=3)
        self.assertEqual(set(pong), {"type", "id", "timestamp", "seq"})
        self.assertEqual((pong["type"], pong["id"]), ("pong", 3))
        self.assertEqual(pong["seq"], client.established["seq"] + 1)

    async def test_websocket_pings_are_answered(self):
        client = await self.connect("a")
        await client.ping(b"are you there")
        await client.ping(b"")

    async def test_a_client_closes_cleanly(self):
        client = await self.connect("a")
        self.assertEqual(await client.close(1000, "done"), (1000, "done"))
        self.vm.await_connections(0)

    async def test_a_close_code_of_the_clients_own_is_given_back(self):
        client = await self.connect("a")
        code, _ = await client.close(4321, "mine")
        self.assertEqual(code, 4321)

    async def test_a_stopping_server_says_so_and_can_be_started_again(self):
        client = await self.connect("a")
        waiting = asyncio.create_task(client.closed())
        started = time.monotonic()
        self.assertEqual(await asyncio.to_thread(self.vm.eval, "dev_websocket:stop()"), "ok")
        try:
            self.assertEqual((await waiting)[0], 1001)
            self.assertLess(time.monotonic() - started, 1.5, "waited for more than the client's answer")
            self.assertEqual(self.vm.eval("dev_websocket:info()"), ["error", "stopped"])
            self.vm.cast('#{<<"topic">> => <<"a">>}')
        finally:
            self.assertEqual(self.vm.eval("dev_websocket:start(#{})"), "ok")
        self.uri = self.vm.uri()
        again = await self.connect("a")
        self.assertNotEqual(again.established["epoch"], client.established["epoch"])
        self.vm.cast('#{<<"topic">> => <<"a">>, <<"data">> => <<"again">>}')
        self.assertEqual((await again.message())["data"]["data"], "again")

    async def test_a_restarting_server_says_so(self):
        client = await self.connect("a")
        waiting = asyncio.create_task(client.closed())
        restart = "dev_websocket:start(#{{shards => {}}})"
        self.assertEqual(await asyncio.to_thread(self.vm.eval, restart.format(2)), "ok")
        try:
            self.assertEqual((await waiting)[0], 1012)
        finally:
            self.assertEqual(self.vm.eval(restart.format(0)), "ok")


class Connections(EngineTest):
    async def test_the_first_offered_subprotocol_is_chosen_and_none_otherwise(self):
        chosen = await self.subscriber("a", subprotocols=["one", "two"])
        self.assertEqual(chosen.socket.subprotocol, "one")
        plain = await self.subscriber("a")
        self.assertIsNone(plain.socket.subprotocol)

    async def test_a_client_that_answers_pings_stays(self):
        with self.vm.settings(ping_interval=50), RawClient(self.uri) as client:
            client.upgrade("/ws?topic=a")
            for _ in range(6):
                opcode, payload = client.frame()
                self.assertEqual(opcode, PING)
                client.send_frame(PONG, payload)
            client.send_json({"type": "ping"})
            while (frame := client.frame())[0] == PING:
                client.send_frame(PONG, frame[1])
            self.assertEqual(frame[0], TEXT)

    async def test_a_client_that_is_silent_for_two_pings_is_closed(self):
        with self.vm.settings(ping_interval=50), RawClient(self.uri) as client:
            client.upgrade("/ws?topic=a")
            self.assertEqual([client.frame()[0] for _ in range(2)], [PING, PING])
            self.assertEqual(client.close_code(), 1008)

    async def test_a_client_that_vanishes_is_forgotten(self):
        with RawClient(self.uri) as client:
            client.upgrade("/ws?topic=vanishing")
            self.assertIn("vanishing", self.vm.topics())
            client.reset()
        self.vm.await_connections(0)
        self.assertNotIn("vanishing", self.vm.topics())
