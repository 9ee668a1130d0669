"""Requests over the socket, their replies and their errors."""

from support.conversation import conversation
from support.raw import BINARY, CONTINUATION, PING, PONG, TEXT

ECHO = "e2e_vm:echo()"


@conversation()
def subscribe_and_unsubscribe(talk):
    line = talk.websocket()
    line.says('{"type":"subscribe","id":1,"topics":["b","a*"]}')
    line.says('{"type":"subscribe","id":"two","topics":["b"," c "],"match":["^room:"],"template":[{"action":"Mint"},"/compute"]}')
    talk.cast('#{<<"topic">> => <<"room:1, b">>, <<"action">> => <<"Mint">>}')
    line.frames()
    line.says('{"type":"unsubscribe","topics":["never","a*"]}')
    line.says('{"type":"unsubscribe","id":3,"match":["^room:"],"template":["/compute",{"action":"Mint"}]}')
    line.says('{"type":"unsubscribe","id":4,"topics":["b"]}')
    talk.cast('#{<<"topic">> => <<"b">>}')
    line.settles()
    line.leaves()


@conversation()
def subscribe_twice(talk):
    line = talk.websocket("/ws?topic=a,a")
    line.says('{"type":"subscribe","id":1,"topics":["a"]}')
    line.says('{"type":"subscribe","id":1,"topics":["a","b","b"],"match":["x","x"]}')
    talk.cast('#{<<"topic">> => <<"a,b,x">>}')
    line.frames()
    line.leaves()


@conversation()
def pings(talk):
    line = talk.websocket()
    for identity in ("1", '"text"', "-0", "1.50", "1e3", "12345678901234567890", "0.1234567890123456", "null", '"\\u00e4\\n"'):
        line.says(f'{{"type":"ping","id":{identity}}}')
    line.says('{"type":"ping"}')
    line.says(' { "type" : "ping" } ')
    line.leaves()


@conversation()
def types_that_do_not_exist(talk):
    line = talk.websocket("/ws?topic=a")
    for kind in ("list", "publish", "auth", "login", "refresh", "token", "Ping", "connection_established", ""):
        line.says(f'{{"type":"{kind}","id":"i"}}')
    line.leaves()


@conversation()
def text_that_is_no_request(talk):
    line = talk.websocket("/ws?topic=a")
    for text in ('{"type":', "", "ping", "{'type':'ping'}", "[" * 5000, "[]", "1", "null", '"ping"', "{}", '{"id":1}', '{"type":7}'):
        line.says(text)
    for text in ('{"type":"ping","id":"\\ud800"}', '{"type":"send","id":1,"data":' + "[" * 128 + "]" * 128 + "}", '{"type":"ping","id":1e999}'):
        line.says(text)
    line.send_frame(BINARY, b'{"type":"ping"}')
    line.frames()
    line.leaves()


@conversation()
def fields_that_are_wrong(talk):
    line = talk.websocket("/ws?topic=a")
    for fields in (
        '"type":"ping","topic":"a"',
        '"type":"subscribe","topics":["b"],"speed":1',
        '"type":"subscribe"',
        '"type":"subscribe","topics":[]',
        '"type":"subscribe","topics":"b"',
        '"type":"subscribe","topics":["b",5]',
        '"type":"subscribe","match":{}',
        '"type":"subscribe","template":[1]',
        '"type":"unsubscribe","topics":{"a":1}',
        '"type":"unsubscribe","topics":["b"],"since":1',
        '"type":"send"',
        '"type":"ping","type":"ping"',
    ):
        line.says(f'{{"id":9,{fields}}}')
    for identity in ("[]", "{}", "true", '"' + "i" * 255 + '"'):
        line.says(f'{{"type":"ping","id":{identity}}}')
    line.leaves()


@conversation()
def subscriptions_that_are_wrong(talk):
    line = talk.websocket("/ws?topic=a")
    for fields in (
        '"topics":["good",""]',
        '"topics":["good","x,y"]',
        '"topics":["a\\u0000b"]',
        '"topics":["a\\nb"]',
        '"topics":["' + "t" * 256 + '"]',
        '"match":["("]',
        '"match":[""]',
        '"match":["' + "a" * 257 + '"]',
        '"match":["[01]*1[01]{30}x"]',
        '"template":[{}]',
        '"template":["compute"]',
        '"template":["/("]',
        '"topics":["b"],"since":"x:y:z"',
        '"topics":["b"],"since":99',
        '"topics":["b"],"since":-1',
        '"topics":["b"],"since":"{epoch}:99"',
    ):
        line.says(f'{{"type":"subscribe","id":1,{fields}}}')
    line.says('{"type":"unsubscribe","topics":["never held"]}')
    line.leaves()


@conversation(max_topics_per_connection=2, max_regexes_per_connection=1, max_templates_per_connection=1)
def more_subscriptions_than_allowed(talk):
    line = talk.websocket("/ws?topic=a")
    line.says('{"type":"subscribe","id":1,"topics":["b","c"]}')
    line.says('{"type":"subscribe","id":2,"match":["b","c"]}')
    line.says('{"type":"subscribe","id":3,"template":["/b","/c"]}')
    line.says('{"type":"unsubscribe","id":4,"topics":["b","c","d"]}')
    line.says('{"type":"subscribe","id":5,"topics":["b"],"match":["b"],"template":["/b"]}')
    line.says('{"type":"subscribe","id":6,"match":["c"]}')
    line.says('{"type":"subscribe","id":7,"template":["/c"]}')
    line.leaves()


@conversation(max_globs=1, max_regexes=1, max_templates=1)
def more_patterns_than_the_server_has_room_for(talk):
    line = talk.websocket("/ws?topic=a*&match=%5Ea&template=%7B%22k%22:1%7D")
    line.says('{"type":"subscribe","id":1,"topics":["b*"]}')
    line.says('{"type":"subscribe","id":2,"match":["^b"]}')
    line.says('{"type":"subscribe","id":3,"template":[{"k":2}]}')
    line.says('{"type":"subscribe","id":4,"topics":["a*"],"match":["^a"],"template":[{"k":1}]}')
    line.leaves()


@conversation()
def send_without_a_listener(talk):
    line = talk.websocket("/ws?topic=a")
    line.says('{"type":"send","id":5,"data":{"any":"JSON"}}')
    line.says('{"type":"send","data":"text"}')
    line.leaves()


@conversation()
def send_with_a_listener(talk):
    talk.does(ECHO)
    line = talk.websocket("/ws?topic=a")
    line.says('{"type":"send","id":5,"data":"text \\u00e4"}')
    line.says('{"type":"send","data":{"b":[1.0, 2e2 ],"a":null}}')
    line.leaves()
    talk.does("e2e_vm:unlisten()")


@conversation()
def send_in_the_raw_format(talk):
    talk.does(ECHO)
    line = talk.websocket("/ws?topic=a&format=raw", frames=0)
    line.says('{"type":"ping"}')
    line.send_frame(BINARY, b"\x00\xff")
    line.frames()
    line.leaves()
    talk.does("e2e_vm:unlisten()")


@conversation()
def messages_in_pieces(talk):
    line = talk.websocket()
    line.send_frame(TEXT, b'{"type":', first_bits=0)
    line.send_frame(PING, b"between")
    line.send_frame(CONTINUATION, b'"ping"', first_bits=0)
    line.send_frame(PONG, b"unasked")
    line.send_frame(CONTINUATION, b"}")
    line.frames(2)
    line.send_frame(PING, b"p" * 125)
    line.frames()
    line.leaves()
