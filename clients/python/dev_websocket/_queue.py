"""Frames that wait for a loop."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, List, Optional


@dataclass
class Entry:
    """A frame, the cursor and the slots before it, its number, and whether the loop is to tell listeners of it."""

    frame: Dict[str, Any]
    size: int
    before: Optional[str]
    slots: Dict[str, int]
    number: int
    is_untold: bool = False


class FrameQueue:
    """Bounded in number and bytes: when it is full no more is read, or the oldest messages give way to a gap."""

    def __init__(self, max_queue: int, max_bytes: int) -> None:
        self._max_queue, self._max_bytes = max_queue, max_bytes
        self._entries: Deque[Entry] = deque()
        self._size = self._messages = 0
        self._waiting: List["asyncio.Future[None]"] = []
        self._ended = False
        self._failure: Optional[BaseException] = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        return self._messages >= self._max_queue or self._size >= self._max_bytes

    @property
    def is_busy(self) -> bool:
        """Whether more than half of the room is taken."""
        return self._messages * 2 > self._max_queue or self._size * 2 > self._max_bytes

    @property
    def oldest(self) -> Optional[Entry]:
        """The loop has had everything up to the cursor before this entry."""
        return self._entries[0] if self._entries else None

    def add(self, entry: Entry, may_drop: bool) -> None:
        while may_drop and self.is_full and self._messages:
            self._drop()
        self._entries.append(entry)
        self._size += entry.size
        self._messages += entry.frame["type"] == "message"
        self._wake()

    async def next(self) -> Optional[Entry]:
        """The next entry, None behind the last one of a client that was closed. Raises the error that ended it.

        Nothing is taken before the last await, so whoever is cancelled has missed nothing.
        """
        while not self._entries:
            if self._ended:
                if self._failure is not None:
                    raise self._failure
                return None
            waiting: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
        entry = self._entries.popleft()
        self._size -= entry.size
        self._messages -= entry.frame["type"] == "message"
        return entry

    def end(self, failure: Optional[BaseException] = None) -> None:
        if not self._ended:
            self._ended, self._failure = True, failure
            self._wake()

    def clear(self) -> None:
        self._entries.clear()
        self._size = self._messages = 0

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def _drop(self) -> None:
        """Drops the oldest message. A gap in front of it takes it in; gaps of the server keep their places."""
        at = next(index for index, entry in enumerate(self._entries) if entry.frame["type"] == "message")
        entry = self._entries[at]
        self._size -= entry.size
        self._messages -= 1
        # A replayed event has no number.
        seq = entry.frame.get("seq")
        place = {} if seq is None else {"after": seq - 1, "next": seq + 1}
        previous = self._entries[at - 1] if at else None
        if previous is not None and previous.frame.get("reason") == "queue":
            previous.frame["dropped"] += 1
            previous.frame.update({name: place[name] for name in place if name == "next" or name not in previous.frame})
            del self._entries[at]
        else:
            gap = {"type": "gap", "reason": "queue", "dropped": 1, **place}
            self._entries[at] = Entry(gap, 0, entry.before, entry.slots, entry.number, True)
