"""Clients of one process that are cut off at random and resume by its slots, while slots are computed and the node restarts."""

import http.client
import json
import random
import subprocess
import threading
import time
import urllib.parse

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

import programs
from node import until
from watching import expect, watch_process

# Frames that a connection takes before it is cut off, the first of which tells only that it is open.
FRAMES = (1, 1, 2, 2, 3)


class Resumer:
    """A client that keeps the slots that came whole, and asks for the next one after each cut."""

    resumes_within_slots = False

    def __init__(self, uri, process):
        parts = urllib.parse.urlsplit(uri)
        self.address, self.process = parts.netloc, process
        self.whole, self.faults = [], []
        self.cuts = self.refused = self.expected = self.seams = 0
        self.partial = []
        self.done = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        choose = random.Random(self.process + type(self).__name__)
        while not self.done.is_set():
            frames = choose.choice(FRAMES)
            if not self.resumes_within_slots:
                self.partial = []
            try:
                for text in self.connected():
                    self.take(json.loads(text))
                    frames -= 1
                    if not frames:
                        self.cuts += 1
                        break
            except (OSError, ConnectionClosed, InvalidHandshake, http.client.HTTPException, TimeoutError):
                # The node is restarting.
                self.refused += 1
                time.sleep(0.1)

    @property
    def query(self):
        return f"process={self.process}&from-slot={len(self.whole)}"

    def take(self, frame):
        # After a restart the numbers of publications begin anew, which a cursor is told. Those of slots do not.
        if frame["type"] == "error" or (frame["type"] == "gap" and "process" in frame):
            self.faults.append(frame)
        self.seams += frame["type"] == "live"
        if frame["type"] != "message":
            return
        if "from" not in frame:
            self.partial, self.expected = [], 1 + frame["data"]["outbox-count"]
        self.partial.append(frame)
        if len(self.partial) == self.expected:
            if {one["slot"] for one in self.partial} != {len(self.whole)}:
                self.faults.append(frame)
            self.whole.append((frame["slot"], self.partial[0]["data"]["output"]["body"], len(self.partial)))
            self.partial = []


class OverWebSocket(Resumer):
    def connected(self):
        with connect(f"ws://{self.address}/ws?{self.query}", max_size=None, proxy=None, open_timeout=5) as socket:
            yield from socket


class OverEvents(Resumer):
    """As a browser: after the first request with the id of the last event, which may be within a slot."""

    resumes_within_slots = True
    last = None

    def connected(self):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            headers = {"last-event-id": self.last} if self.last else {}
            connection.request("GET", f"/events?process={self.process}&from-slot=0", headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise http.client.HTTPException(answer.read())
            event = {}
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                event[name] = value
                if not name and "data" in event:
                    self.last = event.get("id", self.last)
                    yield event["data"]
                    event = {}
        finally:
            connection.close()


class OverCurl(Resumer):
    def connected(self):
        command = ["curl", "-sN", "--max-time", "60", f"http://{self.address}/events?{self.query}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                for line in process.stdout:
                    if line.startswith("data: "):
                        yield line[6:]
                raise ConnectionResetError
            finally:
                process.kill()


def slot_by_slot(node, options, process, other):
    """Schedules and computes the slots, some by a push, and has the node restarted twice."""
    for slot in range(1, options.count):
        target = {"first": other} if slot % 10 == 0 else {}
        node.schedule(options.stranger, process, amount=str(slot), **target)
        if slot % 10 == 0:
            node.push(process, slot)
        elif slot % 3 == 0 or slot == options.count - 1:
            node.compute(process, slot)
        if options.restart and slot in (options.count // 3, 2 * options.count // 3):
            subprocess.run(options.restart, shell=True, check=True)
            print(f"  restarted after slot {slot}", flush=True)


def resume(node, options):
    """A WebSocket, events with `Last-Event-ID` and curl, each cut off at random until it has every slot."""
    process, other = node.process(options.stranger, programs.FORWARDER), node.process(options.stranger, programs.LEDGER)
    node.compute(process, 0)
    clients = [kind(options.websocket, process) for kind in (OverWebSocket, OverEvents, OverCurl)]
    slot_by_slot(node, options, process, other)
    failures = []
    for client in clients:
        until(lambda c=client: len(c.whole) >= options.count, 120)
        client.done.set()
        right = [(slot, f"forwarded {slot}", 1 + (slot > 0 and slot % 10 == 0)) for slot in range(options.count)]
        print(f"  {type(client).__name__}: {len(client.whole)} slots, cut off {client.cuts} times, {client.seams} times live, refused {client.refused} times")
        if client.whole != right or client.faults:
            wrong = next((pair for pair in zip(client.whole, right) if pair[0] != pair[1]), "a slot is missing")
            failures.append(f"{type(client).__name__}: {len(client.whole)} slots, first wrong {wrong}, faults {client.faults[:3]}")
    return failures


def latencies(node, paths, until_done, least=200):
    """Milliseconds of requests by path, one after the other, until something is done."""
    took = {path: [] for path in paths}
    count = 0
    while count < least or not until_done() and count <= 100 * least:
        began = time.monotonic()
        path = paths[count % len(paths)]
        node.get(path, 3)
        took[path].append(1000 * (time.monotonic() - began))
        count += 1
    return {path: sorted(times) for path, times in took.items()}


def follow(node, options):
    """With `websocket_follow = compute`: slots come without any request, and what other requests of the node notice."""
    other, busy = node.process(options.stranger, programs.LEDGER), node.process(options.stranger, programs.LEDGER)
    node.compute(other, 0)
    for number in range(1, options.count):
        node.schedule(options.stranger, busy, amount=str(number))
    paths = ("/~meta@1.0/info/address", f"/{other}~process@1.0/compute&slot=0/results/output/body")
    calm = latencies(node, paths, lambda: True)
    began, watch = time.monotonic(), watch_process(options.websocket, busy)
    slots = range(options.count)
    loaded = latencies(node, paths, lambda: len(watch.slots(busy)) >= options.count)
    came = expect(watch, busy, slots, 600)
    print(f"  {len(watch.slots(busy))} slots in {time.monotonic() - began:.0f} s without a request, {'in order' if came else 'WRONG'}")
    for path in paths:
        for name, at in (("median", 0.5), ("p90", 0.9), ("p99", 0.99)):
            one, two = (times[path][int(at * (len(times[path]) - 1))] for times in (calm, loaded))
            print(f"  {path[-40:]}, {name}: {one:.1f} ms calm, {two:.1f} ms beside ({two / one:.2f} x)")
    return [] if came else [f"slots {watch.slots(busy)}"]
