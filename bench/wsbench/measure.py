"""The measurements: each takes running servers or starts its own, and gives a flat dict of figures."""

import time

from .procs import Failure
from .servers import Load, Server
from .stats import interval_of_median, median, paired_ratios, ratio

MIB = 1 << 20
MOST_BURSTS = 10
# What counts as an error in every measurement without slow clients.
FAULTS = ("lost", "duplicated", "reordered", "closed")


def _phase(server, load, per_conn, command, streams=1, seconds=60):
    """One armed publication: the client's result with the CPU that server and client used for it."""
    stream = load.expect(per_conn, streams, seconds)
    server_cpu, load_cpu = server.cpu_seconds(), load.cpu_seconds()
    done = server.ask(seconds, **command, stream=stream)
    result = load.result(seconds + 10)
    result["cpu"] = server.cpu_seconds() - server_cpu
    result["load_cpu"] = load.cpu_seconds() - load_cpu
    result["done"] = done
    return result


def faults(results):
    """How often what must not happen has."""
    return {name: sum(result[name] for result in results) for name in FAULTS}


def _bursts(server, load, per_conn, command, seconds=1.0, streams=1):
    """The same burst again and again until it has been measured for long enough."""
    # The first touches memory that later ones use again, in the server and in the kernel. Servers that need seconds for
    # a burst touch it with a part of one.
    part = max(1, per_conn // streams // 10)
    counted = next(key for key in ("count", "per_topic") if key in command)
    warm = [_phase(server, load, part * streams, {**command, counted: part}, streams)]
    if warm[0]["elapsed_ns"] < 2e8:
        warm.append(_phase(server, load, per_conn, command, streams))
    results, spent = [], 0.0
    while len(results) < MOST_BURSTS and (spent < seconds or not results):
        result = _phase(server, load, per_conn, command, streams)
        if not result["deliveries"]:
            raise Failure(f"{server.name}: nothing arrived")
        results.append(result)
        spent += result["elapsed_ns"] / 1e9
    deliveries = sum(result["deliveries"] for result in results)
    return {
        "rate": median([result["deliveries"] / result["elapsed_ns"] * 1e9 for result in results]),
        "cpu": sum(result["cpu"] for result in results) / deliveries * 1e6,
        "load_cpu": sum(result["load_cpu"] for result in results) / deliveries * 1e6,
        "p50_ms": median([result["latency_ns"]["p50"] / 1e6 for result in results]),
        "p99_ms": median([result["latency_ns"]["p99"] / 1e6 for result in results]),
        "publish_ns": median([result["done"]["publish_ns"] / result["done"]["count"] for result in results]),
        "bursts": len(results),
        "deliveries": deliveries,
        **faults([*warm, *results]),
    }


def burst(server, load, count, size=200, seconds=1.0):
    command = {"cmd": "burst", "topic": "t", "count": count, "size": size}
    figures = _bursts(server, load, count, command, seconds)
    figures["mb_per_second"] = figures["rate"] * size / 1e6
    return figures


def measuring(server, load, pairs, count=500, size=200):
    """The same burst with and without measuring, in pairs in the same server, so that only this differs."""
    command = {"cmd": "burst", "topic": "t", "count": count, "size": size}
    results = {True: [], False: []}
    for _ in range(5):
        _phase(server, load, count, command)
    for number in range(pairs):
        # Which of them comes first changes, as the second may find something warmer.
        for is_on in (True, False) if number % 2 else (False, True):
            server.ask(10, cmd="measure", on=is_on)
            result = _phase(server, load, count, command)
            result["rate"] = result["deliveries"] / result["elapsed_ns"]
            results[is_on].append(result)
    figures = {"pairs": pairs, **faults(results[True] + results[False])}
    for name in ("rate", "cpu"):
        ratios = paired_ratios(results[True], results[False], name)
        figures[f"{name}_ratio"] = median(ratios)
        figures[f"{name}_ratio_low"], figures[f"{name}_ratio_high"] = interval_of_median(ratios)
    return figures


def asked(server, other, load, asker, rounds, count=500, size=200):
    """The same burst in peace, while a client asks this server for `/info` in a loop, and while it asks another server.

    The last is the floor: the client and an answering server need the same processors then, whatever this server does.
    """
    command = {"cmd": "burst", "topic": "t", "count": count, "size": size}
    ports = {"peace": None, "asked": server.port, "elsewhere": other.port}
    rates, answers, results = {kind: [] for kind in ports}, {"asked": 0, "elsewhere": 0}, []
    for _ in range(5):
        results.append(_phase(server, load, count, command))
    order = list(ports)
    for _ in range(rounds):
        order = order[1:] + order[:1]
        for kind in order:
            if ports[kind]:
                asker.send(cmd="ask", port=ports[kind])
            results.append(_phase(server, load, count, command))
            rates[kind].append({"rate": results[-1]["deliveries"] / results[-1]["elapsed_ns"]})
            if ports[kind]:
                asker.send(cmd="stop")
                answers[kind] += asker.wait("done", 40)["answers"]
    figures = {"rounds": rounds, **{f"{kind}_answers": number for kind, number in answers.items()}, **faults(results)}
    for kind in answers:
        ratios = paired_ratios(rates[kind], rates["peace"], "rate")
        figures[f"{kind}_ratio"] = median(ratios)
        figures[f"{kind}_low"], figures[f"{kind}_high"] = interval_of_median(ratios)
    return figures


def topics_burst(server, load, topics, per_topic, size=200, seconds=1.0, **more):
    """Every topic in turn; a connection holds every conns-th topic, each a stream of its own."""
    streams = max(1, topics // load.conns)
    command = {"cmd": "topics_burst", "topics": topics, "per_topic": per_topic, "size": size, "stride": load.conns}
    return _bursts(server, load, per_topic * streams, {**command, **more}, seconds, streams)


def choices(server, load, topics):
    """Every topic in turn, of which the connections have a tenth, by name or by something that must be matched."""
    command = {"cmd": "topics_burst", "topics": topics, "per_topic": 10, "size": 200, "stride": topics}
    return _bursts(server, load, 10, command, 0.5)


def steady(server, load, rate, seconds, size=200, **more):
    """Messages at a fixed pace, after a second of the same to warm up."""
    command = {"cmd": "steady", "topic": "t", "rate": rate, "size": size}
    _phase(server, load, rate, {**command, "seconds": 1})
    result = _phase(server, load, int(rate * seconds), {**command, "seconds": seconds, **more}, seconds=seconds + 30)
    return steady_figures(result)


def steady_figures(result):
    latency = result["latency_ns"]
    return {
        "p50_ms": latency["p50"] / 1e6,
        "p99_ms": latency["p99"] / 1e6,
        "max_ms": latency["max"] / 1e6,
        "cpu": result["cpu"] / max(1, result["deliveries"]) * 1e6,
        "deliveries": result["deliveries"],
        "done": result["done"],
        "storm": result["storm"],
        "churned": result["churned"],
        **faults([result]),
    }


def idle_memory(server, conns, topic="t"):
    """Resident memory per idle connection; leaves the client connected."""
    with Load(server, 100, topic):
        pass  # what the first connections make the server allocate once
    time.sleep(0.5)
    before = server.memory_bytes()
    load = Load(server, conns, topic)
    time.sleep(1.5)
    return load, {"bytes": (server.memory_bytes() - before) / conns, "connect_ms": load.connect_ms, "conns": conns}


def slow_readers(name, ready, seconds, conns=1000, slow=10, rate=100, size=4096):
    """The same steady run without and with some clients that never read, on a server of its own each."""
    figures = {}
    for label, stuck in (("without", 0), ("with", slow)):
        with Server(name, ready) as server, Load(server, conns - slow, slow=stuck) as load:
            before = server.memory_bytes()
            run = steady(server, load, rate, seconds, size)
            grown = server.memory_bytes() - before
            figures |= {f"p99_{label}_ms": run["p99_ms"], f"p50_{label}_ms": run["p50_ms"], f"grown_{label}_mb": grown / MIB}
            figures |= {f"{fault}_{label}": run[fault] for fault in FAULTS}
    figures["p99_ratio"] = figures["p99_with_ms"] / max(figures["p99_without_ms"], 1e-6)
    figures["grown_mb"] = figures["grown_with_mb"] - figures["grown_without_mb"]
    return figures


def overlapping(server, topics, conns=1000, each=3, count=100, size=200):
    """Messages with many topics at once, subscribers of several of them: one frame each."""
    each = min(each, topics)
    with Load(server, conns, f"{{over:{each}:{topics}}}") as load:
        command = {"cmd": "multi_burst", "topics": topics, "count": count, "size": size}
        return _bursts(server, load, count, command)


def ping_pong(server, load, seconds, rate=100):
    """Round trips of a pair of processes, with nothing going on and while messages go out."""
    quiet = server.ask(seconds + 20, cmd="ping_pong", seconds=seconds)["ping_pong"]
    busy = steady(server, load, rate, seconds, ping_pong=True)
    during = busy["done"]["ping_pong"]
    return {
        **{f"quiet_{key}_us": quiet[key] / 1e3 for key in ("p50", "p99", "max")},
        **{f"busy_{key}_us": during[key] / 1e3 for key in ("p50", "p99", "max")},
        "p99_ratio": ratio(during["p99"], quiet["p99"]),
    }
