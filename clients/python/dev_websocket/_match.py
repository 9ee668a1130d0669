"""Which frames a subscription asked for: the server sends each once, whichever subscriptions chose it."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Set

from ._selection import Fields, Selection

_KNOWN = ("process", "slot", "hashpath", "path", "assignment", "source", "from")


def matcher(fields: Fields) -> Callable[[Dict[str, Any]], bool]:
    """A function that says whether a frame is for these fields."""
    selection = Selection(fields)
    topics: Set[str] = set()
    patterns: List[Optional["re.Pattern[str]"]] = []
    for topic in selection["topics"]:
        if topic == "*":
            patterns.append(None)
        elif "*" in topic:
            patterns.append(re.compile(".*".join(map(re.escape, topic.split("*"))) + r"\Z", re.DOTALL))
        else:
            topics.add(topic)
    searches = [_expression(text) for text in selection["match"]]
    templates = [_expression(item[1:]) if isinstance(item, str) else item for item, _ in selection["template"].values()]
    has_topics = bool(topics or patterns or searches)

    def matches(frame: Dict[str, Any]) -> bool:
        if frame["type"] != "message" and "process" not in frame:
            return bool(frame["type"] == "gap")
        named = frame.get("topics") or ([f"process:{frame['process']}", f"from:{frame['process']}"] if "process" in frame else [])
        is_topic = (
            not has_topics
            or any(topic in topics for topic in named)
            or any(pattern is None or any(map(pattern.match, named)) for pattern in patterns)
            or any(any(map(search.search, named)) for search in searches)
        )
        # The messages of a slot that is missing are not known: each template counts as matched.
        if not is_topic or not templates or frame["type"] == "gap":
            return is_topic
        data = frame.get("data")
        return any(
            bool(template.search(str(frame.get("path") or "")))
            if isinstance(template, re.Pattern)
            else _is_like(template, data, frame)
            for template in templates
        )

    return matches


def _is_like(template: Mapping[str, Any], data: Any, frame: Optional[Mapping[str, Any]]) -> bool:
    """Each key of a template is in the message with an equal value, nested mappings likewise."""
    for key, wanted in template.items():
        found = _value(data, key)
        if found is None and frame is not None and key in _KNOWN:
            found = frame.get(key)
            if isinstance(found, list) and len(found) == 1:
                found = found[0]
        if isinstance(wanted, Mapping):
            if not isinstance(found, Mapping) or not _is_like(wanted, found, None):
                return False
        elif found is None or str(found) != str(wanted):
            return False
    return True


def _value(data: Any, key: str) -> Any:
    """A key of a message without letter case, at the top or among the tags."""
    if not isinstance(data, Mapping):
        return None
    name = key.lower()
    for other, value in data.items():
        if other.lower() == name:
            return value
    for tags in (data.get("tags"), data.get("Tags")):
        for tag in tags if isinstance(tags, list) else ():
            if isinstance(tag, Mapping) and str(tag.get("name")).lower() == name:
                return tag.get("value")
        if isinstance(tags, Mapping) and (value := _value(tags, key)) is not None:
            return value
    return None


def _expression(text: str) -> "re.Pattern[str]":
    """The server's expressions are those of Rust; one that Python cannot read chooses everything here."""
    try:
        return re.compile(text)
    except re.error:
        return re.compile("")
