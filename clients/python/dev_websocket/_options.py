"""The options of a client, checked: one that does not fit raises where it is given, not at the next reconnect."""

from __future__ import annotations

import logging
import math
import random as default_random
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, get_args

from .types import Headers, Overflow, Slow, Texts, Token, TransportName

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_PROCESS = re.compile(r"[A-Za-z0-9_-]{43}")
# Each numeric option: least and greatest value.
_NUMBERS: Dict[str, Tuple[float, float]] = {
    "min_reconnect_delay": (0.001, 86_400),
    "max_reconnect_delay": (0.001, 86_400),
    "stable_after": (0, 86_400),
    "max_faults": (0, math.inf),
    "ping_interval": (0, 86_400),
    "timeout": (0.001, 86_400),
    "max_queue": (1, math.inf),
    "max_queue_bytes": (1, math.inf),
}


@dataclass
class Options:
    """Times are in seconds. `None` is the default."""

    process: Texts = ()
    slots: Optional[Mapping[str, int]] = None
    from_slot: Optional[Mapping[str, int]] = None
    last: Optional[int] = None
    slow: Optional[Slow] = None
    headers: Optional[Headers] = None
    token: Optional[Token] = None
    min_reconnect_delay: Optional[float] = None
    max_reconnect_delay: Optional[float] = None
    stable_after: Optional[float] = None
    max_faults: Optional[float] = None
    ping_interval: Optional[float] = None
    timeout: Optional[float] = None
    max_queue: Optional[int] = None
    max_queue_bytes: Optional[int] = None
    overflow: Optional[Overflow] = None
    transport: Optional[TransportName] = None
    logger: Optional[logging.Logger] = None
    ssl: Any = None
    proxy: Any = True
    random: Callable[[], float] = default_random.random


@dataclass
class Settings:
    """Options with their defaults."""

    min_reconnect_delay: float = 0.5
    max_reconnect_delay: float = 30
    stable_after: float = 10
    max_faults: float = 5
    ping_interval: float = 30
    timeout: float = 10
    max_queue: int = 1000
    max_queue_bytes: int = 4_194_304
    overflow: Overflow = "backpressure"
    transport: TransportName = "auto"
    process: List[str] = field(default_factory=lambda: [])
    slots: Dict[str, int] = field(default_factory=lambda: {})
    from_slot: Dict[str, int] = field(default_factory=lambda: {})
    last: Optional[int] = None
    slow: Optional[Slow] = None
    headers: Optional[Headers] = None
    token: Optional[Token] = None
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("dev_websocket"))
    ssl: Any = None
    proxy: Any = True
    random: Callable[[], float] = default_random.random

    @classmethod
    def checked(cls, options: Options) -> "Settings":
        """Raises TypeError or ValueError for an option that does not fit."""
        given = {name: value for name, value in vars(options).items() if value is not None}
        for name, (least, greatest) in _NUMBERS.items():
            if name in given:
                _check_number(name, given[name], least, greatest)
        for name, words in (("slow", Slow), ("transport", TransportName), ("overflow", Overflow)):
            if name in given and given[name] not in get_args(words):
                raise ValueError(f"{name} is one of {', '.join(get_args(words))}, not {given[name]!r}")
        if options.last is not None:
            _check_number("last", options.last, 0, math.inf)
            if not isinstance(options.last, int):
                raise TypeError("last is a whole number")
        if not callable(options.token):
            check_token(options.token)
        if options.headers is not None and not callable(options.headers) and not isinstance(options.headers, Mapping):
            raise TypeError("headers are a mapping, or a function that gives one")
        if options.logger is not None and not callable(getattr(options.logger, "warning", None)):
            raise TypeError("logger is a logging.Logger")
        given["process"] = check_texts("process", options.process)
        given["slots"] = _check_slots("slots", options.slots, -1)
        given["from_slot"] = _check_slots("from_slot", options.from_slot, 0)
        settings = cls(**given)
        if options.min_reconnect_delay is None:
            settings.min_reconnect_delay = min(settings.min_reconnect_delay, settings.max_reconnect_delay)
        if options.max_reconnect_delay is None:
            settings.max_reconnect_delay = max(settings.min_reconnect_delay, settings.max_reconnect_delay)
        if settings.min_reconnect_delay > settings.max_reconnect_delay:
            raise ValueError("min_reconnect_delay is greater than max_reconnect_delay")
        return settings


def check_texts(name: str, value: Optional[Texts]) -> List[str]:
    """A text or several, as a list."""
    if value is None:
        return []
    texts = [value] if isinstance(value, str) else list(value)
    for text in texts:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{name} is a text or a list of texts, not {text!r}")
    return texts


def check_items(topics: Any, match: Any, template: Any) -> Dict[str, List[Any]]:
    """The fields of a subscription, those that name something."""
    templates: List[Any] = [] if template is None else [template] if isinstance(template, (str, Mapping)) else list(template)
    for item in templates:
        if not isinstance(item, (str, Mapping)):
            raise TypeError(f"a template is a mapping or a text, not {item!r}")
    fields: Dict[str, List[Any]] = {
        "topics": list(check_texts("topics", topics)),
        "match": list(check_texts("match", match)),
        "template": templates,
    }
    return {kind: items for kind, items in fields.items() if items}


def check_token(token: Any) -> Optional[str]:
    """A token as a header takes it."""
    if token is None:
        return None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise TypeError("a token is a text of letters, digits and ._~+/=-, or a function that gives one")
    return token


def _check_slots(name: str, value: Any, least: int) -> Dict[str, int]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping with the slot of each process, not {value!r}")
    slots: Dict[str, int] = {}
    for process, slot in value.items():
        if not isinstance(process, str) or not _PROCESS.fullmatch(process):
            raise TypeError(f"{name} names processes by ids of 43 characters, not {process!r}")
        _check_number(f"a slot of {name}", slot, least, math.inf)
        if not isinstance(slot, int):
            raise TypeError(f"a slot of {name} is a whole number")
        slots[process] = slot
    return slots


def _check_number(name: str, value: Any, least: float, greatest: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise TypeError(f"{name} is a number, not {value!r}")
    if not least <= value <= greatest:
        raise ValueError(f"{name} is at least {least} and at most {greatest}, not {value}")
