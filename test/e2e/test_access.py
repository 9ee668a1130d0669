"""Access control with real clients: the documents' example, renewed tokens, expiry, revocation, and secrets in no output."""

import json
import os
import re
import time
import unittest

from support.browser import CHROMIUM, Tab
from support.case import EngineTest
from support.clients import PythonClient, Refused
from support.reconnecting import NodeReconnecting, PythonReconnecting, with_clients
from support.tokens import keys, token
from support.vm import ROOT

class AccessTest(EngineTest):
    # The check after each test listens to a topic of its own, without a token.
    settings = {"access": "token", "token_keys": keys(), "public_topics": "still-serving"}


class Documents(AccessTest):
    def example(self):
        """The function of the example in docs/AUTHORIZATION.md, as printed."""
        with open(os.path.join(ROOT, "docs/AUTHORIZATION.md"), encoding="utf-8") as file:
            code = re.search(r"```python\n(.*?)```", file.read(), re.S)[1]
        names = {}
        exec(code, names)  # pylint: disable=exec-used
        return names["token"]

    async def test_the_example_of_a_shop_opens_the_topics_of_its_customer_and_no_others(self):
        headers = {"Authorization": "Bearer " + self.example()("alice")}
        client = await self.subscriber("prices,orders:alice", additional_headers=headers)
        self.assertGreater(client.established["token_ends"], time.time() * 1000)
        self.vm.cast('#{<<"topic">> => <<"orders:alice">>, <<"data">> => <<"1">>}')
        self.assertEqual((await client.message())["topic"], "orders:alice")
        for topics in ("orders:bob", "*", "prices,orders:*"):
            with self.assertRaises(Refused) as refused:
                await PythonClient.connect(f"{self.uri}?topic={topics}", additional_headers=headers)
            self.assertEqual(refused.exception.status, 403)

    async def test_no_output_shows_a_token(self):
        held = token(600, ["a"])
        await self.subscriber("a", additional_headers={"Authorization": "Bearer " + held})
        with self.assertRaises(Refused):
            await PythonClient.connect(f"{self.uri}?topic=a&token={held}")
        shown = [
            self.vm.eval("begin {ok, #{connections := C}} = dev_websocket:connections(), iolist_to_binary(io_lib:format(\"~p\", [C])) end"),
            self.vm.eval(
                "begin {ok, #{connections := [#{connection := N} | _]}} = dev_websocket:connections(), "
                "iolist_to_binary(io_lib:format(\"~p\", [dev_websocket:connection(N)])) end"
            ),
            self.vm.eval('iolist_to_binary(io_lib:format("~p", [dev_websocket:stats()]))'),
            "\n".join(self.vm.log),
        ]
        for text in shown:
            self.assertNotIn(held.rsplit(".", 1)[1], text)


@with_clients(PythonReconnecting, NodeReconnecting)
class Lives(AccessTest):
    client = None

    async def start(self, *tokens, topic="numbers"):
        client = await self.client.start(self.uri, topics=[topic], tokens=list(tokens))
        self.addAsyncCleanup(client.close)
        await client.until("open")
        return client

    async def numbers(self, client, count):
        return [int(text) for text in await client.texts(count)]

    async def test_a_renewed_token_keeps_the_connection_and_every_message(self):
        opened = self.vm.stats()["connections_opened"]
        client = await self.start(token(3, ["numbers"]), token(600, ["numbers"]))
        self.vm.eval('e2e_vm:start_casting(<<"numbers">>)')
        end = time.time() + 5
        numbers = []
        # The first token ends meanwhile.
        while time.time() < end:
            numbers += await self.numbers(client, 100)
        count = self.vm.eval("e2e_vm:stop_casting()")
        numbers += await self.numbers(client, count - len(numbers))
        self.assertEqual(numbers, list(range(1, count + 1)))
        self.assertEqual(self.vm.stats()["connections_opened"], opened + 1)

    async def test_after_the_end_of_its_token_a_client_comes_back_and_misses_nothing(self):
        closed = self.vm.stats()["closed_unauthorized"]
        # The second token is expired already, so the first one holds to its end.
        client = await self.start(token(3, ["numbers"]), token(-100, ["numbers"]), token(600, ["numbers"]))
        self.vm.eval('e2e_vm:start_casting(<<"numbers">>)')
        while (await client.next("state"))["state"] != "open":
            pass
        count = self.vm.eval("e2e_vm:stop_casting()")
        self.assertEqual(await self.numbers(client, count), list(range(1, count + 1)))
        self.assertEqual(self.vm.stats()["closed_unauthorized"], closed + 1)

    async def test_a_client_with_a_revoked_token_stays_away(self):
        name = f"revoked-{self.client.name}"
        client = await self.start(token(600, ["a"], jti=name), topic="a")
        self.assertEqual(self.vm.eval(f'dev_websocket:revoke(<<"{name}">>)'), "ok")
        while (told := await client.next("state"))["state"] != "closed":
            pass
        self.vm.await_connections(0)
        subject = f"subject-{self.client.name}"
        client = await self.start(token(600, ["a"], sub=subject), topic="a")
        self.assertEqual(self.vm.eval(f'dev_websocket:revoke(#{{sub => <<"{subject}">>}})'), "ok")
        while (told := await client.next("state"))["state"] != "closed":
            pass
        self.assertIsNotNone(told)


@unittest.skipIf(CHROMIUM is None, "no chromium on PATH")
class Page(AccessTest):
    """The live page and a browser's own WebSocket."""

    STATE = "document.querySelector('#state').dataset.state"
    ASKED = "!document.querySelector('#access').hidden"

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.page = self.uri.replace("ws://", "http://").removesuffix("ws")
        tab = Tab.open()
        self.tab = await tab.__aenter__()
        self.addAsyncCleanup(tab.__aexit__, None, None, None)

    async def enter(self, held):
        await self.tab.eval(f"document.querySelector('#token').value = {json.dumps(held)}")
        await self.tab.eval("document.querySelector('#access').requestSubmit()")

    async def test_the_page_asks_for_a_token_and_keeps_it_for_the_tab_alone(self):
        await self.tab.go(self.page + "?topic=secret")
        await self.tab.until(self.ASKED, "the field for a token")
        self.assertIn("required", await self.tab.eval("document.querySelector('#access-fault').textContent"))
        await self.enter(token(600, ["other"]))
        await self.tab.until(f"{self.ASKED} && /secret/.test(document.querySelector('#access-fault').textContent)", "the topic that is not allowed")
        held = token(600, ["secret"])
        await self.enter(held)
        await self.tab.until(f"{self.STATE} === 'open' && !({self.ASKED})", "live")
        self.vm.cast('#{<<"topic">> => <<"secret">>, <<"data">> => <<"seen">>}')
        await self.tab.until("/seen/.test(document.querySelector('#rows').textContent)", "the message")
        self.assertNotIn(held, await self.tab.eval("location.href"))
        self.assertEqual(await self.tab.eval("Object.values(localStorage).join()"), "")
        # The same tab needs no second entry.
        await self.tab.go(self.page + "?topic=secret")
        await self.tab.until(f"{self.STATE} === 'open'", "live again")

    async def test_a_browser_hands_its_token_over_as_a_subprotocol(self):
        await self.tab.go(self.page + "?topic=still-serving")
        await self.tab.until(f"{self.STATE} === 'open'", "live")
        protocols = json.dumps(["dev-websocket.v1", "bearer." + token(600, ["secret"])])
        await self.tab.eval(f"globalThis.own = new WebSocket({json.dumps(self.uri + '?topic=secret')}, {protocols})")
        await self.tab.until("own.readyState === 1", "open")
        self.assertEqual(await self.tab.eval("own.protocol"), "dev-websocket.v1")
