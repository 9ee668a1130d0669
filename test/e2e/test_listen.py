"""The other direction: what clients send reaches an Erlang process, and its answers come back."""

import json
import os

from support.case import EngineTest
from support.raw import BINARY, PING, TEXT, RawClient

CLIENTS, EACH = 1000, 100
# Far more than a listener's bounds, for what a VM does besides, and less than clients send.
MAX_GROWTH = 16_000_000


def client_frame(opcode, payload):
    """A client's frame of less than 64 KiB, with a mask of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Listen(EngineTest):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.addCleanup(lambda: self.vm.eval("e2e_vm:unlisten()"))

    def client(self, target):
        client = RawClient(self.uri).upgrade(target)
        self.addCleanup(client.__exit__)
        return client

    async def test_1000_clients_get_back_each_of_their_100_frames_in_order(self):
        self.assertEqual(self.vm.eval("e2e_vm:echo()"), "ok")
        before = self.vm.stats()
        clients = [self.client("/ws?format=raw" if place % 2 else "/ws") for place in range(CLIENTS)]
        for place, client in enumerate(clients):
            texts = [f"{place}:{number}" for number in range(EACH)]
            if place % 2:
                # Every other one as bytes.
                frames = [client_frame(TEXT if number % 2 else BINARY, text.encode()) for number, text in enumerate(texts)]
            else:
                frames = [client_frame(TEXT, json.dumps({"type": "send", "data": text}).encode()) for text in texts]
            client.send(b"".join(frames))
        for place, client in enumerate(clients):
            for number in range(EACH):
                while (frame := client.frame())[0] == PING:
                    pass
                opcode, payload = frame
                if place % 2:
                    self.assertEqual(opcode, TEXT if number % 2 else BINARY)
                    self.assertEqual(payload, f"{place}:{number}".encode())
                else:
                    direct = json.loads(payload)
                    self.assertEqual((direct["type"], direct["data"]), ("direct", f"{place}:{number}"))
        after = self.vm.stats()
        for name in ("inbound_delivered", "direct_messages"):
            self.assertEqual(after[name] - before[name], CLIENTS * EACH, name)

    async def test_a_listener_that_sleeps_costs_no_more_than_its_bounds(self):
        queue, size = 100, 8192
        # What the listener has, and 256 bytes with each of the messages on their way to it.
        held = queue + 1024 * 1024 // (size + 256)
        self.assertEqual(self.vm.eval(f"e2e_vm:sleeper({queue})"), "ok")
        frame = client_frame(BINARY, b"x" * size)
        clients = [self.client("/ws?format=raw") for _ in range(20)]
        before = self.vm.stats()["inbound_delivered"]
        memory = (self.vm.eval("erlang:memory(total)"), resident_bytes(self.vm.process.pid))
        for client in clients:
            client.send(frame * 12)
        self.vm.settle(f'maps:get(<<"inbound_delivered">>, S) >= {before + held}')
        # Nobody is read from: each client sends until its system holds it back.
        sent = []
        for client in clients:
            client.socket.setblocking(False)
            count = 12 * len(frame)
            try:
                while True:
                    at = count % len(frame)
                    count += client.socket.send(frame[at:])
            except BlockingIOError:
                client.socket.settimeout(20)
            sent.append(count)
        self.assertGreater(sum(sent), MAX_GROWTH)
        self.assertEqual(self.vm.stats()["inbound_delivered"], before + held)
        for name, was, now in zip(
            ("erlang:memory", "resident"),
            memory,
            (self.vm.eval("erlang:memory(total)"), resident_bytes(self.vm.process.pid)),
        ):
            self.assertLess(now - was, MAX_GROWTH, name)
        # And nothing is lost.
        total = sum(-(-count // len(frame)) for count in sent)
        whole = [client for client, count in zip(clients, sent) if count % len(frame) == 0]
        self.vm.process.stdin.write(f"e2e_vm:wake({total}).\n")
        self.vm.process.stdin.flush()
        for client, count in zip(clients, sent):
            if client not in whole:
                client.send(frame[count % len(frame) :])
        self.assertEqual(self.vm.answers.get(timeout=60), {"ok": total * size})
