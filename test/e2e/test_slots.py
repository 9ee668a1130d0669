"""Past slots of a process, over WebSockets and server-sent events, from a node that the test drives."""

import asyncio
import json
import urllib.parse

from jsonschema import Draft202012Validator
from support.case import EngineTest
from support.clients import PythonClient
from support.live_page import binary
from test_documented_schemas import document, resolved

DEADLINE = 20


class Events:
    """A stream of server-sent events, as curl reads it."""

    @classmethod
    async def connect(cls, uri, target, cursor=None):
        stream = cls()
        address = urllib.parse.urlsplit(uri)
        stream.reader, stream.writer = await asyncio.open_connection(address.hostname, address.port)
        header = f"Last-Event-ID: {cursor}\r\n" if cursor else ""
        stream.writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode())
        head = await stream.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return stream

    async def event(self):
        """The next frame, and the id of its event."""
        async with asyncio.timeout(DEADLINE):
            text = (await self.reader.readuntil(b"\n\n")).decode()
        data, _, cursor = text.strip().partition("\nid: ")
        return json.loads(data.removeprefix("data: ")), cursor

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()


class Slots(EngineTest):
    settings = {"tail_interval": 20}

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.vm.eval("e2e_node:start()")
        self.process = self.vm.eval("e2e_node:process()")
        asyncapi = document("asyncapi.yaml")
        self.schemas = resolved(asyncapi["components"]["messages"], asyncapi)

    def compute(self, first, last):
        self.vm.eval(f'e2e_node:compute(<<"{self.process}">>, {first}, {last})')

    def told(self, frame):
        """What a frame says of a slot: its number, the part, and whether it is replayed. It fits the documents."""
        names = {"gap": "slot_gap"}
        schema = self.schemas[names.get(frame["type"], frame["type"])]["payload"]
        Draft202012Validator(schema).validate(frame)
        return frame["slot"], frame["data"].get("n"), frame.get("replayed", False)

    async def test_a_websocket_gets_past_slots_and_then_new_ones(self):
        self.compute(0, 4)
        client = await PythonClient.connect(f"{self.uri}?process={self.process}&from-slot=3")
        self.addAsyncCleanup(client.close)
        await client.frame()
        told = [self.told(await client.message()) for _ in range(4)]
        self.assertEqual(told, [(3, None, True), (3, 3, True), (4, None, True), (4, 4, True)])
        live = await client.frame()
        Draft202012Validator(self.schemas["live"]["payload"]).validate(live)
        self.assertEqual((live["type"], live["process"], live["slot"]), ("live", self.process, 5))
        self.compute(5, 6)
        told = [self.told(await client.message()) for _ in range(4)]
        self.assertEqual(told, [(5, None, False), (5, 5, False), (6, None, False), (6, 6, False)])
        # And again, as a request.
        reply = await client.ask(type="subscribe", id=1, **{"process": self.process, "from-slot": 6})
        self.assertEqual(reply["new_topics"], [])
        self.assertEqual([self.told(await client.message()) for _ in range(2)], [(6, None, True), (6, 6, True)])
        self.assertEqual((await client.frame())["id"], 1)

    async def test_lines_of_an_output_are_events_of_their_slot(self):
        client = await PythonClient.connect(f"{self.uri}?process={self.process}")
        self.addAsyncCleanup(client.close)
        await client.frame()
        buyers = await PythonClient.connect(f"{self.uri}?topic=action:buy")
        self.addAsyncCleanup(buyers.close)
        await buyers.frame()
        lines = ["New message", '{"_e":1,"Action":"buy","n":"first"}', '{"_e":2}', '{"_e":1,"process":"other","topic":"process:other","n":"last"}']
        text = binary("\n".join(lines))
        for slot in (0, 1):
            self.vm.eval(f'e2e_node:print(<<"{self.process}">>, {slot}, {text})')
        frames = [await client.message() for _ in range(8)]
        self.assertEqual([self.told(frame) for frame in frames], [(slot, n, False) for slot in (0, 1) for n in (None, slot, "first", "last")])
        result, _, first, last = frames[:4]
        self.assertEqual((result["data"]["event-count"], result["data"].get("events-omitted")), (2, None))
        reserved = [f"process:{self.process}", f"from:{self.process}"]
        self.assertEqual(first["topics"], [*reserved, "action:buy", "_e:1", "n:first"])
        self.assertEqual(last["topics"], [*reserved, "_e:1", "n:last"])
        self.assertEqual((last["process"], last["data"]["process"], last["data"]["from"]), (self.process,) * 3)
        self.assertEqual([self.told(await buyers.message()) for _ in range(2)], [(0, "first", False), (1, "first", False)])
        # The same from the cache.
        again = await PythonClient.connect(f"{self.uri}?process={self.process}&from-slot=0")
        self.addAsyncCleanup(again.close)
        await again.frame()
        replayed = [await again.message() for _ in range(8)]
        for frame in (*frames, *replayed):
            for key in ("seq", "timestamp", "replayed"):
                frame.pop(key, None)
        self.assertEqual(replayed, frames)

    async def test_events_resume_where_they_were_cut_off(self):
        self.compute(0, 9)
        target = f"/events?process={self.process}&from-slot=0"
        told, cursor, live = [], None, 0
        # The stream is cut off after each event.
        while len(told) < 24:
            stream = await Events.connect(self.uri, target, cursor)
            await stream.event()
            frame, cursor = await stream.event()
            while frame["type"] == "live":
                live += 1
                if frame.get("slot") == 10:
                    self.compute(10, 11)
                frame, cursor = await stream.event()
            told.append(self.told(frame)[:2])
            await stream.close()
        self.assertEqual(told, [(slot, part) for slot in range(12) for part in (None, slot)])
        self.assertGreater(live, 0)
