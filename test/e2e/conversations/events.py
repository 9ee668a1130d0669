"""Server-sent events."""

from support.conversation import conversation

from .replays import past

STREAM = {"Accept": "text/event-stream"}


def stream(talk, target, count=1, **headers):
    """A stream that has read its head and first events."""
    line = talk.connect()
    line.request(target, headers=headers)
    line.head()
    line.events(count)
    return line


def leaves(line):
    """The client closes its side, and the server follows."""
    line.half_close()
    line.end()


@conversation()
def events_of_a_topic(talk):
    line = stream(talk, "/events?topic=a&utm=1")
    past(talk, 2)
    line.events(2)
    leaves(line)


@conversation()
def events_from_the_path_of_websockets(talk):
    line = stream(talk, "/ws?topic=a", Accept="text/html, text/event-stream;q=0.9")
    past(talk, 1)
    line.events()
    leaves(line)
    leaves(stream(talk, "/events?topic=a", Connection="Upgrade, HTTP2-Settings", Upgrade="h2c"))


@conversation()
def events_after_a_cursor(talk):
    past(talk)
    leaves(stream(talk, "/events?topic=a&since=2", 4, **{"Last-Event-ID": "{epoch}:1"}))
    leaves(stream(talk, "/events?topic=a&lastEventId={epoch}:2", 3))
    leaves(stream(talk, "/events?topic=a&lastEventId=", 1, **{"Last-Event-ID": ""}))
    leaves(stream(talk, "/events?topic=a&since=others:1", 6))
    leaves(stream(talk, "/events?topic=a&last=1", 3))
    talk.ask("/events?topic=a&since={epoch}:9")
    talk.ask("/events?topic=a", **{"Last-Event-ID": "what"})


@conversation()
def events_that_are_refused(talk):
    talk.ask("/events?format=raw")
    talk.ask("/events?topic=%00", Origin="https://app.example")
    talk.ask("/events?slow=what")
    talk.ask("/ws?topic=%00", **STREAM)


@conversation()
def events_to_a_client_of_http_1_0(talk):
    line = talk.connect()
    line.request("/events?topic=a", version="1.0", Host=None)
    line.head()
    line.events()
    leaves(line)


@conversation()
def events_by_other_methods(talk):
    talk.ask("/events?topic=a", "HEAD")
    talk.ask("/events?topic=a", "OPTIONS")
    talk.ask("/events?topic=%00", "HEAD")


@conversation()
def events_of_a_direct_message(talk):
    line = stream(talk, "/events?topic=a")
    talk.lists_it()
    talk.does(
        "begin {ok, #{connections := [#{connection := C}]}} = dev_websocket:connections(), "
        "[dev_websocket:send(C, Payload) || Payload <- [{text, <<\"hi\">>}, {binary, <<0, 255>>}, #{<<\"a\">> => 1}]] end"
    )
    line.events(3)
    leaves(line)


@conversation()
def events_until_the_server_stops(talk):
    line = stream(talk, "/events?topic=a")
    talk.does("dev_websocket:stop()")
    line.end()


@conversation(ping_interval=50)
def events_and_comments(talk):
    line = stream(talk, "/events?topic=a", 2)
    line.socket.close()
