"""Connections that come by the hundred or all at once, and what they cost those that are there already."""

from . import measure
from .servers import Load
from .stats import ratio

# The topic of the clients that only connect. Nobody publishes to it.
ELSEWHERE = "elsewhere"
# So many of them are in their handshake at a time. The device has a limit of its own, 4,096, beyond which it lets go of
# some, and has less to do than others then.
HANDSHAKES = 4000


def storm(server, load, seconds, rate=100, churn=200, live_ms=300):
    """Connections come and go, in every way clients leave, while the others are published to."""
    calm = measure.steady(server, load, rate, seconds)
    count = int(rate * seconds)
    stream = load.expect(count, max_seconds=seconds + 30)
    load.send(cmd="churn", rate=churn, live_ms=live_ms, seconds=seconds)
    cpu = server.cpu_seconds()
    done = server.ask(seconds + 30, cmd="steady", topic="t", rate=rate, seconds=seconds, size=200, stream=stream)
    result = load.result(seconds + 40)
    result |= {"cpu": server.cpu_seconds() - cpu, "done": done}
    figures = measure.steady_figures(result)
    tally, churned = figures["storm"], figures["churned"]
    return {
        "p99_calm_ms": calm["p99_ms"], "p99_ms": figures["p99_ms"], "cpu_calm": calm["cpu"], "cpu": figures["cpu"],
        "opened": tally["opened"], "failed": tally["failed"], "storm_lost": tally["lost"],
        "storm_deliveries": churned["deliveries"], "storm_reordered": churned["reordered"],
        **{fault: figures[fault] for fault in measure.FAULTS},
    }


def connects(server, load, count, seconds, rate=100):
    """Thousands of connections come at once and stay, while the others are published to."""
    calm = measure.steady(server, load, rate, seconds)
    stream = load.expect(int(rate * seconds), max_seconds=seconds + 60, idle_seconds=10)
    cpu = server.cpu_seconds()
    server.send(cmd="steady", topic="t", rate=rate, seconds=seconds, size=200, stream=stream)
    # They are under way as soon as their client is.
    with Load(server, count, ELSEWHERE, inflight=min(count, HANDSHAKES)) as crowd:
        done = server.wait("done", seconds + 60)
        result = load.result(seconds + 70)
        came_ms = crowd.connect_ms
    result |= {"cpu": server.cpu_seconds() - cpu, "done": done}
    figures = measure.steady_figures(result)
    return {
        "p99_calm_ms": calm["p99_ms"], "p99_ms": figures["p99_ms"], "max_calm_ms": calm["max_ms"], "max_ms": figures["max_ms"],
        "p99_ratio": ratio(figures["p99_ms"], calm["p99_ms"]), "came_ms": came_ms, "conns": count,
        **{fault: figures[fault] + calm[fault] for fault in measure.FAULTS},
    }
