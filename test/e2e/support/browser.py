"""A tab of headless Chromium, driven over the DevTools protocol."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import tempfile
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

DEADLINE = 30
CHROMIUM = shutil.which("chromium")

# Quiet: no calls home, no dialogs of a first start. As root there is no sandbox.
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
# Windows virtual key codes, by which the browser knows keys that write nothing.
KEYS = {"Enter": 13, "Escape": 27, " ": 32, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}
MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}


class PageError(Exception):
    """A script in the page raised."""


class Tab:
    """One page. `complaints` has what its console, its scripts and its policies had to say, `requests` every URL it asked for."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, width=1440, height=900, arguments=()):
        profile = tempfile.mkdtemp()
        process = await asyncio.create_subprocess_exec(
            CHROMIUM,
            *ARGUMENTS,
            *arguments,
            f"--user-data-dir={profile}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            tab = cls()
            await tab._attach(process)
            await tab.resize(width, height)
            yield tab
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), DEADLINE)
            # Processes of its own may still be writing there.
            shutil.rmtree(profile, ignore_errors=True)

    async def _attach(self, process):
        said = []
        while line := (await asyncio.wait_for(process.stderr.readline(), DEADLINE)).decode(errors="replace"):
            said.append(line)
            if line.startswith("DevTools listening on "):
                break
        else:
            raise AssertionError("Chromium does not start: " + "".join(said))
        # It goes on to write, and would stand still if nobody read.
        self.drain = asyncio.create_task(process.stderr.read())
        address = line.split()[-1].split("/")[2]
        targets = await asyncio.to_thread(_get_json, f"http://{address}/json/list")
        (page,) = [target for target in targets if target["type"] == "page"]
        self.socket = await connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None)
        self.numbers = itertools.count(1)
        self.answers = {}
        self.events = []
        self.complaints = []
        self.requests = []
        self.reader = asyncio.create_task(self._read())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.do(f"{domain}.enable")

    async def _read(self):
        # The browser says no goodbye when it is ended.
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._take(json.loads(await self.socket.recv()))

    def _take(self, message):
        if "id" in message:
            self.answers.pop(message["id"]).set_result(message)
            return
        method, params = message["method"], message["params"]
        for waiting in [waiting for waiting in self.events if waiting[0] == method and waiting[1](params)]:
            self.events.remove(waiting)
            waiting[2].set_result(params)
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str([value.get("value") for value in params["args"]]))
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(params["url"])

    async def do(self, method, **params):
        """One call of the protocol."""
        number = next(self.numbers)
        answer = self.answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        message = await asyncio.wait_for(answer, DEADLINE)
        if "error" in message:
            raise PageError(f"{method}: {message['error']}")
        return message["result"]

    def event(self, method, fits):
        """To be awaited: the next event of a kind that fits."""
        happened = asyncio.get_running_loop().create_future()
        self.events.append((method, fits, happened))
        return asyncio.wait_for(happened, DEADLINE)

    async def go(self, url):
        await self.do("Page.navigate", url=url)

    async def eval(self, script):
        """The value of a JavaScript expression in the page."""
        result = await self.do(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
            allowUnsafeEvalBlockedByCSP=False,
        )
        if "exceptionDetails" in result:
            raise PageError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    async def until(self, script, what=None):
        """Waits until an expression of the page is true, and gives its value. It is asked with each frame that the page draws."""
        waiting = f"""new Promise((resolve, reject) => {{
            const end = performance.now() + {DEADLINE * 900}
            const look = () => {{
                let value
                try {{ value = {script} }} catch {{}}
                if (value) resolve(value)
                else if (performance.now() > end) reject(new Error({json.dumps(what or script)}))
                else setTimeout(look, 10)
            }}
            look()
        }})"""
        try:
            return await self.eval(waiting)
        except PageError as error:
            raise AssertionError(f"waited in vain: {error}; the page says {self.complaints}") from None

    async def resize(self, width, height, scale=1, touch=False):
        await self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=touch)
        await self.do("Emulation.setTouchEmulationEnabled", enabled=touch)

    async def prefer(self, **features):
        """What a person likes, such as prefers_color_scheme='dark'."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.do("Emulation.setEmulatedMedia", features=named)

    async def click(self, selector, *modifiers):
        """A click of the mouse in the middle of an element, which must be there to be hit."""
        await self.click_at(await self.middle(selector), *modifiers)

    async def click_at(self, place, *modifiers):
        held = sum(MODIFIERS[name] for name in modifiers)
        for kind in ("mousePressed", "mouseReleased"):
            await self._mouse(kind, place, button="left", clickCount=1, modifiers=held)

    async def point(self, place):
        """Moves the mouse."""
        await self._mouse("mouseMoved", place)

    async def _mouse(self, kind, place, **details):
        await self.do("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **details)

    async def middle(self, selector):
        """The middle of an element, which is scrolled into sight."""
        return await self.eval(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)})
            element.scrollIntoView({{ block: 'nearest' }})
            const {{ x, y, width, height }} = element.getBoundingClientRect()
            return [x + width / 2, y + height / 2]
        }})()""")

    async def press(self, *keys):
        for key in keys:
            event = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, 0)}
            text = {"Enter": {"text": "\r"}}.get(key, {"text": key} if len(key) == 1 else {})
            await self.do("Input.dispatchKeyEvent", type="keyDown", **event, **text)
            await self.do("Input.dispatchKeyEvent", type="keyUp", **event)

    async def write(self, text):
        """Writes into what has the focus, as a person or a paste does."""
        await self.do("Input.insertText", text=text)

    async def screenshot(self, path):
        kind = os.path.splitext(path)[1][1:]
        picture = await self.do("Page.captureScreenshot", format=kind, **({"quality": 90} if kind == "webp" else {}))
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture["data"]))


def _get_json(url):
    # Not through a proxy of the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=DEADLINE) as answer:
        return json.load(answer)
