"""A client that breaks the rules: requests and frames byte by byte."""

import base64
import json
import os
import socket
import struct
from urllib.parse import urlsplit

DEADLINE = 20

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(opcode, payload=b"", masked=True, first_bits=0x80):
    """A frame as a client sends it. `first_bits` are those that share a byte with the opcode: FIN and the reserved ones."""
    size = len(payload)
    flag = 0x80 if masked else 0
    if size < 126:
        header = struct.pack("!BB", first_bits | opcode, flag | size)
    elif size < 65536:
        header = struct.pack("!BBH", first_bits | opcode, flag | 126, size)
    else:
        header = struct.pack("!BBQ", first_bits | opcode, flag | 127, size)
    # A mask of zeros is a mask, and leaves the payload as it is.
    return header + (b"\0\0\0\0" if masked else b"") + payload


def head(host, target="/ws", method="GET", **changed):
    """A request for an upgrade, with headers changed or, by None, left out."""
    headers = {
        "Host": host,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    } | {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()


class RawClient:
    def __init__(self, uri, receive_buffer=None, send_buffer=None):
        self.uri = urlsplit(uri)
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if send_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.socket.settimeout(DEADLINE)
        self.socket.connect((self.uri.hostname, self.uri.port))
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def head(self, target="/ws", method="GET", **changed):
        return head(self.uri.netloc, target, method, **changed)

    def request(self, target, method="GET", **changed):
        """Sends that, and gives status, headers and body of the answer."""
        self.send(self.head(target, method, **changed))
        return self.response()

    def response(self):
        status = int(self.stream.readline().split()[1])
        headers = {}
        while (line := self.stream.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self.stream.read(int(headers.get("content-length", 0)))

    def upgrade(self, target="/ws"):
        """Opens a WebSocket and takes its first frame, unless the format has none."""
        status, _, body = self.request(target)
        assert status == 101, (status, body)
        if "format=raw" not in target:
            assert self.json()["type"] == "connection_established"
        return self

    def send(self, data):
        self.socket.sendall(data)

    def half_close(self):
        """Says that nothing more comes, and can still read."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Drops the connection with no goodbye at all, not even that of TCP."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.close()
        self.socket.close()

    def send_frame(self, *parts, **bits):
        self.send(frame(*parts, **bits))

    def send_json(self, value):
        self.send_frame(TEXT, json.dumps(value).encode())

    def frame(self):
        """The next frame: its opcode and payload. None at the end of the connection."""
        header = self.stream.read(2)
        if len(header) < 2:
            return None
        assert header[0] & 0x70 == 0 and header[1] & 0x80 == 0, header
        size = header[1]
        if size >= 126:
            size = int.from_bytes(self.stream.read(2 if size == 126 else 8), "big")
        return header[0] & 0x0F, self.stream.read(size)

    def json(self):
        """The next frame, which must be text."""
        opcode, payload = self.frame()
        assert opcode == TEXT, (opcode, payload)
        return json.loads(payload)

    def end(self):
        """Reads to the end of the connection, and gives what came, also before a reset."""
        received = b""
        try:
            while data := self.socket.recv(65536):
                received += data
        except ConnectionError:
            pass
        return received

    def close_code(self):
        """Reads on until the server closes, and gives its code. The connection must end after that."""
        while (frame := self.frame()) is not None:
            opcode, payload = frame
            if opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big")
                self.send_frame(CLOSE, payload[:2])
                assert self.frame() is None, "the connection goes on after the close frame"
                return code
        raise AssertionError("the connection ended without a close frame")
