"""The reconnecting clients and the slots of a process: each event comes once and in order, whatever is cut off or restarted."""

import asyncio
import os
import random
import tempfile
import unittest

from support.case import EngineTest
from support.peers import BadNetwork, ScriptedServer
from support.reconnecting import CLIENTS, DEADLINE, NodeReconnecting, PythonReconnecting, with_clients
from support.vm import Vm

from dev_websocket.sync import SyncClient  # pylint: disable=wrong-import-order

SETTINGS = {"tail_interval": 20}
SLOTS = int(os.environ.get("SLOTS") or 90)


class FollowingTest:
    """What both kinds of tests do: a client of one process, whose slots have two events each."""

    async def follow(self, uri, **options):
        client = await self.client.start(uri, **options)
        self.addAsyncCleanup(client.close)
        return client

    async def parts(self, client, first, last):
        """Receives the events of these slots, each once and in order."""
        for slot in range(first, last + 1):
            for part in (None, slot):
                message = await client.message()
                self.assertEqual((message["slot"], message["data"].get("n")), (slot, part))


@with_clients(PythonReconnecting, NodeReconnecting)
class RestartedNodes(FollowingTest, unittest.IsolatedAsyncioTestCase):
    """A VM of its own for each test, which is killed and started again with what its node has stored."""

    client = None

    async def asyncSetUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.vm = Vm(**SETTINGS)
        self.addCleanup(lambda: self.vm.kill())
        self.vm.eval("e2e_node:start()")
        self.process = self.vm.eval("e2e_node:process()")
        self.network = await BadNetwork.start(self.vm.uri())
        self.addAsyncCleanup(self.network.close)

    def compute(self, first, last):
        self.vm.eval(f'e2e_node:compute(<<"{self.process}">>, {first}, {last})')

    def restart(self, first, last):
        """The VM is killed. The next one has computed these slots before anybody connects."""
        file = os.path.join(self.folder.name, "store")
        self.assertEqual(self.vm.eval(f'e2e_node:save("{file}")'), "ok")
        self.vm.kill()
        self.vm = Vm(**SETTINGS)
        self.vm.eval(f'e2e_node:start("{file}")')
        self.compute(first, last)
        self.network.target = self.vm.uri()

    async def storm(self, transport):
        """Computes slots, cuts connections as chance has it, and restarts the VM twice."""
        seed = int(os.environ.get("SEED") or random.randrange(2**32))
        print(f"seed {seed} ... ", end="", flush=True)
        chance = random.Random(seed)
        client = await self.follow(self.network.uri, fromSlot={self.process: 0}, transport=transport)
        # From now on it has a cursor, which is worthless behind a restart.
        await client.until("open")
        reading = asyncio.create_task(self.parts(client, 0, SLOTS - 1))
        slot = 0
        while slot < SLOTS:
            last = min(slot + chance.randrange(1, 4), SLOTS) - 1
            if any(slot <= SLOTS * third // 3 <= last for third in (1, 2)):
                await asyncio.to_thread(self.restart, slot, last)
                self.network.cut()
            else:
                await asyncio.to_thread(self.compute, slot, last)
            slot = last + 1
            if chance.random() < 0.4:
                self.network.cut()
            # The client has something of it, or nothing yet.
            await asyncio.sleep(chance.random() * 0.05)
        await reading
        self.assertTrue(client.none_waits("message"))
        self.assertEqual(client.slots, {self.process: SLOTS - 1})
        gaps = [client.queues["gap"].get_nowait() for _ in range(client.queues["gap"].qsize())]
        self.assertEqual({gap["reason"] for gap in gaps}, {"epoch"})

    async def test_each_event_comes_once_through_cuts_and_restarts(self):
        await self.storm("websocket")

    async def test_each_event_comes_once_as_server_sent_events(self):
        await self.storm("events")

    async def test_a_client_that_was_stopped_goes_on_behind_its_last_whole_slot(self):
        client = await self.follow(self.network.uri, process=self.process, fromSlot={self.process: 0})
        self.compute(0, 4)
        await self.parts(client, 0, 4)
        await client.do("close")
        self.compute(5, 7)
        self.restart(8, 9)
        later = await self.follow(self.network.uri, process=self.process, cursor=client.cursor, slots=client.slots, fromSlot={self.process: 0})
        await self.parts(later, 5, 9)
        self.compute(10, 10)
        await self.parts(later, 10, 10)
        self.assertTrue(later.none_waits("message"))


@with_clients(*CLIENTS)
class RestartedServers(FollowingTest, EngineTest):
    client = None
    settings = SETTINGS

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.vm.eval("e2e_node:start()")
        self.process = self.vm.eval("e2e_node:process()")
        self.network = await BadNetwork.start(self.uri)
        self.addAsyncCleanup(self.network.close)

    async def in_vm(self, expression):
        return await asyncio.to_thread(self.vm.eval, expression)

    async def compute(self, first, last):
        await self.in_vm(f'e2e_node:compute(<<"{self.process}">>, {first}, {last})')

    async def test_slots_of_another_epoch_are_asked_for(self):
        client = await self.follow(self.network.uri, process=self.process)
        await client.until("open")
        await self.compute(0, 2)
        await self.parts(client, 0, 2)
        self.assertEqual(await self.in_vm("dev_websocket:stop()"), "ok")
        # Nobody hears of these, and the history is gone.
        await self.compute(3, 5)
        self.assertEqual(await self.in_vm("dev_websocket:start(#{})"), "ok")
        self.network.target = self.vm.uri()
        await self.parts(client, 3, 5)
        await self.compute(6, 6)
        await self.parts(client, 6, 6)
        self.assertEqual((await client.next("gap"))["reason"], "epoch")
        self.assertTrue(client.none_waits("gap") and client.none_waits("message"))

    async def test_the_synchronous_client_follows_slots(self):
        if self.client is not PythonReconnecting:
            self.skipTest("there is one of Python alone")
        await self.compute(0, 3)

        def follow(**options):
            with SyncClient(self.network.uri, proxy=None, process=self.process, **options) as client:
                return [(client.next(DEADLINE)["slot"], client.slots[self.process]) for _ in range(3)], client.slots

        told, slots = await asyncio.to_thread(follow, from_slot={self.process: 1})
        self.assertEqual((told, slots), ([(1, 0), (1, 1), (2, 1)], {self.process: 1}))
        told, slots = await asyncio.to_thread(follow, slots=slots)
        self.assertEqual((told, slots), ([(2, 1), (2, 2), (3, 2)], {self.process: 2}))

    async def test_slots_that_are_refused_are_asked_for_again(self):
        await self.compute(0, 3)
        for transport in ("websocket", "events"):
            with self.vm.settings(max_slot_replays=0):
                client = await self.follow(self.network.uri, fromSlot={self.process: 1}, transport=transport)
                self.assertEqual((await client.next("error"))["code"], "too_many_slot_replays")
            await self.parts(client, 1, 3)
            self.assertTrue(client.none_waits("gap") and client.none_waits("message"))

    async def test_several_processes_are_asked_for_one_after_the_other(self):
        other = await self.in_vm("e2e_node:process()")
        await self.compute(0, 4)
        await self.in_vm(f'e2e_node:compute(<<"{other}">>, 0, 4)')
        for transport in ("websocket", "events"):
            client = await self.follow(self.network.uri, fromSlot={self.process: 2, other: 3}, transport=transport)
            received = [await client.message() for _ in range(10)]
            self.assertEqual([one["slot"] for one in received if one["process"] == self.process], [2, 2, 3, 3, 4, 4])
            self.assertEqual([one["slot"] for one in received if one["process"] == other], [3, 3, 4, 4])
            await client.next("live")
            await client.next("live")
            self.assertEqual(client.slots, {self.process: 4, other: 4})
            self.assertTrue(client.none_waits("gap") and client.none_waits("message"))

    async def test_slots_that_are_missing_are_told(self):
        await self.compute(0, 1)
        await self.compute(4, 5)
        client = await self.follow(self.network.uri, fromSlot={self.process: 0})
        await self.parts(client, 0, 1)
        gap = await client.next("gap")
        self.assertEqual((gap["reason"], gap["from_slot"], gap["to_slot"]), ("not_cached", 2, 3))
        await self.parts(client, 4, 5)
        self.assertEqual(client.slots, {self.process: 5})


def events(process, slot):
    """The events of a slot: its result, and one message."""
    path = f"/{process}~process@1.0/compute&slot={slot}"
    frame = {"type": "message", "timestamp": 0, "topics": [f"process:{process}"], "process": process, "slot": slot}
    result = {**frame, "path": path, "data": {"type": "result", "outbox-count": 1}}
    return [result, {**frame, "path": f"{path}/results/outbox/1", "data": {"n": slot}}]


PROCESS = "p" * 43
MISSED = {"type": "gap", "reason": "not_replayed", "process": PROCESS, "from_slot": 1}


@with_clients(PythonReconnecting, NodeReconnecting)
class ScriptedReplays(FollowingTest, unittest.IsolatedAsyncioTestCase):
    """A server that does what a test says."""

    client = None

    async def asyncSetUp(self):
        self.server = await ScriptedServer.start()
        self.addAsyncCleanup(self.server.close)

    async def asked(self, peer, slot):
        request = await peer.asked("subscribe")
        self.assertEqual((request["process"], request["from-slot"]), (PROCESS, slot))
        return request["id"]

    async def refuse(self, peer, slot, code):
        await peer.tell(type="error", id=await self.asked(peer, slot), code=code, message="as the test says")

    @staticmethod
    async def tell(peer, frames, seq=None):
        for number, frame in enumerate(frames):
            await peer.tell(**frame, **({"replayed": True} if seq is None else {"seq": seq + number}))

    async def test_a_replay_that_is_cut_in_the_middle_of_a_slot_brings_its_rest(self):
        client = await self.follow(self.server.uri, process=PROCESS, slots={PROCESS: 0})
        peer = await self.server.established(4)
        number = await self.asked(peer, 1)
        await peer.tell(type="subscription_response", id=number, seq=4, subscribed_topics=[])
        # A new event is in the replay, too.
        await self.tell(peer, events(PROCESS, 2), seq=5)
        await self.tell(peer, events(PROCESS, 1) + events(PROCESS, 2)[:1])
        received = [await client.message() for _ in range(3)]
        self.assertEqual(client.slots, {PROCESS: 1})
        for count in (1, 2):
            peer.cut()
            peer = await self.server.established(6)
            await peer.tell(type="live", seq=6)
            number = await self.asked(peer, 2)
            await peer.tell(type="subscription_response", id=number, seq=6, subscribed_topics=[])
            # Once more only the part that the client has already: the pong says that it was there.
            await self.tell(peer, events(PROCESS, 2)[:count])
            await client.next("live")
            await client.do("send", "mark")
            await peer.asked("send")
        await peer.tell(type="live", id=number, process=PROCESS, slot=3, seq=6)
        await self.tell(peer, events(PROCESS, 3), seq=7)
        received += [await client.message() for _ in range(3)]
        self.assertEqual([(one["slot"], one["data"].get("n")) for one in received], [(slot, part) for slot in (1, 2, 3) for part in (None, slot)])
        self.assertEqual((client.slots, client.cursor), ({PROCESS: 3}, "e:8"))
        self.assertTrue(client.none_waits("message") and client.none_waits("gap"))

    async def test_slots_that_are_never_had_are_told_with_what_came_meanwhile(self):
        client = await self.follow(self.server.uri, process=PROCESS, slots={PROCESS: 0})
        peer = await self.server.established(0)
        for _ in range(10):
            await self.refuse(peer, 1, "too_many_slot_replays")
            self.assertEqual((await client.next("error"))["code"], "too_many_slot_replays")
        number = await self.asked(peer, 1)
        await peer.tell(type="subscription_response", id=number, seq=0, subscribed_topics=[])
        await peer.tell(type="error", id=number, code="replay_failed", message="as the test says")
        await peer.tell(**MISSED, to_slot=3, dropped=3, timestamp=0, replayed=True)
        await self.tell(peer, events(PROCESS, 4), seq=1)
        await peer.tell(type="live", id=number, process=PROCESS, slot=4, seq=2)
        self.assertEqual((await client.next("error"))["code"], "replay_failed")
        self.assertEqual(await client.next("gap"), {**MISSED, "to_slot": 3, "dropped": 3})
        await self.parts(client, 4, 4)
        self.assertEqual(client.slots, {PROCESS: 4})

    async def test_a_server_that_knows_no_slots_is_a_gap(self):
        client = await self.follow(self.server.uri, process=PROCESS, slots={PROCESS: 0})
        await self.refuse(await self.server.established(0), 1, "unknown_field")
        self.assertEqual(await client.next("gap"), MISSED)
        self.assertEqual((await client.next("error"))["fatal"], False)
