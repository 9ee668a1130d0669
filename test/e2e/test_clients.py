"""The reconnecting clients and the real server, with a network in between that fails."""

import asyncio

from support.case import EngineTest
from support.peers import BadNetwork
from support.reconnecting import CLIENTS, NodeAloneReconnecting, NodeReconnecting, PythonReconnecting, with_clients


class ThroughABadNetwork(EngineTest):
    """Mixed into tests of each client: `self.start(..)` connects one, and waits until it is open."""

    client = None

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.network = await BadNetwork.start(self.uri)
        self.addAsyncCleanup(self.network.close)

    async def start(self, **options):
        client = await self.client.start(self.network.uri, **options)
        self.addAsyncCleanup(client.close)
        await client.until("open")
        return client

    def cast(self, topic, data):
        self.vm.cast(f'#{{<<"topic">> => <<"{topic}">>, <<"data">> => <<"{data}">>}}')

    async def in_vm(self, expression):
        """Like `vm.eval`, while the network and the clients go on."""
        return await asyncio.to_thread(self.vm.eval, expression)


@with_clients(*CLIENTS)
class Clients(ThroughABadNetwork):
    async def test_receives_what_it_subscribed_to(self):
        client = await self.start(topics=["a", "b"])
        for topic in ("a", "elsewhere", "b"):
            self.cast(topic, f"of {topic}")
        self.assertEqual(await client.texts(2), ["of a", "of b"])

    async def test_globs_regexes_and_templates_are_kept_over_a_cut_connection(self):
        client = await self.start(topics=["glob*"], match=["^re.ex$"], template=[{"kind": "wanted"}])

        def cast(topic, kind, data):
            message = f'<<"topic">> => <<"{topic}">>, <<"kind">> => <<"{kind}">>, <<"data">> => <<"{data}">>'
            self.vm.cast(f"#{{{message}}}")

        for turn in ("1", "2"):
            cast("globular", "wanted", f"glob {turn}")
            cast("globular", "unwanted", f"nobody {turn}")
            cast("regex", "wanted", f"match {turn}")
            cast("unrelated", "wanted", f"nobody {turn}")
            self.assertEqual(await client.texts(2), [f"glob {turn}", f"match {turn}"])
            if turn == "1":
                self.network.cut()
                await client.until("waiting")

    async def test_nothing_is_lost_or_repeated_when_connections_are_cut_during_casts(self):
        processes, each, rounds = 4, 500, 5
        client = await self.start(topics=["burst"])
        seq = 0
        for _ in range(rounds):
            casting = asyncio.create_task(self.in_vm(f'e2e_vm:burst(<<"burst">>, {processes}, {each}, 200)'))
            following = {str(process): 1 for process in range(1, processes + 1)}
            for count in range(processes * each):
                if count in (10, processes * each // 2):
                    self.network.cut()
                message = await client.message()
                process, number = message["data"]["data"].split(":")
                self.assertEqual(int(number), following[process])
                self.assertGreater(message["seq"], seq)
                following[process] += 1
                seq = message["seq"]
            await casting
        self.assertTrue(client.none_waits("message"))
        self.assertTrue(client.none_waits("gap"))

    async def test_a_restarted_server_is_found_again_and_the_gap_is_told(self):
        client = await self.start(topics=["a"])
        self.cast("a", "before")
        self.assertEqual(await client.texts(1), ["before"])
        epoch = client.cursor.split(":")[0]
        self.assertEqual(await self.in_vm("dev_websocket:stop()"), "ok")
        try:
            self.assertEqual((await client.until("waiting"))["code"], 1001)
        finally:
            self.assertEqual(self.vm.eval("dev_websocket:start(#{})"), "ok")
        self.cast("a", "while it was away")
        self.network.target = self.vm.uri()
        self.assertEqual((await client.next("gap"))["reason"], "epoch")
        self.assertEqual(await client.texts(1), ["while it was away"])
        await client.until("open")
        self.cast("a", "after")
        self.assertEqual(await client.texts(1), ["after"])
        self.assertNotEqual(client.cursor.split(":")[0], epoch)

    async def test_what_was_subscribed_to_last_is_what_a_new_connection_has(self):
        client = await self.start(topics=["a"])
        await client.do("subscribe", {"topics": ["b"]})
        await client.do("unsubscribe", {"topics": ["a"]})
        self.assertEqual((await client.next("reply"))["new_topics"], ["b"])
        self.assertEqual((await client.next("reply"))["subscribed_topics"], ["b"])
        self.network.cut()
        await client.until("waiting")
        await client.until("open")
        self.cast("a", "not any more")
        self.cast("b", "still")
        self.assertEqual(await client.texts(1), ["still"])

    async def test_a_connection_on_which_nothing_comes_is_replaced(self):
        if self.client is NodeAloneReconnecting:
            self.skipTest("Node's own WebSocket keeps a dead connection until the system ends it")
        client = await self.start(topics=["a"], pingInterval=50, timeout=1000)
        self.network.freeze()
        self.cast("a", "into the void")
        self.assertEqual((await client.until("waiting"))["code"], 1006)
        self.assertEqual(await client.texts(1), ["into the void"])

    async def test_a_later_client_goes_on_where_one_was(self):
        first = await self.start(topics=["a"])
        self.cast("a", "one")
        await first.message()
        await first.do("close")
        self.cast("a", "two")
        second = await self.start(topics=["a"], cursor=first.cursor)
        self.assertEqual(await second.texts(1), ["two"])
        self.assertTrue(second.none_waits("gap"))

    async def test_a_client_begins_with_the_newest_messages(self):
        for data in ("one", "two", "three"):
            self.cast("newest", data)
        client = await self.start(topics=["newest"], last=2)
        self.assertEqual(await client.texts(2), ["two", "three"])

    async def test_the_past_of_a_topic_can_be_asked_for_later(self):
        client = await self.start(topics=["a"])
        since = client.cursor
        self.cast("b", "past of b")
        self.cast("a", "first")
        self.assertEqual(await client.texts(1), ["first"])
        await client.do("subscribe", {"topics": ["b"], "since": since})
        self.assertEqual(await client.texts(1), ["past of b"])
        await client.next("live")
        self.cast("b", "present of b")
        self.assertEqual(await client.texts(1), ["present of b"])


@with_clients(PythonReconnecting, NodeReconnecting)
class ClientsRefused(ThroughABadNetwork):
    async def test_a_cursor_that_the_server_cannot_use_is_dropped(self):
        first = await self.start(topics=["a"])
        epoch, seq = first.cursor.split(":")
        future = f"{epoch}:{int(seq) + 1000}"
        second = await self.start(topics=["a"], cursor=future)
        gap = await second.next("gap")
        self.assertEqual((gap["reason"], gap["cursor"]), ("cursor", future))
        self.cast("a", "present")
        self.assertEqual(await second.texts(1), ["present"])

    async def test_a_url_that_the_server_refuses_ends_it(self):
        client = await self.client.start(self.network.uri, topics=["con\ntrol"])
        self.addAsyncCleanup(client.close)
        error = await client.next("error")
        self.assertEqual((error["code"], error["status"], error["fatal"]), ("bad_topic", 400, True))
