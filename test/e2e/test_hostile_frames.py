"""Clients that have a WebSocket and misuse it: they do not read, send too much or too little, vanish. Healthy ones stay beside them."""

import contextlib
import json
import random
import select

from support.hostile import MIB, HostileTest
from support.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawClient, frame

SLOW = 8
FLOOD_BYTES = 64_000
PATIENCE = 120
# Pings: the replies to so many are more bytes than may wait for a client.
MANY = 2000
# Large enough to be read from quickly.
BUFFER = 65536


class Attackers(HostileTest):
    def several(self, count, target="/ws", **buffers):
        """Clients that are connected, and closed at the end of the block."""
        clients = contextlib.ExitStack()
        return clients, [clients.enter_context(RawClient(self.uri, **buffers).upgrade(target)) for _ in range(count)]

    def flood(self, size):
        """Casts so many bytes, and says how many messages that were."""
        count = size // FLOOD_BYTES
        self.vm.eval(f'e2e_vm:flood(<<"flood">>, {count}, {FLOOD_BYTES})', PATIENCE)
        return count


class NeverReading(Attackers):
    def until_one_misses(self, _):
        """Casts until a client misses a message: a server waits two seconds for those that it closes."""
        self.vm.eval(f'e2e_vm:flood_until_dropped(<<"flood">>, {FLOOD_BYTES})', PATIENCE)

    async def besiege(self, query, look, flood=None, number=SLOW):
        """Clients that read nothing of a flood, and then what there is for them to read."""

        def act():
            clients, slow = self.several(number, f"/ws?topic=flood,last&{query}", receive_buffer=BUFFER)
            with clients:
                # Kept for them, it would be several times what the VM may take.
                count = (flood or self.flood)(3 * bound)
                self.vm.cast('#{<<"topic">> => <<"last">>}')
                for client in slow:
                    look(client, count)

        async with self.siege(slow=number) as bound:
            await self.attack(act)

    def account(self, client, count):
        """Messages and gaps must add up."""
        received, missed, last = 0, 0, None
        while (message := client.json())["topic" if "topic" in message else "type"] != "last":
            if message["type"] == "gap":
                self.assertEqual(message["reason"], "slow")
                missed += message["dropped"]
                last = message["next"] - 1
            else:
                self.assertTrue(last is None or message["seq"] > last, message["seq"])
                last = message["seq"]
                received += 1
        self.assertEqual(received + missed, count)
        self.assertGreater(missed, 0)

    async def test_gaps_tell_a_client_what_it_missed(self):
        await self.besiege("slow=gap", self.account)

    async def test_gaps_tell_a_client_what_it_missed_that_wants_the_latest(self):
        await self.besiege("slow=latest", self.account)

    async def test_a_raw_client_that_wants_the_latest_gets_the_last(self):
        def look(client, count):
            received = 0
            while b"last" not in client.frame()[1]:
                received += 1
            self.assertLess(received, count)

        await self.besiege("format=raw&slow=latest", look)

    async def test_a_client_that_wants_no_gaps_is_closed_with_1013(self):
        # One at a time, which reads at once.
        for query in ("slow=close", "format=raw"):
            await self.besiege(query, lambda client, _: self.assertEqual(client.close_code(), 1013), self.until_one_misses, number=1)

    async def test_a_client_that_is_closed_and_does_not_read_that_either_is_cut_off(self):
        def look(client, _):
            # The three are the healthy ones.
            self.vm.settle('maps:get(<<"connections">>, S) =:= 3')
            # It may still find its close frame there, or not.
            client.end()

        await self.besiege("slow=close", look)

    async def test_a_client_that_answers_no_ping_is_closed_with_1008(self):
        def act():
            with self.vm.settings(ping_interval=100):
                clients, hostile = self.several(SLOW)
            with clients:
                self.assertEqual({client.close_code() for client in hostile}, {1008})

        async with self.siege(idle=SLOW):
            await self.attack(act)

    async def test_a_client_that_neither_reads_nor_answers_pings_is_cut_off(self):
        def act():
            with self.vm.settings(ping_interval=100):
                clients, _ = self.several(SLOW, "/ws?topic=flood", receive_buffer=BUFFER)
            with clients:
                self.flood(3 * bound)
                self.vm.settle('maps:get(<<"connections">>, S) =:= 3')

        async with self.siege(slow=SLOW) as bound:
            await self.attack(act)

    async def test_a_client_that_does_not_take_its_replies_is_not_read_from_and_loses_none(self):
        ping = frame(TEXT, b'{"type":"ping"}')

        def send_all(client):
            """Sends until neither the server nor the kernel takes more, and says how many pings that were."""
            client.socket.setblocking(False)
            sent, is_taken = 0, True
            while is_taken:
                try:
                    sent += client.socket.send((ping * 100)[sent % len(ping) :])
                except BlockingIOError:
                    # Before there are so many, the server has only not come to it yet.
                    is_taken = sent // len(ping) <= MANY and bool(select.select([], [client.socket], [], PATIENCE)[1])
            client.socket.settimeout(PATIENCE)
            return sent // len(ping)

        def act():
            clients, slow = self.several(SLOW, receive_buffer=4096, send_buffer=4096)
            with clients:
                counts = [send_all(client) for client in slow]
                self.assertGreater(min(counts), MANY)
                for client, count in zip(slow, counts):
                    self.assertEqual({client.json()["type"] for _ in range(count)}, {"pong"})

        with self.vm.settings(max_inbound_rate=0):
            async with self.siege(slow=SLOW):
                await self.attack(act)


class EventStreams(Attackers):
    """The same of those who use server-sent events: they have no frames to misuse."""

    def listen(self, target, **buffers):
        client = RawClient(self.uri, **buffers)
        status, _, _ = client.request(target, Connection=None, Upgrade=None, Sec_WebSocket_Key=None, Sec_WebSocket_Version=None)
        self.assertEqual(status, 200)
        self.assertEqual(self.event(client)["type"], "connection_established")
        return client

    def event(self, client):
        while (line := client.stream.readline()).strip() == b"" or not line.startswith(b"data:"):
            self.assertNotEqual(line, b"")
        return json.loads(line.removeprefix(b"data:"))

    async def test_gaps_tell_a_stream_that_is_not_read_what_it_missed(self):
        def act():
            with contextlib.ExitStack() as streams:
                slow = [streams.enter_context(self.listen("/events?topic=flood,last", receive_buffer=BUFFER)) for _ in range(SLOW)]
                count = self.flood(3 * bound)
                self.vm.cast('#{<<"topic">> => <<"last">>}')
                for client in slow:
                    received, missed = 0, 0
                    while (event := self.event(client)).get("topic") != "last":
                        missed += event.get("dropped", 0)
                        received += event["type"] == "message"
                    self.assertEqual(received + missed, count)
                    self.assertGreater(missed, 0)

        async with self.siege(slow=SLOW) as bound:
            await self.attack(act)

    async def test_what_comes_behind_a_request_for_events_is_dropped(self):
        def act():
            with self.listen("/events?topic=last") as client:
                for _ in range(2 * bound // MIB):
                    client.send(b"x" * MIB)
                self.vm.cast('#{<<"topic">> => <<"last">>}')
                self.assertEqual(self.event(client)["topic"], "last")

        async with self.siege(slow=1) as bound:
            await self.attack(act)


class Floods(Attackers):
    async def closes(self, code, *frames):
        """What clients are closed with that send this without a pause."""

        def act():
            clients, hostile = self.several(SLOW)
            with clients:
                for data in frames:
                    for client in hostile:
                        # The server may have had enough.
                        with contextlib.suppress(ConnectionError):
                            client.send(data)
                self.assertEqual({client.close_code() for client in hostile}, {code})

        async with self.siege(slow=SLOW):
            await self.attack(act)

    async def test_a_ping_flood_is_closed_with_1008(self):
        await self.closes(1008, frame(PING, b"p" * 125) * 200)

    async def test_a_flood_of_pongs_that_nobody_asked_for_is_closed_with_1008(self):
        await self.closes(1008, frame(PONG) * 200)

    async def test_a_storm_of_requests_is_closed_with_1008(self):
        storm = b""
        for number in range(100):
            for kind in ("subscribe", "unsubscribe"):
                storm += frame(TEXT, json.dumps({"type": kind, "topics": [f"storm-{number}"]}).encode())
        await self.closes(1008, storm)

    async def test_frames_without_bytes_do_not_go_on_for_ever(self):
        await self.closes(1009, frame(TEXT, b"{", first_bits=0), frame(CONTINUATION, first_bits=0) * 100_000)

    async def test_a_message_may_come_in_frames_of_one_byte_and_those_in_bytes(self):
        def act():
            clients, hostile = self.several(SLOW)
            with clients:
                request = json.dumps({"type": "subscribe", "topics": [f"t{n}" for n in range(100)]}).encode()
                data = frame(TEXT, request[:1], first_bits=0)
                data += b"".join(frame(CONTINUATION, bytes([byte]), first_bits=0) for byte in request[1:])
                data += frame(CONTINUATION)
                for byte in data:
                    for client in hostile:
                        client.send(bytes([byte]))
                for client in hostile:
                    self.assertEqual(len(client.json()["new_topics"]), 100)

        async with self.siege(slow=SLOW):
            await self.attack(act)

    async def test_garbage_is_closed_with_a_code_of_the_protocol(self):
        seed = random.randrange(2**32)
        print(f"seed {seed}: ", end="")
        numbers = random.Random(seed)

        def garbage():
            """Frames of any kind, or bytes of no kind."""
            if numbers.random() < 0.5:
                return numbers.randbytes(numbers.randrange(1, 300))
            opcode, first_bits = numbers.choice((CONTINUATION, TEXT, BINARY, 3, CLOSE, PING, PONG, 15)), numbers.randrange(16) << 4
            return frame(opcode, numbers.randbytes(numbers.randrange(200)), masked=numbers.random() < 0.9, first_bits=first_bits)

        def act():
            for _ in range(300):
                with RawClient(self.uri).upgrade("/ws?topic=garbage") as client:
                    with contextlib.suppress(ConnectionError):
                        for _ in range(20):
                            client.send(garbage())
                        client.half_close()
                    # Whatever it made of that, it comes to an end.
                    while (received := client.frame()) is not None:
                        if received[0] == CLOSE:
                            self.assertIn(int.from_bytes(received[1][:2], "big"), (0, *range(1000, 1016), *range(3000, 5000)))

        async with self.siege(slow=1):
            await self.attack(act)


class Storms(Attackers):
    async def test_limits_of_subscriptions_hold_in_a_storm_and_nothing_of_it_stays(self):
        def act():
            clients, hostile = self.several(SLOW)
            with clients:
                codes = set()
                for round_ in range(20):
                    for place, client in enumerate(hostile):
                        name = f"{round_}-{place}"
                        for request in (
                            {"topics": [f"{name}-{n}" for n in range(128)]},
                            {"topics": [f"{name}-{n}*" for n in range(129)]},
                            {"match": [f"^{name}-{n}" for n in range(9)]},
                            {"match": [f"^{name}-{n}" for n in range(8)]},
                            {"template": [{name: str(n)} for n in range(17)]},
                            {"template": [f"/{name}-{n}" for n in range(16)]},
                        ):
                            client.send_json({"type": "subscribe"} | request)
                    for client in hostile:
                        codes |= {client.json().get("code") for _ in range(6)}
                    self.assertGreater(self.vm.stats()["regexes"], 0)
                    for place, client in enumerate(hostile):
                        name = f"{round_}-{place}"
                        client.send_json({"type": "unsubscribe", "topics": [f"{name}-{n}" for n in range(128)]})
                        client.send_json({"type": "unsubscribe", "match": [f"^{name}-{n}" for n in range(8)]})
                        client.send_json({"type": "unsubscribe", "template": [f"/{name}-{n}" for n in range(16)]})
                    for client in hostile:
                        codes |= {client.json().get("code") for _ in range(3)}
                self.assertEqual(codes, {None, "too_many_topics", "too_many_matches", "too_many_templates"})
                # The last ones go with their connections.
                for place, client in enumerate(hostile):
                    client.send_json({"type": "subscribe", "topics": [f"last-{place}"], "match": [f"last-{place}"]})
                    client.json()

        with self.vm.settings(max_inbound_rate=0):
            async with self.siege(slow=SLOW):
                await self.attack(act)

    async def test_all_clients_together_hold_only_so_many_expressions(self):
        def act():
            clients, hostile = self.several(SLOW)
            with clients:
                for place, client in enumerate(hostile):
                    client.send_json({"type": "subscribe", "match": [f"{place}-{n}" for n in range(8)]})
                answers = [client.json() for client in hostile]
                self.assertEqual({answer.get("code") for answer in answers}, {None, "too_many_expressions"})
                self.assertLessEqual(self.vm.stats()["regexes"], 20)

        with self.vm.settings(max_regexes=20):
            async with self.siege(slow=SLOW):
                await self.attack(act)

    async def test_connections_reset_in_the_middle_of_frames_and_bursts_leave_nothing(self):
        def act():
            numbers = random.Random(1)
            for round_ in range(20):
                clients, hostile = self.several(SLOW, "/ws?topic=flood,reset-*&match=^reset", receive_buffer=BUFFER)
                with clients:
                    self.vm.eval('spawn(fun() -> e2e_vm:flood(<<"flood">>, 200, 10000) end), ok')
                    for client in hostile:
                        data = frame(TEXT, json.dumps({"type": "subscribe", "topics": [f"reset-{round_}"]}).encode())
                        client.send(data[: numbers.randrange(len(data) + 1)])
                    for client in hostile:
                        client.reset()

        async with self.siege(slow=SLOW):
            await self.attack(act)
