"""The slots of processes that the application has, and those that are asked for again."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ._requests import Frame
from ._selection import Selection

# Slots are asked for so often, with growing pauses, before a gap says that they are missing.
MAX_ATTEMPTS = 10
# Gaps of publications behind which slots may be missing.
LOSSES = {"epoch", "expired", "cursor"}


class _Open:
    """A slot of which a part came: how many events are to come, and how many of each path came."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.left: Optional[int] = None
        self.given: Dict[str, int] = {}
        self.again: Dict[str, int] = {}


class _Missed:
    """A process whose slots are asked for. Its new events are held: the server reads them again, in their order."""

    def __init__(self) -> None:
        self.held: List[Frame] = []
        self.size = 0
        # Ranges that the replay reported, and the last slot of the frames that found no room.
        self.late: List[Tuple[int, int]] = []
        self.dropped = -1
        self.attempt = 0
        self.is_waiting = False


class Slots:
    """The newest slot of each process that the application has whole, and the processes whose slots are asked for again."""

    def __init__(
        self,
        whole: Mapping[str, int],
        first: Mapping[str, int],
        selection: Callable[[], Selection],
        bounds: Tuple[int, int],
    ) -> None:
        self._selection, self._bounds = selection, bounds
        # Replaced with each change, so that whoever has it has the slots of that moment.
        self._whole: Dict[str, int] = dict(whole)
        self._open: Dict[str, _Open] = {}
        self._missed: Dict[str, _Missed] = {process: _Missed() for process in whole}
        for process, slot in first.items():
            self.begin(process, slot)

    @property
    def whole(self) -> Dict[str, int]:
        """Up to this slot of each process the application has everything."""
        return self._whole

    def begin(self, process: str, slot: int) -> None:
        """Begins with a slot, unless a later one is known."""
        if process not in self._whole:
            self._set(process, slot - 1)
            self._missed[process] = _Missed()

    def lose(self, gap: Frame) -> None:
        """Notes a gap behind which slots may be missing."""
        process = gap.get("process")
        if gap["reason"] == "not_followed":
            following = self._whole.get(str(process), -2) + 1
            if gap["from_slot"] <= following <= gap["to_slot"] and self._is_wanted(process):
                self._missed.setdefault(str(process), _Missed())
        elif gap["reason"] in LOSSES and process is None:
            for known in self._whole:
                if self._is_wanted(known):
                    self._missed.setdefault(known, _Missed())

    def hold(self, frame: Frame, size: int) -> bool:
        """Holds a frame of a process whose slots are asked for. Says whether it did."""
        missed = self._missed.get(frame.get("process", ""))
        if missed is None or ("slot" not in frame and "from_slot" not in frame) or not self._is_wanted(frame["process"]):
            return False
        missed.held.append(frame)
        missed.size += size
        while len(missed.held) > self._bounds[0] or missed.size > self._bounds[1]:
            oldest = missed.held.pop(0)
            missed.size -= oldest.get("size", 0)
            missed.dropped = max(missed.dropped, _last(oldest))
        return True

    def is_given(self, frame: Frame) -> bool:
        """Whether the application has an event of a replay: a slot of which it has a part is replayed from its beginning."""
        process, slot, path = frame["process"], frame["slot"], frame.get("path", "")
        if slot <= self._whole.get(process, -1):
            return True
        part = self._open.get(process)
        if part is None or part.slot != slot:
            return False
        part.again[path] = part.again.get(path, 0) + 1
        return part.again[path] <= part.given.get(path, 0)

    def give(self, frame: Frame) -> None:
        """Notes an event that the application is given, or a gap in the place of slots."""
        process = frame["process"]
        if not self._is_wanted(process):
            return
        if frame["type"] == "gap":
            if frame.get("to_slot", -1) > self._whole.get(process, -1):
                self._set(process, frame["to_slot"])
            return
        slot, path = frame["slot"], frame.get("path", "")
        whole = self._whole.get(process)
        if whole is not None and slot <= whole:
            return  # A late slot, which a gap has reported.
        if whole != slot - 1:
            self._set(process, slot - 1)
        part = self._open.setdefault(process, _Open(slot))
        part.given[path] = part.given.get(path, 0) + 1
        if not _is_result(frame, path):
            part.left = None if part.left is None else part.left - 1
        elif isinstance(frame["data"].get("outbox-count"), int):
            part.left = frame["data"]["outbox-count"] + frame["data"].get("event-count", 0)
        # With templates, nobody knows which events of the slot are to come.
        if part.left == 0 and not self._selection()["template"]:
            self._set(process, slot)

    # ---- Slots that are asked for again ----

    def next(self) -> Optional[Tuple[str, int]]:
        """The next process to ask for, and its slot."""
        for process, missed in self._missed.items():
            if not missed.is_waiting and self._is_wanted(process):
                return process, self._whole[process] + 1
        return None

    def asked(self, process: str) -> None:
        """The replay of a process begins."""
        if process in self._open:
            self._open[process].again.clear()
        self._missed[process].late = []

    def report(self, process: str, first: int, last: int) -> None:
        """The replay has reported these slots as missing. They may come late."""
        if process in self._missed:
            self._missed[process].late.append((first, last))

    def found(self, process: str, slot: int) -> List[Frame]:
        """The replay is over, and slots from this one on come live. Gives the frames that it did not bring."""
        missed = self._missed.pop(process)
        if slot - 1 > self._whole[process]:
            self._set(process, slot - 1)
        return [
            frame
            for frame in missed.held
            if frame["type"] == "message" and any(first <= frame["slot"] <= last for first, last in missed.late)
        ]

    def fail(self, process: str) -> Optional[int]:
        """How often slots of a process were asked for in vain, None when that is enough. The next time is after `retry`."""
        # It is asked for after all others.
        missed = self._missed[process] = self._missed.pop(process)
        if missed.attempt == MAX_ATTEMPTS:
            return None
        missed.is_waiting = True
        missed.attempt += 1
        return missed.attempt - 1

    def retry(self, process: str) -> None:
        if process in self._missed:
            self._missed[process].is_waiting = False

    def lost(self) -> None:
        """The connection is gone: with another one, nobody waits."""
        for missed in self._missed.values():
            missed.is_waiting = False

    def give_up(self, process: str, live: Optional[int]) -> List[Frame]:
        """Asks no more. Gives what the application gets in place of slots before `live`: a gap, and the frames that were held."""
        self.asked(process)
        missed = self._missed.pop(process)
        first = self._whole[process] + 1
        frames = [
            frame
            for frame in missed.held
            if _last(frame) > missed.dropped and (frame["type"] == "gap" or not self.is_given(frame))
        ]
        following: Optional[int] = missed.dropped + 1 if missed.dropped >= 0 else live
        if frames:
            following = frames[0].get("slot", frames[0].get("from_slot"))
        gap: Dict[str, Any] = {"type": "gap", "reason": "not_replayed", "process": process, "from_slot": first}
        if following is not None:
            if following <= first:
                return frames
            gap.update(to_slot=following - 1, dropped=following - first)
        return [gap, *frames]

    def _is_wanted(self, process: Any) -> bool:
        return f"process:{process}" in self._selection()["topics"]

    def _set(self, process: str, slot: int) -> None:
        self._whole = {**self._whole, process: slot}
        self._open.pop(process, None)


def _last(frame: Frame) -> int:
    last: int = frame["slot"] if "slot" in frame else frame["to_slot"]
    return last


def _is_result(frame: Frame, path: str) -> bool:
    data = frame.get("data")
    return isinstance(data, dict) and data.get("type") == "result" and "/results/" not in path
