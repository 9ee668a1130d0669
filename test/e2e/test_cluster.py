"""Several VMs that share one stream of a nats-server: their clients, and VMs that are killed and restarted."""

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import unittest
import urllib.request

from dev_websocket import Client
from support.browser import CHROMIUM, Tab
from support.live_page import STATE, text
from support.vm import DEADLINE, ROOT, Vm


class Engine:
    """A nats-server with its store in a folder of its own."""

    def __init__(self):
        program = subprocess.run(
            [os.path.join(ROOT, "examples/cluster/nats-server")], stdout=subprocess.PIPE, encoding="utf-8", check=True
        ).stdout.strip()
        self.folder = tempfile.TemporaryDirectory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{port}"
        command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", self.folder.name]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8")
        assert any("Server is ready" in line for line in self.process.stderr), "the nats-server ended"
        # Its log is read to the end, so that it never waits for us.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        self.folder.cleanup()


class Cluster(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        vm = Vm(engine="nats://127.0.0.1:1")
        self.addCleanup(vm.kill)
        if "engine" in str(vm.eval("dev_websocket:info()")):
            self.skipTest("the library has no engine: DEV_WEBSOCKET_FEATURES=nats make build")
        self.engine = Engine()
        self.addCleanup(self.engine.stop)

    def vm(self, **settings):
        vm = Vm(engine=self.engine.url, engine_create="true", **settings)
        self.addCleanup(vm.kill)
        vm.settle('maps:get(<<"engine_present">>, S) =:= 1')
        return vm

    async def read(self, client, numbers, last):
        """Reads messages up to a number, and checks that none is missing or doubled."""
        async for message in client:
            numbers.append(message["data"]["n"])
            if numbers[-1] == last:
                break
        self.assertEqual(numbers, list(range(1, last + 1)))

    async def test_clients_of_a_vm_that_is_killed_go_on_at_another_one_by_their_cursor(self):
        first, second, third = self.vm(), self.vm(), self.vm()
        numbers, gaps = [], []

        def cast(begin, end):
            numbered = f"lists:seq({begin}, {end})"
            message = '#{<<"topic">> => <<"a">>, <<"n">> => N}'
            third.eval(f"begin [dev_websocket:cast({message}, #{{}}) || N <- {numbered}], ok end")

        async with Client(first.uri(), topics=["a"]) as client:
            client.on("gap", gaps.append)
            await client.ready()
            cast(1, 500)
            await self.read(client, numbers, 500)
            cursor = client.cursor
            first.process.send_signal(signal.SIGKILL)
        cast(501, 1000)
        async with Client(second.uri(), topics=["a"], cursor=cursor) as client:
            client.on("gap", gaps.append)
            await asyncio.wait_for(self.read(client, numbers, 1000), DEADLINE)
        self.assertEqual(gaps, [])

    async def test_clients_of_a_vm_that_restarts_under_load_go_on_at_the_others_without_a_gap(self):
        total, crowd = 6000, 12
        vms = [self.vm(), self.vm()]
        feed = self.vm()
        uris = [vm.uri() for vm in vms] + [feed.uri()]
        # Half of the clients begin at the VM that restarts; each goes to the next one when its own is gone.
        ways = [itertools.cycle(uris[number % 2 :] + uris[: number % 2]) for number in range(crowd)]
        gaps, states, arrived = [], [], asyncio.Event()

        async def follow(way):
            numbers = []
            async with Client(lambda: next(way), topics=["a"]) as client:
                client.on("gap", gaps.append)
                client.on("state", lambda change: states.append(change["state"]))
                await client.ready()
                ready.append(client)
                if len(ready) == crowd:
                    everybody.set()
                async for message in client:
                    numbers.append(message["data"]["n"])
                    if numbers[-1] == total // 4:
                        arrived.set()
                    if numbers[-1] == total:
                        return numbers

        ready, everybody = [], asyncio.Event()
        following = [asyncio.ensure_future(follow(way)) for way in ways]
        await asyncio.wait_for(everybody.wait(), DEADLINE)
        message = '#{<<"topic">> => <<"a">>, <<"n">> => N}'
        cast = f"fun(N) -> dev_websocket:cast({message}, #{{}}), N rem 3 =:= 0 andalso timer:sleep(1) end"
        feed.eval(f"begin spawn(fun() -> lists:foreach({cast}, lists:seq(1, {total})) end), ok end")
        await asyncio.wait_for(arrived.wait(), DEADLINE)
        first = vms[0].uri()
        vms[0].tell("init:stop()")
        await asyncio.to_thread(vms[0].ended)
        # It comes back at its old address, in the middle of the load.
        self.vm(port=int(first.split(":")[2].split("/")[0]))
        for numbers in await asyncio.wait_for(asyncio.gather(*following), DEADLINE):
            self.assertEqual(numbers, list(range(1, total + 1)))
        self.assertEqual(gaps, [])
        self.assertGreaterEqual(states.count("waiting"), crowd // 2)

    @unittest.skipIf(CHROMIUM is None, "no chromium on PATH")
    async def test_a_client_and_the_page_tell_that_their_server_is_cut_off(self):
        vm = self.vm(engine_timeout=1000)
        told = asyncio.Queue()
        async with Tab.open() as tab, Client(vm.uri(), topics=["a"]) as client:
            for event in ("stale", "live"):
                client.on(event, lambda _, event=event: told.put_nowait(event))
            await client.ready()
            await tab.go(vm.uri().replace("ws://", "http://").removesuffix("ws") + "?topic=a")
            await tab.until(f"{STATE} === 'open'", "live")
            self.engine.process.send_signal(signal.SIGSTOP)
            await tab.until(f"{text('#state-name')} === 'Stale'", "stale")
            self.assertIn("cut off from its stream", await tab.eval(text("#gone-text")))
            self.assertEqual(await asyncio.wait_for(told.get(), DEADLINE), "stale")
            self.engine.process.send_signal(signal.SIGCONT)
            await tab.until(f"{text('#state-name')} !== 'Stale'", "live again")
            self.assertEqual(await asyncio.wait_for(told.get(), DEADLINE), "live")

    async def test_all_vms_have_the_same_numbers(self):
        vms = [self.vm() for _ in range(3)]
        for number, vm in enumerate(vms):
            vm.cast(f'#{{<<"topic">> => <<"a">>, <<"n">> => {number}}}')
        for vm in vms:
            vm.settle('maps:get(<<"seq">>, S) =:= 3')
        epochs = set()
        for vm in vms:
            with urllib.request.urlopen(vm.uri().replace("ws:", "http:").replace("/ws", "/info")) as answer:
                epochs.add(json.load(answer)["epoch"])
        self.assertEqual(len(epochs), 1)


if __name__ == "__main__":
    unittest.main()
