"""Makes the picture of the live page in the documentation: the feed of `make run`, a minute after the page was opened.

usage: picture.py <file>
It looks as it does with Inter and JetBrains Mono on the machine (Debian: fonts-inter fonts-jetbrains-mono).
"""

import asyncio
import os
import subprocess
import sys
import tempfile

from support.browser import Tab
from support.vm import ROOT, environment

WIDTH, HEIGHT, SCALE = 1360, 850, 1.25
# What the page looks back, and a little more.
MINUTE = 63


async def main(path):
    with tempfile.TemporaryDirectory() as out:
        feed = subprocess.Popen(
            [os.path.join(ROOT, "examples/feed/run")],
            env=environment(port=8735) | {"FEED_OUT": out},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            await picture(await address(os.path.join(out, "uri")), path)
        finally:
            feed.terminate()
            feed.wait()


async def address(file):
    """Where the page is, once the feed has written down where it is itself."""
    while not os.path.exists(file):
        await asyncio.sleep(0.1)
    with open(file, encoding="utf-8") as uri:
        return uri.read().strip().replace("ws://127.0.0.1", "http://localhost").removesuffix("ws")


async def picture(page, path):
    async with Tab.open() as tab:
        await tab.resize(WIDTH, HEIGHT, SCALE)
        await tab.prefer(prefers_color_scheme="light", prefers_reduced_motion="reduce")
        await tab.go(page)
        await asyncio.sleep(MINUTE)
        # A price in full, some rows below the newest.
        price = "#rows .message:nth-child(n+3):has([data-topic=prices])"
        await tab.until(f"document.querySelector({price!r}) && [...document.querySelectorAll('#rows li')].indexOf(document.querySelector({price!r})) < 5")
        await tab.eval(f"document.querySelector({price!r} + ' .line').click()")
        await tab.screenshot(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
