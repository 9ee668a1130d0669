"""The dashboard and the bots of examples/, with the feed that `make run` starts."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from urllib.parse import quote

from support.browser import CHROMIUM, Tab
from support.installed import node_environment, python_environment
from support.vm import ROOT
from test_feed import FEED, Lines, environment

DEADLINE = 60
BOTS = os.path.join(ROOT, "examples/bots")
MOVED = r"^AR moved from (\S+) to (\S+)$"


class Examples(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        feed = self.start([os.path.join(FEED, "run")], env=environment() | {"FEED_OUT": self.folder})
        self.uri = feed.until(r"^  (ws://\S+/ws)$")[1]

    def start(self, command, **options):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait, DEADLINE)
        self.addCleanup(lambda: process.poll() is None and process.send_signal(signal.SIGTERM))
        return Lines(process)

    def check_bot(self, command, **options):
        """A price of the feed changes by less than a percent each time, so a bot for 0 percent tells each change."""
        file = os.path.join(self.folder, "cursor")
        bot = self.start([*command, self.uri, "0", file], **options)
        for _ in range(2):
            before, now = bot.until(MOVED).groups()
            self.assertNotEqual(float(before), 0)
            self.assertGreater(float(now), 0)
        bot.process.send_signal(signal.SIGTERM)
        bot.process.wait(DEADLINE)
        with open(file, encoding="utf-8") as stored:
            self.assertRegex(stored.read(), r"^[a-z0-9]{6}:\d+$")
        # It goes on at its cursor, so nothing is told as missed.
        again = self.start([*command, self.uri, "0", file], **options)
        again.until(MOVED)
        self.assertEqual([line for line in again.seen if not re.search(MOVED, line)], [])

    def test_the_bot_in_python(self):
        self.check_bot([python_environment(), os.path.join(BOTS, "alert.py")])

    def test_the_bot_in_node(self):
        # A module finds packages beside itself.
        folder = node_environment(None, "ws@8")
        with open(os.path.join(BOTS, "alert.mjs"), encoding="utf-8") as source, open(
            os.path.join(folder, "alert.mjs"), "w", encoding="utf-8"
        ) as copy:
            copy.write(source.read())
        self.check_bot(["node", os.path.join(folder, "alert.mjs")])

    @unittest.skipIf(CHROMIUM is None, "no chromium on PATH")
    async def test_the_dashboard_shows_the_prices_of_the_feed(self):
        async with Tab.open() as tab:
            page = os.path.join(ROOT, "examples/dashboard/index.html")
            await tab.go(f"file://{page}?ws={quote(self.uri)}")
            await tab.until("document.querySelector('td')?.textContent === 'AR'", "the symbol of the feed")
            await tab.until("document.querySelector('td:nth-child(3)')?.textContent", "a change of the price")


if __name__ == "__main__":
    unittest.main()
