"""Servers that are fed over the network: nats-server, and nginx with Nchan. Each runs beside the process that feeds it."""

import glob
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path

from . import prepare
from .procs import Failure, cpu_seconds, memory_bytes

NATS, NCHAN = "nats", "nchan"


class Broker:
    """A running one: `port` is where clients connect, `feed` where messages are published."""

    def __init__(self, name, ready):
        # Its files are its own, and gone with it.
        self._folder = tempfile.TemporaryDirectory(prefix=f"{name}-", dir=prepare.CACHE)
        self._log = open(prepare.LOGS / f"{name}-server.log", "ab")
        self._process = None
        try:
            if name == NATS:
                self._nats(ready)
            else:
                self._nchan(ready)
        except BaseException:
            self.close()
            raise

    def _start(self, command, env=None, pass_fds=()):
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, cwd=self._folder.name,
            env=env, pass_fds=pass_fds)

    def _nats(self, ready):
        self._start([str(ready.nats), "-c", str(prepare.BENCH / "peers/nats/server.conf")])
        ports = json.loads(self._file("*.ports"))
        address = lambda kind: urllib.parse.urlsplit(ports[kind][0])
        self.port = address("websocket").port
        self.feed = f"127.0.0.1:{address('nats').port}"

    def _file(self, pattern):
        """What the server writes once it listens."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for path in glob.glob(os.path.join(self._folder.name, pattern)):
                # It is renamed into place, or whole soon.
                if text := Path(path).read_text("utf-8"):
                    return text
            if self._process.poll() is not None:
                break
            time.sleep(0.01)
        raise Failure(f"does not listen, see {self._log.name}")

    def _nchan(self, ready):
        # A port that nobody else can take meanwhile: nginx inherits the socket, as from one of itself that it replaces.
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(4096)
            self.port = listener.getsockname()[1]
            text = (prepare.BENCH / "peers/nchan/nginx.conf").read_text("utf-8")
            text = text.replace("{MODULE}", str(ready.nchan)).replace("{PORT}", str(self.port))
            config = Path(self._folder.name, "nginx.conf")
            config.write_text(text, "utf-8")
            env = dict(os.environ, NGINX=f"{listener.fileno()};")
            self._start([ready.nginx, "-p", self._folder.name, "-c", str(config)], env, [listener.fileno()])
        # Who connects before nginx accepts waits in the socket's queue.
        self.feed = f"127.0.0.1:{self.port}"

    def _pids(self):
        """The process, and those that it has started: nginx serves in one of its own."""
        pid = self._process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())]

    def cpu_seconds(self):
        return sum(map(cpu_seconds, self._pids()))

    def memory_bytes(self):
        return sum(map(memory_bytes, self._pids()))

    def close(self):
        if self._process:
            # It ends what it has started.
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
        self._log.close()
        self._folder.cleanup()
