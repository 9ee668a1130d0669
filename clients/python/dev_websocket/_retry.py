"""Whether and when a client comes back: close codes, refusals and the time in between."""

from __future__ import annotations

import random as default_random
from typing import Callable, Optional, Union

RESTARTING = 1012
# The server will say the same again.
STAY_AWAY = 3003
# The token is over: a function may have another one.
TOKEN_OVER = 3000
# The server found fault with the client's doing, which coming back may or may not change.
FAULTS = {1002, 1003, 1007, 1008, 1009}
# Refusals of the 4xx kind that pass.
PASSING = {408, 425, 429}
# Refusals that another token, header or URL may change.
UNAUTHORIZED = {401, 403}


class Retry:
    """Whether and when to come back after a connection is lost."""

    # pylint: disable=too-many-arguments

    def __init__(
        self,
        min_delay: float = 0.5,
        max_delay: float = 30,
        stable_after: float = 10,
        max_faults: float = 5,
        random: Callable[[], float] = default_random.random,
    ) -> None:
        self.min_delay, self.max_delay = min_delay, max_delay
        self.stable_after, self.max_faults, self.random = stable_after, max_faults, random
        self._attempt = self._faults = 0
        self._hurried = False

    def backoff(self, attempt: int) -> float:
        """Seconds before an attempt: anything up to a bound that doubles, so that not all clients come back at once."""
        bound: float = min(self.max_delay, self.min_delay * 2.0 ** min(attempt, 64))
        return self.random() * bound

    def after(
        self,
        code: Union[int, str],
        *,
        status: Optional[int] = None,
        error: Optional[str] = None,
        lived: float = 0,
        is_renewed: bool = False,
        is_known: bool = False,
        retry_after: float = 0,
    ) -> Optional[float]:
        """Seconds until the next attempt, None when there shall be none.

        `code` is that of the close frame, `status` that of an HTTP refusal and `error` its word, `lived` how long the
        connection was in use. `is_renewed` says that the URL, the headers or the token are asked for again, `is_known`
        that this client was connected before, `retry_after` the time that the server asks to wait.
        """
        if lived and lived >= self.stable_after:
            self._attempt = self._faults = 0
            self._hurried = False
        if status is not None and status < 500 and status not in PASSING:
            if not (is_renewed if status in UNAUTHORIZED else is_known and error is None):
                return None
        if code == STAY_AWAY or (code == TOKEN_OVER and not is_renewed):
            return None
        if code in FAULTS:
            self._faults += 1
            if self._faults > self.max_faults:
                return None
        # A server that restarts is back in a moment; one that restarts all the time is treated like any other.
        if code == RESTARTING and not self._hurried:
            self._hurried = True
            return self.backoff(0)
        self._attempt += 1
        return max(min(retry_after, self.max_delay), self.backoff(self._attempt - 1))
