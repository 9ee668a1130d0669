#!/usr/bin/env python3
"""Bursts and a steady stream to many subscribers, compressed and plain in turn in one VM: bytes, CPU of the VM, deliveries.

The subscribers read and drop all bytes, in a process of their own. usage: bench/compression.py [subscribers] [rounds]
"""

import multiprocessing
import os
import selectors
import socket
import statistics
import sys
import time
from urllib.parse import urlsplit

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "test/e2e"))

from support.raw import head  # noqa: E402
from support.vm import Vm  # noqa: E402

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
BURST, STEADY_RATE, STEADY_SECONDS = 2000, 200, 5
# The data of the messages: with the fields around it, frames have about 280 bytes and 1 KB.
SIZES = {"280 B": 5, "1 KB": 33}
VALUE = '<<"price ", (integer_to_binary(erlang:phash2({N, I})))/binary, " of pair ", (integer_to_binary(I))/binary>>'


def subscribe(uri, count, is_compressed, ready, stop):
    """Connects subscribers, and reads until it is told to stop."""
    url = urlsplit(uri)
    selector = selectors.EpollSelector()
    request = head(url.netloc, "/ws?topic=bench", **(OFFER if is_compressed else {}))
    for _ in range(count):
        one = socket.create_connection((url.hostname, url.port))
        one.sendall(request)
        assert one.recv(12) == b"HTTP/1.1 101"
        one.setblocking(False)
        selector.register(one, selectors.EVENT_READ)
    ready.set()
    buffer = bytearray(1 << 20)
    while not stop.is_set():
        for key, _ in selector.select(0.2):
            try:
                key.fileobj.recv_into(buffer)
            except BlockingIOError:
                pass


def cpu(vm):
    """Seconds of CPU that the VM has taken."""
    with open(f"/proc/{vm.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cast(count, values, pause):
    message = f'#{{<<"topic">> => <<"bench">>, <<"number">> => N, <<"values">> => [{VALUE} || I <- lists:seq(1, {values})]}}'
    return f"begin [begin dev_websocket:cast({message}, #{{}}), {pause} end || N <- lists:seq(1, {count})], ok end"


def measure(vm, subscribers, is_compressed, values, count, pause):
    ready, stop = multiprocessing.Event(), multiprocessing.Event()
    reader = multiprocessing.Process(target=subscribe, args=(vm.uri(), subscribers, is_compressed, ready, stop))
    reader.start()
    ready.wait(60)
    vm.await_connections(subscribers)
    before, cpu_before, start = vm.stats(), cpu(vm), time.monotonic()
    vm.eval(cast(count, values, pause), 120)
    expected = before["deliveries_expected"] + count * subscribers
    done = 'maps:get(<<"deliveries">>, S) + maps:get(<<"dropped_slow">>, S)'
    vm.settle(f"maps:get(<<\"deliveries_expected\">>, S) >= {expected} andalso {done} >= {expected}")
    seconds, used, after = time.monotonic() - start, cpu(vm) - cpu_before, vm.stats()
    stop.set()
    reader.join()
    vm.await_connections(0)
    delta = {name: after[name] - before[name] for name in ("bytes_sent", "deliveries", "dropped_slow", "compressed", "compression_skipped")}
    return {"seconds": seconds, "cpu": used} | delta


def main(subscribers=1000, rounds=3):
    vm = Vm(compression="shared", send_buffer_bytes=1 << 28, publish_queue_bytes=1 << 30)
    vm.pid = int(vm.eval("list_to_integer(os:getpid())"))
    steady = (STEADY_RATE * STEADY_SECONDS, f"timer:sleep({1000 // STEADY_RATE})")
    for load, (count, pause) in {"burst": (BURST, "ok"), "steady": steady}.items():
        for size, values in SIZES.items():
            found = {True: [], False: []}
            for _ in range(rounds):
                for is_compressed in (False, True):
                    found[is_compressed].append(measure(vm, subscribers, is_compressed, values, count, pause))
            for is_compressed, all_of in found.items():
                of = {name: statistics.median(one[name] for one in all_of) for name in all_of[0]}
                kind = "compressed" if is_compressed else "plain"
                each = of["bytes_sent"] / max(of["deliveries"], 1)
                print(
                    f"{load} {size} {kind}: {of['bytes_sent'] / 1e6:.1f} MB, {each:.0f} B each, {of['cpu']:.2f} s CPU, {of['seconds']:.2f} s, "
                    f"{of['deliveries']:.0f} delivered, {of['dropped_slow']:.0f} dropped, {of['compressed']:.0f} compressed, "
                    f"{of['compression_skipped']:.0f} skipped",
                    flush=True,
                )
            ratio = statistics.median(two["cpu"] / one["cpu"] for one, two in zip(found[False], found[True]))
            print(f"{load} {size}: compressed takes {ratio:.2f} of the CPU of plain", flush=True)
    vm.close()


main(*(int(argument) for argument in sys.argv[1:]))
