"""The operator's part of the live page: connections, a form for a message, and that no other page can use either."""

import asyncio
import json
import os
import socket
from urllib.parse import urlsplit

from support.live_page import NETWORK, TEXTS, PageTest, text
from support.page import PageServer
from support.vm import OUT

BUTTONS = "[...document.querySelectorAll('#server button')].filter((button) => button.checkVisibility()).map(({ id }) => id)"
ROWS = "[...document.querySelectorAll('#connection-rows tr')].map((row) => [...row.children].map((cell) => cell.textContent))"


class OperatorsPage(PageTest):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.public = self.page
        # An address of this machine that no other test has, so the port stays free.
        with socket.create_server(("127.19.1.1", 0)) as free:
            port = free.getsockname()[1]
        self.vm.eval(f'ok = dev_websocket:start(#{{operator_host => "127.19.1.1", operator_port => {port}}})')
        self.addCleanup(self.vm.eval, "ok = dev_websocket:start(#{operator_port => 0})")
        self.page = f"http://127.19.1.1:{port}/"

    async def check_requests(self):
        """The tests choose the hosts themselves."""

    async def operate(self, query=""):
        await self.open(query)
        await self.tab.until(f"{BUTTONS}.length === 2", "the buttons of an operator")

    async def test_strangers_see_no_buttons(self):
        await self.open("?topic=a", page=self.public)
        await self.tab.until("document.querySelector('#totals div')", "the totals, which come last")
        self.assertEqual(await self.tab.eval(BUTTONS), [])
        await self.operate()
        self.assertEqual(await self.tab.eval(BUTTONS), ["show-connections", "show-cast"])
        self.no_complaints()

    async def test_a_connection_is_seen_and_ended(self):
        other = await self.subscriber("%3Ci%3Enews%3C/i%3E")
        await self.operate("?topic=a")
        await self.tab.click("#show-connections")
        await self.tab.until(f"{ROWS}.length === 2", "both connections")
        row = next(row for row in await self.tab.eval(ROWS) if row[7] == "<i>news</i>")
        self.assertEqual((row[3], row[5:7]), ("json", ["–", "0"]))
        button = f"#connection-rows button[aria-label=\"End connection {row[0].replace(',', '')}\"]"
        ended = self.vm.stats()["closed_operator"]
        # The first click asks, the second one ends it.
        await self.tab.click(button)
        self.assertEqual(await self.tab.eval(text(button)), "End it?")
        self.assertEqual(self.vm.stats()["closed_operator"], ended)
        await self.tab.click(button)
        await self.tab.until(f"{text(button)} === 'Ended'")
        self.assertEqual((await other.closed())[0], 1008)
        await self.tab.click("#reload-connections")
        await self.tab.until(f"{ROWS}.length === 1")
        self.assertEqual(await self.tab.eval(text("#connections-note")), "1 shown")
        self.no_complaints()

    async def test_a_message_is_cast(self):
        await self.operate("?topic=test")
        await self.tab.click("#show-cast")
        await self.tab.eval("document.querySelector('#cast-form').requestSubmit()")
        await self.until_shown("hello")
        self.assertRegex(await self.tab.eval(text("#cast-result")), r"^Published as \d+$")
        await self.tab.eval("document.querySelector('#cast-message').value = '[1]'")
        await self.tab.eval("document.querySelector('#cast-form').requestSubmit()")
        await self.tab.until(f"{text('#cast-result')} === 'a message is a JSON object'")
        await self.tab.eval("document.querySelector('#cast-message').value = '{\"topic\": [\"process:p\", \"test\"], \"data\": \"mine\"}'")
        await self.tab.eval("document.querySelector('#cast-form').requestSubmit()")
        await self.tab.until(f"{TEXTS}[0].includes('mine')")
        self.assertEqual(await self.tab.eval("[...document.querySelectorAll('#rows li:first-child .chip')].map((chip) => chip.textContent)"), ["test"])
        self.no_complaints(*NETWORK)

    async def test_a_page_of_another_site_does_nothing(self):
        other = await self.subscriber("a")
        foreign = PageServer({}, print)
        self.addCleanup(foreign.close)
        await self.tab.go(foreign.uri("/docs/"))
        await self.tab.until("location.pathname === '/docs/' && document.readyState === 'complete'")
        before = self.vm.stats()
        cast, connection = json.dumps(self.page + "cast"), json.dumps(self.page + "connections/")
        script = "({}).then(({{ type, status }}) => type + status, ({{ name }}) => name)"
        for attempt, seen in (
            # Sent, refused, and not to be read.
            (f"fetch({cast}, {{ method: 'POST', mode: 'no-cors', body: '{{\"topic\":\"a\"}}' }})", "opaque0"),
            (f"fetch({cast}, {{ method: 'POST', mode: 'no-cors', body: new Blob(['{{}}'], {{ type: 'application/json' }}) }})", None),
            # Needs a permission that is not given.
            (f"fetch({cast}, {{ method: 'POST', headers: {{ 'content-type': 'application/json' }}, body: '{{\"topic\":\"a\"}}' }})", "TypeError"),
            (f"fetch({connection} + 1, {{ method: 'DELETE' }})", "TypeError"),
            (f"fetch({json.dumps(self.page + 'connections')})", "TypeError"),
        ):
            got = await self.tab.eval(script.format(attempt))
            if seen is not None:
                self.assertEqual(got, seen, attempt)
        arrived = self.tab.event("Page.frameNavigated", lambda params: params["frame"]["url"] == self.page + "cast")
        await self.tab.eval(
            f"""(() => {{
                const form = document.createElement('form')
                Object.assign(form, {{ method: 'post', action: {cast}, enctype: 'text/plain' }})
                const field = document.createElement('input')
                Object.assign(field, {{ name: '{{"topic":"a","x":"', value: '"}}' }})
                form.append(field)
                document.body.append(form)
                form.submit()
            }})()"""
        )
        await arrived
        answer = "document.body?.textContent.includes('\"error\"') && JSON.parse(document.body.textContent).error"
        self.assertEqual(await self.tab.until(answer, "the answer to the form"), "cross_site")
        stats = self.vm.stats()
        for name in ("publications", "closed_operator"):
            self.assertEqual(stats[name], before[name], name)
        self.assertGreaterEqual(stats["requests_refused"], before["requests_refused"] + 4)
        self.cast("a", "still there")
        self.assertEqual((await other.message())["data"]["data"], "still there")

    async def test_axe_finds_nothing_in_the_dialogs(self):
        await self.subscriber("news")
        with open(os.path.join(OUT, "node_modules/axe-core/axe.min.js"), encoding="utf-8") as file:
            axe = file.read()
        for width in (1440, 320):
            await self.tab.resize(width, 800, touch=width < 500)
            await self.open("?topic=a")
            await self.tab.eval(axe + "; undefined")
            for dialog in ("connections", "cast"):
                await self.tab.until(f"!document.querySelector('#show-{dialog}').hidden")
                await self.tab.eval(f"document.querySelector('#show-{dialog}').click()")
                if dialog == "connections":
                    await self.tab.until(f"{ROWS}.length === 2")
                found = await self.tab.eval("axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]))")
                self.assertEqual(found, [], f"{dialog} at {width}")
                seen = "document.querySelector('dialog[open] button[value], dialog[open] .foot button').getBoundingClientRect().right <= innerWidth"
                self.assertTrue(await self.tab.eval(seen), f"{dialog} at {width}")
                await self.tab.screenshot(os.path.join(OUT, f"page-{dialog}-{width}.png"))
                await self.tab.eval("document.querySelector('dialog[open]').close()")
        self.no_complaints()
