"""URLs: the parts that are the client's own options, and the URL of each attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ._selection import Fields, Selection

# Longer URLs are refused by many proxies: subscriptions beyond that are made by frames.
SHORT_URL = 4000
# The server takes 65,534 bytes, and as many for the whole head.
LONG_URL = 60_000
SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@dataclass
class Address:
    """A URL without subscriptions and the past that it asks for, and these."""

    url: str
    fields: Fields
    since: Optional[str]
    last: Optional[str]
    slow: Optional[str]
    # The first slot of a process.
    slots: Dict[str, int]


class Attempt(NamedTuple):
    """The URL of an attempt, and how it asks for the past: `by_frames` when subscriptions and past come later."""

    url: str
    past: Optional[str]
    by_frames: bool
    # The process and the slot that a stream of events asks for.
    slots: Optional[Tuple[str, int]] = None


def parse(text: Any) -> Address:
    """Takes a URL apart. Raises ValueError for one that is none."""
    if not isinstance(text, str):
        raise TypeError(f"a URL is a text, not {text!r}")
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError(f"not a URL of a WebSocket server: {text}. One is like ws://host:8735/ws")
    _ = parts.port  # Raises ValueError for what is no port.
    values: Dict[str, List[str]] = {}
    rest = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in ("topic", "process", "match", "template", "since", "last", "slow", "lastEventId", "from-slot"):
            values.setdefault(name, []).append(value)
        elif (name, value) == ("format", "raw"):
            raise ValueError("format=raw has no frames that tell of gaps; leave it out")
        else:
            rest.append((name, value))
    topics = [topic.strip() for value in values.get("topic", ()) for topic in value.split(",") if topic.strip()]
    processes = [process for process in values.get("process", ()) if process]
    topics += [f"process:{process}" for process in processes]
    fields = {"topics": topics, "match": values.get("match", []), "template": values.get("template", [])}

    def one(name: str) -> Optional[str]:
        return next((value for value in values.get(name, ()) if value), None)

    url = urlunsplit(parts._replace(scheme=SCHEMES[parts.scheme], query=urlencode(rest), fragment=""))
    slots: Dict[str, int] = {}
    if "from-slot" in values:
        slot = values["from-slot"][0]
        if not (slot.isascii() and slot.isdigit()) or len(processes) != 1:
            raise ValueError("from-slot is the number of a slot, beside one process")
        slots = {processes[0]: int(slot)}
    return Address(url, fields, one("since") or one("lastEventId"), one("last"), one("slow"), slots)


def compose(
    base: str, selection: Selection, past: Dict[str, Optional[str]], slots: Optional[Tuple[str, int]], is_events: bool
) -> Optional[Attempt]:
    """The URL of an attempt. None when a stream of events cannot ask for so much."""
    parts = urlsplit(base)
    if is_events:
        path = parts.path.rstrip("/")
        path = path[: -len("/ws")] + "/events" if path.endswith("/ws") else parts.path
        parts = parts._replace(scheme="https" if parts.scheme == "wss" else "http", path=path)

    def url(query: "list[tuple[str, str]]") -> str:
        return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, urlencode(query)]))))

    slow = [("slow", past["slow"])] if past.get("slow") else []
    name = "since" if past.get("since") is not None else "last" if past.get("last") else None
    query = [("topic", topic) for topic in selection["topics"]]
    query += [(kind, text) for kind in ("match", "template") for text in selection[kind]]
    asked = [(name, past[name])] if name else []
    if is_events and slots is not None:
        # A cursor with a slot resumes both: the process at its slot, and all else behind the cursor.
        name = "lastEventId" if name == "since" else None
        asked = [("process", slots[0]), ("from-slot", str(slots[1]))]
        asked += [(name, f"{past['since']};{slots[0]}:{slots[1]}")] if name else []
    whole = url([(key, str(value)) for key, value in query + slow + asked])
    if len(whole) <= SHORT_URL or (len(whole) <= LONG_URL and (is_events or name == "last")):
        return Attempt(whole, name, False, slots if is_events else None)
    if is_events:
        return None
    return Attempt(url([(key, str(value)) for key, value in slow]), name, selection.fields() is not None)
