"""The servers: how each is started, and what it can do."""

import os
import shlex
import sys

from . import prepare
from .brokers import NATS, NCHAN, Broker
from .procs import Child, Failure

LABELS = {
    "floor-write": "floor-write",
    "floor-coalesce": "floor-coalesce",
    "uws": "uWebSockets (C++), fed from another thread",
    "axum": "axum + one broadcast channel per topic",
    "cowboy-pg": "cowboy + pg, spawn per cast",
    "cowboy-ets": "cowboy + ETS, caller sends",
    "nats": "nats-server, fed over TCP",
    "nchan": "nginx with Nchan, fed over HTTP",
    "node": "Node's ws, frames made once",
    "device": "dev_websocket",
    "device-raw": "dev_websocket (format=raw)",
    "device-tls": "dev_websocket over its own TLS",
}
ALL = list(LABELS)
ERLANG = ("cowboy-pg", "cowboy-ets", "device")
# Its clients get the bare payload, as those of peers and floors do.
RAW = "device-raw"
# Measured beside "device" only, in a scenario of its own.
TLS = "device-tls"


def _erl(ready, *start):
    """The VM as it comes, but with room for the connections; BENCH_ERL_FLAGS adds to all VMs alike. The modules that
    stand in for a node are there when something has built them; the VM loads them only when it is told to."""
    folders = [prepare.EBIN, prepare.DEVICE_EBIN, prepare.STAND_IN_EBIN, *ready.cowboy_ebins]
    paths = [part for folder in folders for part in ("-pa", str(folder))]
    flags = shlex.split(os.environ.get("BENCH_ERL_FLAGS", ""))
    return ["erl", "-noshell", "+P", "1048576", "+Q", "65536", *flags, *paths, *start]


def _command(name, ready, channel, settings):
    match name:
        case "floor-write" | "floor-coalesce":
            return [str(prepare.FLOOR), "--mode", name.removeprefix("floor-")]
        case "uws":
            return [str(prepare.UWS), str(ready.uws_library)]
        case "axum":
            return [str(prepare.AXUM), str(channel)]
        case "cowboy-pg" | "cowboy-ets":
            return _erl(ready, "-s", "bench_cowboy", "main", name.removeprefix("cowboy-"))
        case "node":
            return ["node", str(prepare.BENCH / "peers/node/server.mjs"), str(ready.node)]
        case "device" | "device-raw" | "device-tls":
            return _erl(ready, "-s", "bench_device", "main", *(f"{key}={value}" for key, value in settings.items()))
    raise Failure(f"no server {name}")


def available(name, ready):
    return {
        "uws": bool(ready.uws_library),
        "axum": ready.axum,
        "cowboy-pg": bool(ready.cowboy_ebins) and "erlang" not in ready.skipped,
        "cowboy-ets": bool(ready.cowboy_ebins) and "erlang" not in ready.skipped,
        "device": ready.device and "erlang" not in ready.skipped,
        NATS: bool(ready.nats),
        NCHAN: bool(ready.nchan),
        "node": bool(ready.node),
        RAW: ready.device and "erlang" not in ready.skipped,
        TLS: ready.device and ready.tls and "erlang" not in ready.skipped,
    }.get(name, True)


class Server(Child):
    """A running server. `channel` is the capacity of axum's channels, `settings` are dev_websocket:start/1's."""

    def __init__(self, name, ready, channel=1024, settings=None):
        env = dict(os.environ, DEV_WEBSOCKET_PORT="0")
        if ready.uws_path:
            env["LD_LIBRARY_PATH"] = str(ready.uws_path)
        settings = dict(settings or {})
        if name == TLS:
            settings |= {"tls_cert": prepare.CERTIFICATE, "tls_key": prepare.KEY}
        self._broker = Broker(name, ready) if name in (NATS, NCHAN) else None
        if self._broker:
            command = [str(prepare.FEEDER), name, self._broker.feed]
        else:
            command = _command(name, ready, channel, settings)
        super().__init__(name, command, prepare.LOGS, env, prepare.CACHE)
        try:
            port = self.wait("ready", 30)["port"]
            self.port = self._broker.port if self._broker else port
        except Failure:
            self.close()
            raise

    def cpu_seconds(self):
        """Of a server with a process that feeds it both together, as other servers' publishers are counted."""
        return super().cpu_seconds() + (self._broker.cpu_seconds() if self._broker else 0)

    def memory_bytes(self):
        return self._broker.memory_bytes() if self._broker else super().memory_bytes()

    def close(self):
        super().close()
        if self._broker:
            self._broker.close()


class Asker(Child):
    """A client that asks a server for `/info` in a loop, when it is told to."""

    def __init__(self):
        super().__init__("asker", [sys.executable, "-m", "wsbench.asker"], prepare.LOGS, cwd=prepare.BENCH)
        self.wait("ready", 30)


class Load(Child):
    """The load client, connected and subscribed."""

    def __init__(self, server, conns, topic="t", slow=0, inflight=256):
        scheme = "wss" if server.name == TLS else "ws"
        url = f"{scheme}://127.0.0.1:{server.port}/ws?topic={topic}"
        command = [str(prepare.LOAD), "--url", url, "--conns", str(conns), "--slow", str(slow)]
        command += ["--inflight", str(inflight), "--connect-seconds", "60"]
        if server.name == RAW:
            command[2] += "&format=raw"
        if server.name in (RAW, NCHAN):
            # The server answers the request once the subscription stands; no frame says so.
            command += ["--welcome", "false"]
        if server.name == NATS:
            command += ["--protocol", "nats"]
        if server.name == TLS:
            command += ["--trust", str(prepare.CERTIFICATE)]
        super().__init__("load", command, prepare.LOGS)
        self.conns = conns
        self._stream = 0
        try:
            connected = self.wait("connected", 70)
            self.connect_ms = connected["ms"]
            if connected["failed"]:
                raise Failure(f"{server.name}: {connected['failed']} of {conns + slow} connections failed")
        except Failure:
            self.close()
            raise

    def expect(self, per_conn, streams=1, max_seconds=60, idle_seconds=3):
        """Arms the client; gives the number of the first stream, which the publisher must use."""
        first = self._stream
        self._stream = (self._stream + streams) % 50_000
        self.send(cmd="expect", per_conn=per_conn, stream=first, streams=streams,
                  max_ms=int(max_seconds * 1000), idle_ms=int(idle_seconds * 1000))
        self.wait("armed", 10)
        return first

    def result(self, timeout):
        return self.wait("result", timeout)

    def stop(self):
        self.send(cmd="stop")
        return self.wait("result", 10)
