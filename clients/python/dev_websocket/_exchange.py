"""The frames of all connections of a client, one after the other."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Protocol, Set, Tuple, Union

from ._address import Attempt
from ._cursor import Cursor
from ._errors import ClientError
from ._options import Settings
from ._pending import Pending, Replay, Restore
from ._recovery import Recovery
from ._requests import Change, Frame, Requests, refused
from ._selection import Fields, Selection, split
from ._slots import Slots
from .types import State

REPLIES = {"subscription_response", "unsubscription_response"}
# Refusals that pass, as the server has no room for all clients together.
CROWDED = {"too_many_globs", "too_many_expressions", "too_many_distinct_templates", "too_many_unindexed_patterns", "busy"}


class Holder(Protocol):
    """A subscription, which is told the reply or the refusal."""

    def fulfil(self, reply: Frame) -> None: ...

    def fail(self, error: ClientError) -> None: ...


class Line(Protocol):
    """A connection, as the exchange needs it."""

    can_send: bool

    def send(self, frame: Frame) -> None: ...


class Host(Protocol):
    """The client, as the exchange needs it."""

    @property
    def state(self) -> State: ...

    def turn(self, state: State) -> None: ...

    def emit(self, event: str, value: Any) -> None: ...

    def deliver(self, frame: Frame, size: int, cursor: Optional[str]) -> None: ...

    def drop(self, reason: str, code: Union[int, str], fatal: Optional[bool] = None) -> None: ...

    def reopen(self) -> None: ...

    def renew(self) -> None: ...


class Exchange:
    """Subscriptions, the cursor of what was received, and requests that have no answer yet."""

    # pylint: disable=too-many-instance-attributes

    def __init__(self, host: Host, cursor: Any, fields: Fields, settings: Settings) -> None:
        self._host = host
        self._cursor = Cursor(cursor)
        bounds = (settings.max_queue, settings.max_queue_bytes)
        self._slots = Slots(settings.slots, settings.from_slot, lambda: self.selection, bounds)
        self._recovery = Recovery(self._slots, host, settings, self._give)
        # Subscriptions that the server has confirmed, or that the options name.
        self.selection = Selection(fields)
        # Those that the URL of this connection asked for.
        self._asked = Selection()
        self._changes: List[Pending] = []
        self._is_scheduled = False
        # Only the first has been sent.
        self._replays: List[Replay] = []
        self._restore: Optional[Restore] = None
        self._requests: Optional[Requests] = None
        self._line: Optional[Line] = None
        self._how = Attempt("", None, False)
        self._id = 0
        self._established: Optional[Frame] = None

    @property
    def cursor(self) -> Optional[str]:
        return self._cursor.text

    @property
    def slots(self) -> Dict[str, int]:
        """The newest slot of each process that was delivered whole."""
        return self._slots.whole

    @property
    def missed_slots(self) -> Optional[Tuple[str, int]]:
        """The process and the slot that a stream of events has to ask for."""
        return self._slots.next()

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._changes or self._replays or (self._requests is not None and not self._requests.is_empty))

    def begin(self, cursor: Optional[str], slots: Dict[str, int]) -> None:
        """Where the URL says that the client begins, when it knows no place yet."""
        if self.cursor is None:
            self._cursor = Cursor(cursor)
        for process, slot in slots.items():
            self._slots.begin(process, slot)

    def ask(self, how: Attempt) -> None:
        """Another attempt, which the server may refuse."""
        self._recovery.ask(how.slots)

    def connect(self, line: Line, how: Attempt) -> None:
        self._line, self._how = line, how
        self._asked = Selection() if how.by_frames else Selection(self.selection.fields())
        self._recovery.connect(line)

    def lost(self, error: Optional[str] = None) -> Optional[List[Frame]]:
        """The connection is gone. Gives gaps, also none, when the past was refused, so that another one is asked for next."""
        if self._requests is not None:
            self._id = self._requests.next_id
            self._requests.end()
        self._line = self._requests = self._restore = self._established = None
        for replay in self._replays:
            replay.id = replay.up_to = None
        for change in self._changes:
            change.is_sent = False
        is_refused = self._recovery.lost(error)
        if error == "bad_since":
            return [self._forget()]
        return [] if is_refused else None

    def _forget(self) -> Frame:
        """Drops the cursor. Gives the gap that this is."""
        gap = self._cursor.forget()
        self._slots.lose(gap)
        return gap

    def end(self, error: ClientError) -> None:
        """All that waits for an answer gets none."""
        changes, self._changes = self._changes, []
        replays, self._replays = self._replays, []
        for change in changes:
            change.fail(error)
        for replay in replays:
            replay.holder.fail(error)

    # ---- Subscriptions ----

    def subscribe(self, fields: Fields, since: Any, holder: Holder) -> None:
        if since is not None:
            self._replays.append(Replay(fields, since, holder))
            self._replay_next()
            return
        fields = Selection(fields).fields() or {}

        def fulfil(reply: Frame) -> None:
            self.selection.add(fields, holder)
            self._asked.add(fields)
            holder.fulfil(reply)
            if pending.is_cancelled:
                self.unsubscribe(fields, holder)
            else:
                self._recovery.next()

        pending = Pending("subscribe", fields, holder, fulfil, holder.fail)
        self._change(pending)

    def unsubscribe(self, fields: Fields, holder: Any = None) -> None:
        """Ends what a holder subscribed to, or these items for everybody."""
        pending = next((change for change in self._changes if holder is not None and change.holder is holder), None)
        if pending is not None:
            if not pending.is_sent:
                self._changes.remove(pending)
                return
            pending.is_cancelled = True
        for replay in self._replays:
            if holder is None or replay.holder is holder:
                replay.items.remove(fields)
        if holder is None:
            self.selection.remove(fields)
            gone = Selection(fields).fields()
        else:
            gone = self.selection.remove(fields, holder)
        if gone is None:
            return

        def fulfil(_: Frame) -> None:
            self._asked.remove(gone)
            if holder is None:
                self.selection.remove(gone)

        self._change(Pending("unsubscribe", gone, fulfil=fulfil))

    def say(self, frame: Frame) -> Optional[int]:
        """Sends a frame that has no answer. Gives its id, or None without a WebSocket: it is not kept for later."""
        if self._requests is None or self._line is None or not self._line.can_send:
            return None
        return self._requests.say(frame)

    def take_changes(self) -> None:
        """Subscriptions that a stream of events has to have in its URL, as it takes no frames."""
        for change in self._changes:
            if change.type == "subscribe":
                self.selection.add(change.fields, change.holder)
            change.is_sent = True

    def _change(self, change: Pending) -> None:
        self._changes.append(change)
        if not self._is_scheduled and self._host.state not in ("idle", "closed"):
            self._is_scheduled = True
            # Calls that are made without an await between them are sent together.
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        unsent = [change for change in self._changes if not change.is_sent]
        if self._host.state != "open" or not unsent or self._line is None or self._requests is None:
            return
        if not self._line.can_send:
            # A stream of events is asked anew; its first frame is the answer.
            self._host.reopen()
            return
        for change in unsent:
            change.is_sent = True
        self._requests.ask([self._request_of(change) for change in unsent])

    def _request_of(self, change: Pending) -> Change:
        # The server is not asked again for items that it has, unless there is nothing else to get an answer to.
        fields = change.fields
        if change.type == "subscribe":
            fields = Selection(fields).fields(but=self._asked) or fields

        def fail(frame: Frame) -> None:
            error = refused(frame)
            self._settle(change, lambda: change.fail(error))
            self._host.emit("error", error)

        return Change(change.type, fields, lambda frame: self._settle(change, lambda: change.fulfil(frame)), fail)

    def _settle(self, change: Pending, act: Callable[[], None]) -> None:
        if change in self._changes:
            self._changes.remove(change)
        act()

    # ---- Frames ----

    def received(self, frame: Optional[Frame], size: int) -> None:
        if self._established is None or self._requests is None:
            if frame is None or frame.get("type") != "connection_established" or not isinstance(frame.get("epoch"), str):
                self._host.drop("the first frame is not that of dev_websocket: is the path right, as in /ws?", "bad_server")
            else:
                self._welcome(frame)
            return
        if frame is None:
            return
        kind = frame.get("type")
        if self._restore is not None and self._restore.held is not None and kind in ("message", "gap"):
            self._restore.held.append((frame, size))
        elif kind == "message":
            self._message(frame, size)
        elif kind == "gap":
            self._gap(frame)
        elif kind == "live":
            self._live(frame)
        elif kind == "pong":
            self._passed(frame.get("seq"))
        elif kind == "stale":
            self._host.deliver(frame, 0, self.cursor)
        elif kind == "direct":
            self._host.deliver(frame, 0, None)
        elif kind == "token_expires":
            self._host.renew()
        else:
            if kind in REPLIES:
                self._passed(frame.get("seq"))
            is_answer = self._requests.answer(frame)
            if kind in REPLIES:
                self._host.emit("reply", frame)
            elif kind == "error" and not is_answer and not self._recovery.refuses(frame):
                self._host.emit("error", refused(frame))

    def _welcome(self, frame: Frame) -> None:
        self._established = frame
        self._cursor.enter(frame["epoch"])
        line = self._line
        assert line is not None
        limits: Dict[str, int] = frame.get("limits") or {}
        self._requests = Requests(line.send, limits, self._id)
        self._recovery.welcome(self._requests)
        self._host.emit("established", frame)
        if self._line is None:
            return
        past = self._how.past
        if self._how.by_frames:
            self._restore_all()
        elif past is not None and past not in frame.get("ignored", ()):
            self._host.turn("replaying")
        else:
            # A server without this `since` has replayed no missed publication.
            gap = self._forget() if past == "since" else None
            self._open(frame["seq"])
            if gap:
                self._host.deliver(gap, 0, self.cursor)

    def _restore_all(self) -> None:
        """Makes subscriptions again that the URL had no room for. Several replays are put in order."""
        assert self._requests is not None
        fields = self.selection.fields()
        parts = split(fields or {}, self._requests.frame_bytes)
        if parts is None:
            self._host.drop("the subscriptions do not fit into frames that the server takes", "too_large", True)
            return
        self._host.turn("replaying")
        if self._line is None:
            return
        restore = self._restore = Restore(len(parts), fields)
        since = self.cursor
        for part in parts:
            self._restore_part(restore, part, since)

    def _restore_part(self, restore: Restore, part: Fields, since: Optional[str]) -> None:
        def answered(frame: Frame) -> None:
            if frame["type"] != "error":
                if since is None:
                    self._restored(restore, frame["seq"])
            elif frame.get("code") == "bad_since":
                gap = self._forget()
                if gap["cursor"] is not None:
                    self._host.deliver(gap, 0, self.cursor)
                self._restore_part(restore, part, None)
            else:
                self._host.drop(str(frame.get("message")), frame["code"], frame["code"] not in CROWDED)

        assert self._requests is not None
        request: Dict[str, Any] = {**part} if since is None else {**part, "since": since}
        number = self._requests.post("subscribe", request, answered)
        if since is not None:
            restore.ids.add(number)

    def _restored(self, restore: Restore, seq: int) -> None:
        restore.seq = max(restore.seq, seq)
        restore.left -= 1
        if restore.left:
            return
        self._restore = None
        before = None
        for frame, size in sorted(restore.held or (), key=lambda held: held[0].get("seq") or held[0].get("next") or 0):
            # Each replay told of the same gap.
            text = json.dumps(frame) if frame["type"] == "gap" else None
            if text is not None and text == before:
                continue
            before = text or before
            if text is not None:
                self._gap(frame)
            else:
                self._message(frame, size)
        self._asked = restore.selection
        self._open(restore.seq)

    def _open(self, seq: int) -> None:
        """All that was missed is here. Changes that were made while it came are told to the server."""
        self._cursor.advance(seq)
        for change in [change for change in self._changes if change.is_sent]:
            reply = self._first_reply(change)
            self._settle(change, partial(change.fulfil, reply))
        fields = self._asked.fields(but=self.selection)
        if fields is not None and not any(change.type == "unsubscribe" for change in self._changes):
            self._changes.append(Pending("unsubscribe", fields))
        self._host.turn("open")
        self._flush()
        self._replay_next()
        self._recovery.next()

    def _first_reply(self, change: Pending) -> Frame:
        """The first frame of a connection as the reply to what its URL asked for."""
        first = self._established or {}
        kind = "subscription_response" if change.type == "subscribe" else "unsubscription_response"
        return {"type": kind, **{name: first.get(name) for name in ("seq", "subscribed_topics", "timestamp")}}

    def _message(self, frame: Frame, size: int) -> None:
        frame["size"] = size
        if frame.get("replayed") is True:
            if _is_of_slot(frame) and not self._slots.is_given(frame):
                self._give(frame)
            return
        is_past = self._is_past(frame.get("seq"))
        if isinstance(frame.get("seq"), int) and self._is_new(frame["seq"]) and (is_past or not self._slots.hold(frame, size)):
            self._give(frame, is_past)

    def _gap(self, frame: Frame) -> None:
        """A gap in the slots of a process is a publication with a number of its own, any other has none."""
        if isinstance(frame.get("epoch"), str):
            self._cursor.enter(frame["epoch"])
        if frame.get("replayed") is True:
            # One that comes with a refusal is told when the slots are not asked for again.
            if not self._recovery.is_refused:
                if frame["reason"] != "not_replayed":
                    self._slots.report(frame["process"], frame["from_slot"], frame["to_slot"])
                self._give(frame)
            return
        if isinstance(frame.get("seq"), int) and not self._is_new(frame["seq"]):
            return
        self._slots.lose(frame)
        if not self._slots.hold(frame, 0):
            self._give(frame)
        self._recovery.next()

    def _give(self, frame: Frame, is_past: bool = False) -> None:
        is_message = frame["type"] == "message"
        if _is_of_slot(frame) if is_message else "process" in frame:
            if not is_past:
                self._slots.give(frame)
        if is_message:
            frame["cursor"] = self.cursor
        self._host.deliver(frame, frame["size"] if is_message else 0, self.cursor)

    def _is_new(self, seq: int) -> bool:
        """Moves the cursor to a publication, or that of the replay that it belongs to. Says whether it was not there yet."""
        if not self._is_past(seq):
            return self._cursor.advance(seq)
        self._replays[0].since = self._cursor.at(seq)
        return True

    def _is_past(self, seq: Any) -> bool:
        """Whether a publication belongs to a replay that a subscription has asked for."""
        up_to = self._replays[0].up_to if self._replays else None
        return up_to is not None and isinstance(seq, int) and seq <= up_to

    def _live(self, frame: Frame) -> None:
        replay = self._replays[0] if self._replays else None
        if "process" in frame:
            # The replay had all publications up to here.
            self._passed(frame.get("seq"))
            self._recovery.live(frame)
        elif self._restore is not None:
            if frame.get("id") in self._restore.ids:
                self._restore.ids.discard(frame.get("id"))
                self._restored(self._restore, frame["seq"])
        elif self._host.state == "replaying":
            self._open(frame["seq"])
        elif replay and replay.id is not None and frame.get("id") == replay.id:
            self._replays.pop(0)
            self.selection.add(replay.items.fields(), replay.holder)
            self._asked.add(replay.items.fields())
            self._cursor.advance(frame["seq"])
            self._replay_next()
        self._host.deliver(frame, 0, self.cursor)

    def _passed(self, seq: Any) -> None:
        """Whatever has a lower number than an answer comes before it, unless past publications come at the same time."""
        is_replaying = self._host.state != "open" or (self._replays and self._replays[0].up_to is not None)
        if isinstance(seq, int) and not is_replaying:
            self._cursor.advance(seq)

    def _replay_next(self) -> None:
        """One replay at a time, so that it is known which one a message belongs to."""
        while self._host.state == "open" and self._replays and self._replays[0].id is None:
            replay = self._replays[0]
            fields = replay.items.fields()
            if self._requests is None or self._line is None:
                return
            if fields is None or not self._line.can_send:
                self._replays.pop(0)
                if fields is not None:
                    message = "a stream of events takes no since of its own"
                    self._refuse(replay, {"code": "not_supported", "message": message})
                continue
            replay.id = self._requests.post("subscribe", {**fields, "since": replay.since}, self._replay_answer(replay, fields))

    def _replay_answer(self, replay: Replay, fields: Fields) -> Callable[[Frame], None]:
        def answered(frame: Frame) -> None:
            if frame["type"] != "error":
                replay.up_to = frame["seq"]
                replay.holder.fulfil(frame)
                return
            self._replays.pop(0)
            self._replay_next()
            if frame.get("code") == "bad_since":
                self.subscribe(fields, None, replay.holder)
                self._host.deliver({"type": "gap", "reason": "cursor", "cursor": replay.since}, 0, self.cursor)
            else:
                self._refuse(replay, frame)

        return answered

    def _refuse(self, replay: Replay, frame: Frame) -> None:
        error = refused(frame)
        replay.holder.fail(error)
        self._host.emit("error", error)


def _is_of_slot(frame: Frame) -> bool:
    return isinstance(frame.get("process"), str) and isinstance(frame.get("slot"), int)
