"""Requests of an exchange that the server has not answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Set, Tuple

from ._cursor import Cursor
from ._errors import ClientError
from ._requests import Frame
from ._selection import Fields, Selection


@dataclass(eq=False)
class Pending:
    """A change that the server has not confirmed."""

    type: str
    fields: Fields
    holder: Any = None
    fulfil: Callable[[Frame], None] = lambda _: None
    fail: Callable[[ClientError], None] = lambda _: None
    is_sent: bool = False
    is_cancelled: bool = False


class Replay:
    """A subscription with a `since` of its own, until all that it asked for has come."""

    def __init__(self, fields: Fields, since: Any, holder: Any) -> None:
        self.items, self.since, self.holder = Selection(fields), Cursor(since).text or "", holder
        # The request's id, once it is sent, and the number from which on its messages are new ones.
        self.id: Optional[int] = None
        self.up_to: Optional[int] = None


class Restore:
    """Subscriptions that are made again by frames, and the frames that are held until all of them are there."""

    def __init__(self, parts: int, fields: Optional[Fields]) -> None:
        self.left, self.seq, self.selection = parts, 0, Selection(fields)
        self.held: Optional[List[Tuple[Frame, int]]] = [] if parts > 1 else None
        self.ids: Set[Any] = set()
