"""Serves a page of this repository to a browser, hands it commands and takes its events."""

import asyncio
import functools
import http.server
import json
import queue
import threading

from .vm import ROOT


class PageServer:
    """`/start` and `/command` are what the page asks, `/event` is what it tells. `happened` is called in the event loop."""

    def __init__(self, start, happened):
        self.start = start
        self.commands = queue.Queue()
        loop = asyncio.get_running_loop()
        self.tell = lambda event: loop.call_soon_threadsafe(functools.partial(happened, **event))
        handler = type("Handler", (_Handler,), {"page": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=ROOT))
        # A page that still asks for a command does not keep the tests from ending.
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def uri(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def close(self):
        # The thread that waits for a command for the page gets one that nobody reads.
        self.commands.put(None)
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    page = None

    def do_GET(self):
        if self.path == "/start":
            self._answer(self.page.start)
        elif self.path == "/command":
            self._answer(self.page.commands.get())
        else:
            super().do_GET()

    def do_POST(self):
        self.page.tell(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(None)

    def _answer(self, value):
        body = json.dumps(value).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            pass  # The browser is gone.

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass
