"""A client that stays connected."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any, AsyncIterator, Callable, Dict, Literal, Mapping, Optional, Set, Union, cast, overload

from ._address import Address, compose, parse
from ._errors import ClientError, Closed, GaveUp
from ._events import EventStream, Route
from ._exchange import Exchange
from ._delivery import Delivery
from ._options import Options, Settings, check_items, check_token
from ._retry import Retry
from ._selection import Selection
from ._socket import GOODBYE, Lost, Socket, wall_minus_steady
from ._subscription import Subscription
from .types import (
    Direct, Established, Event, Gap, Headers, Live, Message, Overflow, Reply, Slow, Stale, State, StateChange, Templates, Texts,
    Token, TransportName, Update, Url,
)

EVENTS = ("established", "message", "gap", "state", "error", "reply", "live", "stale", "direct")
# Seconds between two looks at the clock, and the jump that only a sleep explains.
LOOK, SLEEP = 5.0, 10.0


class Client(Delivery):
    """`async with Client(url, topics=["prices"]) as client`, then `async for message in client`.

    It reconnects, replays the publications from its absence, and delivers every publication once and
    in order, or a gap that names what is missing. Every await may be cancelled without losing a message or a connection.
    """

    # pylint: disable=too-many-instance-attributes,too-many-arguments,too-many-locals

    def __init__(
        self,
        url: Url,
        *,
        topics: Optional[Texts] = None,
        match: Optional[Texts] = None,
        template: Optional[Templates] = None,
        process: Optional[Texts] = None,
        cursor: Union[str, int, None] = None,
        slots: Optional[Mapping[str, int]] = None,
        from_slot: Optional[Mapping[str, int]] = None,
        last: Optional[int] = None,
        slow: Optional[Slow] = None,
        headers: Optional[Headers] = None,
        token: Optional[Token] = None,
        min_reconnect_delay: Optional[float] = None,
        max_reconnect_delay: Optional[float] = None,
        stable_after: Optional[float] = None,
        max_faults: Optional[float] = None,
        ping_interval: Optional[float] = None,
        timeout: Optional[float] = None,
        max_queue: Optional[int] = None,
        max_queue_bytes: Optional[int] = None,
        overflow: Optional[Overflow] = None,
        transport: Optional[TransportName] = None,
        logger: Optional[logging.Logger] = None,
        ssl: Any = None,
        proxy: Union[str, Literal[True], None] = True,
    ) -> None:
        options = Options(
            process or (), slots, from_slot, last, slow, headers, token, min_reconnect_delay, max_reconnect_delay, stable_after, max_faults,
            ping_interval, timeout, max_queue, max_queue_bytes, overflow, transport, logger, ssl, proxy,
        )
        settings = Settings.checked(options)
        settings.proxy = proxy
        super().__init__(settings)
        fields = check_items(topics, match, template)
        for process_id in (*settings.process, *settings.from_slot):
            fields.setdefault("topics", []).append(f"process:{process_id}")
        self._url = url
        self._state: State = "idle"
        self._failure: Optional[ClientError] = None
        self._exchange = Exchange(_Host(self), cursor, fields, settings)
        self._address: Optional[Address] = None
        self._main.is_expected = bool(fields)
        # Subscriptions that a URL named already: one that was ended does not begin anew with the next attempt.
        self._named = Selection()
        self._retry = Retry(
            settings.min_reconnect_delay, settings.max_reconnect_delay, settings.stable_after, settings.max_faults, settings.random
        )
        self._route = Route(settings.transport)
        self._is_known = self._is_reopening = False
        self._line: Union[Socket, EventStream, None] = None
        self._task: Optional["asyncio.Task[None]"] = None
        self._closing: Optional["asyncio.Task[None]"] = None
        self._renewing: Set["asyncio.Task[None]"] = set()
        self._attempts = 0
        self._clock: Optional[asyncio.TimerHandle] = None
        if not callable(url):
            self._adopt(url)
        self._before, self._slots_before = self._exchange.cursor, self._exchange.slots

    # ---- The face ----

    @property
    def cursor(self) -> Optional[str]:
        """Where to go on behind the message in hand, as `epoch:seq`, for a later client."""
        oldest = self._oldest()
        return oldest.before if oldest is not None else self._exchange.cursor

    @property
    def slots(self) -> Dict[str, int]:
        """The newest slot of each process that the application has whole, for a later client's option `slots`."""
        oldest = self._oldest()
        return dict(oldest.slots if oldest is not None else self._exchange.slots)

    @property
    def state(self) -> State:
        """`idle`, `connecting`, `replaying`, `open`, `waiting` (for the next attempt) or `closed`."""
        return self._state

    @property
    def transport(self) -> Literal["websocket", "events"]:
        """`events` where WebSockets are blocked."""
        return "events" if self._route.is_events else "websocket"

    def connect(self) -> None:
        """Connects, at once also when the client waits for its next attempt. Does not wait for it."""
        if self._state == "closed":
            raise self._failure or Closed("closed", "the client was closed")
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())
            self._clock = asyncio.get_running_loop().call_later(LOOK, self._look, wall_minus_steady())
        elif self._state == "waiting":
            self._stir()

    async def ready(self) -> None:
        """Waits until the client is connected and has all that it missed. Raises when it is closed or gives up first."""
        self.connect()
        while self._state != "open":
            if self._state == "closed":
                raise self._failure or Closed("closed", "the client was closed")
            waiter: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._taken()
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)

    @overload
    def on(self, event: Literal["established"], listener: Callable[[Established], Any]) -> Callable[[], None]: ...
    @overload
    def on(self, event: Literal["message"], listener: Callable[[Message], Any]) -> Callable[[], None]: ...
    @overload
    def on(self, event: Literal["gap"], listener: Callable[[Gap], Any]) -> Callable[[], None]: ...
    @overload
    def on(self, event: Literal["state"], listener: Callable[[StateChange], Any]) -> Callable[[], None]: ...
    @overload
    def on(self, event: Literal["error"], listener: Callable[[ClientError], Any]) -> Callable[[], None]: ...
    @overload
    def on(self, event: Literal["reply"], listener: Callable[[Reply], Any]) -> Callable[[], None]: ...
    @overload
    def on(self, event: Literal["live"], listener: Callable[[Live], Any]) -> Callable[[], None]: ...
    @overload
    def on(self, event: Literal["stale"], listener: Callable[[Stale], Any]) -> Callable[[], None]: ...
    @overload
    def on(self, event: Literal["direct"], listener: Callable[[Direct], Any]) -> Callable[[], None]: ...
    @overload
    def on(self, event: Event, listener: Callable[[Any], Any]) -> Callable[[], None]: ...

    def on(self, event: Event, listener: Callable[[Any], Any]) -> Callable[[], None]:
        """Calls the listener for each event, and awaits what it gives. Gives a function that ends this."""
        if event not in EVENTS:
            raise ValueError(f"there is no event {event!r}; there are {', '.join(EVENTS)}")
        return self._listeners.add(event, listener)

    def subscribe(
        self,
        *,
        topics: Optional[Texts] = None,
        match: Optional[Texts] = None,
        template: Optional[Templates] = None,
        since: Union[str, int, None] = None,
    ) -> Subscription:
        """Subscribes, also on later connections; with `since` to what was published, too."""
        fields = check_items(topics, match, template)
        if not fields:
            raise TypeError("a subscription names topics, match or template")
        if self._state == "closed":
            raise Closed("closed", "the client was closed")
        subscription = Subscription(self, fields, self._new_queue())
        self._subscriptions.append(subscription)
        try:
            self._exchange.subscribe(fields, since, subscription)
        except ValueError:
            self._forget(subscription)
            raise
        self._taken()
        return subscription

    def unsubscribe(
        self, *, topics: Optional[Texts] = None, match: Optional[Texts] = None, template: Optional[Templates] = None
    ) -> None:
        """Ends what any subscription or option has of these items."""
        self._exchange.unsubscribe(check_items(topics, match, template))

    def send(self, data: Any) -> Optional[int]:
        """Hands data to the node's listener. Gives the request's id, or None without a WebSocket: it is not kept."""
        return self._exchange.say({"type": "send", "data": data}) if self._state in ("open", "replaying") else None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes for good: no connection and no task stays."""
        self._finish(code, reason, None)
        if self._closing is not None and not self.lanes.is_in_one():
            await asyncio.shield(self._closing)

    async def run(self) -> None:
        """Connects, and calls listeners until the client is closed. Raises when it gives up."""
        self.connect()
        async for _ in self:
            pass

    async def __aenter__(self) -> "Client":
        self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        """The next message. Whoever is cancelled has missed none."""
        if self._state != "closed":
            self.connect()
        while (entry := await self._next(self._main)) is not None:
            if entry.frame["type"] == "message":
                return cast(Message, entry.frame)
        raise StopAsyncIteration

    async def updates(self) -> AsyncIterator[Update]:
        """Messages and the gaps between them, in order."""
        if self._state != "closed":
            self.connect()
        while (entry := await self._next(self._main)) is not None:
            if entry.frame["type"] in ("message", "gap"):
                yield cast(Update, entry.frame)

    # ---- The connection ----

    async def _run(self) -> None:
        """One attempt after the other, until the end."""
        while self._state != "closed":
            try:
                await self._serve()
            except Lost as lost:
                if self._is_reopening:
                    self._is_reopening = False
                    self._exchange.lost()
                    self._line = None
                    continue
                delay = self._lost(lost)
                if delay is not None and self._state == "waiting":
                    await self._pause(delay)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # pylint: disable=broad-except
                self._settings.logger.exception("the client failed")
                self._give_up(GaveUp("client", f"{type(error).__name__}: {error}", fatal=True), {})

    async def _serve(self) -> None:
        self._attempts += 1
        self.turn("connecting")
        url = await self._ask("url", self._url)
        headers: Optional[Mapping[str, str]] = await self._ask("headers", self._settings.headers)
        token: Optional[str] = await self._ask("token", self._settings.token)
        is_events = self._route.is_events
        try:
            check_token(token)
            if callable(self._url):
                self._adopt(url)
        except (TypeError, ValueError) as error:
            raise Lost("options", str(error), fatal=True) from None
        address = self._address
        assert address is not None
        if is_events:
            self._exchange.take_changes()
        last = self._settings.last if self._settings.last is not None else address.last
        past = {"since": self._exchange.cursor, "last": str(last) if last else None, "slow": self._settings.slow or address.slow}
        how = compose(address.url, self._exchange.selection, past, self._exchange.missed_slots, is_events)
        if how is None:
            raise Lost("url_too_long", "the subscriptions do not fit into the URL of a stream of events", fatal=True)
        self._exchange.ask(how)
        line: Union[Socket, EventStream]
        if is_events:
            line = await EventStream.open(how.url, headers, token, self._settings)
        else:
            line = await Socket.open(how.url, headers, token, self._settings)
        self._line, self._is_paused, self._is_reopening = line, False, False
        self._exchange.connect(line, how)
        while True:
            frame, size = await line.receive()
            self._exchange.received(frame, size)
            if self._is_behind():
                await self._hold(line)

    async def _hold(self, line: Union[Socket, EventStream]) -> None:
        """Reads no more until the loops have caught up."""
        self._is_paused = True
        line.pause()
        while self._is_behind():
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        self._is_paused = False
        line.resume()

    async def _pause(self, delay: float) -> None:
        """Waits for the next attempt, unless something says that it may succeed now."""
        wake = self._wake = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({wake}, timeout=delay)
        finally:
            # The time may have passed, or the client may close; then nobody ends the future.
            wake.cancel()

    async def _ask(self, name: str, option: Any) -> Any:
        """An option, or what its function gives for this attempt."""
        if not callable(option):
            return option
        try:
            value = option()
            return await value if inspect.isawaitable(value) else value
        except Exception as error:  # pylint: disable=broad-except
            fatal = isinstance(error, ClientError) and error.fatal
            raise Lost(name, f"the function {name} raised {type(error).__name__}: {error}", fatal=fatal) from error

    def _adopt(self, text: Any) -> None:
        """Takes subscriptions and the past out of a URL: they are asked for once, and kept here."""
        self._address = parse(text)
        fresh = Selection(self._address.fields).fields(but=self._named)
        self._named.add(fresh)
        self._exchange.selection.add(fresh)
        self._main.is_expected = self._main.is_expected or bool(fresh)
        if self._attempts <= 1:
            self._exchange.begin(self._address.since, self._address.slots)

    def _lost(self, lost: Lost) -> Optional[float]:
        self._line = None
        gaps = self._exchange.lost(lost.error)
        settings = self._settings
        delay: Optional[float] = None
        if not lost.fatal:
            if self._route.switches(lost):
                delay = self._retry.backoff(0)
            else:
                delay = self._retry.after(
                    lost.code,
                    status=None if gaps is not None else lost.status,
                    error=None if gaps is not None else lost.error,
                    lived=lost.lived,
                    is_renewed=any(map(callable, (self._url, settings.headers, settings.token))),
                    is_known=self._is_known,
                    retry_after=lost.retry_after,
                )
        details: Dict[str, Any] = {"code": lost.error or lost.code, "reason": lost.reason}
        if lost.status is not None:
            details["status"] = lost.status
        if delay is None:
            self._give_up(GaveUp(details["code"], lost.reason, status=lost.status, fatal=True), details)
            return None
        settings.logger.info("connection lost (%s %s); next attempt in %.1f s", details["code"], lost.reason, delay)
        self.turn("waiting", {**details, "delay": delay})
        for gap in gaps or ():
            if self._state != "closed":
                self.deliver(gap, 0, self._exchange.cursor)
        return delay

    def _give_up(self, failure: ClientError, details: Dict[str, Any]) -> None:
        self._finish(1000, "", failure, details)
        self.emit("error", failure)

    def _finish(self, code: int, reason: str, failure: Optional[ClientError], details: Optional[Dict[str, Any]] = None) -> None:
        """The end, with the error that is the reason, or without one when it was asked for."""
        if self._state == "closed":
            return
        self._state, self._failure = "closed", failure
        line, self._line = self._line, None
        self._exchange.lost()
        error = failure or Closed("closed", "the client was closed")
        self._exchange.end(error)
        for reader in self._consumers():
            reader.queue.end(failure)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.turn("closed", details)
        if self._clock is not None:
            self._clock.cancel()
        if self._task is not None:
            self._closing = asyncio.ensure_future(self._leave(line, code, reason))

    async def _leave(self, line: Union[Socket, EventStream, None], code: int, reason: str) -> None:
        task = self._task
        tasks = {one for one in {task, *self._renewing} if one is not None and not one.done()}
        for running in tasks:
            running.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            # A connection that was made since.
            late, self._line = self._line, None
            for one in (line, late):
                if one is not None:
                    await one.leave(code, reason)
        await self.lanes.leave(GOODBYE)

    def _look(self, before: float) -> None:
        """The machine was asleep: the network is another one, and the connection may be gone."""
        now = wall_minus_steady()
        if now - before > SLEEP:
            if self._state == "waiting":
                self._stir()
            elif self._line is not None and not self._is_paused:
                self._line.probe()
        self._clock = asyncio.get_running_loop().call_later(LOOK, self._look, now)

    def renew(self) -> None:
        """The token is over soon: another one is asked for and handed over."""
        if callable(self._settings.token):
            task = asyncio.ensure_future(self._renew())
            self._renewing.add(task)
            task.add_done_callback(self._renewing.discard)

    async def _renew(self) -> None:
        line = self._line
        try:
            token = check_token(await self._ask("token", self._settings.token))
        except (Lost, TypeError) as error:
            self.emit("error", ClientError("token", str(getattr(error, "reason", error))))
            return
        if token is not None and line is self._line:
            self._exchange.say({"type": "auth", "token": token})


class _Host:
    """The side of a client that its exchange needs."""

    # pylint: disable=protected-access

    def __init__(self, client: Client) -> None:
        self._client = client
        self.turn: Callable[..., None] = client.turn
        self.deliver = client.deliver
        self.renew = client.renew

    @property
    def state(self) -> State:
        return self._client._state

    def emit(self, event: str, value: Any) -> None:
        if event == "established":
            self._client._is_known = True
            self._client._route.established()
        self._client.emit(event, value)
        # An answer may have been all that was read for.
        self._client._taken()

    def drop(self, reason: str, code: Union[int, str], fatal: Optional[bool] = None) -> None:
        if self._client._line is not None:
            self._client._line.drop(reason, code, not self._client._is_known if fatal is None else fatal)

    def reopen(self) -> None:
        client = self._client
        client._is_reopening = True
        if client._line is not None:
            client._line.drop("other subscriptions", 1000)
