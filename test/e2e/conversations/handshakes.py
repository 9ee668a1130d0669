"""Requests that become WebSockets, in every format, and their first messages."""

from support.conversation import KEY, conversation
from support.raw import BINARY, TEXT

PRICE = '#{<<"topic">> => <<"prices">>, <<"action">> => <<"Transfer">>, <<"data">> => <<"x">>}'


@conversation()
def handshake_without_topics(talk):
    line = talk.websocket()
    talk.cast(PRICE)
    line.settles()
    line.leaves()


@conversation()
def handshake_with_topics(talk):
    line = talk.websocket("/ws?topic=prices,action:Transfer&topic=a*&topic=+b+,,c%2B")
    talk.cast(PRICE)
    line.frames()
    line.leaves()


@conversation()
def handshake_with_everything(talk):
    line = talk.websocket("/ws?topic=*")
    talk.cast('#{<<"data">> => <<"no topic">>}')
    talk.cast(PRICE)
    line.frames(2)
    line.leaves()


@conversation()
def handshake_with_every_kind_of_subscription(talk):
    process = "p" * 43
    line = talk.websocket(f"/ws?process={process}&match=%5Eroom:&template=%7B%22action%22:%22Mint%22%7D&template=/compute")
    talk.cast('#{<<"topic">> => <<"room:1">>, <<"Action">> => <<"Mint">>}')
    line.frames()
    line.leaves()


@conversation()
def handshake_with_unknown_parameters(talk):
    talk.websocket("/ws?topic=a&utm=1&Topic=b&x&%C3%A4=1").leaves()


@conversation()
def handshake_with_repeated_parameters(talk):
    talk.websocket("/ws?topic=a&last=1&last=0&format=raw&format=json&slow=close&slow=gap", frames=2).leaves()


@conversation()
def handshake_with_tokens_that_mean_nothing(talk):
    """With access=open, nothing that looks like a token is one."""
    talk.websocket("/ws?topic=a&token=x&access_token=y&jwt=z").leaves()
    talk.websocket("/ws?topic=a", Authorization="Bearer x.y.z").leaves()
    talk.websocket("/ws?topic=a", Authorization=["Bearer x", "Bearer y"]).leaves()
    talk.websocket("/ws?topic=a", Authorization="Basic dXNlcjpwYXNz", Cookie="session=x.y.z; token=a").leaves()
    talk.websocket("/ws?topic=a", Sec_WebSocket_Protocol="dev-websocket.v1, bearer.x.y.z").leaves()
    line = talk.websocket("/ws?topic=a")
    line.says('{"type":"auth","id":1,"token":"x.y.z"}')
    line.says('{"type":"auth"}')
    line.leaves()


@conversation()
def handshake_with_headers_of_proxies(talk):
    """Nobody is a trusted proxy by default."""
    forwarded = {"X_Forwarded_For": "192.0.2.1", "Forwarded": "for=192.0.2.1", "X_Forwarded_Proto": "https"}
    talk.websocket("/ws?topic=a", **forwarded).leaves()
    line = talk.connect()
    line.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
    line.end()


@conversation()
def handshake_with_subprotocols(talk):
    talk.websocket("/ws?topic=a", Sec_WebSocket_Protocol="chat.v2, chat").leaves()
    talk.websocket("/ws?topic=a", Sec_WebSocket_Protocol=["one", "two"]).leaves()


@conversation()
def handshake_with_extensions(talk):
    talk.websocket("/ws?topic=a", Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits").leaves()


@conversation()
def handshake_in_other_spellings(talk):
    spelled = {"Connection": "keep-alive, UPGRADE", "Upgrade": "h2c, WebSocket"}
    talk.websocket("/ws?topic=a", **spelled).leaves()
    talk.websocket("http://localhost/ws?topic=a").leaves()
    lower = ["GET /ws HTTP/1.1", "host: localhost", "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"]
    line = talk.connect()
    line.send("\r\n".join([*lower, f"sec-websocket-key: {KEY}", "", ""]).encode())
    line.head()
    line.frames()
    line.leaves()


@conversation()
def handshake_of_a_page(talk):
    talk.websocket("/ws?topic=a", Origin="https://app.example", Sec_Fetch_Site="same-origin").leaves()


@conversation(origins='[<<"https://app.example">>]')
def handshake_of_a_page_of_an_allowed_origin(talk):
    talk.websocket("/ws?topic=a", Origin="https://app.example", Host="app.example").leaves()
    talk.websocket("/ws?topic=a").leaves()
    talk.refused("/ws?topic=a", Origin="https://evil.example")
    talk.refused("/ws?topic=a", Origin="https://app.example", Host="evil.example")


@conversation()
def format_json(talk):
    line = talk.websocket("/ws?topic=a&format=json&slow=latest")
    talk.cast('#{<<"topic">> => <<"a">>, <<"data">> => 1}')
    line.frames()
    line.leaves()


@conversation()
def format_raw(talk):
    line = talk.websocket("/ws?topic=a&format=raw", frames=0)
    line.settles()
    talk.cast('#{<<"topic">> => <<"a">>, <<"data">> => <<"text">>}')
    talk.cast('#{<<"topic">> => <<"a">>, <<"data">> => #{<<"k">> => 1}}')
    talk.cast('#{<<"topic">> => <<"a">>, <<"body">> => <<"no data">>}')
    line.frames(3)
    line.send_frame(TEXT, b'{"type":"subscribe","topics":["b"]}')
    line.send_frame(BINARY, b"\x00\x01")
    line.settles()
    line.leaves()


@conversation()
def values_of_a_message(talk):
    line = talk.websocket("/ws?topic=a")
    for value in (
        '<<"text with \\"quotes\\", \\\\ and ", 195, 164, 10>>',
        "<<0, 255>>",
        "9007199254740992",
        "9007199254740993",
        "-123456789012345678901234567890",
        "0.1",
        "1.0e300",
        "true",
        "null",
        "an_atom",
        "[1, {two, 3}, []]",
        '#{<<"k">> => #{<<"priv_key">> => 1, <<"l">> => [<<"m">>]}}',
        "[{<<255>>, 1}]",
        "[{key, 1}, {<<0>>, 2}]",
        "self()",
        "fun erlang:self/0",
        '{link, <<"id">>, #{}}',
        "lists:foldl(fun(_, In) -> [In] end, [], lists:seq(1, 70))",
    ):
        talk.cast(f'#{{<<"topic">> => <<"a">>, <<"data">> => {value}}}')
        line.frames()
    line.leaves()


@conversation()
def topics_of_a_message(talk):
    line = talk.websocket("/ws?topic=*")
    for message in (
        '#{<<"topic">> => <<"a, b ,,c">>, <<"Action">> => <<" Mint ">>, <<"priv">> => 1, <<"data">> => 1}',
        '#{<<"topics">> => [<<"a">>, "b", c], <<"n">> => 1, <<"f">> => 0.5, <<"t">> => true}',
        '#{<<"topic">> => <<"process:x">>, <<"from">> => <<"y">>, <<"slot">> => 3, <<"owner">> => <<"z">>}',
        '#{<<"Tags">> => [#{<<"name">> => <<"K">>, <<"value">> => <<"v">>}], <<"tags">> => #{<<"L">> => <<"w">>}}',
        '#{<<"topic">> => <<"/pppppppppppppppppppppppppppppppppppppppppppp~process@1.0">>, <<"raw">> => <<255, 254>>}',
        # A list: releases of Erlang order a map of so many keys differently.
        '#{<<"Tags">> => [#{<<"name">> => integer_to_binary(N), <<"value">> => N} || N <- lists:seq(1, 70)]}',
    ):
        talk.cast(message)
        line.frames()
    line.leaves()


@conversation(commitments="true", excluded_topic_keys='[<<"kind">>]', max_topics_per_message=2)
def messages_with_other_settings(talk):
    line = talk.websocket("/ws?topic=*")
    talk.cast('#{<<"topic">> => <<"a">>, <<"commitments">> => #{<<"c">> => 1}, <<"kind">> => <<"k">>, <<"m">> => 1, <<"n">> => 2}')
    line.frames()
    line.leaves()


@conversation(max_message_bytes=100)
def a_message_that_is_too_large(talk):
    line = talk.websocket("/ws?topic=*")
    talk.cast('#{<<"topic">> => <<"a">>, <<"data">> => binary:copy(<<"x">>, 100)}')
    line.settles()
    talk.does('hb_websocket_nif:publish(#{<<"topic">> => <<"a">>, <<"data">> => binary:copy(<<"x">>, 100)}, #{})')
    line.settles()
    line.leaves()
