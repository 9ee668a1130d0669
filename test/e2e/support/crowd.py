"""Thousands of connections at once, on one thread: each asks for an upgrade and counts what it gets."""

import contextlib
import itertools
import resource
import selectors
import socket
import time

from .raw import RawClient

DEADLINE = 120
# An address has about 28,000 ports to connect from.
SOURCES = [f"127.0.0.{number}" for number in range(2, 10)]
SPARE_DESCRIPTORS = 500
# Connected before the first requests are sent, so that these do not come late because of the client.
AT_A_TIME = 500


def most_connections(wanted):
    """As many connections as are wanted, or as this machine lets a process have: each takes a descriptor at both ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, soft - SPARE_DESCRIPTORS)


class Crowd:
    """Connects all at once: no connection waits for another."""

    def __init__(self, uri, count, target):
        with RawClient(uri) as client:
            self.request = client.head(target)
            address = (client.uri.hostname, client.uri.port)
        self.selector = selectors.DefaultSelector()
        self.received = {}
        for _, source in zip(range(count), itertools.cycle(SOURCES)):
            connection = socket.socket()
            connection.setblocking(False)
            connection.bind((source, 0))
            connection.connect_ex(address)
            self.received[connection] = b""
            self.selector.register(connection, selectors.EVENT_WRITE)
            if len(self.received) % AT_A_TIME == 0:
                self._advance(set(), 0)

    def until(self, marks, count=None):
        """Reads until each connection, or so many, has got all of these, in this order, or has ended. Gives how many got
        all."""
        deadline = time.monotonic() + DEADLINE
        waiting = {connection for connection in self.received if not self._has(connection, marks)}
        spare = len(self.received) - (len(self.received) if count is None else count)
        while len(waiting) > spare and time.monotonic() < deadline:
            self._advance(waiting, 1, marks)
        return sum(self._has(connection, marks) for connection in self.received)

    def _advance(self, waiting, patience, marks=()):
        for key, events in self.selector.select(patience):
            if events & selectors.EVENT_WRITE:
                self._open(key.fileobj, waiting)
            elif not self._read(key.fileobj) or self._has(key.fileobj, marks):
                waiting.discard(key.fileobj)

    def _has(self, connection, marks):
        place = 0
        for mark in marks:
            place = self.received[connection].find(mark, place)
            if place < 0:
                return False
            place += len(mark)
        return True

    def _open(self, connection, waiting):
        try:
            connection.send(self.request)
            self.selector.modify(connection, selectors.EVENT_READ)
        except OSError:
            self.selector.unregister(connection)
            waiting.discard(connection)

    def _read(self, connection):
        """False at the end."""
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        self.received[connection] += data
        if not data:
            self.selector.unregister(connection)
        return bool(data)

    def leave(self, marks):
        """Closes those that have got all of these."""
        for connection in [connection for connection in self.received if self._has(connection, marks)]:
            self.selector.unregister(connection)
            connection.close()
            del self.received[connection]

    def close(self):
        self.selector.close()
        for connection in self.received:
            connection.close()
