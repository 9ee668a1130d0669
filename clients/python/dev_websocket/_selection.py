"""Topics, regular expressions and templates, and how they are put into frames."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

Fields = Dict[str, List[Any]]

KINDS = ("topics", "match", "template")
# Bytes of a request besides its items.
ENVELOPE = 512


class Selection:
    """Each item is found by its text and has its holders: one that a holder lets go of stays while another has it."""

    def __init__(self, fields: Optional[Fields] = None, holder: Any = None) -> None:
        self._kinds: Dict[str, Dict[str, Tuple[Any, Set[Any]]]] = {kind: {} for kind in KINDS}
        self.add(fields, holder)

    def __getitem__(self, kind: str) -> Dict[str, Tuple[Any, Set[Any]]]:
        return self._kinds[kind]

    def add(self, fields: Optional[Fields], holder: Any = None) -> None:
        for kind, text, item in _each(fields):
            self[kind].setdefault(text, (item, set()))[1].add(holder)

    def remove(self, fields: Optional[Fields], *holder: Any) -> Optional[Fields]:
        """Removes items for everybody, or for one holder. Gives those that nobody holds any more."""
        gone: Fields = {}
        for kind, text, item in _each(fields):
            if holder:
                holders = self[kind].get(text, (item, set()))[1]
                if holder[0] not in holders:
                    continue
                holders.discard(holder[0])
                if holders:
                    continue
            self[kind].pop(text, None)
            gone.setdefault(kind, []).append(item)
        return gone or None

    def fields(self, but: Optional["Selection"] = None) -> Optional[Fields]:
        """All of it, or all that the other has not, as fields of a request; None when that is nothing."""
        rest = {
            kind: [item for text, (item, _) in self[kind].items() if but is None or text not in but[kind]] for kind in KINDS
        }
        return {kind: items for kind, items in rest.items() if items} or None


def split(fields: Fields, limit: int) -> Optional[List[Fields]]:
    """Splits fields so that each part fits into a frame of so many bytes. None when an item alone does not.

    With topics and templates both must hold, so the first part has some of each: no part brings more than the whole.
    """
    items = [(kind, item, len(compact(item).encode(errors="replace")) + 1) for kind in KINDS for item in fields.get(kind, ())]
    first = [entry for entry in items if entry[0] != "template"][:1] + [entry for entry in items if entry[0] == "template"][:1]
    parts: List[Fields] = []
    room = 0
    for entry in first + [entry for entry in items if not any(entry is one for one in first)]:
        kind, item, size = entry
        if size + ENVELOPE > limit:
            return None
        if not parts or size > room:
            parts.append({})
            room = limit - ENVELOPE
        parts[-1].setdefault(kind, []).append(item)
        room -= size
    if len(first) == 2 and "template" not in parts[0]:
        return None
    return parts


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _each(fields: Optional[Fields]) -> Iterator[Tuple[str, str, Any]]:
    for kind in KINDS:
        for item in (fields or {}).get(kind) or ():
            value = _as_mapping(item) if kind == "template" else item
            yield kind, value if isinstance(value, str) else compact(value), value


def _as_mapping(template: Any) -> Any:
    """A template that is the text of an object is that object: a frame takes no other."""
    if not isinstance(template, str) or not template.startswith("{"):
        return template
    try:
        return json.loads(template)
    except ValueError:
        return template
