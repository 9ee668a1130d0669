#!/usr/bin/env python3
"""Three nodes that share a stream, beside one node without: latency, CPU, and the cost of a cast.

Needs a library with the engine (`DEV_WEBSOCKET_FEATURES=nats make build`) and a nats-server, see docs/CLUSTER.md. Prints a
table, and how busy the machine was.

usage: bench/cluster.py [--clients 1000] [--rate 1000] [--seconds 10] [--nodes 3]
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from wsbench import machine, prepare
from wsbench.procs import Failure, cpu_seconds, raise_file_limit
from wsbench.servers import Load, Server

SIZE = 200
FAULTS = ("lost", "duplicated", "reordered", "closed")


def options():
    parser = argparse.ArgumentParser(description="The cost of a stream that several nodes share.")
    parser.add_argument("--clients", type=int, default=1000, help="of each node")
    parser.add_argument("--rate", type=int, default=1000, help="messages a second")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=3)
    return parser.parse_args()


class Engine:
    """A nats-server with its store in a folder of its own."""

    def __init__(self):
        program = subprocess.check_output([prepare.ROOT / "examples/cluster/nats-server"], encoding="utf-8").strip()
        self.folder = tempfile.TemporaryDirectory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{port}"
        command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", self.folder.name, "-l", f"{self.folder.name}/log"]
        self.process = subprocess.Popen(command)
        deadline = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), 1):
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def await_stat(server, name, value):
    """Waits until a node says so."""
    deadline = time.monotonic() + 60
    while server.ask(10, cmd="stats")["stats"][name] != value:
        if time.monotonic() > deadline:
            raise Failure(f"{server.name}: {name} never was {value}")
        time.sleep(0.05)


def steady(nodes, loads, opts, engine=None):
    """Messages at a fixed pace from the first node to the clients of all. Gives a row of the table."""
    for seconds in (1, opts.seconds):
        count = opts.rate * seconds
        streams = {load.expect(count, 1, seconds + 30) for load in loads}
        before = [node.cpu_seconds() for node in nodes]
        of_engine = engine.cpu() if engine else 0
        begun = time.monotonic()
        nodes[0].ask(seconds + 60, cmd="steady", topic="t", rate=opts.rate, size=SIZE, seconds=seconds, stream=streams.pop())
        results = [load.result(seconds + 60) for load in loads]
        passed = time.monotonic() - begun
    faults = {name: sum(result[name] for result in results) for name in FAULTS}
    if any(faults.values()):
        raise Failure(f"faults: {faults}")
    cores = [(node.cpu_seconds() - cpu) / passed for node, cpu in zip(nodes, before)]
    latency = [[result["latency_ns"][part] / 1e6 for part in ("p50", "p99")] for result in results]
    times = "; ".join(f"{p50:.2f} and {p99:.1f}" for p50, p99 in latency)
    share = f"{(engine.cpu() - of_engine) / passed:.2f}" if engine else ""
    return f"{times} | {', '.join(f'{core:.2f}' for core in cores)} | {share} |"


def casts(node):
    """What a cast costs its caller, in nanoseconds, and the floor beside it. No client gets these messages."""
    answer = node.ask(60, cmd="cast_cost", topic="elsewhere", size=SIZE, kinds="topic,spawn", burst=1, pause_ms=1, train=50,
                      rest_ms=20, seconds=5)
    return {kind: (cost["p50"], cost["p99"]) for kind, cost in answer["costs"].items()}


def cost_row(name, costs):
    (p50, p99), (floor50, floor99) = costs["topic"], costs["spawn"]
    print(f"| {name} | {p50 / 1000:.1f} and {p99 / 1000:.0f} | {floor50 / 1000:.1f} and {floor99 / 1000:.0f} |")


def main():
    opts = options()
    raise_file_limit()
    ready = prepare.prepare(["device"], lambda line: print(line, file=sys.stderr))
    quiet = machine.Quietness()
    engine = Engine()
    opened, costs = [engine], []
    try:
        print("| setting | p50 and p99 of each node, ms | CPU of each node, cores | CPU of the engine, cores |\n|---|---|---|---|")
        alone = Server("device", ready)
        load = Load(alone, opts.clients)
        opened += [alone, load]
        print("| one node, no engine |", steady([alone], [load], opts), flush=True)
        costs.append(("no engine", casts(alone)))
        opened.pop().close()
        opened.pop().close()
        shared = {"engine": engine.url, "engine_create": "true"}
        nodes = [Server("device", ready, settings=shared) for _ in range(opts.nodes)]
        opened += nodes
        for node in nodes:
            await_stat(node, "engine_present", 1)
        loads = [Load(node, opts.clients) for node in nodes]
        opened += loads
        print(f"| {opts.nodes} nodes, one engine |", steady(nodes, loads, opts, engine), flush=True)
        costs.append(("with an engine", casts(nodes[0])))
        engine.signal(signal.SIGSTOP)
        costs.append(("while it hangs", casts(nodes[0])))
        engine.signal(signal.SIGCONT)
        print("\n| a cast in its caller | p50 and p99, µs | a spawn beside it, µs |\n|---|---|---|")
        for name, cost in costs:
            cost_row(name, cost)
    finally:
        for part in reversed(opened):
            part.close()
    about = machine.describe(prepare.ROOT)
    print(f"\n{about['cores']} cores, {about['cpu']}, OTP {about['otp']}, {about['commit']}; {quiet.summary()}")


if __name__ == "__main__":
    os.chdir(prepare.ROOT)
    main()
