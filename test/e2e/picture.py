"""Makes the pictures of the live page in the documentation: the feed of `make run`, a minute after the page was opened, at a
desk and on phones, in light and dark; 500 long topics; a thousand messages a second; an operator; the slots of a process; and a
server that is gone.

usage: picture.py <folder>
They look as they do with Inter and JetBrains Mono on the machine (Debian: fonts-inter fonts-jetbrains-mono).
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile

from support.browser import Tab
from support.clients import PythonClient
from support.live_page import binary
from support.vm import ROOT, Vm, environment

# The picture of the README, and all others by their widths.
README = ("live-page", 1360, 850, 1.25)
DESK = (1440, 900, 1)
PHONES = ((390, 844, 1.5), (320, 640, 1.5))
# What the page looks back, and a little more.
MINUTE = 63


class Album:
    """The pictures of one tab."""

    def __init__(self, tab, folder):
        self.tab = tab
        self.folder = folder

    async def take(self, name, width, height, scale, scheme="light"):
        # All of them without movement, so that nothing is half there.
        await self.tab.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
        await self.tab.resize(width, height, scale, touch=width < 500)
        # What is measured is drawn again with the next message.
        await self.tab.eval("new Promise((drawn) => setTimeout(drawn, 600))")
        await self.tab.screenshot(os.path.join(self.folder, f"{name}.webp"))


async def feed(folder):
    """The feed of `make run`, at last without its server."""
    with tempfile.TemporaryDirectory() as out:
        process = subprocess.Popen(
            [os.path.join(ROOT, "examples/feed/run")],
            env=environment(port=8735) | {"FEED_OUT": out},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            page = await address(os.path.join(out, "uri"))
            async with Tab.open() as tab:
                await over_a_minute(Album(tab, folder), page)
                process.terminate()
                await tab.until("document.title.startsWith('Server gone')", "the title without a server")
                album = Album(tab, os.path.join(folder, "live-page"))
                await album.take("gone-1440", *DESK)
                await album.take("gone-320", *PHONES[1], "dark")
        finally:
            process.terminate()
            process.wait()


async def address(file):
    """Where the page is, once the feed has written down where it is itself."""
    while not os.path.exists(file):
        await asyncio.sleep(0.1)
    with open(file, encoding="utf-8") as uri:
        return uri.read().strip().replace("ws://127.0.0.1", "http://localhost").removesuffix("ws")


async def over_a_minute(album, page):
    tab = album.tab
    await tab.resize(*README[1:])
    await tab.prefer(prefers_color_scheme="light", prefers_reduced_motion="reduce")
    await tab.go(page)
    await asyncio.sleep(MINUTE)
    # A price in full, some rows below the newest.
    price = "#rows .message:nth-child(n+3):has([data-topic=prices])"
    await tab.until(f"document.querySelector({price!r}) && [...document.querySelectorAll('#rows li')].indexOf(document.querySelector({price!r})) < 5")
    await tab.eval(f"document.querySelector({price!r} + ' .line').click()")
    await tab.screenshot(os.path.join(album.folder, f"{README[0]}.png"))
    await tab.eval("document.querySelector('#rows [aria-expanded=true]').click()")
    album = Album(tab, os.path.join(album.folder, "live-page"))
    for width, height, scale in (DESK, *PHONES):
        for scheme in ("light", "dark"):
            await album.take(f"{width}-{scheme}", width, height, scale, scheme)


async def crowd(folder):
    """500 long topics, a thousand messages a second, and what an operator sees of them."""
    # An address of this machine that nobody else has, so the port stays free.
    with socket.create_server(("127.19.3.1", 0)) as free:
        port = free.getsockname()[1]
    vm = Vm(operator_host="127.19.3.1", operator_port=port)
    try:
        # The server starts when it is asked for.
        vm.uri()
        async with Tab.open() as tab:
            album = Album(tab, os.path.join(folder, "live-page"))
            await tab.resize(*DESK)
            await tab.go(f"http://127.19.3.1:{port}/")
            await tab.until("document.querySelector('#state').dataset.state === 'open'")
            vm.eval(
                'begin [dev_websocket:cast(#{<<"topic">> => <<"sensor/building-0/room-", (integer_to_binary(N))/binary, "/temperature">>, '
                '<<"degrees">> => 20 + N rem 7}, #{}) || N <- lists:seq(1, 500)], ok end'
            )
            await tab.until("document.querySelectorAll('#busiest .head').length > 5")
            await album.take("topics-1440", *DESK)
            await album.take("topics-320", *PHONES[1])
            await tab.resize(*DESK)
            vm.eval('e2e_vm:start_casting(<<"busy">>, 1000)')
            await tab.until("Number(document.querySelector('#rate').textContent.replaceAll(',', '')) > 900")
            await tab.point(await tab.middle("#rows li:nth-child(4) .preview"))
            await tab.until("document.querySelector('#stream').classList.contains('held')")
            await tab.click("#rows li:nth-child(4) .line")
            await album.take("busy-1440", *DESK, "dark")
            clients = [await PythonClient.connect(f"{vm.uri()}?topic={topics}") for topics in ("sensor/*", "prices,news", "action:Mint")]
            await tab.click("#show-connections")
            await tab.until("document.querySelectorAll('#connection-rows tr').length === 4")
            await album.take("operator-1440", *DESK)
            vm.eval("e2e_vm:stop_casting()")
            for client in clients:
                await client.close()
    finally:
        vm.close()


async def slots(folder):
    """The slots of a process, one of them open."""
    vm = Vm(tail_interval=20)
    try:
        page = vm.uri().replace("ws://", "http://").removesuffix("ws")
        vm.eval("e2e_node:start()")
        process = vm.eval("e2e_node:process()")
        for slot in range(13):
            event = json.dumps({"_e": 1, "Action": "Buy-Name", "Name": f"name-{slot}", "Price": 7 + slot})
            lines = "\n".join([f"{slot + 1} names are registered", *([event] if slot % 2 == 0 else [])])
            vm.eval(f'e2e_node:print(<<"{process}">>, {slot}, {binary(lines)})')
        async with Tab.open() as tab:
            await tab.resize(*DESK)
            await tab.go(f"{page}?process={process}&from-slot=0")
            await tab.until("document.querySelectorAll('#slots li').length === 13")
            await tab.click("#slots li:nth-child(3) .line")
            album = Album(tab, os.path.join(folder, "live-page"))
            await album.take("slots-1440", *DESK)
    finally:
        vm.close()


async def main(folder):
    os.makedirs(os.path.join(folder, "live-page"), exist_ok=True)
    await crowd(folder)
    await slots(folder)
    await feed(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
