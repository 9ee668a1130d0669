"""The live page in a browser: what its tests have in common."""

import json
import unittest
from urllib.parse import urlsplit

from .browser import CHROMIUM, Tab
from .case import EngineTest

# What a browser itself says of a connection that could not be made.
NETWORK = ("WebSocket connection to", "Failed to load resource")

ROWS = "document.querySelectorAll('#rows .message')"
TEXTS = "[...document.querySelectorAll('#rows .preview')].map((row) => row.textContent)"
STATE = "document.querySelector('#state').dataset.state"


def text(selector):
    return f"document.querySelector({json.dumps(selector)}).textContent"


def binary(value):
    """A text or bytes as Erlang writes any bytes."""
    data = value if isinstance(value, bytes) else value.encode()
    return f"<<{','.join(map(str, data))}>>"


@unittest.skipIf(CHROMIUM is None, "no chromium on PATH")
class PageTest(EngineTest):
    """Each test has a server without what others published, and a tab."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        # Without what other tests published.
        self.assertEqual(self.vm.eval("begin dev_websocket:stop(), dev_websocket:start(#{port => 0}) end"), "ok")
        self.uri = self.vm.uri()
        self.page = self.uri.replace("ws://", "http://").removesuffix("ws")
        tab = Tab.open()
        self.tab = await tab.__aenter__()
        self.addAsyncCleanup(tab.__aexit__, None, None, None)
        # Nothing that a test does may reach another host.
        self.addAsyncCleanup(self.check_requests)

    async def check_requests(self):
        hosts = {urlsplit(url).netloc for url in self.tab.requests if not url.startswith(("data:", "blob:", "about:"))}
        self.assertLessEqual(hosts, {urlsplit(self.page).netloc})

    async def open(self, query="", page=None):
        await self.tab.go((page or self.page) + query)
        await self.tab.until(f"{STATE} === 'open'", "live")

    def no_complaints(self, *expected):
        complaints = [complaint for complaint in self.tab.complaints if not complaint.startswith(expected)]
        self.assertEqual(complaints, [])

    def cast(self, topic, data, **tags):
        pairs = {"topic": topic, "data": data, **tags}
        self.vm.cast("#{" + ",".join(f"{binary(key)} => {binary(value)}" for key, value in pairs.items()) + "}")

    async def until_shown(self, *datas):
        """Waits until the rows are messages of these data, the newest first."""
        await self.tab.until(f"JSON.stringify({TEXTS}.map((text) => /data: \"([^\"]*)\"/.exec(text)[1])) === {json.dumps(json.dumps(datas))}".replace(", ", ","))

    async def query(self):
        return await self.tab.eval("location.search")

    async def no_sideways(self):
        """Nothing is wider than the screen."""
        wide = await self.tab.eval(
            "[...document.querySelectorAll('section, div, p, pre, dl, ul, li, input, select, button:not(.chip)')]"
            ".filter((element) => element.getBoundingClientRect().right > innerWidth).map(({ tagName, id }) => `${tagName} ${id}`)"
        )
        self.assertEqual((await self.tab.eval("document.documentElement.scrollWidth - innerWidth"), wide), (0, []))

