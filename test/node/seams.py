"""Replays of a process that end while its slots are being published at full speed."""

import json
import random
import threading

from websockets.sync.client import connect

import programs

CLIENTS = 16
# Slots that are scheduled, then computed by one request.
AT_ONCE = 100
# Slots behind the newest one at which a replay begins.
BEHIND = 5
# Events of one slot of the ledger: its result and its message.
EVENTS = 2


class Seams:
    """Counts replays that passed over into live slots, and keeps what was wrong in them."""

    def __init__(self, options, process):
        self.uri, self.process, self.wanted = options.websocket, process, options.seams
        self.newest, self.met, self.faults = 0, 0, []
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.clients = [threading.Thread(target=self._meet, args=[random.Random(seed)], daemon=True) for seed in range(CLIENTS)]
        for client in self.clients:
            client.start()

    def _meet(self, choose):
        while not self.done.is_set():
            start = max(0, self.newest - choose.randrange(BEHIND))
            try:
                seen, is_over = self.replay(start, choose.choice((1, 2, 3)))
            except OSError as error:
                seen, is_over = [], False
                self.faults.append(error)
            right = [start + place // EVENTS for place in range(len(seen))]
            with self.lock:
                self.met += is_over
                self.newest = max([self.newest, *seen])
                if seen != right:
                    self.faults.append((start, seen))
                if self.met >= self.wanted or self.faults:
                    self.done.set()

    def replay(self, start, live_events):
        """The slots of the events from a slot on, until some have come behind the frame `live`, and whether they did."""
        seen, left = [], None
        with connect(f"{self.uri}?process={self.process}&from-slot={start}", max_size=None, proxy=None) as socket:
            while left != 0:
                try:
                    frame = json.loads(socket.recv(timeout=1))
                except TimeoutError:
                    if self.done.is_set():
                        return seen, False
                    continue
                if frame["type"] == "live":
                    left = live_events
                elif frame["type"] == "message":
                    seen.append(frame["slot"])
                    left = left and left - 1
                elif frame["type"] != "connection_established":
                    raise OSError(str(frame))
        return seen, True


def seams(node, options):
    """`--seams` replays end while slots are computed: each client gets each event once, in order."""
    process = node.process(options.stranger, programs.LEDGER)
    node.compute(process, 0)
    all_of_them = Seams(options, process)
    slot = 0
    while not all_of_them.done.is_set():
        for _ in range(AT_ONCE):
            slot = node.schedule(options.stranger, process, amount="1")
        node.compute(process, slot)
    for client in all_of_them.clients:
        client.join()
    print(f"  {all_of_them.met} replays passed over into live slots while {slot} slots were computed")
    return [f"wrong: {fault}" for fault in all_of_them.faults]
