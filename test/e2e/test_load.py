"""Many messages: everything arrives, in order, or the client is told what does not."""

import asyncio
import json
import os
import sys
import time

from support.case import EngineTest
from support.raw import TEXT, RawClient
from support.vm import OUT

PROCESSES, EACH = 4, 25_000
DEADLINE = 110
CLIENTS = os.path.join(os.path.dirname(__file__), "clients")


class Load:
    """A process with subscribers of its own."""

    async def start(self, command, script, uri, connections):
        self.connections = connections
        self.process = await asyncio.create_subprocess_exec(
            command,
            os.path.join(CLIENTS, script),
            f"{uri}?topic=load",
            *map(str, (connections, PROCESSES, EACH)),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"NODE_PATH": os.path.join(OUT, "node_modules")},
        )
        return self

    async def event(self, name):
        line = await asyncio.wait_for(self.process.stdout.readline(), DEADLINE)
        event = json.loads(line)
        assert event["event"] == name, event
        return event

    def kill(self):
        if self.process.returncode is None:
            self.process.kill()


class Completeness(EngineTest):
    async def test_100000_casts_of_4_processes_arrive_complete_and_in_order_at_50_subscribers(self):
        # Erlang casts in a moment what clients in Python and JavaScript take seconds to read. What waits for them
        # meanwhile must be allowed to wait: by default it would become gap frames after a mebibyte.
        with self.vm.settings(send_buffer_bytes=256 * 1024 * 1024):
            loads = [
                await Load().start("node", "load.cjs", self.uri, 24),
                await Load().start("node", "load.cjs", self.uri, 24),
                await Load().start(sys.executable, "load.py", self.uri, 2),
            ]
            for load in loads:
                self.addCleanup(load.kill)
                await load.event("ready")
            before = self.vm.stats()
            started = time.monotonic()
            casting = await asyncio.to_thread(self.vm.eval, f'e2e_vm:burst(<<"load">>, {PROCESSES}, {EACH}, 0)', DEADLINE)
            results = []
            for load in loads:
                done = await load.event("done")
                results += done["results"]
                await asyncio.wait_for(load.process.wait(), DEADLINE)
            elapsed = time.monotonic() - started
        self.assertEqual(results, [{"count": PROCESSES * EACH, "problem": None}] * 50)
        after = self.vm.stats()
        self.assertEqual(after["publications"] - before["publications"], PROCESSES * EACH)
        for name in ("dropped_overload", "dropped_slow", "dropped_too_large"):
            self.assertEqual(after[name], before[name], name)
        print(
            f"{PROCESSES * EACH} casts in {casting / 1e6:.2f} s,"
            f" {50 * PROCESSES * EACH} frames received and checked in {elapsed:.1f} s: ",
            end="",
        )

    async def test_responses_say_exactly_which_messages_a_changing_subscription_gets(self):
        with self.vm.settings(max_inbound_rate=0, send_buffer_bytes=16 * 1024 * 1024):
            client = await self.subscriber()
            # Others hold the topic all the time, and more than are served at once: requests come in between.
            for _ in range(300):
                self.addCleanup(RawClient(self.uri).upgrade("/ws?topic=churn").__exit__)
            last, received = client.established["seq"], 0
            for change in range(60):
                held = change % 2 == 1
                casting = asyncio.create_task(asyncio.to_thread(self.vm.eval, 'e2e_vm:burst(<<"churn">>, 2, 50, 0)'))
                await client.send(json.dumps({"type": "unsubscribe" if held else "subscribe", "topics": ["churn"]}))
                got = []
                while (frame := await client.frame())["type"] == "message":
                    got.append(frame["seq"])
                await casting
                # All that was published while the topic was held, and nothing of the time before or after.
                self.assertEqual(got, list(range(last + 1, frame["seq"] + 1)) if held else [])
                last = frame["seq"]
                received += len(got)
        self.assertGreater(received, 0)

    def overwhelm(self, target):
        """A subscriber that reads nothing while some 40 MB are cast for it: more than sockets and queues take."""
        client = RawClient(self.uri, receive_buffer=4096).upgrade(target)
        self.addCleanup(client.__exit__)
        self.vm.eval('e2e_vm:burst(<<"slow">>, 2, 10000, 2000)')
        return client

    async def test_what_a_slow_subscriber_misses_is_told_in_gap_frames(self):
        client = self.overwhelm("/ws?topic=slow")
        self.vm.cast('#{<<"topic">> => <<"slow">>, <<"data">> => <<"last">>}')
        received, missed, expected = 0, 0, None
        while True:
            opcode, payload = client.frame()
            self.assertEqual(opcode, TEXT)
            frame = json.loads(payload)
            if frame["type"] == "gap":
                self.assertEqual(set(frame), {"type", "reason", "dropped", "after", "next"})
                self.assertEqual(frame["reason"], "slow")
                self.assertEqual(frame["after"] + 1, expected)
                self.assertEqual(frame["dropped"], frame["next"] - frame["after"] - 1)
                missed += frame["dropped"]
                expected = frame["next"]
                continue
            self.assertEqual(frame["type"], "message")
            self.assertIn(frame["seq"], (expected, frame["seq"] if expected is None else expected))
            expected = frame["seq"] + 1
            if frame["data"]["data"] == "last":
                break
            received += 1
        self.assertEqual(received + missed, 20_000)
        self.assertGreater(missed, 0)
        self.assertGreater(received, 0)

    async def test_a_slow_subscriber_without_gap_frames_is_closed_with_1013(self):
        with RawClient(self.uri, receive_buffer=4096).upgrade("/ws?topic=slow&format=raw") as client:
            # It has two seconds to take its close frame, so nothing is cast after the first message that it misses.
            self.vm.eval('e2e_vm:flood_until_dropped(<<"slow">>, 64000)')
            self.assertEqual(client.close_code(), 1013)

    async def test_a_slow_subscriber_does_not_keep_others_from_their_messages(self):
        self.overwhelm("/ws?topic=slow,fast")
        client = await self.subscriber("fast")
        self.vm.cast('#{<<"topic">> => <<"fast">>, <<"data">> => <<"x">>}')
        self.assertEqual((await client.message())["data"]["data"], "x")
