"""A stream of server-sent events in the place of a WebSocket: the same frames, one way."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, AsyncIterator, Dict, Mapping, Optional, Tuple, Union
from urllib.parse import urlsplit

from ._options import Settings
from ._socket import LOST, Frame, Lost, parsed, refusal_of

MAX_REFUSAL = 10_000
# Answers to an upgrade that tell of a proxy that does not pass it on.
BLOCKING = {200, 400, 403, 404, 405, 406, 426, 501}
# Attempts without an answer, before a stream is tried: of a new client, and of one that had a WebSocket.
PATIENCE_NEW, PATIENCE_KNOWN = 2, 4


class EventStream:
    """It has the face of `Socket`. Proxies of the environment are not used."""

    can_send = False

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settings: Settings) -> None:
        self._reader, self._writer, self._settings = reader, writer, settings
        self._loop = asyncio.get_running_loop()
        self._first: Optional[float] = None
        self._dropped: Optional[Lost] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._lines: AsyncIterator[bytes] = iter_lines(reader, False)
        self._expect(settings.timeout, "no answer")

    @classmethod
    async def open(cls, url: str, headers: Optional[Mapping[str, str]], token: Optional[str], settings: Settings) -> "EventStream":
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        context = (settings.ssl or ssl.create_default_context()) if is_secure else None
        port = parts.port or (443 if is_secure else 80)
        # The limit is that of a line: an event is one.
        opening = asyncio.ensure_future(asyncio.open_connection(parts.hostname, port, ssl=context, limit=64 * 1024 * 1024))
        try:
            done, _ = await asyncio.wait({opening}, timeout=settings.timeout)
        except asyncio.CancelledError:
            opening.cancel()
            opening.add_done_callback(_discard)
            await asyncio.wait({opening})
            raise
        if not done:
            opening.cancel()
            opening.add_done_callback(_discard)
            raise Lost(LOST, "no answer")
        try:
            stream = cls(*opening.result(), settings)
        except OSError as error:
            raise Lost(LOST, str(error)) from None
        try:
            await stream._ask(url, dict(headers or {}), token)
        except BaseException:
            stream.drop("left")
            raise
        return stream

    async def _ask(self, url: str, headers: Dict[str, str], token: Optional[str]) -> None:
        parts = urlsplit(url)
        headers = {"Host": parts.netloc.rpartition("@")[2], "Accept": "text/event-stream", "Connection": "close", **headers}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        self._writer.write(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
        status, answered = await self._head()
        is_chunked = "chunked" in answered.get("transfer-encoding", "").lower()
        if status != 200 or not answered.get("content-type", "").startswith("text/event-stream"):
            body = bytearray()
            async for line in iter_lines(self._reader, is_chunked):
                body += line
                if len(body) > MAX_REFUSAL:
                    break
            raise refusal_of(status, answered.get("retry-after"), bytes(body), url)
        self._lines = iter_lines(self._reader, is_chunked)

    async def _head(self) -> Tuple[int, Dict[str, str]]:
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(head[0].split(" ")[1])
        except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
            raise self._dropped or Lost(LOST, f"no answer: {error}") from None
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        return status, headers

    async def receive(self) -> Tuple[Frame, int]:
        """The next frame. Comments, which the server sends every `ping_interval`, are signs of life."""
        data = bytearray()
        try:
            async for line in self._lines:
                interval = self._settings.ping_interval
                self._expect(interval * 2 + self._settings.timeout if interval else None, "no sign of life")
                if line.startswith(b"data:"):
                    data += line[5:].strip()
                elif not line.strip() and data:
                    frame = parsed(bytes(data))
                    self._first = self._loop.time() if self._first is None else self._first
                    if frame is not None and frame.get("type") == "close":
                        raise self._lost(Lost(frame.get("code", LOST), str(frame.get("reason", ""))))
                    return frame, len(data)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise self._lost(Lost(LOST, str(error))) from None
        raise self._lost(Lost(LOST, "the stream ended"))

    def _lost(self, lost: Lost) -> Lost:
        lost = self._dropped or lost
        self.drop(lost.reason)
        lost.opened = True
        lost.lived = 0 if self._first is None else self._loop.time() - self._first
        return lost

    def send(self, frame: Dict[str, Any]) -> None:
        """A stream takes no frames: the client opens another one for other subscriptions."""

    def probe(self) -> None:
        """The server's comments are all that tells."""

    def pause(self) -> None:
        self._expect(None, "")

    def resume(self) -> None:
        interval = self._settings.ping_interval
        self._expect(interval * 2 + self._settings.timeout if interval else None, "no sign of life")

    def drop(self, reason: str, code: Union[int, str] = LOST, fatal: bool = False) -> None:
        self._expect(None, "")
        self._dropped = self._dropped or Lost(code, reason, fatal=fatal)
        self._writer.transport.abort()

    async def leave(self, code: int = 1000, reason: str = "") -> None:
        """A stream has no goodbye."""
        self.drop(reason or "left", code)

    def _expect(self, delay: Optional[float], reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay is None else self._loop.call_later(delay, self.drop, reason)


async def iter_lines(reader: asyncio.StreamReader, is_chunked: bool) -> AsyncIterator[bytes]:
    """The lines of a body, of chunks or to the end of the connection."""
    if not is_chunked:
        while line := await reader.readline():
            yield line
        return
    rest = b""
    while size := int((await reader.readline()).split(b";")[0] or b"0", 16):
        rest += await reader.readexactly(size)
        await reader.readexactly(2)
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _discard(opening: "asyncio.Future[Tuple[asyncio.StreamReader, asyncio.StreamWriter]]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[1].transport.abort()


class Route:
    """Which transport an attempt uses: with `auto` a stream of events where WebSockets are blocked."""

    def __init__(self, transport: str) -> None:
        self._is_auto = transport == "auto"
        self._failures = 0
        self._was_websocket = False
        self.is_events = transport == "events"

    def established(self) -> None:
        self._failures = 0
        self._was_websocket = self._was_websocket or not self.is_events

    def switches(self, lost: Lost) -> bool:
        """Whether the next attempt uses the other transport, and this failure is not the last word."""
        if not self._is_auto:
            return False
        if self.is_events:
            # A stream that worked is opened again, unless WebSockets worked once.
            if not lost.lived or self._was_websocket:
                self.is_events = False
            return False
        if lost.opened or lost.fatal or lost.error is not None or (lost.status is not None and lost.status not in BLOCKING):
            return False
        self._failures += 1
        patience = PATIENCE_KNOWN if self._was_websocket else 1 if lost.status is not None else PATIENCE_NEW
        if self._failures < patience:
            return False
        self._failures = 0
        self.is_events = True
        return lost.status is not None
