"""Listeners: functions are called at once, coroutine functions in a task of their own, one event after the other."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional

Listener = Callable[[Any], Any]


class Lane:
    """A coroutine listener and the events that wait for it."""

    def __init__(self, listener: Listener, lanes: "Lanes") -> None:
        self.listener, self._lanes = listener, lanes
        self.waiting: Deque[Any] = deque()
        self.task: Optional["asyncio.Task[None]"] = None

    def add(self, value: Any) -> None:
        self.waiting.append(value)
        if self.task is None:
            self.task = asyncio.ensure_future(self._run())
            self._lanes.running.add(self)

    async def _run(self) -> None:
        try:
            while self.waiting:
                await self._lanes.call(self.listener, self.waiting.popleft())
                self._lanes.moved()
        finally:
            self.task = None
            self._lanes.running.discard(self)


class Lanes:
    """All coroutine listeners of a client that have something to do."""

    def __init__(self, logger: logging.Logger, limit: int, moved: Callable[[], None]) -> None:
        self.logger, self._limit, self.moved = logger, limit, moved
        self.running: "set[Lane]" = set()

    @property
    def is_behind(self) -> bool:
        return any(len(lane.waiting) >= self._limit for lane in self.running)

    def is_in_one(self) -> bool:
        """Whether a listener asks: it cannot wait for its own end."""
        return asyncio.current_task() in {lane.task for lane in self.running}

    async def call(self, listener: Listener, value: Any) -> None:
        try:
            await listener(value)
        except Exception:  # pylint: disable=broad-except
            self.report(listener)

    def report(self, listener: Listener) -> None:
        self.logger.exception("a listener raised: %r", listener)

    async def leave(self, patience: float) -> None:
        """Lets listeners have their last events, if they are quick."""
        tasks = {lane.task for lane in self.running if lane.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


class Listeners:
    """The listeners of each event. One that raises changes nothing for the others: its error is logged."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._all: Dict[str, List[Any]] = {}

    def add(self, event: str, listener: Listener) -> Callable[[], None]:
        if not callable(listener):
            raise TypeError("a listener is a function")
        is_async = inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(getattr(listener, "__call__", None))
        entry = Lane(listener, self._lanes) if is_async else _Direct(listener)
        self._all.setdefault(event, []).append(entry)

        def remove() -> None:
            if entry in self._all[event]:
                self._all[event].remove(entry)

        return remove

    def has(self, event: str) -> bool:
        return bool(self._all.get(event))

    def emit(self, event: str, value: Any) -> None:
        for entry in list(self._all.get(event, ())):
            if isinstance(entry, Lane):
                entry.add(value)
                continue
            try:
                result = entry.listener(value)
                if inspect.isawaitable(result):
                    # A function that gives a coroutine, as a lambda or a partial may: from now on it has its lane.
                    entry.pending(result, self._lanes)
            except Exception:  # pylint: disable=broad-except
                self._lanes.report(entry.listener)


class _Direct:
    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._lane: Optional[Lane] = None

    def pending(self, awaitable: Any, lanes: Lanes) -> None:
        async def wait(value: Any) -> None:
            await value

        self._lane = self._lane or Lane(wait, lanes)
        self._lane.add(awaitable)
