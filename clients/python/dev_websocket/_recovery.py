"""Slots that are missing: asked for again, of one process at a time, as the server replays them."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Optional, Protocol, Set, Tuple

from ._options import Settings
from ._requests import Frame, Requests, refused
from ._retry import Retry
from ._slots import Slots
from .types import State

# Refusals of slots that pass.
PASSING = {"too_many_slot_replays", "too_many_processes", "replay_failed", "no_cache", "unknown_process", "busy"}
# Refusals of a URL that are about slots.
OF_SLOTS = PASSING | {"bad_from_slot", "bad_process"}


class Host(Protocol):
    """The client, as the recovery needs it."""

    @property
    def state(self) -> State: ...

    def emit(self, event: str, value: Any) -> None: ...

    def reopen(self) -> None: ...


class Line(Protocol):
    """A connection, as the recovery needs it."""

    can_send: bool


class _Asked:
    """The process that is asked for, its request, and the error that ends the replay."""

    def __init__(self, process: str, id: Optional[int]) -> None:  # pylint: disable=redefined-builtin
        self.process, self.id = process, id
        self.refusal: Optional[Frame] = None


class Recovery:
    """`give` gets what the application is given in the end: frames that were held, and the gap for slots that do not come."""

    def __init__(self, slots: Slots, host: Host, settings: Settings, give: Callable[[Frame], None]) -> None:
        self._slots, self._host, self._settings, self._give = slots, host, settings, give
        self._line: Optional[Line] = None
        self._requests: Optional[Requests] = None
        self._asked: Optional[_Asked] = None
        self._timers: Set[asyncio.TimerHandle] = set()

    @property
    def is_refused(self) -> bool:
        """Whether the present replay cannot go on: its last frames follow."""
        return self._asked is not None and self._asked.refusal is not None

    def ask(self, asked: Optional[Tuple[str, int]]) -> None:
        """Another attempt: a stream of events asks for the slots of one process in its URL."""
        if asked is not None:
            self._begin(asked[0], None)

    def connect(self, line: Line) -> None:
        self._line, self._requests = line, None

    def welcome(self, requests: Requests) -> None:
        """The connection takes requests."""
        self._requests = requests

    def next(self) -> None:
        following = self._slots.next() if self._host.state == "open" and self._asked is None else None
        if following is None or self._line is None or self._requests is None:
            return
        if not self._line.can_send:
            self._host.reopen()
            return
        process, slot = following

        def answered(frame: Frame) -> None:
            if frame["type"] == "error":
                self._end(frame)

        self._begin(process, self._requests.post("subscribe", {"process": process, "from-slot": slot}, answered))

    def refuses(self, frame: Frame) -> bool:
        """Takes an error that ends the present replay. Says whether it is one."""
        if self._asked is None or frame.get("id") != self._asked.id or frame.get("code") not in PASSING:
            return False
        self._asked.refusal = frame
        return True

    def live(self, frame: Frame) -> None:
        """Slots of a process come live: its replay is over."""
        if self._asked is not None and frame["process"] == self._asked.process:
            self._end(frame)

    def lost(self, error: Optional[str]) -> bool:
        """The connection is gone. Says whether the reason was that slots were asked for."""
        asked = self._asked
        self._line = self._requests = self._asked = None
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._slots.lost()
        if asked is None or error not in OF_SLOTS:
            return False
        self._refuse(asked.process, {"code": error, "message": "the server refused the slots that were asked for"}, None)
        return True

    def _begin(self, process: str, number: Optional[int]) -> None:
        self._slots.asked(process)
        self._asked = _Asked(process, number)

    def _end(self, frame: Frame) -> None:
        asked, self._asked = self._asked, None
        assert asked is not None
        if asked.refusal is not None or frame["type"] == "error":
            self._refuse(asked.process, asked.refusal or frame, frame.get("slot"))
        else:
            for held in self._slots.found(asked.process, frame["slot"]):
                self._give(held)
        self.next()

    def _refuse(self, process: str, refusal: Frame, live: Optional[int]) -> None:
        """Asks again later, or tells that slots up to the one that comes live are missing."""
        self._host.emit("error", refused(refusal))
        attempt = self._slots.fail(process) if refusal.get("code") in PASSING else None
        if attempt is None:
            for frame in self._slots.give_up(process, live):
                self._give(frame)
            return
        settings = self._settings
        delay = Retry(settings.min_reconnect_delay, settings.max_reconnect_delay, random=settings.random).backoff(attempt)

        def again() -> None:
            self._timers.discard(timer)
            self._slots.retry(process)
            self.next()

        timer = asyncio.get_running_loop().call_later(delay, again)
        self._timers.add(timer)
