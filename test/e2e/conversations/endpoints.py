"""The endpoints beside the WebSocket. Not the page, the client and the metrics, whose texts change with each version."""

from support.conversation import conversation

from .replays import past

ORIGIN = "https://app.example"


@conversation()
def info(talk):
    talk.ask("/info")
    past(talk, 1)
    line = talk.websocket("/ws?topic=b,c*&match=d")
    talk.ask("/info?topic=a")
    talk.ask("/info", "HEAD")
    talk.ask("/info", Accept="text/html")
    line.leaves()


@conversation(public_host='<<"node.example">>', max_known_topics=1)
def info_with_other_settings(talk):
    past(talk, 1)
    past(talk, 1, "b")
    talk.ask("/info")
    talk.ask("/info", Host="node.example")


@conversation()
def health(talk):
    talk.ask("/health")
    talk.ask("/health", "HEAD")
    talk.ask("/health", version="1.0", Host=None)
    talk.ask("/health", Connection="keep-alive")


@conversation()
def pages_of_other_origins(talk):
    for path in ("/info", "/health", "/nowhere", "/events?topic=%00", "/ws"):
        talk.ask(path, Origin=ORIGIN)


@conversation(origins='[<<"https://app.example">>, <<"https://*.shop.example">>]')
def pages_of_allowed_origins(talk):
    for path in ("/info", "/health", "/nowhere", "/events?topic=%00", "/ws"):
        talk.ask(path, Origin=ORIGIN)
    talk.ask("/info", Origin="https://a.shop.example")
    talk.ask("/info", Origin="https://evil.example")
    talk.ask("/events?topic=a", Origin="https://evil.example")
    talk.ask("/info")


@conversation()
def preflights(talk):
    asked = {"Origin": ORIGIN, "Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "last-event-id"}
    for path in ("/ws", "/events", "/info", "/health", "/metrics", "/client.js", "/", "/nowhere"):
        talk.ask(path, "OPTIONS", **asked)
    talk.ask("/info", "OPTIONS")


@conversation(origins='[<<"https://app.example">>]')
def preflights_of_allowed_origins(talk):
    for origin in (ORIGIN, "https://evil.example"):
        talk.ask("/events", "OPTIONS", Origin=origin, Access_Control_Request_Method="GET")


@conversation()
def a_client_that_closes_its_side_early(talk):
    line = talk.connect()
    line.request("/health")
    line.half_close()
    line.end()


@conversation()
def two_requests_at_once(talk):
    line = talk.connect()
    line.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
    line.end()
