"""What both clients do alike behind proxies and under load, against the real server."""

import asyncio
import contextlib
import json
import os

from support.case import EngineTest
from support.peers import BadNetwork
from support.reconnecting import CLIENTS, DEADLINE, NodeReconnecting, PythonReconnecting, with_clients
from support.vm import OUT, ROOT

PAGE = b"<!doctype html><title>A page</title>"


class BlockingProxy(BadNetwork):
    """Answers an upgrade with an error, and passes everything else on: a proxy that knows no WebSockets."""

    status = "400 Bad Request"

    async def _accept(self, client_reader, client_writer):
        try:
            head = await client_reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            client_writer.close()
            return
        if b"upgrade: websocket" in head.lower():
            answer = f"HTTP/1.1 {self.status}\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\nConnection: close\r\n\r\n"
            client_writer.write(answer.encode() + PAGE)
            client_writer.close()
            return
        reader = asyncio.StreamReader()
        reader.feed_data(head)
        pump = asyncio.ensure_future(self._pump(client_reader, reader))
        try:
            await super()._accept(reader, client_writer)
        finally:
            pump.cancel()

    @staticmethod
    async def _pump(source, target):
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                target.feed_data(data)
        target.feed_eof()


class ModelTest(EngineTest):
    client = None

    async def start(self, uri, **options):
        client = await self.client.start(uri, **options)
        self.addAsyncCleanup(client.close)
        return client

    def cast(self, topic, data):
        self.vm.cast(f'#{{<<"topic">> => <<"{topic}">>, <<"data">> => <<"{data}">>}}')


@with_clients(*CLIENTS)
class BehindProxies(ModelTest):
    async def test_events_come_where_websockets_are_blocked(self):
        proxy = await BlockingProxy.start(self.uri)
        self.addAsyncCleanup(proxy.close)
        client = await self.start(proxy.uri, topics=["a"])
        await client.until("open")
        self.cast("a", "one")
        self.assertEqual(await client.texts(1), ["one"])
        # Another subscription needs another stream, which goes on at the cursor.
        await client.do("subscribe", {"topics": ["b"]})
        await client.until("open")
        self.cast("b", "two")
        self.assertEqual(await client.texts(1), ["two"])
        proxy.cut()
        await client.until("waiting")
        self.cast("a", "three")
        self.assertEqual(await client.texts(1), ["three"])


@with_clients(PythonReconnecting, NodeReconnecting)
class LongSubscriptions(ModelTest):
    async def test_subscriptions_that_fit_into_no_url_come_back(self):
        network = await BadNetwork.start(self.uri)
        self.addAsyncCleanup(network.close)
        client = await self.start(network.uri)
        await client.until("open")
        topics = [f"{n}-{'y' * 240}" for n in range(120)]
        templates = [{"data": "wanted", f"k{n}": "x" * 3800} for n in range(15)] + [{"data": "wanted"}]
        await client.do("subscribe", {"topics": topics, "template": templates})
        await client.next("reply")
        await client.next("reply")
        for turn in range(3):
            network.cut()
            await client.until("waiting")
            self.cast(topics[turn], "unwanted")
            for topic in (topics[0], topics[-1]):
                self.cast(topic, "wanted")
            self.cast("another", "wanted")
            self.assertEqual(await client.texts(2), ["wanted", "wanted"])
            await client.until("open")
            self.cast(topics[60], "wanted")
            self.assertEqual(await client.texts(1), ["wanted"])
        self.assertTrue(client.none_waits("message") and client.none_waits("error"))

    async def test_a_hundred_calls_at_once_are_taken(self):
        client = await self.start(self.uri)
        await client.until("open")
        for number in range(100):
            await client.do("subscribe", {"topics": [f"t{number}"]})
        await asyncio.to_thread(self.vm.await_topic, "t99")
        self.cast("t99", "x")
        self.assertEqual(await client.texts(1), ["x"])

    async def test_a_wrong_path_says_what_to_do(self):
        proxy = await BlockingProxy.start(self.uri)
        proxy.status = "200 OK"
        self.addAsyncCleanup(proxy.close)
        client = await self.start(proxy.uri, topics=["a"], transport="websocket")
        error = await client.next("error")
        self.assertEqual((error["status"], error["fatal"]), (200, True))
        self.assertRegex(error["message"], "answered 200 with a page of HTML: is the path right")

    async def test_a_replay_into_the_present_comes_once(self):
        for number in range(3000):
            if number % 100 == 0:
                self.cast("replay", str(number))
        client = await self.start(self.uri, topics=["replay"], last=1000, maxQueue=10)
        self.assertEqual(await client.texts(30), [str(number) for number in range(0, 3000, 100)])


class NodeClients(EngineTest):
    async def node(self, name, *arguments):
        """What a script of the clients tells at its end."""
        process = await asyncio.create_subprocess_exec(
            "node",
            "--expose-gc",
            os.path.join(ROOT, "test/e2e/clients", name),
            self.uri,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"NODE_PATH": os.path.join(OUT, "node_modules")},
        )
        output, _ = await asyncio.wait_for(process.communicate(), 4 * DEADLINE)
        self.assertEqual(process.returncode, 0, output)
        return json.loads(output)

    async def test_aborted_connects_and_waits_leave_no_connection(self):
        told = await self.node("cancel.mjs")
        self.assertEqual(told, {"connects": 1000, "waits": 1000, "state": "closed"})
        self.vm.await_connections(0)

    async def test_leaving_under_a_flood_is_quick_and_a_slow_loop_holds_at_most_its_bound(self):
        await asyncio.to_thread(self.vm.eval, 'e2e_vm:start_casting(<<"flood">>, 4000)')
        try:
            told = await self.node("flood.mjs")
        finally:
            await asyncio.to_thread(self.vm.eval, "e2e_vm:stop_casting()")
        print(f"left after {max(told['left']):.0f} ms at most, held {told['held'] / 1e6:.1f} MB more", end=" ... ", flush=True)
        # Far below the thirty seconds that a goodbye behind a full queue takes.
        self.assertLess(max(told["left"]), 5000)
        self.assertLess(told["held"], 16_000_000)
        self.assertTrue(told["isExact"], told)
