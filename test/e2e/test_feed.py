"""The example feed: what `make run` and `make watch` do."""

import json
import os
import queue
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from support.clients import PythonClient
from support.vm import ROOT, environment

DEADLINE = 60
FEED = os.path.join(ROOT, "examples/feed")


class Lines:
    """The lines that a process prints, as they come."""

    def __init__(self, process):
        self.process = process
        self.lines = queue.Queue()
        self.seen = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def next(self, deadline):
        # The feed goes on to say how it goes, so a line that never comes is not told by silence.
        try:
            return self.lines.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def until(self, pattern):
        """The match of the next line that has the pattern."""
        deadline = time.monotonic() + DEADLINE
        while (line := self.next(deadline)) is not None:
            self.seen.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line has {pattern!r}: {self.seen}")


class Feed(unittest.IsolatedAsyncioTestCase):
    def start(self, script, **settings):
        variables = {name: settings.pop(name) for name in ("URI", "TOPIC") if name in settings}
        process = subprocess.Popen(
            [os.path.join(FEED, script)],
            env=environment(**settings) | variables | {"FEED_OUT": self.out},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Shells start background jobs with Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # pylint: disable=subprocess-popen-preexec-fn
        )
        self.addCleanup(self.end, process)
        return process, Lines(process)

    def end(self, process, number=signal.SIGTERM):
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            process.stdout.close()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = folder.name

    async def test_subscribers_get_the_recorded_results(self):
        _, lines = self.start("run")
        uri = lines.until(r"^  (ws://127\.0\.0\.1:\d+/ws)$")[1]
        page = lines.until(r"^Open (http://\S+/)$")[1]
        self.assertEqual(page, uri.replace("ws://", "http://").removesuffix("ws"))
        lines.until("^  prices$")
        lines.until(re.escape(f"python3 -m websockets '{uri}?topic=prices'"))
        client = await PythonClient.connect(f"{uri}?topic=prices,results")
        self.assertEqual((await client.frame())["type"], "connection_established")
        prices, counts = [], []
        while len(prices) < 2 or len(counts) < 2:
            frame = await client.message()
            data = frame["data"]
            if frame["topic"] == "prices":
                self.assertEqual((data["Action"], data["Symbol"]), ("Price-Update", "AR"))
                self.assertIn("action:Price-Update", frame["topics"])
                prices.append(float(data["Price"]))
            elif data["output"].get("body", "").startswith("count="):
                counts.append((data["slot"], data["output"]["body"]))
        self.assertLess(counts[0], counts[1])
        await client.close()

    async def test_sigterm_and_ctrl_c_end_it_in_order(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            process, lines = self.start("run")
            uri = lines.until(r"^  (ws://\S+)$")[1]
            lines.until("Ctrl-C")
            client = await PythonClient.connect(uri)
            await client.frame()
            process.send_signal(number)
            self.assertEqual((await client.closed())[0], 1001)
            self.assertIn(self.end(process), (0, 143))
            with socket.socket() as port:
                # Connections that the server closed linger in the system for a while; servers listen all the same.
                port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                port.bind(("127.0.0.1", int(re.search(r":(\d+)/", uri)[1])))
                port.listen()

    async def test_a_taken_port_is_told_in_one_line_and_another_is_used(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            _, lines = self.start("run", port=port)
            uri = lines.until(r"^  (ws://\S+)$")[1]
            told = [line for line in lines.seen if str(port) in line]
            self.assertEqual(told, [f"Cannot listen on 127.0.0.1:{port} (eaddrinuse), so this feed uses another port."])
            client = await PythonClient.connect(uri)
            await client.frame()
            await client.close()

    async def test_watch_prints_each_frame_as_a_line(self):
        _, lines = self.start("run")
        uri = lines.until(r"^  (ws://\S+)$")[1]
        watch, watched = self.start("watch", URI=uri, TOPIC="prices")
        watched.until(re.escape(f"watching {uri}?topic=prices"))
        first = json.loads(watched.until(r"^\{")[0] and watched.seen[-1])
        self.assertEqual(first["subscribed_topics"], ["prices"])
        message = json.loads(watched.until(r"^\{")[0] and watched.seen[-1])
        self.assertEqual((message["type"], message["topic"]), ("message", "prices"))
        self.assertEqual(self.end(watch), 0)

    async def test_watch_says_when_nothing_answers(self):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            uri = f"ws://127.0.0.1:{nobody.getsockname()[1]}/ws"
            watch, watched = self.start("watch", URI=uri)
            watched.until(re.escape(f"nothing answers at {uri}"))
            self.assertEqual(watch.wait(DEADLINE), 1)
