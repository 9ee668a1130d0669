"""Whether and when a client comes back: close codes, refusals and the time in between."""

import random as default_random

RESTARTING = 1012
# The server will say the same again: whoever connects may not.
FORBIDDEN = {3000, 3003}
# The server found fault with what the client did, which coming back may or may not change.
FAULTS = {1002, 1003, 1007, 1008, 1009}
# Refusals of the 4xx kind that pass.
PASSING = {408, 429}


class Retry:
    """Whether and when to come back after a connection is lost."""

    def __init__(self, base=0.5, cap=30, stable=10, faults=5, random=default_random.random):
        self.base, self.cap, self.stable, self.faults, self.random = base, cap, stable, faults, random
        self._attempt = self._faults = 0
        self._hurried = False

    def backoff(self, attempt):
        """Seconds before an attempt: anything up to a bound that doubles, so that not all clients come back at once."""
        return self.random() * min(self.cap, self.base * 2 ** min(attempt, 64))

    def after(self, code, status=None, lived=0):
        """Seconds until the next attempt, None when there shall be none.

        `code` is that of the close frame, `status` that of an HTTP refusal, `lived` how long the connection was in use.
        """
        if lived >= self.stable:
            self._attempt = self._faults = 0
            self._hurried = False
        if status is not None and status < 500 and status not in PASSING:
            return None
        if code in FORBIDDEN:
            return None
        if code in FAULTS:
            self._faults += 1
            if self._faults > self.faults:
                return None
        # A server that restarts is back in a moment; one that restarts all the time is treated like any other.
        if code == RESTARTING and not self._hurried:
            self._hurried = True
            return self.backoff(0)
        self._attempt += 1
        return self.backoff(self._attempt - 1)
