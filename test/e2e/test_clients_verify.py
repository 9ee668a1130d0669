"""The check of events against a signed slot, which a node once served: in Python, and in a page."""

import base64
import copy
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import unittest

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA512
from support.browser import CHROMIUM, Tab
from support.page import PageServer
from support.vm import ROOT

from support.reconnecting import PythonReconnecting  # noqa: F401  # It makes the client importable.

from dev_websocket import VerifyError, verify  # pylint: disable=wrong-import-order
from dev_websocket._signed import Answer, ids_of, text_of  # pylint: disable=wrong-import-order
from dev_websocket.sync import verify as verify_now  # pylint: disable=wrong-import-order

with open(os.path.join(ROOT, "clients/fixtures/signed_slot.json"), encoding="utf-8") as file:
    RECORDED = json.load(file)
RESULT, FIRST, SECOND = RECORDED["events"]
STATE = next(iter(RECORDED["answers"]))
RESULTS = f"{STATE}/results"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.fetched.append(self.path)
        answer = self.server.answers.get(self.path)
        if answer is None:
            self.send_error(404)
            return
        body = answer["body"].encode("latin-1")
        self.send_response_only(200)
        # A node lets each page read all of its headers.
        more = {"content-length": str(len(body)), "access-control-allow-origin": "*", "access-control-expose-headers": "*"}
        for name, value in (answer["headers"] | more).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class OwnKey:
    """A key of the test's own, which signs a state for any results."""

    def __init__(self):
        self.key = rsa.generate_private_key(65537, 2048)
        modulus = self.key.public_key().public_numbers().n.to_bytes(256, "big")
        self.address = text_of(hashlib.sha256(modulus).digest())
        keyid = base64.b64encode(modulus).decode()
        self.line = f'("process+link" "at-slot" "results+link");alg="rsa-pss-sha512";keyid="{keyid}"'

    def sign(self, results):
        lines = [f'"process+link": {RESULT["process"]}', '"at-slot": 1', f'"results+link": {results}', f'"@signature-params": {self.line}']
        signature = self.key.sign("\n".join(lines).encode(), padding.PSS(padding.MGF1(SHA512()), 64), SHA512())
        named = f"sig-own=:{base64.b64encode(signature).decode()}:"
        return {"results+link": results, "signature": named, "signature-input": f"sig-own={self.line}"}


class Verifying(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.answers, self.server.fetched = copy.deepcopy(RECORDED["answers"]), []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.node = f"http://127.0.0.1:{self.server.server_port}/"

    def check(self, event, address=RECORDED["address"]):
        return verify_now(event, node=self.node, address=address)

    def refused(self, code, event, what=None, **options):
        with self.assertRaises(VerifyError, msg=what) as caught:
            self.check(event, **options)
        self.assertEqual(caught.exception.code, code, f"{what}: {caught.exception}")

    async def test_each_event_of_a_slot_is_what_the_node_signed(self):
        for event in RECORDED["events"]:
            self.server.fetched.clear()
            told = await verify(event, node=self.node, address=RECORDED["address"])
            self.assertEqual(told, (RECORDED["address"], RESULT["data"]["results-id"]))
            self.assertEqual(self.server.fetched.count(STATE), 1)

    @unittest.skipIf(CHROMIUM is None, "no chromium on PATH")
    async def test_a_page_verifies_with_the_javascript_client(self):
        page = PageServer({}, lambda **_: None)
        self.addCleanup(page.close)
        async with Tab.open() as tab:
            await tab.go(page.uri("/clients/python/README.md"))
            for address, expected in ((RECORDED["address"], RECORDED["address"]), ("x" * 43, "address")):
                options = json.dumps({"node": self.node, "address": address})
                told = await tab.eval(
                    f"""import('/clients/javascript/index.js').then(({{ verify }}) => Promise.all({json.dumps(RECORDED["events"])}
                        .map((event) => verify(event, {options}).then(({{ address }}) => address, ({{ code }}) => code))))"""
                )
                self.assertEqual(told, [expected] * 3)

    def test_an_event_whose_content_is_another_one_is_refused(self):
        def change(event, *keys, to):
            changed = copy.deepcopy(event)
            *way, last = keys
            place = changed
            for key in way:
                place = place[key]
            if to is None:
                del place[last]
            else:
                place[last] = to
            return changed

        for event in (
            change(FIRST, "data", "quantity", to="21"),
            change(FIRST, "data", "data", to="two\nlineS"),
            change(FIRST, "data", "more", to="1"),
            change(FIRST, "data", "quantity", to=None),
            change(FIRST, "path", to=SECOND["path"]),
            change(FIRST, "path", to="/elsewhere"),
            change(FIRST, "path", to=FIRST["path"][:-1] + "3"),
            change(SECOND, "data", "number", to=13),
            change(SECOND, "data", "flag", to=False),
            change(SECOND, "data", "empty", to="x"),
            change(SECOND, "data", "tags", 0, "value", to="blue"),
            change(SECOND, "data", "tags", to=SECOND["data"]["tags"] * 2),
            change(RESULT, "data", "output", "body", to="slot 2"),
            change(RESULT, "data", "output", "data", "deep", "list", 1, to="z"),
            change(RESULT, "data", "output", to=None),
            change(RESULT, "data", "error", to="x"),
            change(RESULT, "data", "outbox-count", to=1),
            change(RESULT, "data", "results-id", to=RESULT["data"]["state-id"]),
        ):
            self.refused("content", event, event["data"])
        self.check(change(RESULT, "data", "data", to={"$size": 6000, "$get": "/elsewhere"}))

    def test_a_slot_that_says_something_else_is_refused(self):
        other = "x" * 43
        answers = self.server.answers
        answers |= {path.replace(RESULT["process"], other): answer for path, answer in RECORDED["answers"].items()}
        answers |= {path.replace("slot=1", "slot=2"): answer for path, answer in RECORDED["answers"].items()}
        self.refused("content", RESULT | {"process": other})
        self.refused("content", RESULT | {"slot": 2})

    def test_an_answer_that_was_changed_has_no_valid_signature(self):
        headers = self.server.answers[STATE]["headers"]
        before = dict(headers)

        def flip(found):
            return found[1] + ("B" if found[2] == "A" else "A")

        changes = {
            "results+link": headers["process+link"],
            "signature": re.sub(r"(=:..)(.)", flip, headers["signature"]),
            "signature-input": headers["signature-input"].replace(' "results+link"', ""),
            "device": "other@1.0",
        }
        for name, value in changes.items():
            headers.clear()
            headers.update(before | {name: value})
            self.refused("signature", RESULT, name)
        headers.clear()
        headers.update({name: value for name, value in before.items() if name != "device"})
        self.refused("signature", RESULT)

    def test_parts_that_are_not_those_of_the_signed_slot_are_refused(self):
        for path in list(RECORDED["answers"])[1:]:
            event = next((event for event in (FIRST, SECOND) if path.startswith(event["path"])), RESULT)
            for part in ("body", "headers"):
                answer = self.server.answers[path] = copy.deepcopy(RECORDED["answers"][path])
                if part == "body" and answer["body"]:
                    answer["body"] = "x" + answer["body"][1:]
                elif part == "headers":
                    own = [name for name in answer["headers"] if not re.match("signature|content-|ao-|status", name)]
                    answer["headers"] |= {name: answer["headers"][name] + "x" for name in own}
                if answer != RECORDED["answers"][path]:
                    self.refused("content", event, f"{part} of {path}")
            self.server.answers[path] = RECORDED["answers"][path]

    def test_a_body_is_that_of_its_digest_whatever_the_event_says(self):
        changed = copy.deepcopy(FIRST)
        changed["data"]["data"] = self.server.answers[FIRST["path"]]["body"] = "two\nlineS"
        self.refused("content", changed)

    def test_an_answer_that_nobody_signed_is_refused(self):
        headers = self.server.answers[STATE]["headers"]
        name = re.search(r'(sig-[\w-]+)=\([^)]*\);alg="hmac-sha256"', headers["signature-input"])[1]
        for key in ("signature", "signature-input"):
            headers[key] = ", ".join(item for item in re.split(r", (?=sig-)", headers[key]) if item.startswith(f"{name}="))
        self.refused("not_signed", RESULT)
        del headers["signature"], headers["signature-input"]
        self.refused("not_signed", RESULT)

    def test_a_signature_of_another_key_is_not_that_of_the_node(self):
        own = OwnKey()
        headers = self.server.answers[STATE]["headers"]
        trusted = re.search(r'keyid="([^"]{100,})"', headers["signature-input"])[1]
        headers |= own.sign(headers["results+link"])
        self.refused("address", RESULT)
        self.assertEqual(self.check(RESULT, address=own.address).address, own.address)
        # The name of the trusted key beside the signature of another.
        headers["signature-input"] = re.sub('keyid=".*"', f'keyid="{trusted}"', headers["signature-input"])
        self.refused("signature", RESULT)

    def test_a_node_that_is_away_is_told_as_such(self):
        del self.server.answers[RESULTS]
        self.refused("not_reachable", RESULT)
        del self.server.answers[STATE]
        self.refused("not_reachable", RESULT)
        self.server.shutdown()
        self.server.server_close()
        self.refused("not_reachable", RESULT)
        with self.assertRaises(TypeError):
            self.check({"data": {}})

    def test_an_event_of_an_output_is_one_of_its_lines(self):
        own = OwnKey()
        body = 'hello\n{"_e":1,"Action":"Buy","Price":7,"slot":9}\n{"Action":"None"}'
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        headers = {
            "content-digest": f"sha-256=:{digest}:",
            "ao-body-key": "data",
            "signature-input": 'sig-x=("ao-body-key" "content-digest");alg="hmac-sha256";keyid="ao"',
        }
        # Its id as a message, and as a list.
        results = max(ids_of(Answer(headers, body.encode())))
        self.server.answers[RESULTS] = {"headers": headers, "body": body}
        self.server.answers[STATE]["headers"] |= own.sign(results)

        def event(data, path="data"):
            data = {"from": RESULT["process"], "process": RESULT["process"]} | data
            return {"process": RESULT["process"], "slot": 1, "path": f"{RESULT['path']}/results/{path}", "data": data}

        line = {"Price": 7, "Action": "Buy", "_e": 1}
        self.check(event(line), address=own.address)
        for other in (line | {"Price": 8}, {"Action": "Buy", "_e": 1}, line | {"more": 1}, {"Action": "None"}):
            self.refused("content", event(other), other, address=own.address)
        self.refused("content", event(line, "error"), address=own.address)

    def test_without_cryptography_the_error_says_what_to_install(self):
        program = "import sys; sys.modules['cryptography'] = None; import dev_websocket.sync as s, json\n" + (
            "try: s.verify(json.loads(sys.argv[1]), node=sys.argv[2], address=sys.argv[3])\nexcept ImportError as error: print(error)"
        )
        command = [sys.executable, "-c", program, json.dumps(RESULT), self.node, RECORDED["address"]]
        environment = os.environ | {"PYTHONPATH": os.path.join(ROOT, "clients/python")}
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
        self.assertIn("pip install dev-websocket[verify]", told.stdout)
