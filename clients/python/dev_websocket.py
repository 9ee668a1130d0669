"""A client of dev_websocket that stays connected.

It comes back after each lost connection, asks for what was published meanwhile, and delivers every publication once and
in order. README.md says how it is used.
"""

import asyncio
import json
import re
import time
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.protocol import State

from dev_websocket_retry import Retry

__all__ = ["Client", "Problem", "Retry"]

LOST = 1006
KINDS = ("topics", "match", "template")


class Problem(Exception):
    """What the server refused. When `fatal`, the client gave up."""

    def __init__(self, code, message="", fatal=False, status=None, id=None):  # pylint: disable=redefined-builtin
        super().__init__(message or f"closed with {code}")
        self.code = code
        self.fatal = fatal
        self.status = status
        self.id = id


class Cursor:
    """Up to which publication everything that concerns a client was delivered. Numbers start anew with each epoch."""

    def __init__(self, text=None):
        self._epoch = self._seq = self._current = None
        if text is not None:
            parts = re.fullmatch(r"(?:([^:]+):)?([0-9]+)", str(text))
            if parts is None:
                raise ValueError(f"a cursor is epoch:seq, not {text}")
            self._epoch, self._seq = parts[1], int(parts[2])

    @property
    def text(self):
        """`epoch:seq`, or None while nothing is known."""
        if self._seq is None:
            return None
        return str(self._seq) if self._epoch is None else f"{self._epoch}:{self._seq}"

    def enter(self, epoch):
        """What is said from now on is of this epoch. The cursor is of its own until something of the new one arrives."""
        self._current = epoch

    def at(self, seq):
        """A publication of the present epoch, as a cursor."""
        return f"{self._current}:{seq}"

    def advance(self, seq):
        """Moves forward. Says whether it did: if not, the publication was seen before."""
        if self._epoch == self._current and self._seq is not None and seq <= self._seq:
            return False
        self._epoch, self._seq = self._current, seq
        return True

    def forget(self):
        """Drops what the server cannot use. Gives the gap that this is."""
        gap = {"type": "gap", "reason": "cursor", "cursor": self.text}
        self._epoch = self._seq = None
        return gap


class Selection:
    """Topics, regexes and templates, each found by its text: a template is a dict or a path with a regex."""

    def __init__(self, fields=None):
        self._kinds = {kind: {} for kind in KINDS}
        self.add(fields)

    def __getitem__(self, kind):
        return self._kinds[kind]

    @staticmethod
    def _each(fields):
        for kind in KINDS:
            items = (fields or {}).get(kind) or ()
            for item in [items] if isinstance(items, (str, dict)) else items:
                yield kind, item if isinstance(item, str) else json.dumps(item, separators=(",", ":")), item

    def add(self, fields):
        for kind, text, item in self._each(fields):
            self[kind][text] = item

    def remove(self, fields):
        for kind, text, _ in self._each(fields):
            self[kind].pop(text, None)

    def fields(self, but=None):
        """All of it, or all that the other has not, as fields of a request; None when that is nothing."""
        rest = {kind: [item for text, item in self[kind].items() if but is None or text not in but[kind]] for kind in KINDS}
        return {kind: items for kind, items in rest.items() if items} or None


class Replay:
    """A subscription with a `since` of its own, until all that it asked for has come."""

    def __init__(self, items, since):
        self.items, self.since = Selection(items), str(since)
        # The request's id, once it is sent, and the number from which on its messages are new ones.
        self.id = self.up_to = None

    def lost(self):
        self.id = self.up_to = None


class Client:
    """`async for message in client`. Reads, waits and reconnects only while somebody iterates.

    What is read between two messages goes to listeners: `client.on("gap", print)`.
    """

    # pylint: disable=too-many-instance-attributes,too-many-arguments

    def __init__(
        self,
        url,
        *,
        topics=(),
        match=(),
        template=(),
        process=(),
        cursor=None,
        last=None,
        slow=None,
        heartbeat=30,
        timeout=10,
        retry=None,
        **connect_options,
    ):
        self.url = url
        self.state = "connecting"
        self._process = [process] if isinstance(process, str) else list(process)
        self._last, self._slow = last, slow
        self._heartbeat, self._timeout = heartbeat, timeout
        # Messages may be as large as the node allows, and silence is found out about here.
        defaults = {"max_size": None, "compression": None, "ping_interval": None, "open_timeout": timeout}
        self._connect_options = {**defaults, **connect_options}
        self._retry = retry or Retry()
        self._cursor = Cursor(cursor)
        self._listeners = {}
        self._failure = None
        # The connection, the frame that is being read, and a wait that closing ends.
        self._socket = self._reading = self._pending = None
        self._sending = set()
        self._due = 0
        self._established = None
        # When silence has lasted too long, and whether the server was asked about it already.
        self._deadline, self._asked_after = None, False
        # Present subscriptions, and those that the URL of this connection asked for.
        self._wanted = Selection({"topics": topics, "match": match, "template": template})
        self._asked, self._past = Selection(), ()
        # Subscriptions whose past is not here yet. Only the first has been sent.
        self._replays = []
        # What requests without an answer subscribe to, by their id.
        self._requests = {}
        self._id = 0

    @property
    def cursor(self):
        """Where to go on after the message given last, as `epoch:seq`, for a later client."""
        return self._cursor.text

    def on(self, event, listener):
        """Calls the listener for each `gap`, `state`, `error`, `reply`, `live` or `direct`. Gives a function that ends this."""
        listeners = self._listeners.setdefault(event, [])
        listeners.append(listener)
        return lambda: listeners.remove(listener)

    def subscribe(self, *, topics=(), match=(), template=(), since=None):
        """Subscribes, also on later connections; with `since` to what was published, too."""
        items = {"topics": topics, "match": match, "template": template}
        if since is not None:
            self._replays.append(Replay(items, since))
            self._replay_next()
            return
        fresh = Selection(items).fields(but=self._wanted)
        self._wanted.add(fresh)
        if self.state == "open":
            self._request("subscribe", fresh)

    def unsubscribe(self, *, topics=(), match=(), template=()):
        items = {"topics": topics, "match": match, "template": template}
        self._wanted.remove(items)
        for replay in self._replays:
            replay.items.remove(items)
        if self.state == "open":
            self._request("unsubscribe", Selection(items).fields())

    def send(self, data):
        """Hands data to the node's listener. Gives the request's id, or None without a connection: it is not kept."""
        if self.state not in ("open", "replaying"):
            return None
        self._id += 1
        self._post({"type": "send", "id": self._id, "data": data})
        return self._id

    async def close(self, code=1000, reason=""):
        """Closes for good: no connection and no task stays."""
        if self.state == "closed":
            return
        socket = self._leave()
        self._turn("closed")
        if self._pending is not None:
            self._pending.cancel()
        # The package fails at closing a connection that ended while it still had something to send.
        if socket is not None and socket.state is not State.CLOSED:
            await socket.close(code, reason)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while self.state != "closed":
            if self._socket is None:
                await self._connect()
            elif (frame := await self._receive()) is not None and self._handle(frame):
                return frame
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    # ---- The connection ----

    async def _connect(self):
        if (delay := self._due - time.monotonic()) > 0:
            await self._unless_closed(asyncio.sleep(delay))
            return
        address = self._address()
        self._turn("connecting")
        try:
            socket = await self._unless_closed(connect(address, **self._connect_options))
        except InvalidURI:
            raise
        except InvalidStatus as refusal:
            self._lost(LOST, status=refusal.response.status_code, **_refusal(refusal.response.body))
        except (OSError, asyncio.TimeoutError, WebSocketException) as error:
            self._lost(LOST, reason=str(error))
        else:
            if self.state == "closed" and socket is not None:
                await socket.close()
                return
            self._socket = socket
            self._asked_after, self._deadline = True, time.monotonic() + self._timeout

    def _address(self):
        parts = urlsplit(self.url)
        self._asked = Selection(self._wanted.fields())
        query = [("topic", topic) for topic in self._asked["topics"]]
        query += [(kind, text) for kind in ("match", "template") for text in self._asked[kind]]
        query += [("process", process) for process in self._process]
        query += [("slow", self._slow)] if self._slow else []
        past = [("since", self.cursor)] if self.cursor is not None else [("last", self._last)] if self._last else []
        self._past = [name for name, _ in past]
        return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, urlencode(query + past)]))))

    async def _unless_closed(self, awaitable):
        """Awaits what `close` may cut short: then gives None."""
        self._pending = asyncio.ensure_future(awaitable)
        try:
            return await self._pending
        except asyncio.CancelledError:
            if self.state == "closed":
                return None
            raise
        finally:
            self._pending = None

    async def _receive(self):
        """The next frame, None when there is none yet or no connection any more."""
        # A frame that is being read survives that whoever iterates is interrupted.
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._socket.recv())
        patience = None if self._deadline is None else max(0, self._deadline - time.monotonic())
        await asyncio.wait({self._reading}, timeout=patience)
        if self._socket is None:
            return None
        if not self._reading.done():
            self._ask_or_drop()
            return None
        reading, self._reading = self._reading, None
        try:
            text = reading.result()
        except ConnectionClosed:
            self._lost(self._socket.close_code, reason=self._socket.close_reason)
            return None
        self._asked_after = False
        self._deadline = time.monotonic() + self._heartbeat if self._heartbeat else None
        try:
            frame = json.loads(text)
        except ValueError:
            return None
        return frame if isinstance(frame, dict) else None

    def _ask_or_drop(self):
        """After a silence, asks whether the server is there; after one more, gives the connection up."""
        if self._asked_after:
            # A goodbye would take as long.
            self._socket.transport.abort()
            self._lost(LOST, reason="no answer")
        else:
            self._post({"type": "ping"})
            self._asked_after, self._deadline = True, time.monotonic() + self._timeout

    def _leave(self):
        """Gives the connection, which is not read any more."""
        socket, self._socket = self._socket, None
        reading, self._reading = self._reading, None
        # What was read already and is not wanted any more may be an error; asyncio tells of those that nobody looks at.
        if reading is not None and not reading.cancel() and not reading.cancelled():
            reading.exception()
        return socket

    def _lost(self, code, reason="", status=None, error=None):
        if self.state == "closed":
            return
        self._leave()
        self._requests.clear()
        for replay in self._replays:
            replay.lost()
        lived = 0 if self._established is None else time.monotonic() - self._established
        self._established = None

        gap = self._cursor.forget() if error == "bad_since" else None
        delay = self._retry.after(code, None if gap else status, lived)
        details = {"code": error or code, "reason": reason, "status": status}
        if delay is None:
            self._failure = Problem(details["code"], reason, fatal=True, status=status)
            self._turn("closed", **details)
            self._emit("error", self._failure)
            return
        self._due = time.monotonic() + delay
        self._turn("waiting", **details, delay=delay)
        if gap:
            self._emit("gap", gap)

    # ---- Frames ----

    def _handle(self, frame):
        """Does what a frame asks for. Says whether it is a message to be given."""
        kind = frame.get("type")
        if kind == "message":
            return self._is_due(frame)
        if kind == "connection_established":
            self._welcome(frame)
        elif kind == "live":
            self._live(frame)
        elif kind == "error":
            self._error(frame)
        elif kind == "pong":
            self._passed(frame["seq"])
        elif kind in ("subscription_response", "unsubscription_response"):
            self._reply(frame)
        elif kind == "direct" or kind == "gap" and self._is_due_gap(frame):
            self._emit(kind, frame)
        return False

    def _welcome(self, frame):
        self._cursor.enter(frame["epoch"])
        self._established = time.monotonic()
        ignored = frame.get("ignored", ())
        if any(name not in ignored for name in self._past):
            self._turn("replaying")
            return
        # A server that knows no `since` has sent nothing of what was missed.
        gap = self._cursor.forget() if "since" in self._past else None
        self._open(frame["seq"])
        if gap:
            self._emit("gap", gap)

    def _open(self, seq):
        """All that was missed is here. What was subscribed to, or not any more, while it came is told to the server."""
        self._cursor.advance(seq)
        self._request("subscribe", self._wanted.fields(but=self._asked))
        self._request("unsubscribe", self._asked.fields(but=self._wanted))
        self._turn("open")
        self._replay_next()

    def _is_due_gap(self, frame):
        """A gap in the slots of a process is a publication with a number of its own, any other has none."""
        return not isinstance(frame.get("seq"), int) or self._is_due(frame)

    def _is_due(self, frame):
        """Moves the cursor to a publication, or that of the replay that it belongs to. Says whether it was not there yet."""
        replay = self._replays[0] if self._replays else None
        if replay and replay.up_to is not None and frame["seq"] <= replay.up_to:
            replay.since = self._cursor.at(frame["seq"])
            return True
        return self._cursor.advance(frame["seq"])

    def _live(self, frame):
        if self.state == "replaying":
            self._open(frame["seq"])
        elif self._is_replay(frame):
            self._wanted.add(self._replays.pop(0).items.fields())
            self._cursor.advance(frame["seq"])
            self._replay_next()
        self._emit("live", frame)

    def _reply(self, frame):
        self._passed(frame["seq"])
        if self._is_replay(frame):
            self._replays[0].up_to = frame["seq"]
        self._requests.pop(frame.get("id"), None)
        self._emit("reply", frame)

    def _error(self, frame):
        refused = self._requests.pop(frame.get("id"), None)
        if self._is_replay(frame):
            since = self._replays.pop(0).since
            self._replay_next()
            if frame["code"] == "bad_since":
                self.subscribe(**refused)
                self._emit("gap", {"type": "gap", "reason": "cursor", "cursor": since})
                return
        else:
            # A request is refused whole. Kept, it would be refused in the URL of the next connection too.
            self._wanted.remove(refused)
        self._emit("error", Problem(frame["code"], frame.get("message", ""), id=frame.get("id")))

    def _passed(self, seq):
        """Whatever has a lower number than an answer comes before it, unless past publications come at the same time."""
        if self.state == "open" and not (self._replays and self._replays[0].up_to is not None):
            self._cursor.advance(seq)

    # ---- Requests and events ----

    def _request(self, kind, items, **more):
        if items is None:
            return None
        self._id += 1
        if kind == "subscribe":
            self._requests[self._id] = items
        self._post({"type": kind, "id": self._id, **items, **more})
        return self._id

    def _replay_next(self):
        """One replay at a time, so that it is known which one a message belongs to."""
        while self.state == "open" and self._replays and self._replays[0].id is None:
            replay = self._replays[0]
            replay.id = self._request("subscribe", replay.items.fields(), since=replay.since)
            if replay.id is None:
                self._replays.pop(0)

    def _is_replay(self, frame):
        """Whether an answer belongs to the replay that was asked for."""
        return bool(self._replays) and "id" in frame and self._replays[0].id == frame["id"]

    def _post(self, frame):
        """Sends without waiting, and so that nobody who is interrupted leaves half of it undone."""
        task = asyncio.ensure_future(_send(self._socket, json.dumps(frame)))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _turn(self, state, **details):
        self.state = state
        self._emit("state", {"state": state, **{name: value for name, value in details.items() if value is not None}})

    def _emit(self, event, value):
        for listener in list(self._listeners.get(event, ())):
            listener(value)


async def _send(socket, text):
    try:
        await socket.send(text)
    except ConnectionClosed:
        pass  # Who reads finds out.


def _refusal(body):
    try:
        told = json.loads(body)
        return {"error": told["error"], "reason": told["message"]}
    except (ValueError, KeyError, TypeError):
        return {"reason": bytes(body or b"")[:200].decode(errors="replace")}
