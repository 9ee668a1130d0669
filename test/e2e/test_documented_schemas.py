"""docs/asyncapi.yaml and docs/openapi.yaml against the frames and answers of a running server."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import socket
import urllib.error
import urllib.parse
import urllib.request

import yaml
from jsonschema import Draft202012Validator
from support.case import EngineTest
from support.clients import PythonClient
from support.vm import ROOT

DEADLINE = 30


def document(name):
    with open(os.path.join(ROOT, "docs", name), encoding="utf-8") as file:
        return yaml.safe_load(file)


def resolved(node, root):
    """A document with each reference in its place."""
    if isinstance(node, list):
        return [resolved(item, root) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = root
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return resolved(target, root)
    return {name: resolved(value, root) for name, value in node.items()}


class Frames(EngineTest):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.document = document("asyncapi.yaml")
        messages = resolved(self.document["components"]["messages"], self.document)
        for message in messages.values():
            Draft202012Validator.check_schema(message["payload"])
        self.schemas = {name: Draft202012Validator(message["payload"]) for name, message in messages.items()}
        self.seen = set()

    def check(self, frame, sent=False):
        """A frame fits exactly one message of those that go its way."""
        operation = self.document["operations"]["request" if sent else "receive"]
        names = [reference["$ref"].rsplit("/", 1)[1] for reference in operation["messages"]]
        fitting = [name for name in names if self.schemas[name].is_valid(frame)]
        faults = [error.message for name in names for error in self.schemas[name].iter_errors(frame) if name == frame.get("type", "edge")]
        self.assertEqual(len(fitting), 1, f"{frame}: {fitting} {faults}")
        self.seen.add(fitting[0])
        return frame

    async def test_every_frame_is_as_documented(self):
        self.vm.eval("e2e_vm:echo()")
        self.addCleanup(self.vm.eval, "e2e_vm:unlisten()")
        self.vm.cast('#{<<"topic">> => <<"a">>, <<"data">> => <<"x">>}')
        client = await PythonClient.connect(f"{self.uri}?topic=a&match=^b&template=/p&since=other:1&unknown=1")
        self.addAsyncCleanup(client.close)

        async def until(kind):
            while self.check(await client.frame())["type"] != kind:
                pass

        await until("live")
        requests = [
            {"type": "subscribe", "id": 1, "topics": ["c"], "match": ["^d"], "template": [{"k": 1}]},
            {"type": "subscribe", "id": "two", "topics": ["e"], "since": 0},
            {"type": "unsubscribe", "id": 2.5, "topics": ["c"], "match": ["^d"], "template": [{"k": 1}]},
            {"type": "ping", "id": 3},
            {"type": "send", "id": 4, "data": {"x": 1}},
        ]
        answers = ["subscription_response", "live", "unsubscription_response", "pong", "direct"]
        for request, answer in zip(requests, answers):
            await client.send(json.dumps(self.check(request, sent=True)))
            await until(answer)
        await client.send('{"type":"subscribe","topics":["a,b"]}')
        await until("error")
        # A slow client has the gap of a slow one; that of slots comes where a process is missing.
        self.vm.cast('#{<<"topic">> => <<"a">>, <<"path">> => <<"/p">>, <<"data">> => <<"x">>}')
        await until("message")
        self.check({"type": "gap", "reason": "not_cached", "process": "p", "from_slot": 4, "to_slot": 6, "dropped": 3, "seq": 7, "timestamp": 1})
        self.check({"cursor": "17", "node": {"Output": {}, "Messages": [], "Spawns": [], "Assignments": [], "Error": "boom"}})
        self.check({"cursor": "18", "node": {"$omitted": "too_large", "$get": "/p"}})
        self.check({"type": "close", "code": 1012, "reason": "server restarting"})
        # A server without a stream is never cut off from it.
        self.check({"type": "stale", "since": 1})
        # An open server sends none of these, so they are samples.
        self.check({"type": "auth", "id": 5, "token": "<jwt>"}, sent=True)
        self.check({"type": "auth_response", "id": 5, "sub": "alice", "token_ends": 2, "timestamp": 1})
        self.check({"type": "token_expires", "at": 1})
        self.assertEqual(self.seen, set(self.schemas))

    async def test_every_frame_of_the_protocol_page_is_as_documented(self):
        with open(os.path.join(ROOT, "docs/PROTOCOL.md"), encoding="utf-8") as file:
            page = file.read()
        shown = 0
        for block in re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
            for text in re.split(r"\n(?=\{)", block.strip()):
                frame = json.loads(text)
                if "type" in frame or "cursor" in frame:
                    self.check(frame, sent=frame.get("type") in ("subscribe", "unsubscribe", "ping", "auth", "send"))
                    shown += 1
        self.assertGreater(shown, 10)


class Answers(EngineTest):
    def ask(self, path, method="GET", base=None, body=None, **headers):
        url = (base or self.uri.replace("ws://", "http://").removesuffix("/ws")) + path
        if isinstance(body, int):
            return self.ask_before_body(url, method, body, headers)
        request = urllib.request.Request(url, method=method, headers=headers, data=body)
        try:
            answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=DEADLINE)
        except urllib.error.HTTPError as refusal:
            answer = refusal
        with answer:
            content = answer.headers["Content-Type"]
            if content == "text/event-stream":
                # The rest never ends.
                return answer.status, content, answer.readline().decode() + answer.readline().decode()
            return answer.status, content, answer.read().decode()

    def ask_before_body(self, url, method, length, headers):
        """Announces a body and sends none of it: what the server refuses by its length, it does not read."""
        parts = urllib.parse.urlsplit(url)
        with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=DEADLINE)) as connection:
            connection.putrequest(method, parts.path)
            for name, value in {**headers, "Content-Length": length}.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read().decode()

    async def test_every_answer_is_as_documented(self):
        paths = resolved(document("openapi.yaml"), document("openapi.yaml"))["paths"]
        asked = [
            ("/info", 200, {}),
            ("/health", 200, {}),
            ("/metrics", 200, {}),
            ("/metrics", 200, {"headers": {"Accept": "application/openmetrics-text; version=1.0.0"}}),
            ("/events?topic=a", 200, {}),
            ("/events?topic=a&last=x", 400, {}),
            ("/events?topic=a&since=x", 400, {}),
            ("/client.js", 200, {}),
            ("/info", 405, {"method": "POST"}),
            ("/health", 403, {"headers": {"Host": "evil.example"}}),
        ]
        for target, status, options in asked:
            got, content, body = await asyncio.to_thread(self.ask, target, options.get("method", "GET"), **options.get("headers", {}))
            self.assertEqual(got, status, target)
            documented = paths[target.split("?")[0]]["get"]["responses"].get(str(status))
            if documented is None:
                documented = paths["/info"]["get"]["responses"]["403"]
            self.assertIn(content, documented["content"], target)
            schema = documented["content"][content]["schema"]
            Draft202012Validator.check_schema(schema)
            value = json.loads(body) if content == "application/json" else body
            Draft202012Validator(schema).validate(value)
        with self.vm.settings(endpoints="[<<\"health\">>]"):
            for path in paths:
                if path != "/health":
                    ((method, operation),) = paths[path].items()
                    status, content, body = await asyncio.to_thread(self.ask, path, method.upper())
                    Draft202012Validator(operation["responses"]["404"]["content"][content]["schema"]).validate(json.loads(body))
                    self.assertEqual(status, 404, path)

    async def test_the_answers_to_an_operator_are_as_documented(self):
        paths = resolved(document("openapi.yaml"), document("openapi.yaml"))["paths"]
        # An address of this machine that no other test has, so the port stays free.
        with socket.create_server(("127.19.2.1", 0)) as free:
            port = free.getsockname()[1]
        self.vm.eval(f'ok = dev_websocket:start(#{{operator_host => "127.19.2.1", operator_port => {port}}})')
        self.addCleanup(self.vm.eval, "ok = dev_websocket:start(#{operator_port => 0})")
        await self.subscriber("a")
        operator, kind = f"http://127.19.2.1:{port}", {"Content-Type": "application/json"}
        # The stream of the test before this one may still be closing.
        self.vm.await_connections(1)
        (known,) = json.loads((await asyncio.to_thread(self.ask, "/connections", base=operator))[2])["connections"]
        for path, target, method, base, body, headers, status in (
            ("/info", "/info", "GET", operator, None, {}, 200),
            ("/connections", "/connections?cursor=0&limit=1", "GET", operator, None, {}, 200),
            ("/connections", "/connections?limit=0", "GET", operator, None, {}, 400),
            ("/connections", "/connections", "GET", None, None, {}, 403),
            ("/cast", "/cast", "POST", operator, b'{"topic":"a"}', kind, 200),
            ("/cast", "/cast", "POST", operator, b"x", kind, 400),
            ("/cast", "/cast", "POST", operator, b"{}", {"Content-Type": "text/plain"}, 415),
            ("/cast", "/cast", "POST", operator, 1048577, kind, 413),
            ("/cast", "/cast", "POST", None, b"{}", kind, 403),
            ("/connections/{connection}", "/connections/x", "DELETE", operator, None, {}, 400),
            ("/connections/{connection}", "/connections/0", "DELETE", operator, None, {}, 404),
            ("/connections/{connection}", f"/connections/{known['connection']}", "DELETE", operator, None, {}, 200),
        ):
            got, content, answer = await asyncio.to_thread(self.ask, target, method, base, body, **headers)
            self.assertEqual(got, status, f"{target} {answer}")
            schema = paths[path][method.lower()]["responses"][str(status)]["content"][content]["schema"]
            Draft202012Validator(schema).validate(json.loads(answer))
