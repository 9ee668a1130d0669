"""Very many clients at once, and a VM that has no more file descriptors for them."""

import unittest

from support.clients import PythonClient
from support.crowd import Crowd, most_connections
from support.hostile import HostileTest
from support.process import Process, settle
from support.raw import PING, PONG, RawClient
from support.vm import Vm

CROWD = 15_000
ESTABLISHED = b'"type":"connection_established"'
ONE = b'"data":{"data":1,'
CHURN = 20
PINGS = 3


class Crowds(HostileTest):
    async def test_15000_connect_at_once_and_are_all_served(self):
        count = most_connections(CROWD)
        self.assertGreater(count, 0)

        def come():
            crowd = Crowd(self.uri, count, "/ws?topic=last")
            try:
                served = crowd.until([b"HTTP/1.1 101 ", ESTABLISHED])
                self.vm.cast('#{<<"topic">> => <<"last">>, <<"data">> => 1}')
                return served, crowd.until([ESTABLISHED, ONE]), self.vm.stats()["connections"]
            finally:
                crowd.close()

        # This client has one thread for all. Who sends no request for a second could lose his place to others.
        with self.vm.settings(max_handshakes=CROWD, handshake_timeout=60_000):
            async with self.siege(idle=count):
                self.assertEqual(await self.attack(come), (count, count, count + 3))
        print(f"{count} connections: ", end="")

    async def test_more_than_may_come_are_refused_and_the_others_served(self):
        def come():
            crowd = Crowd(self.uri, 500, "/ws?topic=last")
            try:
                # Whoever is not served is told why.
                return crowd.until([b"HTTP/1.1 101 ", ESTABLISHED]), crowd.until([b"HTTP/1.1 503 ", b'{"error":"full"'], 300)
            finally:
                crowd.close()

        with self.vm.settings(max_connections=203):
            async with self.siege(idle=500):
                self.assertEqual(await self.attack(come), (200, 300))

    async def test_a_crowd_that_comes_and_goes_leaves_nothing(self):
        def churn():
            for round_ in range(CHURN):
                crowd = Crowd(self.uri, 100, f"/ws?topic=churn-{round_},healthy,churn-*&match=^churn-{round_}")
                # Some leave in the middle of it.
                if round_ % 2:
                    crowd.until([ESTABLISHED])
                crowd.close()

        async with self.siege(idle=100):
            await self.attack(churn)


class OutOfDescriptors(unittest.IsolatedAsyncioTestCase):
    LIMIT = 256

    async def test_those_connected_are_served_and_the_others_when_there_are_descriptors_again(self):
        vm = Vm(descriptors=self.LIMIT, ping_interval=1000)
        self.addCleanup(vm.close)
        process = Process(vm.process.pid)
        uri = vm.uri()
        vm.cast('#{<<"topic">> => <<"healthy">>, <<"data">> => 0}')
        vm.settle('maps:get(<<"seq">>, S) =:= 1')
        descriptors = process.descriptors()
        with RawClient(uri).upgrade("/ws?topic=healthy") as healthy:
            crowd = Crowd(uri, 2 * self.LIMIT, "/ws?topic=last")
            self.addCleanup(crowd.close)
            # Some that were accepted are still in their handshake: more than these can be served in the end.
            connected = vm.settle('maps:get(<<"accept_failures">>, S) > 0')["connections"]
            self.assertLess(connected, self.LIMIT)
            established = crowd.until([ESTABLISHED], connected - 1)
            self.assertGreaterEqual(established, connected - 1)
            self.assertLess(established, self.LIMIT)

            # The server's pings are the clock. Trying without a pause would give a hundred thousand failures from one to
            # the next, and take a core.
            failures, cpu = vm.stats()["accept_failures"], process.cpu_seconds()
            for number in range(1, PINGS + 1):
                self.assertEqual(healthy.frame()[0], PING)
                healthy.send_frame(PONG)
                vm.cast(f'#{{<<"topic">> => <<"healthy">>, <<"data">> => {number}}}')
                self.assertEqual(healthy.json()["data"]["data"], number)
            failures, cpu = vm.stats()["accept_failures"] - failures, process.cpu_seconds() - cpu
            print(f"{failures} failures and {cpu:.2f} s of CPU in {PINGS} pings: ", end="")
            self.assertLess(failures, 10 * PINGS)
            self.assertLess(cpu, 0.2 * PINGS)

            # The node still opens files, loads code and logs.
            loaded = vm.eval("[{code:is_loaded(M), element(1, code:ensure_loaded(M))} || M <- [zip, digraph]]")
            self.assertEqual(loaded, [[False, "module"]] * 2)
            self.assertEqual([line for line in vm.log if "emfile" in line or "CRASHED" in line], [])
            self.assertTrue(any("failed to accept a connection" in line for line in vm.log))

            served = 0
            while crowd.received:
                served += crowd.until([ESTABLISHED], 1)
                crowd.leave([ESTABLISHED])
            self.assertEqual(served, 2 * self.LIMIT)
        vm.await_connections(0)
        self.assertEqual(await settle(process.descriptors, descriptors), descriptors)
        client = await PythonClient.connect(f"{uri}?topic=healthy")
        await client.frame()
        vm.cast('#{<<"topic">> => <<"healthy">>, <<"data">> => <<"after">>}')
        self.assertEqual((await client.message())["data"]["data"], "after")
        await client.close()
