"""A conversation with the server, recorded byte by byte: what is sent, what comes back, and where a connection ends.

Only what differs from run to run is masked, each byte by a letter: the epoch, timestamps, the header Date, the port, the version."""

import json
import os
import re

from .raw import CLOSE, PING, TEXT, RawClient
from .vm import ROOT

RECORDED = os.path.join(ROOT, "test/fixtures/conversations")

# The key of RFC 6455 section 1.3, so that the answer to it is known.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {
    "Host": "localhost",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}
LONGEST_SHOWN = 4096
ESCAPES = {9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\"}

_told = []


def conversation(**settings):
    """Marks a function as a conversation with a server that has these settings. Its name is that of its recording."""

    def tell(function):
        _told.append((function.__name__, function, settings))
        return function

    return tell


def conversations():
    """All conversations: name, function, settings of the server."""
    # Each module tells its own when it is loaded.
    import conversations as told  # pylint: disable=import-outside-toplevel

    assert told.__all__
    names = [name for name, _, _ in _told]
    assert len(set(names)) == len(names), "two conversations have one name"
    return list(_told)


def shown(data):
    """Bytes as text: lines end after a line feed, and only printable characters stand for themselves."""
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        yield "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else ESCAPES.get(byte, f"\\x{byte:02x}") for byte in line)


def shortened(text):
    """A long text by its length and its ends."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:64]}..[{len(text)} characters]..{text[-64:]}"


class Talk:
    """What a conversation is told with."""

    def __init__(self, vm):
        self.vm = vm
        # Its host may be another name of the server.
        self.port = vm.uri().rsplit(":", 1)[1].split("/")[0]
        self.epoch = vm.eval('begin {ok, #{<<"epoch">> := Epoch}, _} = hb_websocket_nif:describe(), Epoch end')
        self.lines = []
        self.open = []

    def note(self, sign, data):
        lines = shown(self._masked(data))
        # What we sent stands in the code as well; of an answer, every byte counts.
        self.lines.extend(f"{sign} {shortened(line) if sign.endswith('>') else line}" for line in lines)

    def _masked(self, data):
        def mask(letter):
            return lambda match: match[1] + letter * len(match[2])

        data = re.sub(rb"()\b(%s)\b" % self.epoch.encode(), mask(b"E"), data)
        data = re.sub(rb'("version":")([\d.]+)', mask(b"V"), data)
        data = re.sub(rb'("timestamp":)(\d{13})\b', mask(b"T"), data)
        data = re.sub(rb"(?im)(^date: )([^\r\n]+)", mask(b"D"), data)
        return re.sub(rb"(:)(%s)\b" % self.port.encode(), mask(b"P"), data)

    def connect(self, **options):
        """Opens a connection. Those before it stay open until they end."""
        line = Line(self, **options)
        self.open.append(line)
        return line

    def ask(self, target, method="GET", version="1.1", body=b"", **headers):
        """A request of its own connection, and everything that comes until the server ends it."""
        line = self.connect()
        line.request(target, method, version, body, headers)
        line.end()

    def refused(self, target, **headers):
        """A request for a WebSocket that gets another answer."""
        line = self.connect()
        line.upgrade(target, **headers)
        line.end()

    def websocket(self, target="/ws", frames=1, **headers):
        """A connection that is upgraded, and has read its first frames."""
        line = self.connect()
        line.upgrade(target, **headers)
        line.head()
        line.frames(frames)
        return line

    def cast(self, message):
        """Casts a message that is written in Erlang."""
        self.lines.append(f"= cast {message}")
        self.vm.cast(message)

    def does(self, expression):
        """Has the node do something."""
        self.lines.append(f"= {expression}")
        self.lines.append(f"= {json.dumps(self.vm.eval(expression))}")

    def rests(self):
        """Waits until the writers have handled everything that was cast."""
        self.vm.settle('maps:get(<<"publish_queued_bytes">>, S) =:= 0')

    def lists_it(self):
        """Waits until the node lists the connection, which may be a moment after its first frame."""
        self.vm.settle("case dev_websocket:connections() of {ok, #{connections := [_]}} -> is_map(S); _ -> false end")

    def close(self):
        for line in self.open:
            line.__exit__()

    def transcript(self):
        return "\n".join(self.lines) + "\n"


class Line(RawClient):
    """One connection of a conversation. Lines of further ones have its number before their sign."""

    def __init__(self, talk, **options):
        super().__init__(f"ws://127.0.0.1:{talk.port}/ws", **options)
        self.talk = talk
        number = len(talk.open) + 1
        self.label = "" if number == 1 else str(number)
        talk.lines.append(f"{self.label}+")

    def send(self, data):
        self.talk.note(self.label + ">", data)
        try:
            super().send(data)
        except ConnectionError:
            pass  # The answer to the first of it was the last.

    def request(self, target, method="GET", version="1.1", body=b"", headers=None, **more):
        """Sends a request. None leaves a header out, and a list repeats it."""
        headers = {"Host": "localhost"} | (headers or {}) | more
        lines = [f"{method} {target} HTTP/{version}"]
        for name, value in headers.items():
            values = value if isinstance(value, list) else [value]
            lines.extend(f"{name.replace('_', '-')}: {each}" for each in values if each is not None)
        head = "\r\n".join([*lines, "", ""]).replace("{epoch}", self.talk.epoch)
        self.send(head.encode() + body)

    def upgrade(self, target="/ws", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.request(target, headers=UPGRADE | headers)

    def head(self):
        """Reads a head."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            piece = self.stream.readline()
            assert piece, f"the head ended with {data}"
            data += piece
        self.talk.note(self.label + "<", data)

    def frames(self, count=1):
        """Reads that many frames, and gives the payload of the last."""
        payload = b""
        for _ in range(count):
            header, payload = self._frame()
            assert header, "the connection ended before a frame"
            self.talk.note(self.label + "<", header + payload)
        return payload

    def _frame(self):
        header = self.stream.read(2)
        if len(header) < 2:
            return header, b""
        size = header[1]
        if size >= 126:
            length = self.stream.read(2 if size == 126 else 8)
            header, size = header + length, int.from_bytes(length, "big")
        return header, self.stream.read(size)

    def until(self, part):
        """Reads until a frame with such a part. Numbers in it are those of this run, and so is what came before it."""
        while True:
            header, payload = self._frame()
            assert header, f"the connection ended before {part}"
            if part in payload:
                break
        payload = re.sub(rb"(?<=:)\d+", b"N", self.talk._masked(payload))
        self.talk.lines.append(f"{self.label}< .. " + "".join(shown(payload)))

    def events(self, count=1):
        """Reads that many server-sent events or comments."""
        for _ in range(count):
            data = b""
            while not data.endswith(b"\n\n"):
                piece = self.stream.readline()
                assert piece, f"the stream ended with {data}"
                data += piece
            self.talk.note(self.label + "<", data)

    def says(self, text, answers=1):
        """Sends a text frame, and reads the frames that answer it."""
        self.send_frame(TEXT, text.replace("{epoch}", self.talk.epoch).encode())
        self.frames(answers)

    def settles(self):
        """Waits until the server has handled everything sent so far."""
        self.send_frame(PING, b"settled")
        self.frames()

    def leaves(self, payload=b"\x03\xe8"):
        """Closes as a client does, and reads to the end."""
        self.send_frame(CLOSE, payload)
        self.end()

    def end(self):
        """Reads to the end of the connection."""
        data = b""
        try:
            while piece := self.stream.read1(65536):
                data += piece
        except ConnectionResetError:
            # What was sent after the last answer was never read.
            pass
        for part in self._parts(data):
            self.talk.note(self.label + "<", part)
        self.talk.lines.append(f"{self.label}<end")

    def _parts(self, data):
        """Frames in lines of their own, so that a difference is easy to find."""
        if data[:1] not in (b"\x81", b"\x82", b"\x88", b"\x89", b"\x8a"):
            return [data]
        parts = []
        while len(data) > 1:
            size, start = data[1] & 127, 2
            if size >= 126:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start], "big")
            parts.append(data[: start + size])
            data = data[start + size :]
        return [*parts, data]


def play(vm, function, settings):
    """Has a conversation with a new server, and gives its transcript."""
    stopped = vm.eval("dev_websocket:stop()")
    assert stopped == "ok", stopped
    vm.start(settings)
    talk = Talk(vm)
    try:
        function(talk)
        return talk.transcript()
    except Exception as error:
        raise AssertionError(f"{function.__name__} broke off after\n{talk.transcript()}") from error
    finally:
        talk.close()


def path(name):
    """Where the recording of a conversation is."""
    return os.path.join(RECORDED, f"{name}.txt")


def recorded(name):
    with open(path(name), encoding="ascii") as file:
        return file.read()
