"""One WebSocket: how it is opened without a leak, watched, and left in time."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple, Union, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus, InvalidURI, WebSocketException
from websockets.protocol import State

from ._options import Settings
from ._selection import compact

LOST = 1006
# Seconds that a goodbye may take before the connection is ended.
GOODBYE = 0.05

Frame = Optional[Dict[str, Any]]


@dataclass(eq=False)
class Lost(Exception):
    """A connection is gone, or was never there."""

    code: Union[int, str]
    reason: str = ""
    status: Optional[int] = None
    error: Optional[str] = None
    retry_after: float = 0
    opened: bool = False
    fatal: bool = False
    lived: float = 0


class Socket:
    """Frames of a WebSocket. `receive` raises Lost at its end, also at an end that the socket does not notice."""

    can_send = True

    def __init__(self, connection: ClientConnection, settings: Settings) -> None:
        self._connection, self._settings = connection, settings
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._first: Optional[float] = None
        self._reason: Optional[str] = None
        self._code: Union[int, str] = LOST
        self._fatal = False
        self._timer: Optional[asyncio.TimerHandle] = None
        # Whether the server owes a frame: the first one, and after a ping.
        self._owed = True
        self._sending: "set[asyncio.Future[None]]" = set()
        self._expect(settings.timeout, "no answer")

    @classmethod
    async def open(cls, url: str, headers: Optional[Mapping[str, str]], token: Optional[str], settings: Settings) -> "Socket":
        """Connects. Whoever is cancelled meanwhile leaves no connection behind, however far it had come."""
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        # Messages may be as large as the node allows, and silence is found out about here.
        options: Dict[str, Any] = {"max_size": None, "ping_interval": None, "close_timeout": None}
        options.update(open_timeout=settings.timeout, additional_headers=given, proxy=settings.proxy)
        if settings.ssl is not None:
            options["ssl"] = settings.ssl
        opening = asyncio.ensure_future(_connect(url, options))
        try:
            await asyncio.wait({opening})
        except asyncio.CancelledError:
            opening.cancel()
            opening.add_done_callback(_discard)
            await asyncio.wait({opening})
            raise
        try:
            return cls(opening.result(), settings)
        except InvalidURI as error:
            raise Lost("url", str(error), fatal=True) from None
        except InvalidStatus as refusal:
            answer = refusal.response
            raise refusal_of(answer.status_code, answer.headers.get("Retry-After"), bytes(answer.body or b""), url) from None
        except InvalidMessage as error:
            raise Lost(LOST, f"the answer is no HTTP: {error}") from None
        except (OSError, asyncio.TimeoutError, EOFError, WebSocketException) as error:
            raise Lost(LOST, str(error) or type(error).__name__) from None

    async def receive(self) -> Tuple[Frame, int]:
        """The next frame and the length of its text; None for what is no JSON object."""
        try:
            text = await self._connection.recv()
        except ConnectionClosed:
            raise self._end() from None
        self._heard = self._loop.time()
        self._first = self._heard if self._first is None else self._first
        if self._owed:
            self._owed = False
            self._watch()
        return parsed(text), len(text)

    def send(self, frame: Dict[str, Any]) -> None:
        """Sends without waiting, and so that nobody who is cancelled leaves half of it undone."""
        task = asyncio.ensure_future(self._send(frame))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def probe(self) -> None:
        """Asks at once whether the server is still there."""
        if not self._owed:
            self._ask()

    def pause(self) -> None:
        """Expects nothing until `resume`: nobody reads."""
        self._cancel_timer()

    def resume(self) -> None:
        self._heard = self._loop.time()
        if self._owed:
            self._expect(self._settings.timeout, "no answer")
        else:
            self._watch()

    def drop(self, reason: str, code: Union[int, str] = LOST, fatal: bool = False) -> None:
        """Gives the connection up, without a goodbye that would take as long."""
        self._cancel_timer()
        self._reason, self._code, self._fatal = reason, code, fatal
        self._connection.transport.abort()

    async def leave(self, code: int = 1000, reason: str = "") -> None:
        """Says goodbye, and ends the connection when the server does not soon, or has much to say before."""
        self._cancel_timer()
        tasks = [asyncio.ensure_future(self._say_goodbye(code, reason)), asyncio.ensure_future(self._discard_rest())]
        try:
            await asyncio.wait(tasks, timeout=GOODBYE)
        finally:
            self._connection.transport.abort()
            for task in [*tasks, *self._sending]:
                task.cancel()
        await asyncio.wait(tasks)

    async def _say_goodbye(self, code: int, reason: str) -> None:
        # The package fails at closing a connection that ended while it still had something to send.
        if self._connection.state is not State.CLOSED:
            try:
                await self._connection.close(code, reason)
            except (ConnectionClosed, OSError):
                pass

    async def _discard_rest(self) -> None:
        try:
            while True:
                await self._connection.recv()
        except Exception:  # pylint: disable=broad-except
            pass  # It is over, or somebody else still reads.

    async def _send(self, frame: Dict[str, Any]) -> None:
        try:
            text = compact(frame)
            await self._connection.send(text)
        except UnicodeEncodeError:
            await self._connection.send(json.dumps(frame))
        except (ConnectionClosed, OSError):
            pass  # Reading tells.

    def _end(self) -> Lost:
        self._cancel_timer()
        lived = 0 if self._first is None else self._loop.time() - self._first
        if self._reason is not None:
            return Lost(self._code, self._reason, opened=True, fatal=self._fatal, lived=lived)
        code, reason = self._connection.close_code, self._connection.close_reason
        return Lost(LOST if code is None else code, reason or "", opened=True, lived=lived)

    def _watch(self) -> None:
        """Asks after a silence whether the server is still there."""
        self._cancel_timer()
        interval = self._settings.ping_interval
        if not interval:
            return
        silence = self._loop.time() - self._heard
        if silence < interval:
            self._timer = self._loop.call_later(interval - silence, self._watch)
        else:
            self._ask()

    def _ask(self) -> None:
        self._owed = True
        self.send({"type": "ping"})
        self._expect(self._settings.timeout, "no answer to a ping")

    def _expect(self, delay: float, reason: str) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(delay, self.drop, reason)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _connect(url: str, options: Dict[str, Any]) -> ClientConnection:
    return await connect(url, **options)


def _discard(opening: "asyncio.Future[ClientConnection]") -> None:
    """A connection that was there when it was not wanted any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().transport.abort()


def refusal_of(status: int, retry_after: Optional[str], body: bytes, url: str) -> Lost:
    """What an HTTP answer says that is no upgrade and no stream."""
    try:
        seconds = float(retry_after or 0)
    except ValueError:
        seconds = 0
    told = parsed(body)
    if told is not None and isinstance(told.get("error"), str):
        return Lost(LOST, str(told.get("message", "")), status, told["error"], seconds)
    text = bytes(body[:100]).decode(errors="replace")
    page = "a page of HTML" if text.lstrip().startswith("<") else repr(text) if text else "nothing"
    if status in (401, 403):
        advice = "a proxy wants other credentials: give headers, url or token as functions, which are asked before every attempt"
    else:
        advice = "is the path right, as in /ws, and does each proxy on the way pass the upgrade on?"
    return Lost(LOST, f"{urlsplit(url).path or '/'} answered {status} with {page}: {advice}", status, None, seconds)


def parsed(text: Union[str, bytes]) -> Frame:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast(Frame, value) if isinstance(value, dict) else None


def wall_minus_steady() -> float:
    """Jumps when the machine was asleep: the steady clock stands still then."""
    return time.time() - time.monotonic()
