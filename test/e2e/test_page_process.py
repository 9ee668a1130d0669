"""The slots of a process on the live page, from a node that the test drives."""

import asyncio
import json
import os
from urllib.parse import urlsplit

from support.live_page import NETWORK, STATE, PageTest, binary, text
from support.vm import OUT

SLOTS = "[...document.querySelectorAll('#slots > li')].map((row) => row.matches('.gap') ? row.querySelector('b').textContent : row.querySelector('b').textContent)"
PRES = "[...document.querySelectorAll('#slots pre')].map((pre) => pre.textContent)"
HOSTILE = "<img src=x onerror=\"window.hacked=1\">\u202e</script><script>window.hacked=2</script>"


class ProcessPage(PageTest):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.assertEqual(self.vm.eval("dev_websocket:start(#{tail_interval => 20})"), "ok")
        self.vm.eval("e2e_node:start()")
        self.process = self.vm.eval("e2e_node:process()")

    def print(self, slot, *lines):
        self.vm.eval(f'e2e_node:print(<<"{self.process}">>, {slot}, {binary(chr(10).join(lines))})')

    async def print_each(self, *slots):
        for slot in slots:
            await asyncio.to_thread(self.print, slot, f"count {slot}")

    async def until_slots(self, *slots):
        """Waits until these are the rows, the newest first."""
        await self.tab.until(f"JSON.stringify({SLOTS}) === {json.dumps(json.dumps([str(slot) for slot in slots], separators=(',', ':')))}")

    async def until_live(self, slot):
        await self.tab.until(f"{text('#slots-state')} === 'Live from slot {slot}'")

    async def test_slots_are_shown_from_the_chooser_on(self):
        self.print(0, "first line", "second line")
        self.print(1, "bought", '{"_e":1,"Action":"Buy","process":"other"}', '{"_e":1,"Action":"Sell"}')
        await self.open(f"?process={self.process}")
        self.assertFalse(await self.tab.eval("document.querySelector('#process').checkVisibility()"))
        await self.tab.click("#chosen .slots")
        await self.until_slots(1, 0)
        await self.until_live(2)
        self.assertEqual(await self.query(), f"?process={self.process}&from-slot=0")
        visible = "['#stream', '#process', '#topics'].map((id) => document.querySelector(id).checkVisibility())"
        self.assertEqual(await self.tab.eval(visible), [False, True, True])
        rows = "[...document.querySelectorAll('#slots .slot')].map((row) => [row.querySelector('.preview').textContent, row.querySelector('.counts').textContent])"
        self.assertEqual(await self.tab.eval(rows), [["bought", "1 message, 2 events"], ["first line", "1 message"]])
        # What a slot printed, its message and its events.
        await self.tab.click("#slots li:nth-child(1) .line")
        output, message, buy, sell = await self.tab.eval(PRES)
        self.assertEqual(output.split("\n")[0], "bought")
        self.assertEqual(json.loads(message)["n"], 1)
        self.assertEqual((json.loads(buy)["Action"], json.loads(buy)["process"], json.loads(sell)["Action"]), ("Buy", self.process, "Sell"))
        self.assertEqual(await self.tab.eval("[...document.querySelectorAll('#slots h3')].map((title) => title.textContent)"), ["Output", "1 message", "2 events"])
        # A new slot comes live, and what is open stays open.
        await self.print_each(2)
        await self.until_slots(2, 1, 0)
        self.assertEqual(len(await self.tab.eval(PRES)), 4)
        focused = "document.activeElement.getAttribute('aria-label')"
        self.assertEqual(await self.tab.eval(focused), "Slot 1, 1 message, 2 events, bought")
        await self.tab.press("Enter")
        self.assertEqual(await self.tab.eval(PRES), [])
        self.assertEqual(await self.tab.eval(focused), "Slot 1, 1 message, 2 events, bought")
        await self.tab.click("#leave-slots")
        await self.tab.until(f"{STATE} === 'open'")
        self.assertEqual(await self.tab.eval(visible), [True, False, True])
        self.assertEqual(await self.query(), f"?process={self.process}")
        self.no_complaints()

    async def test_the_address_keeps_the_first_slot(self):
        for slot in range(6):
            self.print(slot, f"count {slot}")
        await self.open(f"?process={self.process}&from-slot=4")
        await self.until_slots(5, 4)
        self.assertEqual(await self.tab.eval("document.querySelector('#from-slot').value"), "4")
        self.assertEqual(await self.query(), f"?process={self.process}&from-slot=4")
        await self.tab.eval("document.querySelector('#from-slot').select()")
        await self.tab.write("2")
        await self.tab.press("Enter")
        await self.until_slots(5, 4, 3, 2)
        self.assertEqual(await self.query(), f"?process={self.process}&from-slot=2")
        # What is no slot changes nothing.
        await self.tab.eval("document.querySelector('#from-slot').select()")
        await self.tab.write("-1")
        await self.tab.press("Enter")
        await self.tab.until("document.querySelector('#from-slot').getAttribute('aria-invalid') === 'true'")
        await self.until_slots(5, 4, 3, 2)
        self.assertEqual(await self.query(), f"?process={self.process}&from-slot=2")
        # Without a process there are no slots.
        await self.tab.click("#chosen .choice button:last-child")
        await self.tab.until("!document.querySelector('#process').checkVisibility()")
        self.assertEqual(await self.query(), "")
        self.no_complaints()

    async def test_slots_go_on_where_the_server_was_lost(self):
        await self.print_each(0, 1)
        await self.open(f"?process={self.process}&from-slot=0")
        await self.until_slots(1, 0)
        await self.until_live(2)
        port = urlsplit(self.page).port
        await asyncio.to_thread(self.vm.eval, "dev_websocket:stop()")
        await self.tab.until(f"{text('#slots-state')} === 'Reconnecting'")
        await self.print_each(2, 3)
        self.assertEqual(await asyncio.to_thread(self.vm.eval, f"dev_websocket:start(#{{port => {port}, tail_interval => 20}})"), "ok")
        await self.until_slots(3, 2, 1, 0)
        await self.until_live(4)
        await self.print_each(4)
        await self.until_slots(4, 3, 2, 1, 0)
        self.no_complaints(*NETWORK)

    async def test_what_cannot_be_replayed_is_told(self):
        await self.open(f"?process={'x' * 43}&from-slot=3")
        await self.tab.until(f"{text('#slots-state')} === 'Live from slot 3: process: the node does not have this process'")
        with self.vm.settings(max_slot_replays="0"):
            await self.open(f"?process={self.process}&from-slot=0")
            await self.tab.until(f"{text('#slots-state')}.startsWith('Reconnecting: ')", "the reason of a refusal")
        await self.until_live(0)
        self.no_complaints(*NETWORK)

    async def test_hostile_outputs_are_text(self):
        self.print(0, HOSTILE, json.dumps({"_e": 1, HOSTILE: HOSTILE}), "\x1b[31mred\x1b[0m\x00")
        await self.open(f"?process={self.process}&from-slot=0")
        await self.until_slots(0)
        await self.tab.click("#slots .line")
        output, _, event = await self.tab.eval(PRES)
        self.assertEqual(output.split("\n")[0], HOSTILE.replace("\u202e", "\\u202e"))
        self.assertEqual(output.split("\n")[-1], "red\\u0000")
        self.assertEqual(json.loads(event)[HOSTILE], HOSTILE)
        self.assertNotIn("\u202e", await self.tab.eval("document.body.textContent"))
        self.assertIsNone(await self.tab.eval("window.hacked"))
        self.no_complaints()

    async def test_it_fits_a_phone_and_axe_finds_nothing(self):
        self.print(0, "x" * 300, json.dumps({"_e": 1, "Action": "Buy", "text": "y" * 300}))
        self.print(2, "behind a gap")
        with open(os.path.join(OUT, "node_modules/axe-core/axe.min.js"), encoding="utf-8") as file:
            axe = file.read()
        for width in (1440, 320):
            await self.tab.resize(width, 800, touch=width < 500)
            await self.open(f"?process={self.process}&from-slot=0")
            # The gap is told when the node has had a later slot for five seconds.
            await self.tab.until(f"{SLOTS}.length === 3", "a slot behind a gap")
            self.assertEqual(await self.tab.eval(SLOTS), ["2", "1 slot missing: not in the node's cache", "0"])
            await self.tab.eval("document.querySelector('#slots .line[value=\"0\"]').click()")
            await self.no_sideways()
            await self.tab.eval(axe + "; undefined")
            for scheme in ("light", "dark"):
                await self.tab.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
                found = await self.tab.eval("axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes.slice(0, 3).map(({ html }) => html)]))")
                self.assertEqual(found, [], f"{scheme} at {width}")
            await self.tab.screenshot(os.path.join(OUT, f"page-slots-{width}.png"))
        self.no_complaints()
