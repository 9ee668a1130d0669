"""Requests that are refused before the upgrade."""

from support.conversation import KEY, UPGRADE, conversation


def each(talk, *queries):
    for query in queries:
        talk.refused(f"/ws?{query}")


@conversation()
def refused_topics(talk):
    each(talk, "topic=a%00b", "topic=a%0Ab", "topic=" + "t" * 256, "topic=%", "topic=%zz", "topic=%ff", "process=a,b")
    each(talk, "topic=" + ",".join(f"t{number}" for number in range(129)))


@conversation()
def refused_expressions(talk):
    each(talk, "match=", "match=(", "match=" + "a" * 257, "match=%5B01%5D*1%5B01%5D%7B30%7Dx", "match=%5Cp%7BNone%7D")
    each(talk, "&".join(f"match=a{number}" for number in range(9)))


@conversation()
def refused_templates(talk):
    each(talk, "template=", "template={", "template={}", "template=[]", "template=compute", "template=/(")
    each(talk, "template=" + "%7B%22a%22:" * 17 + "1" + "%7D" * 17, "template=%7B%22a%22:%22" + "x" * 4096 + "%22%7D")
    each(talk, "&".join(f"template=/a{number}" for number in range(17)))


@conversation()
def refused_parameters(talk):
    each(talk, "since=1", "since=x:y:1", "since=", "since=-1", "since={epoch}:9", "since=1&last=1", "last=1001", "last=x", "last=")
    each(talk, "slow=drop", "slow=", "format=xml", "format=RAW", "format=events", "format=raw&slow=gap", "format=raw&since=0")


@conversation()
def refused_hosts(talk):
    talk.refused("/ws", Host=None)
    talk.refused("/ws", Host=["localhost", "localhost"])
    talk.refused("/ws", Host="")
    talk.refused("/ws", Host="evil.example")
    talk.refused("http://evil.example/ws")
    talk.ask("/info", version="1.0", Host=None)
    talk.ask("/ws", version="1.0", Host=None)


@conversation()
def refused_sites(talk):
    talk.refused("/ws", Sec_Fetch_Site="cross-site")
    talk.ask("/info", Sec_Fetch_Site="cross-site", Origin="null")
    talk.ask("/info", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
    talk.ask("/health", Sec_Fetch_Site="cross-site", Origin="https://other.example")


@conversation()
def refused_handshakes(talk):
    talk.refused("/ws", Sec_WebSocket_Key=None)
    talk.refused("/ws", Sec_WebSocket_Key="short")
    talk.refused("/ws", Sec_WebSocket_Key="!" * 24)
    talk.refused("/ws", Sec_WebSocket_Key=[KEY, KEY])
    talk.refused("/ws", Content_Length="1")
    talk.refused("/ws", Transfer_Encoding="chunked")
    talk.refused("/ws", Sec_WebSocket_Version="8")
    talk.refused("/ws", Sec_WebSocket_Version=None)


@conversation()
def requests_that_are_no_upgrade(talk):
    talk.ask("/ws")
    talk.ask("/ws?topic=%00")
    talk.refused("/ws", Upgrade="h2c")
    talk.refused("/ws", Connection="close")
    talk.ask("/ws", version="1.0", **{name: value for name, value in UPGRADE.items() if name != "Host"})


@conversation()
def other_methods(talk):
    for path in ("/", "/ws", "/events", "/client.js", "/info", "/health", "/metrics", "/nowhere"):
        talk.ask(path, "POST", Content_Length="0")
    talk.ask("/ws", "HEAD")
    talk.ask("/info", "DELETE")
    talk.ask("/info", "BREW")


@conversation()
def other_paths(talk):
    for path in ("/index.html", "/ws/", "/WS", "/wss", "/ws2?topic=a", "/../ws", "/%77s", "//", "/info/", "/token", "/login"):
        talk.ask(path)
    talk.ask("*", "OPTIONS")


@conversation(endpoints="[]")
def endpoints_that_are_switched_off(talk):
    for path in ("/", "/events", "/client.js", "/info", "/health", "/metrics"):
        talk.ask(path)
    talk.ask("/ws", Accept="text/event-stream")
    talk.ask("/ws", "OPTIONS")
    talk.websocket().leaves()


@conversation(max_connections=1)
def a_server_that_is_full(talk):
    first = talk.websocket("/ws?topic=a")
    talk.refused("/ws?topic=a")
    talk.ask("/events?topic=a", Origin="https://app.example")
    talk.ask("/health")
    first.leaves()


@conversation(max_connections_per_ip=1)
def an_address_that_has_enough(talk):
    first = talk.websocket("/ws?topic=a")
    talk.refused("/ws?topic=a")
    talk.ask("/events?topic=a", Origin="https://app.example")
    first.leaves()


@conversation(max_globs=0, max_regexes=0, max_templates=0, max_unindexed_patterns=0, max_last=0)
def patterns_for_which_there_is_no_room(talk):
    each(talk, "topic=a*", "match=%5Ea", "template=/a", "last=1")
    line = talk.websocket("/ws?topic=a")
    line.says('{"type":"subscribe","id":1,"topics":["a*"]}')
    line.says('{"type":"subscribe","id":2,"match":["^a"]}')
    line.says('{"type":"subscribe","id":3,"template":["/a"]}')
    line.leaves()


@conversation(max_unindexed_patterns=1)
def patterns_without_a_literal(talk):
    line = talk.websocket("/ws?topic=*x*")
    line.says('{"type":"subscribe","id":1,"match":["a.*b.*"]}')
    talk.refused("/ws?topic=*y*")
    line.leaves()


@conversation()
def what_is_no_http(talk):
    for data in (
        b"\x16\x03\x01\x02\x00 this is TLS, say\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /ws HTTP/3.0\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        line = talk.connect()
        line.send(data)
        line.end()


@conversation()
def heads_that_are_too_large(talk):
    talk.ask("/ws?topic=" + "t" * 65535)
    talk.ask("/health", **{f"X-{number}": "x" for number in range(100)})
    talk.ask("/health", **{f"X-{number}": "x" for number in range(99)})


@conversation(handshake_timeout=100)
def a_request_that_never_ends(talk):
    line = talk.connect()
    line.send(b"GET /ws HT")
    line.end()
