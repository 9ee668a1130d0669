"""The Python client's own ways: options, listeners, cancellation, backpressure, leaving and the synchronous face."""

import asyncio
import contextlib
import gc
import json
import unittest

from support.case import EngineTest
from support.peers import ScriptedServer
from support.reconnecting import DEADLINE

import dev_websocket
from dev_websocket import Client, ClientError, Closed, GaveUp, RequestRefused

QUICK = {"min_reconnect_delay": 0.01, "max_reconnect_delay": 0.05, "proxy": None}


def make(url, **options):
    return Client(url, **{**QUICK, **options})


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, DEADLINE)


class Options(unittest.TestCase):
    URL = "ws://localhost/ws"

    def test_those_that_do_not_fit_raise_where_they_are_given(self):
        unfit = [{"topic": ["a"]}, {"heartbeat": 1}, {"min_reconnect_delay": float("nan")}, {"min_reconnect_delay": 0}]
        unfit += [{"max_reconnect_delay": -1}, {"timeout": "10"}, {"timeout": True}, {"timeout": 0}, {"ping_interval": -1}]
        unfit += [{"min_reconnect_delay": 5, "max_reconnect_delay": 4}, {"max_queue": 0}, {"slow": "fast"}, {"transport": "x"}]
        unfit += [{"last": -1}, {"last": 1.5}, {"topics": 5}, {"topics": [None]}, {"template": [5]}, {"process": 5}]
        unfit += [{"token": "a b"}, {"headers": "x"}, {"logger": 5}, {"cursor": "x"}, {"overflow": "drop"}, {"match": [b"x"]}]
        for options in unfit:
            with self.assertRaises((TypeError, ValueError), msg=str(options)):
                Client(self.URL, **options)
        for url in ("nonsense", "", "ftp://host/ws", "ws://host/ws?format=raw", "ws://host:x/ws", None):
            with self.assertRaises((TypeError, ValueError), msg=str(url)):
                Client(url)

    def test_none_is_an_absent_option(self):
        names = "topics match template process cursor last slow headers token min_reconnect_delay max_reconnect_delay stable_after"
        names += " max_faults ping_interval timeout max_queue max_queue_bytes overflow transport logger ssl"
        client = Client(self.URL, **dict.fromkeys(names.split()))
        self.assertEqual(client._settings.timeout, 10)

    def test_a_listener_of_an_unknown_event_is_refused(self):
        client = Client(self.URL)
        with self.assertRaises(ValueError):
            client.on("nope", print)
        with self.assertRaises(TypeError):
            client.on("gap", None)
        for items in ({}, {"topics": []}, {"topics": 5}, {"topic": "a"}):
            with self.assertRaises(TypeError):
                client.subscribe(**items)
        with self.assertRaises(ValueError):
            client.subscribe(topics="a", since="x")
        self.assertEqual(client._subscriptions, [])


class Scripted(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.server = await ScriptedServer.start()
        self.addAsyncCleanup(self.server.close)
        self.told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.told.append(context))
        self.addCleanup(lambda: self.assertEqual(self.told, []))

    async def start(self, query="", **options):
        client = make(self.server.uri + query, **options)
        self.addAsyncCleanup(client.close)
        client.connect()
        return client

    async def test_the_past_that_a_url_asks_for_is_delivered_and_asked_for_once(self):
        for query, asked in (("last=3", {"last": ["3"]}), ("since=e:5", {"since": ["e:5"]}), ("since=", {})):
            client = await self.start(f"?topic=t&{query}&token=x")
            peer = await self.server.established(9)
            self.assertEqual(peer.query, {"topic": ["t"], "token": ["x"], **asked})
            if asked:
                await peer.message(8)
                self.assertEqual((await soon(client.__anext__()))["seq"], 8)
                await peer.tell(type="live", seq=9)
            await soon(client.ready())
            peer.cut()
            peer = await self.server.established(9)
            self.assertEqual(peer.query, {"topic": ["t"], "token": ["x"], "since": ["e:9"]})
            await client.close()

    async def test_subscriptions_that_fit_into_no_url_are_made_again_by_frames(self):
        templates = [{f"k{n}": "x" * 3900} for n in range(16)]
        topics = [f"{n}-{'y' * 245}" for n in range(128)]
        cases = (({"template": templates}, 1), ({"topics": topics}, 1), ({"topics": topics, "template": templates}, 2))
        for items, frames in cases:
            client = await self.start(cursor="e:5", **items)
            peer = await self.server.established(9, limits={"max_inbound_bytes": 65536, "max_inbound_rate": 50})
            self.assertEqual(peer.query, {})
            for number in range(frames):
                request = await peer.asked("subscribe")
                self.assertEqual(request["since"], "e:5")
                await peer.tell(type="subscription_response", id=request["id"], seq=9 + number, subscribed_topics=[])
                await peer.message(8 - number)
                await peer.message(10 + number)
                await peer.tell(type="live", id=request["id"], seq=9 + number)
            got = [(await soon(client.__anext__()))["seq"] for _ in range(2 * frames)]
            self.assertEqual(got, [8, 10] if frames == 1 else [7, 8, 10, 11])
            await client.close()

    async def test_a_listener_that_raises_changes_nothing_for_the_others_or_the_order(self):
        client = await self.start()
        told = []

        def broken(_):
            raise RuntimeError("a listener")

        async def later(value):
            await asyncio.sleep(0)
            told.append(value["seq"])

        async def broken_later(_):
            raise RuntimeError("a coroutine listener")

        for event in ("established", "state", "gap", "message", "live"):
            client.on(event, broken)
            client.on(event, broken_later)
        client.on("message", later)
        with self.assertLogs("dev_websocket", "ERROR"):
            peer = await self.server.established(0)
            for seq in range(1, 101):
                await peer.message(seq)
            running = asyncio.create_task(client.run())
            while len(told) < 100:
                await asyncio.sleep(0)
            self.assertEqual(told, list(range(1, 101)))
            await client.close()
            await soon(running)
        self.assertEqual(client.state, "closed")

    async def test_a_listener_may_close_and_ask(self):
        client = await self.start()
        ended = asyncio.get_running_loop().create_future()

        async def listener(message):
            reply = await client.subscribe(topics=["b"])
            await client.close()
            ended.set_result((message["seq"], reply["seq"]))

        client.on("message", listener)
        peer = await self.server.established(0)
        await peer.message(1)
        request = await peer.asked("subscribe")
        await peer.tell(type="subscription_response", id=request["id"], seq=1, subscribed_topics=["b"])
        self.assertEqual(await soon(ended), (1, 1))
        self.assertEqual(client.state, "closed")

    async def test_calls_that_are_made_together_are_sent_together(self):
        client = await self.start()
        peer = await self.server.established(0)
        await soon(client.ready())
        subscriptions = [client.subscribe(topics=[f"t{n}"]) for n in range(100)]
        request = await peer.asked("subscribe")
        self.assertEqual(len(request["topics"]), 100)
        await peer.tell(type="error", id=request["id"], code="bad_topic", message="one of them")
        for _ in range(40):
            request = await peer.asked("subscribe")
            (topic,) = request["topics"]
            answer = {"type": "error", "code": "bad_topic"} if topic == "t7" else {"type": "subscription_response", "seq": 1}
            await peer.tell(id=request["id"], **answer)
        with self.assertRaises(RequestRefused) as refused:
            await soon(subscriptions[7].reply())
        self.assertEqual((refused.exception.code, refused.exception.fatal), ("bad_topic", False))
        self.assertEqual((await soon(subscriptions[8]))["seq"], 1)
        await client.close()
        with self.assertRaises(Closed):
            await soon(subscriptions[99])

    async def test_a_subscription_has_its_own_messages_and_ends_alone(self):
        client = await self.start()
        peer = await self.server.established(0)
        await soon(client.ready())
        one, two = client.subscribe(topics=["t*"]), client.subscribe(topics=["t*", "u"])
        request = await peer.asked("subscribe")
        self.assertEqual(request["topics"], ["t*", "u"])
        await peer.tell(type="subscription_response", id=request["id"], seq=0, subscribed_topics=[])
        await soon(one.reply())
        reading = [asyncio.create_task(self.seqs(subscription)) for subscription in (one, two)]
        await asyncio.sleep(0)
        await peer.message(1)
        await peer.tell(type="message", seq=2, timestamp=0, topic="u", topics=["u"], data={})
        while client._exchange.cursor != "e:2":
            await asyncio.sleep(0)
        one.unsubscribe()
        await peer.message(3)
        while client._exchange.cursor != "e:3":
            await asyncio.sleep(0)
        two.unsubscribe()
        self.assertEqual(await soon(asyncio.gather(*reading)), [[1], [1, 2, 3]])
        self.assertEqual((await peer.asked("unsubscribe"))["topics"], ["t*", "u"])

    @staticmethod
    async def seqs(subscription):
        return [message["seq"] async for message in subscription]

    async def test_a_slow_loop_holds_at_most_its_bound_and_its_cursor_is_that_of_the_message_in_hand(self):
        client = await self.start(max_queue=10)
        peer = await self.server.established(0)
        sending = asyncio.create_task(self.flood(peer, 500))
        for seq in range(1, 501):
            message = await soon(client.__anext__())
            self.assertEqual((message["seq"], client.cursor), (seq, f"e:{seq}"))
            self.assertLessEqual(len(client._main.queue), 10)
        await soon(sending)

    async def test_with_gaps_the_oldest_give_way_and_are_told(self):
        client = await self.start(max_queue=10, overflow="gap")
        peer = await self.server.established(0)
        await self.flood(peer, 500)
        while client._exchange.cursor != "e:500":
            await asyncio.sleep(0)
        updates = client.updates()
        gap = await soon(updates.__anext__())
        self.assertEqual(gap, {"type": "gap", "reason": "queue", "dropped": 490, "after": 0, "next": 491})
        self.assertEqual([(await soon(updates.__anext__()))["seq"] for _ in range(10)], list(range(491, 501)))
        await updates.aclose()

    @staticmethod
    async def flood(peer, count):
        for seq in range(1, count + 1):
            await peer.message(seq)

    async def test_url_headers_and_token_are_asked_for_before_every_attempt(self):
        calls = []

        async def token():
            return f"token-{len(calls)}"

        def url():
            calls.append(None)
            return f"{self.server.uri}?n={len(calls)}"

        self.server.refuse(401, "unauthorized")
        client = make(url, token=token, headers=lambda: {"X-N": str(len(calls))})
        self.addAsyncCleanup(client.close)
        client.connect()
        peer = await self.server.established(3)
        headers = peer.socket.request.headers
        self.assertEqual((peer.query["n"], headers["X-N"], headers["Authorization"]), (["2"], "2", "Bearer token-2"))
        await peer.tell(type="token_expires", at=1)
        self.assertEqual((await peer.asked("auth"))["token"], "token-2")
        await peer.close(3000)
        peer = await self.server.established(3)
        self.assertEqual(peer.query["n"], ["3"])
        await peer.close(3003)
        with self.assertRaises(GaveUp) as gave_up:
            await soon(client.__anext__())
        self.assertEqual((gave_up.exception.code, gave_up.exception.fatal), (3003, True))

    async def test_an_interrupted_wait_loses_nothing_and_leaves_nothing(self):
        client = await self.start()
        peer = await self.server.established(0)
        await soon(client.ready())
        for seq in range(1, 101):
            waits = [client.__anext__(), client.ready() if seq % 2 else asyncio.sleep(3600)]
            tasks = [asyncio.ensure_future(wait) for wait in waits]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await peer.message(seq)
            self.assertEqual((await soon(client.__anext__()))["seq"], seq)
        self.assertEqual((client._waiters, client._main.queue._waiting), ([], []))

    async def test_closing_leaves_no_task_in_any_state(self):
        client = await self.start()
        await client.close()
        client = await self.start()
        await self.server.accept()
        await client.close()
        client = await self.start(min_reconnect_delay=3600, max_reconnect_delay=3600)
        (await self.server.established(0)).cut()
        while client.state != "waiting":
            await asyncio.sleep(0)
        await client.close()
        client = make(lambda: asyncio.get_running_loop().create_future())
        client.connect()
        await asyncio.sleep(0)
        await client.close()
        with self.assertRaises(Closed):
            client.connect()
        own = [task for task in asyncio.all_tasks() if "dev_websocket" in repr(task.get_coro()) or "Client" in repr(task.get_coro())]
        self.assertEqual(own, [])

    async def test_a_wrong_server_is_told_what_to_do(self):
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            page = b"<!doctype html><title>A page</title>"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = make(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/wrong")
        with self.assertRaises(GaveUp) as gave_up:
            await soon(client.__anext__())
        self.assertEqual(gave_up.exception.status, 200)
        self.assertRegex(str(gave_up.exception), "/wrong answered 200 with a page of HTML.*is the path right")
        server.close()
        await server.wait_closed()
        client = await self.start()
        peer = await self.server.accept()
        await peer.tell(type="hello")
        with self.assertRaises(GaveUp) as gave_up:
            await soon(client.ready())
        self.assertEqual(gave_up.exception.code, "bad_server")


class AtTheServer(EngineTest):
    async def test_cancelled_connects_leave_no_connection(self):
        for turn in range(1000):
            client = make(self.uri, topics=["a"])
            wait = asyncio.ensure_future(client.__anext__())
            # At another step of the handshake each time.
            for _ in range(turn % 40):
                await asyncio.sleep(0)
            wait.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await wait
            await client.close()
        self.vm.await_connections(0)

    async def test_cancelled_waits_leave_no_connection(self):
        async with make(self.uri, topics=["a"]) as client:
            await soon(client.ready())
            for turn in range(1000):
                wait = asyncio.ensure_future(client.__anext__() if turn % 2 else client.subscribe(topics=["a"]).reply())
                await asyncio.sleep(0)
                wait.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await wait
            self.assertEqual(client.state, "open")
            self.vm.cast('#{<<"topic">> => <<"a">>, <<"data">> => 1}')
            self.assertEqual((await soon(client.__anext__()))["data"]["data"], 1)
        self.vm.await_connections(0)

    async def test_leaving_under_a_flood_is_quick(self):
        await asyncio.to_thread(self.vm.eval, 'e2e_vm:start_casting(<<"flood">>)')
        loop = asyncio.get_running_loop()
        times = []
        try:
            for _ in range(5):
                async with make(self.uri, topics=["flood"], max_queue=10) as client:
                    await soon(client.__anext__())
                    while not client._is_paused:
                        await asyncio.sleep(0)
                    started = loop.time()
                times.append(loop.time() - started)
        finally:
            await asyncio.to_thread(self.vm.eval, "e2e_vm:stop_casting()")
        print(f"left after {max(times) * 1000:.0f} ms at most", end=" ... ", flush=True)
        # Far below the ten seconds that a goodbye behind a full queue takes.
        self.assertLess(max(times), 5)

    async def test_a_client_that_is_forgotten_is_no_leak(self):
        async with make(self.uri, topics=["a"]) as client:
            await soon(client.ready())
            for _ in range(200):
                client.subscribe(topics=["b"]).unsubscribe()
            gc.collect()
            self.assertEqual(client._subscriptions, [])

    async def test_the_synchronous_face(self):
        def use():
            from dev_websocket.sync import SyncClient  # pylint: disable=import-outside-toplevel

            with SyncClient(self.uri, topics=["a"], proxy=None) as client:
                client.ready(DEADLINE)
                reply = client.subscribe(topics=["b"]).reply(DEADLINE)
                self.vm.cast('#{<<"topic">> => <<"a">>, <<"data">> => 1}')
                self.vm.cast('#{<<"topic">> => <<"b">>, <<"data">> => 2}')
                got = []
                for message in client:
                    got.append(message["data"]["data"])
                    if len(got) == 2:
                        break
                with self.assertRaises(TimeoutError):
                    client.next(0.001)
                return reply["subscribed_topics"], got, client.cursor is not None

        self.assertEqual(await asyncio.to_thread(use), (["a", "b"], [1, 2], True))

    async def test_events_where_websockets_are_blocked(self):
        """A proxy that does not know the upgrade."""
        target = self.uri.split("/")[2].split(":")

        async def relay(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                writer.close()
                return
            server_reader, server_writer = await asyncio.open_connection(target[0], int(target[1]))
            server_writer.write(head)
            back = asyncio.ensure_future(copy(server_reader, writer))
            await copy(reader, server_writer)
            await back

        async def copy(reader, writer):
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            writer.transport.abort()

        proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        async with make(f"ws://127.0.0.1:{port}/ws", topics=["a"]) as client:
            await soon(client.ready())
            self.assertEqual(client.transport, "events")
            self.vm.cast('#{<<"topic">> => <<"a">>, <<"data">> => 1}')
            self.assertEqual((await soon(client.__anext__()))["data"]["data"], 1)
            reply = await soon(client.subscribe(topics=["b"]))
            self.assertEqual(sorted(reply["subscribed_topics"]), ["a", "b"])
            self.vm.cast('#{<<"topic">> => <<"b">>, <<"data">> => 2}')
            self.assertEqual((await soon(client.__anext__()))["data"]["data"], 2)
            self.assertIsNone(client.send("x"))
        await asyncio.to_thread(self.vm.await_connections, 0)
        proxy.close()


class Surface(unittest.TestCase):
    def test_everything_that_is_exported_is_there(self):
        for name in dev_websocket.__all__:
            self.assertTrue(hasattr(dev_websocket, name), name)
        self.assertTrue(issubclass(GaveUp, ClientError) and json)
