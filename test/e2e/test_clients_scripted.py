"""The reconnecting clients and a server that does what a test says: cursors, close codes, refusals and silence."""

import asyncio
import os
import subprocess
import unittest

from support.peers import ScriptedServer
from support.reconnecting import DEADLINE, NodeReconnecting, PythonReconnecting, with_clients
from support.vm import ROOT

from dev_websocket._retry import Retry  # pylint: disable=wrong-import-order

SELECTION = {"topics": ["a"], "match": ["^m"], "template": [{"k": "v"}, "/path-x"]}


class ScriptedTest(unittest.IsolatedAsyncioTestCase):
    client = None

    async def asyncSetUp(self):
        self.server = await ScriptedServer.start()
        self.addAsyncCleanup(self.server.close)

    async def start(self, **options):
        client = await self.client.start(self.server.uri, **options)
        self.addAsyncCleanup(client.close)
        return client

    async def end(self, client):
        """Closes the client, and gives how many connections were made that no test asked for."""
        await client.close()
        return self.server.connections.qsize()


@with_clients(PythonReconnecting, NodeReconnecting)
class Cursors(ScriptedTest):
    async def test_a_stream_that_goes_away_and_is_made_anew_is_told_and_gives_the_cursor_its_epoch(self):
        client = await self.start(topics=["a"])
        peer = await self.server.established(5)
        await peer.tell(type="stale", since=1)
        self.assertEqual((await client.next("stale"))["since"], 1)
        await peer.tell(type="gap", reason="epoch", dropped=0, after=0, next=1, epoch="f")
        self.assertEqual((await client.next("gap"))["epoch"], "f")
        await peer.tell(type="live", seq=0)
        await client.next("live")
        self.assertEqual(client.cursor, "e:5")
        await peer.message(1)
        await client.next("message")
        self.assertEqual(client.cursor, "f:1")
        peer.cut()
        peer = await self.server.established(1)
        self.assertEqual(peer.query["since"], ["f:1"])

    async def test_the_cursor_goes_with_messages_and_answers(self):
        client = await self.start(topics=["a"], pingInterval=20)
        peer = await self.server.established(5)
        self.assertNotIn("since", peer.query)
        await client.until("open")
        peer.cut()
        peer = await self.server.established(5)
        self.assertEqual(peer.query["since"], ["e:5"])
        await peer.message(7)
        await peer.tell(type="live", seq=8)
        await client.next("live")
        self.assertEqual(client.cursor, "e:8")
        await peer.asked("ping")
        await peer.tell(type="pong", seq=20)
        # The next ping is asked after the pong was seen.
        await peer.asked("ping")
        peer.cut()
        peer = await self.server.established(20)
        self.assertEqual(peer.query["since"], ["e:20"])

    async def test_during_a_replay_only_messages_move_the_cursor(self):
        client = await self.start(topics=["a"], cursor="e:5", pingInterval=20)
        peer = await self.server.established(50)
        self.assertEqual(peer.query["since"], ["e:5"])
        await client.until("replaying")
        await peer.asked("ping")
        await peer.tell(type="pong", seq=50)
        await peer.message(7)
        await client.message()
        peer.cut()
        peer = await self.server.established(50)
        self.assertEqual(peer.query["since"], ["e:7"])
        await peer.message(9)
        await peer.tell(type="live", seq=50)
        await client.until("open")
        self.assertEqual(await client.texts(1), ["9"])
        peer.cut()
        peer = await self.server.established(50)
        self.assertEqual(peer.query["since"], ["e:50"])

    async def test_what_was_delivered_is_not_delivered_again(self):
        client = await self.start(cursor="e:5")
        peer = await self.server.established(9)
        for seq in (4, 5, 6, 6, 8, 7):
            await peer.message(seq)
        await peer.tell(type="live", seq=9)
        await client.next("live")
        self.assertEqual(await client.texts(2), ["6", "8"])
        self.assertTrue(client.none_waits("message"))

    async def test_a_gap_in_the_slots_of_a_process_moves_the_cursor_and_comes_once(self):
        client = await self.start(topics=["a"], cursor="e:5")
        peer = await self.server.established(9)
        slots = {"process": "p", "from_slot": 4, "to_slot": 6, "dropped": 3, "timestamp": 1}
        for seq in (5, 6, 6):
            await peer.tell(type="gap", reason="not_cached", seq=seq, **slots)
        await peer.tell(type="gap", reason="slow", dropped=1, after=6, next=8)
        await peer.tell(type="gap", reason="limit", process="p", dropped=0, seq=8, timestamp=1)
        gaps = [await client.next("gap") for _ in range(3)]
        self.assertEqual(gaps[0], {"type": "gap", "reason": "not_cached", "seq": 6, **slots})
        self.assertEqual([gap["reason"] for gap in gaps], ["not_cached", "slow", "limit"])
        self.assertEqual(client.cursor, "e:8")
        peer.cut()
        peer = await self.server.accept()
        self.assertEqual(peer.query["since"], ["e:8"])

    async def test_numbers_start_anew_with_an_epoch(self):
        client = await self.start(cursor="old:500")
        peer = await self.server.established(2, epoch="new")
        await peer.tell(type="gap", reason="epoch", dropped=None, after=500, next=1)
        await peer.message(1)
        self.assertEqual((await client.next("gap"))["reason"], "epoch")
        self.assertEqual(await client.texts(1), ["1"])
        self.assertEqual(client.cursor, "new:1")
        peer.cut()
        peer = await self.server.accept()
        self.assertEqual(peer.query["since"], ["new:1"])

    async def test_the_newest_are_asked_for_until_there_is_a_cursor(self):
        client = await self.start(topics=["a"], last=3)
        peer = await self.server.established(9)
        self.assertEqual(peer.query["last"], ["3"])
        await client.until("replaying")
        peer.cut()
        peer = await self.server.established(9)
        self.assertEqual(peer.query["last"], ["3"])
        await peer.message(8)
        await client.message()
        peer.cut()
        peer = await self.server.accept()
        self.assertEqual((peer.query.get("last"), peer.query["since"]), (None, ["e:8"]))

    async def test_a_server_that_knows_no_cursor_is_a_gap(self):
        client = await self.start(cursor="e:5")
        peer = await self.server.accept()
        await peer.tell(type="connection_established", epoch="e", seq=9, ignored=["since"])
        gap = await client.next("gap")
        self.assertEqual((gap["reason"], gap["cursor"]), ("cursor", "e:5"))
        await client.until("open")
        self.assertEqual(client.cursor, "e:9")

    async def test_a_cursor_that_is_refused_is_dropped(self):
        self.server.refuse(400, "bad_since")
        client = await self.start(cursor="e:99")
        peer = await self.server.established(9)
        self.assertNotIn("since", peer.query)
        gap = await client.next("gap")
        self.assertEqual((gap["reason"], gap["cursor"]), ("cursor", "e:99"))
        await client.until("open")


@with_clients(PythonReconnecting, NodeReconnecting)
class Subscriptions(ScriptedTest):
    async def test_the_url_has_the_present_subscriptions(self):
        client = await self.start(**SELECTION, process="pid", slow="latest")
        peer = await self.server.established(0)
        self.assertEqual((peer.query["topic"], peer.query["match"]), (["a", "process:pid"], ["^m"]))
        self.assertEqual(peer.query["template"], ['{"k":"v"}', "/path-x"])
        self.assertEqual(peer.query["slow"], ["latest"])
        await client.until("open")
        await client.do("unsubscribe", {"match": ["^m"], "template": [{"k": "v"}]})
        request = await peer.asked("unsubscribe")
        self.assertEqual((request["match"], request["template"]), (["^m"], [{"k": "v"}]))
        # What is held already is not asked for again.
        await client.do("subscribe", {"topics": ["a", "b*"]})
        request = await peer.asked("subscribe")
        self.assertEqual(request["topics"], ["b*"])
        await peer.tell(type="subscription_response", id=request["id"], seq=0, subscribed_topics=["a", "b*"])
        await client.next("reply")
        peer.cut()
        peer = await self.server.accept()
        self.assertEqual((peer.query["topic"], peer.query["template"]), (["a", "process:pid", "b*"], ["/path-x"]))
        self.assertNotIn("match", peer.query)

    async def test_what_changes_during_a_replay_is_told_after_it(self):
        client = await self.start(topics=["a"], cursor="e:1")
        peer = await self.server.established(5)
        await client.until("replaying")
        await client.do("subscribe", {"topics": ["b"]})
        await client.do("unsubscribe", {"topics": ["a"]})
        # A message that goes the same way as the commands: when it is here, they are.
        await client.do("send", "mark")
        await peer.asked("send")
        await peer.tell(type="live", seq=5)
        self.assertEqual((await peer.asked("subscribe"))["topics"], ["b"])
        self.assertEqual((await peer.asked("unsubscribe"))["topics"], ["a"])

    async def test_a_subscription_that_is_refused_is_not_remembered(self):
        client = await self.start(topics=["a"])
        peer = await self.server.established(0)
        await client.until("open")
        await client.do("subscribe", {"topics": ["b,c"]})
        request = await peer.asked("subscribe")
        await peer.tell(type="error", id=request["id"], code="bad_topic", message="no such topic")
        error = await client.next("error")
        self.assertEqual((error["code"], error["message"], error["fatal"]), ("bad_topic", "no such topic", False))
        peer.cut()
        self.assertEqual((await self.server.accept()).query["topic"], ["a"])

    async def test_a_replay_that_is_cut_goes_on_where_it_was(self):
        client = await self.start(topics=["a"])
        peer = await self.server.established(10)
        await client.until("open")
        await client.do("subscribe", {"topics": ["b"], "since": "e:1"})
        request = await peer.asked("subscribe")
        self.assertEqual((request["topics"], request["since"]), (["b"], "e:1"))
        await peer.tell(type="subscription_response", id=request["id"], seq=10)
        for seq in (2, 4, 11):
            await peer.message(seq)
        self.assertEqual(await client.texts(3), ["2", "4", "11"])
        peer.cut()
        peer = await self.server.established(12)
        self.assertEqual((peer.query["topic"], peer.query["since"]), (["a"], ["e:11"]))
        await peer.tell(type="live", seq=12)
        request = await peer.asked("subscribe")
        self.assertEqual((request["topics"], request["since"]), (["b"], "e:4"))
        await peer.tell(type="subscription_response", id=request["id"], seq=12)
        await peer.message(5)
        await peer.tell(type="live", id=request["id"], seq=12)
        self.assertEqual(await client.texts(1), ["5"])
        self.assertNotIn("id", await client.next("live"))
        self.assertEqual((await client.next("live"))["id"], request["id"])
        peer.cut()
        peer = await self.server.accept()
        self.assertEqual((peer.query["topic"], peer.query["since"]), (["a", "b"], ["e:12"]))

    async def test_a_replay_that_is_refused_becomes_a_plain_subscription(self):
        client = await self.start()
        peer = await self.server.established(10)
        await client.until("open")
        await client.do("subscribe", {"topics": ["b"], "since": "e:99"})
        request = await peer.asked("subscribe")
        await peer.tell(type="error", id=request["id"], code="bad_since", message="not yet")
        gap = await client.next("gap")
        self.assertEqual((gap["reason"], gap["cursor"]), ("cursor", "e:99"))
        request = await peer.asked("subscribe")
        self.assertEqual((request["topics"], request.get("since")), (["b"], None))

    async def test_data_goes_to_the_listener_and_comes_from_it(self):
        client = await self.start()
        peer = await self.server.established(0)
        await client.until("open")
        await client.do("send", {"hello": 1})
        self.assertEqual((await peer.asked("send"))["data"], {"hello": 1})
        await peer.tell(type="direct", data=[1, 2])
        self.assertEqual((await client.next("direct"))["data"], [1, 2])


@with_clients(PythonReconnecting, NodeReconnecting)
class ClosingAndRefusing(ScriptedTest):
    async def test_it_gives_up_when_it_may_not_connect(self):
        for code in (3000, 3003):
            client = await self.start()
            peer = await self.server.established(0)
            await peer.close(code)
            error = await client.next("error")
            self.assertEqual((error["code"], error["fatal"]), (code, True))
            self.assertEqual(await self.end(client), 0)

    async def test_it_gives_up_after_some_faults(self):
        client = await self.start(maxFaults=2)
        for code in (1002, 1008, 1009):
            peer = await self.server.established(0)
            await peer.close(code)
        error = await client.next("error")
        self.assertEqual((error["code"], error["fatal"]), (1009, True))
        self.assertEqual(await self.end(client), 0)

    async def test_it_comes_back_after_other_close_codes(self):
        client = await self.start(maxFaults=0)
        for code in (1000, 1001, 1011, 1012, 1013, 4321):
            peer = await self.server.established(0)
            await peer.close(code)
            waiting = await client.until("waiting")
            self.assertEqual(waiting["code"], code)
            self.assertLessEqual(waiting["delay"], 50)
        await self.server.established(0)

    async def test_it_gives_up_when_it_is_refused(self):
        for status in (400, 404, 426):
            self.server.refuse(status, "some_error")
            client = await self.start()
            error = await client.next("error")
            self.assertEqual((error["code"], error["status"], error["fatal"]), ("some_error", status, True))
            self.assertEqual(await self.end(client), 0)

    async def test_it_comes_back_when_the_server_is_full(self):
        self.server.refuse(429, "too_many_connections")
        self.server.refuse(503, "full")
        client = await self.start()
        for status in (429, 503):
            self.assertEqual((await client.until("waiting"))["status"], status)
        await self.server.established(0)
        await client.until("open")

    async def test_a_connection_without_an_answer_to_a_ping_is_replaced(self):
        client = await self.start(pingInterval=20, timeout=1000)
        peer = await self.server.established(0)
        await peer.asked("ping")
        self.assertEqual((await client.until("waiting"))["code"], 1006)
        await self.server.established(0)

    async def test_a_connection_without_a_first_frame_is_replaced(self):
        client = await self.start(timeout=200)
        await self.server.accept()
        self.assertEqual((await client.until("waiting"))["code"], 1006)

    async def test_closing_while_it_waits_leaves_nothing_behind(self):
        client = await self.start(minReconnectDelay=3_600_000, maxReconnectDelay=3_600_000)
        (await self.server.established(0)).cut()
        await client.until("waiting")
        # Ends only when neither a timer nor a task is left.
        self.assertEqual(await self.end(client), 0)

    async def test_closing_while_it_connects_leaves_nothing_behind(self):
        client = await self.start()
        await self.server.accept()
        self.assertEqual(await self.end(client), 0)


class Unit(unittest.TestCase):
    def test_the_wait_doubles_up_to_a_cap_and_is_spread_by_chance(self):
        longest = Retry(min_delay=0.5, max_delay=30, random=lambda: 1)
        self.assertEqual([longest.after(1006) for _ in range(8)], [0.5, 1, 2, 4, 8, 16, 30, 30])
        chances = iter((0, 0.5, 0.25))
        spread = Retry(min_delay=0.5, max_delay=30, random=lambda: next(chances))
        self.assertEqual([spread.after(1006) for _ in range(3)], [0, 0.5, 0.5])

    def test_a_stable_connection_makes_the_wait_short_again(self):
        retry = Retry(min_delay=0.5, max_delay=30, stable_after=10, random=lambda: 1)
        self.assertEqual([retry.after(1006) for _ in range(3)], [0.5, 1, 2])
        self.assertEqual(retry.after(1006, lived=9), 4)
        self.assertEqual(retry.after(1006, lived=10), 0.5)

    def test_a_restarting_server_is_tried_soon_but_not_over_and_over(self):
        retry = Retry(min_delay=0.5, max_delay=30, random=lambda: 1)
        for _ in range(4):
            retry.after(1006)
        self.assertEqual([retry.after(1012) for _ in range(2)], [0.5, 8])

    def test_the_unit_tests_of_the_javascript_client_pass(self):
        result = subprocess.run(
            ["node", "--test"],
            cwd=os.path.join(ROOT, "clients/javascript/test"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)


class PythonIteration(ScriptedTest):
    client = PythonReconnecting

    async def test_an_interrupted_iteration_loses_nothing(self):
        client = PythonReconnecting.make(self.server.uri)
        self.addAsyncCleanup(client.close)
        reading = asyncio.create_task(client.__anext__())
        peer = await self.server.established(0)
        await peer.message(1)
        self.assertEqual((await reading)["seq"], 1)
        interrupted = asyncio.create_task(client.__anext__())
        await asyncio.sleep(0)
        interrupted.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await interrupted
        await peer.message(2)
        self.assertEqual((await client.__anext__())["seq"], 2)
