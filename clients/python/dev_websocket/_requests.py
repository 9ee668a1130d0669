"""Requests of one connection: changes that are made together go out together, no faster than the server takes them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional
from collections import deque

from ._errors import RequestRefused
from ._selection import Fields, compact, split

Frame = Dict[str, Any]

# Frames of a second that the server takes (`max_inbound_rate`), and the share of them that is used.
RATE = 50
SHARE = 0.8
WINDOW = 1.1
FRAME_BYTES = 65_536


@dataclass(eq=False)
class Change:
    """Something to subscribe to or to unsubscribe from, and where its answer goes."""

    type: str
    fields: Fields
    fulfil: Callable[[Frame], None]
    fail: Callable[[Frame], None]


class Requests:
    """`send` takes a frame and does not wait."""

    def __init__(self, send: Callable[[Frame], None], limits: Mapping[str, int], first_id: int) -> None:
        self._send, self._limits, self._id = send, limits, first_id
        self._asked: Dict[int, Callable[[Frame], None]] = {}
        self._outbox: Deque[Frame] = deque()
        self._sent: Deque[float] = deque()
        self._timer: Optional[asyncio.TimerHandle] = None

    @property
    def next_id(self) -> int:
        """No two requests of a client have the same number."""
        return self._id + 1

    @property
    def is_empty(self) -> bool:
        return not self._asked and not self._outbox

    @property
    def frame_bytes(self) -> int:
        return self._limits.get("max_inbound_bytes", FRAME_BYTES)

    def ask(self, changes: List[Change]) -> None:
        """Asks for changes that were made together, in as few frames as hold them."""
        batch: List[Change] = []
        for change in changes:
            if batch and batch[0].type != change.type:
                self._ask_together(batch)
                batch = []
            batch.append(change)
        if batch:
            self._ask_together(batch)

    def post(self, kind: str, fields: Mapping[str, Any], answered: Callable[[Frame], None]) -> int:
        """A request of its own. Gives its id."""
        self._id += 1
        self._asked[self._id] = answered
        self._outbox.append({"type": kind, "id": self._id, **fields})
        if len(self._outbox) == 1:
            self._flush()
        return self._id

    def say(self, frame: Frame) -> int:
        """A frame without an answer, which does not count against the rate."""
        self._id += 1
        self._send({**frame, "id": self._id})
        return self._id

    def answer(self, frame: Frame) -> bool:
        """Takes an answer. Says whether it was to one of these requests."""
        answered = self._asked.pop(frame["id"], None) if isinstance(frame.get("id"), int) else None
        if answered is None:
            return False
        answered(frame)
        return True

    def end(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._asked.clear()
        self._outbox.clear()

    def _ask_together(self, batch: List[Change]) -> None:
        """Several changes in one frame. It is refused whole, so then each is asked for alone."""
        fields: Dict[str, Dict[str, Any]] = {}
        for change in batch:
            for kind, items in change.fields.items():
                fields.setdefault(kind, {}).update((compact(item), item) for item in items)
        parts = split({kind: list(items.values()) for kind, items in fields.items()}, self.frame_bytes)
        if len(batch) == 1 or parts is None or len(parts) != 1:
            for change in batch:
                self._ask_parts(change)
            return

        def answered(frame: Frame) -> None:
            for change in batch:
                if frame["type"] == "error":
                    self._ask_parts(change)
                else:
                    change.fulfil(frame)

        self.post(batch[0].type, parts[0], answered)

    def _ask_parts(self, change: Change) -> None:
        parts = split(change.fields, self.frame_bytes)
        if parts is None:
            message = f"an item does not fit into {self.frame_bytes} bytes, which the server takes"
            change.fail({"code": "too_large", "message": message})
            return
        answers: List[Frame] = []

        def answered(frame: Frame) -> None:
            answers.append(frame)
            if len(answers) < len(parts):
                return
            refusals = [answer for answer in answers if answer["type"] == "error"]
            if refusals:
                change.fail(refusals[0])
            else:
                change.fulfil(frame)

        for fields in parts:
            self.post(change.type, fields, answered)

    def _flush(self) -> None:
        rate = self._limits.get("max_inbound_rate", RATE)
        most = max(1, int(rate * SHARE)) if rate > 0 else None
        now = time.monotonic()
        while self._sent and now - self._sent[0] >= WINDOW:
            self._sent.popleft()
        while self._outbox and (most is None or len(self._sent) < most):
            self._sent.append(now)
            self._send(self._outbox.popleft())
        if self._outbox:
            self._timer = asyncio.get_running_loop().call_later(WINDOW - (now - self._sent[0]), self._flush)


def refused(frame: Mapping[str, Any]) -> RequestRefused:
    """An error frame as an error."""
    return RequestRefused(frame.get("code", "unknown"), str(frame.get("message", "")), id=frame.get("id"))
