"""Frames, events and states, as type checkers know them."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict, List, Literal, Mapping, Optional, Sequence, TypedDict, Union

State = Literal["idle", "connecting", "replaying", "open", "waiting", "closed"]
Event = Literal["established", "message", "gap", "state", "error", "reply", "live", "stale", "direct"]
Slow = Literal["gap", "latest", "close"]
TransportName = Literal["auto", "websocket", "events"]
Overflow = Literal["backpressure", "gap"]

# A template is a mapping, or `/` and an expression over the path.
Template = Union[str, Mapping[str, Any]]
Texts = Union[str, Sequence[str]]
Templates = Union[Template, Sequence[Template]]
# Functions are asked before every attempt.
Url = Union[str, Callable[[], Union[str, Awaitable[str]]]]
Headers = Union[Mapping[str, str], Callable[[], Union[Mapping[str, str], None, Awaitable[Optional[Mapping[str, str]]]]]]
Token = Union[str, Callable[[], Union[str, None, Awaitable[Optional[str]]]]]


class _Message(TypedDict):
    type: Literal["message"]
    timestamp: int
    topic: Optional[str]
    topics: List[str]
    data: Any
    # Where to go on behind this message.
    cursor: str
    # Characters of the frame.
    size: int


# `from` is a keyword of Python, so the fields that the node knows are named in the other way.
_Known = TypedDict(
    "_Known",
    {
        # None of an event that is replayed.
        "seq": int,
        "replayed": bool,
        "process": str,
        "slot": int,
        "hashpath": str,
        "path": str,
        "assignment": str,
        "source": str,
        "from": List[str],
    },
    total=False,
)


class Message(_Message, _Known):
    """A publication."""


class _Established(TypedDict):
    type: Literal["connection_established"]
    epoch: str
    seq: int
    timestamp: int
    protocol: int
    subscribed_topics: List[str]
    limits: Dict[str, int]
    ignored: List[str]


class Established(_Established, total=False):
    """The first frame of a connection."""

    subscribed_match: List[str]
    subscribed_template: List[Any]


class _Gap(TypedDict):
    type: Literal["gap"]
    reason: Literal[
        "slow", "expired", "epoch", "overload", "fault", "unreadable", "queue", "cursor", "not_cached", "withheld",
        "not_followed", "not_replayed", "limit",
    ]


class Gap(_Gap, total=False):
    """Publications are missing: `dropped` of them, with numbers greater than `after` and less than `next`.

    With `process`, slots of it are missing. With the reason `cursor`, the server could not use that cursor.
    """

    dropped: int
    after: int
    next: int
    epoch: str
    cursor: Optional[str]
    process: str
    from_slot: int
    to_slot: int
    seq: int
    replayed: bool
    timestamp: int


class _StateChange(TypedDict):
    state: State


class StateChange(_StateChange, total=False):
    """A new state of the client. `delay` is the time until the next attempt, in seconds."""

    code: Union[int, str]
    reason: str
    status: int
    delay: float


class _Reply(TypedDict):
    type: Literal["subscription_response", "unsubscription_response"]
    seq: int
    timestamp: int
    subscribed_topics: List[str]


class Reply(_Reply, total=False):
    """The server's answer to a request."""

    id: int
    message: str
    subscribed_match: List[str]
    subscribed_template: List[Any]
    new_topics: List[str]
    new_match: List[str]
    new_template: List[Any]
    removed_topics: List[str]
    removed_match: List[str]
    removed_template: List[Any]


class _Live(TypedDict):
    type: Literal["live"]
    seq: int


class Live(_Live, total=False):
    """The past that was asked for is there. Of a process: slots from `slot` on come live."""

    id: int
    process: str
    slot: int


class Stale(TypedDict):
    """The stream of the nodes is away since a time, in milliseconds since 1970. A `live` frame follows when it is back."""

    type: Literal["stale"]
    since: int


class Direct(TypedDict):
    """For this connection alone, from the node's listener."""

    type: Literal["direct"]
    timestamp: int
    data: Any


Update = Union[Message, Gap]
