"""The price of replays for the node: slots that it computes a second, without and beside clients that replay without end."""

import json
import threading
import time

from websockets.sync.client import connect

import programs
from node import until
from watching import watch_process

CLIENTS = 16
# Slots that each client replays again and again.
REPLAYED = 40
# Seconds of each measurement.
SECONDS = 30
# Slots that wait to be computed, more than the node can do in that time.
WAITING = 300


def replay(uri, process, done, counts):
    while not done.is_set():
        with connect(f"{uri}?process={process}&from-slot=0", max_size=None, proxy=None) as socket:
            for text in socket:
                frame = json.loads(text)
                counts.append(frame["type"] == "message")
                if frame["type"] == "live" or done.is_set():
                    break


def rate(watch, process):
    before, began = len(watch.slots(process)), time.monotonic()
    time.sleep(SECONDS)
    return (len(watch.slots(process)) - before) / (time.monotonic() - began)


def replays(node, options):
    """Computes slots by one request, and measures twice."""
    busy, past = node.process(options.stranger, programs.LEDGER), node.process(options.stranger, programs.LEDGER)
    for process, count in ((past, REPLAYED), (busy, WAITING)):
        for _ in range(count - 1):
            node.schedule(options.stranger, process, amount="1")
    node.compute(past, REPLAYED - 1)
    watch = watch_process(options.websocket, busy)
    threading.Thread(target=lambda: node.compute(busy, WAITING - 1), daemon=True).start()
    until(lambda: len(watch.slots(busy)) > 2, 60)
    calm = rate(watch, busy)
    done, counts = threading.Event(), []
    clients = [threading.Thread(target=replay, args=(options.websocket, past, done, counts), daemon=True) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    beside, replayed = rate(watch, busy), sum(counts) / SECONDS
    done.set()
    print(f"  {calm:.2f} slots a second alone, {beside:.2f} beside {replayed:.0f} replayed events a second ({calm / max(beside, 0.01):.1f} x)")
    return []
