"""A running HyperBEAM node over HTTP: raw requests, and the legal ones that make processes and slots."""

import collections
import dataclasses
import http.client
import time
import urllib.parse

from signing import data_item

TIMEOUT = 120
# A node that writes equal content anew reads it torn for a moment, and answers 404 or 500.
TRIES = 10


@dataclasses.dataclass(frozen=True)
class Request:
    """One HTTP request, exactly as it is sent."""

    method: str
    path: str
    headers: tuple = ()
    body: bytes = b""


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple
    body: bytes

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name), None)


BROKEN = Answer(0, (), b"")


class Node:
    """The node. Every request has a connection of its own, as those of strangers have."""

    def __init__(self, uri):
        parts = urllib.parse.urlsplit(uri)
        self.address = (parts.hostname, parts.port or 80)
        self.statuses = collections.Counter()

    def send(self, request, timeout=TIMEOUT):
        """The answer, or one of status 0 when the node closes the connection or does not answer in time."""
        connection = http.client.HTTPConnection(*self.address, timeout=timeout)
        try:
            connection.putrequest(request.method, request.path, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            if request.body or request.method in ("POST", "PUT", "PATCH"):
                connection.putheader("content-length", str(len(request.body)))
            connection.endheaders(request.body or None)
            response = connection.getresponse()
            answer = Answer(response.status, tuple(response.getheaders()), response.read())
        except (http.client.HTTPException, OSError):
            answer = BROKEN
        finally:
            connection.close()
        self.statuses[answer.status] += 1
        return answer

    def get(self, path, tries=1):
        answer = self.send(Request("GET", path))
        if answer.status != 200 and tries > 1:
            time.sleep(0.2)
            return self.get(path, tries - 1)
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {answer.body[:300]!r}")
        return answer

    def operator(self):
        return self.get("/~meta@1.0/info/address").body.decode()

    def post_item(self, path, item):
        headers = (("codec-device", "ans104@1.0"), ("content-type", "application/ans104"))
        return self.send(Request("POST", path, headers, item))

    def store(self, wallet, tags, data=b""):
        """Stores a message under its id: anybody may schedule a process."""
        item, name = data_item(wallet, {"type": "Process", "scheduler-location": self.operator()} | tags, data)
        answer = self.post_item("/~scheduler@1.0/schedule", item)
        if answer.status != 200:
            raise RuntimeError(f"the node refuses {tags}: {answer.status} {answer.body[:500]!r}")
        return name

    def process(self, wallet, lua, **tags):
        """A process of the wallet that runs a program in Lua, and its id. Its slot 0 is scheduled."""
        module = self.store(wallet, {"content-type": "application/lua"}, lua.encode())
        kind = {
            "device": "process@1.0",
            "scheduler-device": "scheduler@1.0",
            "execution-device": "lua@5.3a",
            "module": module,
        }
        return self.store(wallet, kind | {name.replace("_", "-"): value for name, value in tags.items()})

    def schedule(self, wallet, process, data=b"", **tags):
        """Schedules a message for a process, and gives its slot."""
        kind = {"type": "Message"} | {name.replace("_", "-"): value for name, value in tags.items()}
        item, _ = data_item(wallet, kind, data, target=process)
        answer = self.post_item(f"/{process}~process@1.0/schedule", item)
        if answer.status != 200:
            raise RuntimeError(f"schedule: {answer.status} {answer.body[:500]!r}")
        return int(answer.header("slot"))

    def push(self, process, slot):
        """Computes a slot, sends its messages to the processes that they name, and those messages' messages."""
        return self.send(Request("POST", f"/{process}~process@1.0/push&slot+integer={slot}"))

    def compute(self, process, slot):
        return self.get(f"/{process}~process@1.0/compute&slot={slot}", TRIES)

    def serves(self, process, slot=0):
        """Whether the node has a slot of a process, or can compute it."""
        return until(lambda: self.send(Request("GET", f"/{process}~process@1.0/compute&slot={slot}")).status == 200, 5)

    def output(self, process, slot):
        """The output of a slot, as the node serves it."""
        return self.get(f"/{process}~process@1.0/compute&slot={slot}/results/output/body", TRIES).body.decode()


def until(test, seconds):
    """Whether the test holds within this time."""
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
