"""The place of a client in the stream of publications."""

from __future__ import annotations

import re
from typing import Any, Optional


class Cursor:
    """Up to which publication everything that concerns a client was received. Numbers start anew with each epoch."""

    def __init__(self, text: Any = None) -> None:
        self._epoch: Optional[str] = None
        self._seq: Optional[int] = None
        self._current: Optional[str] = None
        if text is not None:
            parts = re.fullmatch(r"(?:([^:]+):)?([0-9]+)", str(text))
            if parts is None:
                raise ValueError(f"a cursor is epoch:seq, not {text}")
            self._epoch, self._seq = parts[1], int(parts[2])

    @property
    def text(self) -> Optional[str]:
        """`epoch:seq`, or None while nothing is known."""
        if self._seq is None:
            return None
        return str(self._seq) if self._epoch is None else f"{self._epoch}:{self._seq}"

    def enter(self, epoch: str) -> None:
        """Numbers from now on are of this epoch. The cursor is of its own until something of the new one arrives."""
        self._current = epoch

    def at(self, seq: int) -> str:
        """A publication of the present epoch, as a cursor."""
        return f"{self._current}:{seq}"

    def advance(self, seq: int) -> bool:
        """Moves forward. Says whether it did: if not, the publication was seen before."""
        if self._epoch == self._current and self._seq is not None and seq <= self._seq:
            return False
        self._epoch, self._seq = self._current, seq
        return True

    def forget(self) -> "dict[str, Any]":
        """Drops a cursor that the server cannot use. Gives the gap that this is."""
        gap = {"type": "gap", "reason": "cursor", "cursor": self.text}
        self._epoch = self._seq = None
        return gap
