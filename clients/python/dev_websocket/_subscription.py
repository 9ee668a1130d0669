"""One subscription of a client: the server's reply, its own messages, and its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Generator, List, Optional, cast

from ._errors import Closed, ClientError
from ._listeners import Listener, Listeners
from ._match import matcher
from ._queue import FrameQueue
from ._requests import Frame
from ._selection import Fields
from .types import Message, Reply

if TYPE_CHECKING:
    from ._client import Client


class Subscription:
    """`await subscription` gives the server's reply, `async for` its messages from the time it was made."""

    # pylint: disable=protected-access

    def __init__(self, client: "Client", fields: Fields, queue: FrameQueue) -> None:
        self._client = client
        self._fields = fields
        self._reply: Optional[Frame] = None
        self._error: Optional[ClientError] = None
        self._waiting: List["asyncio.Future[None]"] = []
        self.queue = queue
        self.matches = matcher(fields)
        self.is_read = False
        self.listeners = Listeners(client.lanes)

    async def reply(self) -> Reply:
        """The server's reply. Raises RequestRefused when it refuses. May be cancelled, and awaited again."""
        while self._reply is None:
            if self._error is not None:
                raise self._error
            waiting: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                self._waiting.remove(waiting)
        return cast(Reply, self._reply)

    def __await__(self) -> Generator[Any, None, Reply]:
        return self.reply().__await__()

    def on_message(self, listener: Callable[[Message], Any]) -> Callable[[], None]:
        """Calls the listener for each of its messages. Gives a function that ends this."""
        return self.listeners.add("message", cast(Listener, listener))

    def unsubscribe(self) -> None:
        """Ends it. Messages that another subscription wants too still come for that one."""
        if self._error is None:
            self._client._exchange.unsubscribe(self._fields, self)
            self._end(Closed("unsubscribed", "the subscription was ended"))
            self.queue.end()

    def __aiter__(self) -> AsyncIterator[Message]:
        self.is_read = True
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Message]:
        try:
            while (entry := await self.queue.next()) is not None:
                self._client._taken()
                if entry.frame["type"] == "message":
                    yield cast(Message, entry.frame)
        finally:
            self.is_read = False

    # ---- For the exchange ----

    def fulfil(self, reply: Frame) -> None:
        self._reply = reply
        self._wake()

    def fail(self, error: ClientError) -> None:
        """The server refused: the messages end, too."""
        self._end(error)
        self.queue.end(error)

    def _end(self, error: ClientError) -> None:
        self._error = self._error or error
        self._client._forget(self)
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
