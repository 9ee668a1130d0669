"""Replays of past publications, and gaps."""

from support.conversation import conversation


def past(talk, count=3, topic="a"):
    for number in range(1, count + 1):
        talk.cast(f'#{{<<"topic">> => <<"{topic}">>, <<"data">> => {number}}}')
    # A topic is known, and the history is short, once the writers have seen all of it.
    talk.rests()


@conversation()
def replay_since_a_number(talk):
    past(talk)
    line = talk.websocket("/ws?topic=a&since=1", frames=4)
    past(talk, 1)
    line.frames()
    line.leaves()


@conversation()
def replay_since_a_cursor(talk):
    past(talk)
    talk.websocket("/ws?topic=a&since={epoch}:2", frames=3).leaves()
    talk.websocket("/ws?topic=a&since={epoch}:3", frames=2).leaves()
    talk.refused("/ws?topic=a&since={epoch}:4")
    talk.refused("/ws?topic=a&since=4")


@conversation()
def replay_since_another_epoch(talk):
    past(talk)
    talk.websocket("/ws?topic=a&since=others:7", frames=6).leaves()


@conversation()
def replay_of_the_last(talk):
    past(talk)
    talk.websocket("/ws?topic=a&last=2", frames=4).leaves()
    talk.websocket("/ws?topic=b&last=2", frames=2).leaves()
    talk.websocket("/ws?topic=a&last=0", frames=2).leaves()


@conversation()
def replay_in_the_raw_format(talk):
    past(talk)
    talk.websocket("/ws?topic=a&format=raw&last=2", frames=2).leaves()


@conversation(history_bytes=1)
def replay_of_what_expired(talk):
    past(talk)
    talk.websocket("/ws?topic=a&since=0", frames=3).leaves()
    talk.websocket("/ws?topic=a&since=others:0", frames=3).leaves()
    line = talk.websocket("/ws?topic=b")
    line.says('{"type":"subscribe","id":1,"topics":["a"],"since":1}', answers=3)
    line.leaves()


@conversation()
def replay_of_a_request(talk):
    past(talk)
    line = talk.websocket("/ws?topic=b")
    line.says('{"type":"subscribe","id":1,"topics":["a"],"since":1}', answers=4)
    line.says('{"type":"subscribe","id":"2","topics":["a","c"],"since":"{epoch}:0"}', answers=2)
    line.says('{"type":"subscribe","id":3,"topics":["a*"],"since":"others:0"}', answers=3)
    line.leaves()


@conversation(send_buffer_bytes=1024)
def slow_consumers_get_gaps(talk):
    """How many messages the system takes differs, so only the first gap is recorded."""
    for policy in ("gap", "latest"):
        line = talk.connect(receive_buffer=4096)
        line.upgrade(f"/ws?topic=a&slow={policy}")
        line.head()
        line.frames()
        talk.does('e2e_vm:flood(<<"a">>, 64, 524288)')
        line.until(b'"type":"gap"')
        line.stream.close()
        line.socket.close()


@conversation(send_buffer_bytes=1024)
def slow_consumers_are_closed(talk):
    for query in ("slow=close", "format=raw"):
        line = talk.connect(receive_buffer=4096)
        line.upgrade(f"/ws?topic=a&{query}")
        line.head()
        if "raw" not in query:
            line.frames()
        line.settles()
        talk.does('e2e_vm:flood_until_dropped(<<"a">>, 524288)')
        line.until(b"\x03\xf5")
        line.stream.close()
        line.socket.close()
        # What this one misses counts until it is gone.
        talk.vm.await_connections(0)


@conversation(publish_queue_bytes=65536, history_bytes=0)
def a_cast_that_finds_no_room(talk):
    line = talk.websocket("/ws?topic=a")
    raw = talk.websocket("/ws?topic=a&format=raw", frames=0)
    raw.settles()
    talk.cast('#{<<"topic">> => <<"a">>, <<"data">> => binary:copy(<<"x">>, 70000)}')
    line.frames()
    line.leaves()
    raw.end()
