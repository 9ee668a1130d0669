"""Compressed messages and events, with public clients, directly and through a proxy, each as it arrives."""

import asyncio
import contextlib
import json
import shutil
import unittest

from support import proxies
from support.browser import CHROMIUM, Tab
from support.case import EngineTest, with_each_client
from support.clients import PythonClient
from support.vm import Vm

DEADLINE = 60
HOST = "node.example"
CURL = shutil.which("curl")
TEXT = "the slot of a process; " * 30


def message(number):
    return f'#{{<<"topic">> => <<"alice-1">>, <<"number">> => {number}, <<"data">> => <<"{TEXT}">>}}'


class Counted:
    """Checks that messages went out compressed."""

    async def cast_compressed(self, vm, number):
        before = vm.stats()
        vm.cast(message(number))
        await asyncio.to_thread(vm.settle, f"maps:get(<<\"compressed\">>, S) > {before['compressed']}")


@with_each_client
class Compressed(Counted):
    settings = {"compression": "shared"}

    async def test_messages_arrive_one_by_one_and_requests_are_inflated(self):
        first, second = await self.connect("alice-1"), await self.connect("alice-1")
        for number in range(5):
            await self.cast_compressed(self.vm, number)
            for client in (first, second):
                found = (await client.message())["data"]
                self.assertEqual((found["number"], found["data"]), (number, TEXT))
        # Both packages compress a request of this size.
        topics = [f"a long name of a topic {number}" for number in range(100)]
        reply = await first.ask(type="subscribe", id=1, topics=topics)
        self.assertEqual(reply["new_topics"], topics)
        self.assertEqual((await first.ask(type="ping", id=2))["id"], 2)
        self.assertGreater(self.vm.stats()["compression_saved_bytes"], 5 * 2 * 400)


class CompressedEvents(Counted, EngineTest):
    settings = {"compression": "shared"}

    @unittest.skipIf(CURL is None, "no curl")
    async def test_curl_prints_each_event_when_it_comes(self):
        url = self.uri.replace("ws://", "http://").replace("/ws", "/events")
        curl = await asyncio.create_subprocess_exec(
            CURL, "--silent", "--no-buffer", "--compressed", f"{url}?topic=alice-1", stdout=asyncio.subprocess.PIPE
        )
        try:
            event = await asyncio.wait_for(curl.stdout.readuntil(b"\n\n"), DEADLINE)
            self.assertIn(b"connection_established", event)
            for number in range(5):
                await self.cast_compressed(self.vm, number)
                event = await asyncio.wait_for(curl.stdout.readuntil(b"\n\n"), DEADLINE)
                data = json.loads(event.decode().split("\n")[0].removeprefix("data: "))
                self.assertEqual(data["data"]["number"], number)
        finally:
            curl.terminate()
            await curl.wait()


@unittest.skipIf(proxies.NGINX is None, "no nginx")
class CompressedThroughNginx(Counted, unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        port = proxies.free_port()
        self.vm = Vm(port=port, trusted_proxies="127.0.0.1,::1", public_uri=f"wss://{HOST}/ws", compression="shared")
        self.stack.callback(self.vm.close)
        self.vm.eval("begin {ok, _} = dev_websocket:info(), ok end")
        authority = self.stack.enter_context(proxies.authority("X-Original-URI"))
        self.at = self.stack.enter_context(proxies.nginx(port, authority))

    async def test_a_websocket_gets_each_message(self):
        client = await PythonClient.connect(
            f"ws://{HOST}:{self.at}/ws?topic=alice-1", host="127.0.0.1", port=self.at, additional_headers={"Authorization": "Bearer alice"}
        )
        await client.frame()
        for number in range(3):
            await self.cast_compressed(self.vm, number)
            self.assertEqual((await client.message())["data"]["number"], number)
        await client.close()

    @unittest.skipIf(CHROMIUM is None, "no Chromium")
    async def test_a_browser_gets_each_message_and_event(self):
        async with Tab.open() as tab:
            await proxies.open_page(tab, self.at)
            opening = """(() => {
                window.found = { socket: [], events: [] }
                const socket = new WebSocket('/ws?topic=alice-1')
                socket.onmessage = ({ data }) => found.socket.push(JSON.parse(data))
                window.socket = socket
                window.events = new EventSource('/events?topic=alice-1')
                events.onmessage = ({ data }) => found.events.push(JSON.parse(data))
            })()"""
            await tab.eval(opening)
            await tab.until("found.socket.length === 1 && found.events.length === 1", "two streams")
            extension = await tab.eval("socket.extensions")
            self.assertIn("permessage-deflate", extension)
            for number in range(3):
                await self.cast_compressed(self.vm, number)
                both = "[found.socket, found.events]"
                await tab.until(f"{both}.every((all) => all.length === {number + 2} && all.at(-1).data.number === {number})", "a message in each")
