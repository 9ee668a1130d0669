"""How frames come to loops, subscriptions and listeners."""

from __future__ import annotations

import asyncio
from typing import Any, Dict, List, Optional, Union

from ._exchange import Exchange
from ._listeners import Lanes, Listeners
from ._options import Settings
from ._queue import Entry, FrameQueue
from ._requests import Frame
from ._subscription import Subscription
from .types import State


class Loop:
    """A loop over messages, and whether it reads now."""

    def __init__(self, queue: FrameQueue) -> None:
        self.queue, self.is_read = queue, False
        # Whether the client's own options ask for messages, so that somebody will read them.
        self.is_expected = False

    def matches(self, _: Frame) -> bool:
        return True


class Delivery:
    """The part of a client behind its connection."""

    # pylint: disable=too-many-instance-attributes

    _settings: Settings
    _exchange: Exchange
    _state: State

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.lanes = Lanes(settings.logger, settings.max_queue, self._taken)
        self._listeners = Listeners(self.lanes)
        self._main = Loop(self._new_queue())
        self._subscriptions: List[Subscription] = []
        self._waiters: List["asyncio.Future[None]"] = []
        self._is_paused = False
        # Wakes the task: when it waits for room, or for its next attempt.
        self._wake: Optional["asyncio.Future[None]"] = None
        self._number = 0
        self._before: Optional[str] = None
        self._slots_before: Dict[str, int] = {}

    def _new_queue(self) -> FrameQueue:
        return FrameQueue(self._settings.max_queue, self._settings.max_queue_bytes)

    def _consumers(self) -> List[Union[Loop, Subscription]]:
        return [self._main, *self._subscriptions]

    def _readers(self) -> List[Union[Loop, Subscription]]:
        """The queues that collect: of loops, and while nothing reads at all, of whatever may be read later."""
        consumers = self._consumers()
        read = [consumer for consumer in consumers if consumer.is_read]
        is_heard = self._listeners.has("message") or any(one.listeners.has("message") for one in self._subscriptions)
        if not read and not is_heard:
            return consumers
        main = self._main
        if main.is_expected and not main.is_read:
            # Its loop may begin later than another one. A full queue says that there will be none.
            main.is_expected = not is_heard and not main.queue.is_full
            return [main, *read] if main.is_expected else read
        return read

    def _oldest(self) -> Optional[Entry]:
        """The oldest entry that waits for a loop."""
        entries = [reader.queue.oldest for reader in self._readers()]
        return min((entry for entry in entries if entry is not None), key=lambda entry: entry.number, default=None)

    def _is_behind(self) -> bool:
        """Whether no more should be read, unless an answer is waited for that stands in the same line."""
        if self._settings.overflow == "gap" or self._waiters or self._exchange.is_waiting:
            return False
        queues = [reader.queue for reader in self._readers()]
        return self.lanes.is_behind or any(queue.is_busy if self._is_paused else queue.is_full for queue in queues)

    def _stir(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _taken(self) -> None:
        if self._is_paused and not self._is_behind():
            self._stir()

    async def _next(self, loop: Loop) -> Optional[Entry]:
        loop.is_read = True
        entry = await loop.queue.next()
        self._taken()
        if entry is not None and entry.is_untold:
            self.emit(entry.frame["type"], entry.frame)
        return entry

    def _forget(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def emit(self, event: str, value: Any) -> None:
        self._listeners.emit(event, value)

    def turn(self, state: State, details: Optional[Dict[str, Any]] = None) -> None:
        self._state = state
        self._settings.logger.debug("state %s", state)
        if state == "open":
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
        self.emit("state", {"state": state, **(details or {})})

    def deliver(self, frame: Frame, size: int, cursor: Optional[str]) -> None:
        # Beside messages in a loop, everything else is told in its place among them.
        is_untold = frame["type"] != "message" and self._main.is_read and not self._listeners.has("message")
        before, self._before = self._before, cursor or self._before
        slots, self._slots_before = self._slots_before, self._exchange.slots
        self._number += 1
        if not is_untold:
            self.emit(frame["type"], frame)
        readers = self._readers()
        for subscription in self._subscriptions:
            if frame["type"] == "message" and subscription.listeners.has("message") and subscription.matches(frame):
                subscription.listeners.emit("message", frame)
        for consumer in self._consumers():
            if consumer not in readers:
                consumer.queue.clear()
            elif consumer.matches(frame):
                told = is_untold and consumer is self._main
                consumer.queue.add(Entry(frame, size, before, slots, self._number, told), self._settings.overflow == "gap")
