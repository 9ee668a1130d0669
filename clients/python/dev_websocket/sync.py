"""The client for scripts without asyncio: `for message in SyncClient(url, topics=["prices"])`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any, Awaitable, Callable, Dict, Iterator, Optional, TypeVar, cast

from ._client import Client
from ._errors import Closed
from ._subscription import Subscription
from ._verify import verify_slot as verify
from .types import Event, Message, Reply, State, Url

T = TypeVar("T")

__all__ = ["SyncClient", "SyncSubscription", "verify"]


class SyncSubscription:
    """A subscription whose reply and messages are waited for in this thread."""

    def __init__(self, client: "SyncClient", subscription: Subscription) -> None:
        self._client, self._subscription = client, subscription

    def reply(self, timeout: Optional[float] = None) -> Reply:
        """The server's reply. Raises RequestRefused when it refuses, TimeoutError when it does not come in time."""
        return self._client.wait(self._subscription.reply, timeout)

    def unsubscribe(self) -> None:
        self._client.call(self._subscription.unsubscribe)

    def __iter__(self) -> Iterator[Message]:
        iterator = self._client.call(self._subscription.__aiter__)
        while True:
            try:
                yield self._client.wait(iterator.__anext__, None)
            except StopAsyncIteration:
                return


class SyncClient:
    """The client in a thread of its own. Takes the options of `Client`; its listeners are called in that thread."""

    def __init__(self, url: Url, **options: Any) -> None:
        self._client = Client(url, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dev_websocket", daemon=True)
        self._thread.start()
        self._is_closed = False
        self.call(self._client.connect)

    @property
    def cursor(self) -> Optional[str]:
        """Where to go on behind the message in hand."""
        return self._client.cursor

    @property
    def slots(self) -> Dict[str, int]:
        """The newest slot of each process that the application has whole, for a later client's option `slots`."""
        return self._client.slots

    @property
    def state(self) -> State:
        return self._client.state

    def ready(self, timeout: Optional[float] = None) -> None:
        """Waits until the client is connected. Raises TimeoutError when that takes longer."""
        self.wait(self._client.ready, timeout)

    def on(self, event: Event, listener: Callable[[Any], Any]) -> Callable[[], None]:
        return self.call(self._client.on, event, listener)

    def subscribe(self, **items: Any) -> SyncSubscription:
        return SyncSubscription(self, self.call(lambda: self._client.subscribe(**items)))

    def unsubscribe(self, **items: Any) -> None:
        self.call(lambda: self._client.unsubscribe(**items))

    def send(self, data: Any) -> Optional[int]:
        return self.call(self._client.send, data)

    def next(self, timeout: Optional[float] = None) -> Optional[Message]:
        """The next message, None behind the last one of a closed client. Raises TimeoutError when none comes in time."""
        try:
            return self.wait(self._client.__anext__, timeout)
        except StopAsyncIteration:
            return None

    def __iter__(self) -> Iterator[Message]:
        while (message := self.next()) is not None:
            yield message

    def close(self) -> None:
        """Closes for good: the connection and the thread end."""
        if self._is_closed:
            return
        self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> "SyncClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Calls a function in the client's thread."""

        async def run() -> T:
            return function(*arguments)

        return self.wait(run, None)

    def wait(self, function: Callable[[], Awaitable[T]], timeout: Optional[float]) -> T:
        """Waits for something of the client's thread. Interrupted or out of time, nothing is lost."""
        if self._is_closed:
            raise Closed("closed", "the client was closed")

        async def run() -> "tuple[bool, Optional[T]]":
            # A future takes no StopAsyncIteration of a coroutine.
            try:
                return True, await function()
            except StopAsyncIteration:
                return False, None

        future = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            has_value, value = future.result(timeout)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise TimeoutError("nothing came in time") from None
        except BaseException:
            future.cancel()
            raise
        if not has_value:
            raise StopAsyncIteration
        return cast(T, value)

