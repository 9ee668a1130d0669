"""The price of replays for the node: slots that it computes a second, without and beside clients that replay without end."""

import json
import os
import threading
import time

from websockets.sync.client import connect

import programs
from node import until
from watching import Watch, is_result

CLIENTS = 16
# Slots that each client replays again and again.
REPLAYED = 40
# Measurements alone and beside clients, in turn, and the seconds of each: other work on the machine changes with time.
TURNS = 2
SECONDS = 20
# Processes that are computed one after the other, and the slots that wait in each. A node of 2025 reads for each slot all
# assignments of the process that are left, so one process with all slots would be slower.
PROCESSES = 8
WAITING = 40


def replay(uri, process, done, counts):
    while not done.is_set():
        with connect(f"{uri}?process={process}&from-slot=0", max_size=None, proxy=None) as socket:
            for text in socket:
                frame = json.loads(text)
                counts.append(frame["type"] == "message")
                if frame["type"] == "live" or done.is_set():
                    break


def results(watch):
    return sum(is_result(frame) for frame in watch.messages())


def rate(watch):
    """Slots a second, from a slot to a slot."""
    count = results(watch)
    until(lambda: results(watch) > count, 60)
    count, began = results(watch), time.monotonic()
    time.sleep(SECONDS)
    end = results(watch)
    until(lambda: results(watch) > end, 60)
    return (results(watch) - count) / (time.monotonic() - began)


def beside(options, past, watch):
    """The rate beside clients that replay without end, and the events that they got in a second."""
    done, counts, began = threading.Event(), [], time.monotonic()
    clients = [threading.Thread(target=replay, args=(options.websocket, past, done, counts), daemon=True) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    until(lambda: counts, 60)
    slots = rate(watch)
    events = sum(counts) / (time.monotonic() - began)
    done.set()
    for client in clients:
        client.join()
    return slots, events


def replays(node, options):
    """Computes slots by requests one after the other, and measures alone and beside replays."""
    past, *busy = [node.process(options.stranger, programs.LEDGER) for _ in range(1 + PROCESSES)]
    for process, count in [(past, REPLAYED)] + [(one, WAITING) for one in busy]:
        for _ in range(count - 1):
            node.schedule(options.stranger, process, amount="1")
    node.compute(past, REPLAYED - 1)
    watch = Watch(options.websocket, "&".join("process=" + one for one in busy))
    over = threading.Event()

    def compute():
        for process in busy:
            if not over.is_set():
                node.compute(process, WAITING - 1)

    threading.Thread(target=compute, daemon=True).start()
    until(lambda: results(watch) > 2, 60)
    alone, with_replays = [], []
    for _ in range(TURNS):
        alone.append(rate(watch))
        slots, events = beside(options, past, watch)
        with_replays.append(slots)
        print(f"  {alone[-1]:.2f} slots a second alone, {slots:.2f} beside {events:.0f} replayed events a second; load {os.getloadavg()[0]:.1f}", flush=True)
    left = PROCESSES * WAITING - results(watch)
    over.set()
    print(f"  computing takes {sum(alone) / max(sum(with_replays), 0.01):.2f} times as long beside replays")
    return [] if left > 0 else ["the slots did not last"]
