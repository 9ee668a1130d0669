"""How connections end: close codes in both directions."""

from support.conversation import conversation
from support.raw import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame


@conversation()
def a_client_closes(talk):
    for payload in (b"\x03\xe8", b"\x03\xe8bye", b"", b"\x0f\xa0", b"\x0b\xb8mine"):
        talk.websocket("/ws?topic=a").leaves(payload)


@conversation()
def a_client_leaves_without_a_word(talk):
    line = talk.websocket("/ws?topic=a")
    line.half_close()
    line.end()


def broken(talk, *frames):
    """Sends frames on a connection of their own, up to its end."""
    line = talk.websocket("/ws?topic=a")
    for opcode, payload, *bits in frames:
        line.send_frame(opcode, payload, **(bits[0] if bits else {}))
    while line.frames()[:1] not in (b"\x03", b"\x0b"):
        pass
    line.leaves()


@conversation()
def frames_that_break_the_protocol(talk):
    broken(talk, (TEXT, b'{"type":"ping"}', {"masked": False}))
    broken(talk, (TEXT, b"{}", {"first_bits": 0xC0}))
    broken(talk, (3, b""))
    broken(talk, (11, b""))
    broken(talk, (CONTINUATION, b"of nothing"))
    broken(talk, (PING, b"p" * 126))
    broken(talk, (PING, b"in two", {"first_bits": 0}))
    broken(talk, (TEXT, b"{", {"first_bits": 0}), (TEXT, b"}"))
    broken(talk, (CLOSE, b"x"))
    broken(talk, (CLOSE, b"\x03\xed"))
    broken(talk, (CLOSE, b"\x03\xe8\xff"))


@conversation()
def text_that_is_not_utf8(talk):
    broken(talk, (TEXT, b"\xff\xfe"))
    broken(talk, (TEXT, b"\xc3", {"first_bits": 0}), (CONTINUATION, b"x"))


@conversation(max_inbound_bytes=200)
def messages_that_are_too_large(talk):
    broken(talk, (TEXT, b" " * 201))
    broken(talk, (TEXT, b" " * 150, {"first_bits": 0}), (CONTINUATION, b" " * 150))
    broken(talk, (BINARY, b" " * 70000))
    line = talk.websocket("/ws?topic=a")
    line.send(b"\x82\xff" + (2**62).to_bytes(8, "big") + b"\0\0\0\0")
    line.frames()
    line.leaves()


@conversation(max_inbound_rate=1)
def more_messages_than_allowed(talk):
    line = talk.websocket("/ws?topic=a")
    # In one piece, so that all of them are of one second.
    line.send(frame(TEXT, b"{}") * 3)
    line.frames(2)
    line.leaves()


@conversation()
def the_operator_disconnects_a_client(talk):
    line = talk.websocket("/ws?topic=a")
    talk.lists_it()
    talk.does(
        "begin {ok, #{connections := [#{connection := C}]}} = dev_websocket:connections(), ok = dev_websocket:disconnect(C) end"
    )
    line.frames()
    line.leaves()


@conversation()
def the_server_stops(talk):
    line = talk.websocket("/ws?topic=a")
    raw = talk.websocket("/ws?topic=a&format=raw", frames=0)
    raw.settles()
    talk.vm.tell("dev_websocket:stop()")
    for each in (line, raw):
        each.frames()
        each.leaves()
    talk.vm.answers.get(timeout=60)


@conversation()
def the_server_restarts(talk):
    line = talk.websocket("/ws?topic=a")
    talk.vm.tell("dev_websocket:start(#{shards => 2})")
    line.frames()
    line.leaves()
    talk.vm.answers.get(timeout=60)


@conversation(ping_interval=50)
def a_client_that_answers_no_pings(talk):
    line = talk.websocket("/ws?topic=a")
    line.end()
