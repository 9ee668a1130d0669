"""The live page with thousands of topics, at a thousand messages a second, on a phone, and without its server."""

import asyncio
import json
import os
from urllib.parse import urlsplit

from support.live_page import NETWORK, ROWS, STATE, TEXTS, PageTest, text
from support.vm import OUT

NAMES = "[...document.querySelectorAll('#busiest .name')].map((name) => name.textContent)"
SEQS = "[...document.querySelectorAll('#rows .seq')].map((seq) => seq.textContent)"
# The pointer is there when the page says that it holds what arrives.
HELD = "document.querySelector('#stream').classList.contains('held')"


class CrowdedPage(PageTest):
    def cast_each(self, count, message):
        """Casts messages numbered by N, written in Erlang."""
        self.vm.eval(f"begin [dev_websocket:cast({message}, #{{}}) || N <- lists:seq(1, {count})], ok end")

    def start_casting(self, topic="busy", rate=1000):
        self.vm.eval(f'e2e_vm:start_casting(<<"{topic}">>, {rate})')
        self.addCleanup(self.vm.eval, "e2e_vm:stop_casting()")

    # ---- Topics ----

    async def test_topics_of_one_key_are_folded_and_counted(self):
        await self.open()
        self.cast_each(152, '#{<<"topic">> => <<"prices">>, <<"price">> => integer_to_binary(N), <<"action">> => <<"Update">>}')
        await self.tab.until(f"{text('#received')} === '152'")
        rows = "[...document.querySelectorAll('#busiest li')].map((row) => [row.querySelector('.name').textContent, row.querySelector('small')?.textContent ?? '', row.querySelector('.count').textContent])"
        await self.tab.until(f"{rows}.length === 3")
        self.assertEqual(await self.tab.eval(rows), [["action:Update", "", "152"], ["price:*", "152 topics", "152"], ["prices", "", "152"]])
        self.assertEqual(await self.tab.eval(text("#topic-count")), "3 of 154")
        await self.tab.click("#busiest .fold")
        await self.tab.until(f"{NAMES}.length === 23")
        self.assertEqual(await self.tab.eval("document.querySelector('#busiest .fold').getAttribute('aria-expanded')"), "true")
        await self.tab.click("#busiest .fold")
        await self.tab.until(f"{NAMES}.length === 3")
        await self.tab.click('#busiest .name[data-topic="price:*"]')
        self.assertEqual(await self.query(), "?topic=price:*")
        self.no_complaints()

    async def test_one_topic_is_found_among_five_thousand(self):
        self.cast_each(5000, '#{<<"topic">> => <<"old-prices/", (integer_to_binary(N))/binary>>}')
        self.cast("prices", "7.31")
        self.vm.await_topic("prices")
        await self.open("?topic=quiet")
        await self.tab.until(f"{text('#topic-count')} === '20 of 5,002'")
        # What was asked for is first, and the rest does not pass for busy.
        self.assertEqual(await self.tab.eval(f"{NAMES}[0]"), "quiet")
        self.assertEqual(await self.tab.eval(text("#busiest li:nth-child(2)")), "Without a message here")
        await self.tab.press("t")
        await self.tab.write("prices")
        await self.tab.until(f"{NAMES}[0] === 'prices'")
        await self.tab.click("#busiest .name")
        await self.until_shown("7.31")
        self.assertEqual(await self.query(), "?topic=prices")
        await self.tab.eval("document.querySelector('#find').focus()")
        await self.tab.press("Escape")
        await self.tab.until("document.querySelector('#find').value === ''")
        self.no_complaints()

    async def test_long_names_are_cut_where_they_are_the_same(self):
        await self.open()
        self.cast_each(
            500,
            '#{<<"topic">> => [<<"sensor/building-0/room-", (integer_to_binary(N))/binary, "/temperature">>, <<"a">>, <<"b">>, <<"c">>, <<"d">>, <<"e">>, <<"f">>], '
            '<<"action">> => <<"A-long-name-of-an-action">>, <<"x">> => <<"y">>}',
        )
        await self.tab.until(f"{text('#received')} === '500'")
        # A second draws the topics anew.
        await self.tab.until("document.querySelectorAll('#busiest .head').length > 5")
        # What is seen of a name: its second part as far as it is drawn.
        whole = """[...document.querySelectorAll('#busiest .name:has(.head)')].map((name) => {
            const [tail, box] = [name.querySelector('.tail'), name.getBoundingClientRect()]
            const seen = Math.min(tail.getBoundingClientRect().right, box.right) - tail.getBoundingClientRect().left
            return seen >= 70 ? tail.textContent.slice(0, 9) : ''
        })"""
        seen = await self.tab.eval(whole)
        self.assertGreater(len(seen), 5)
        self.assertNotIn("", seen)
        self.assertEqual(len(set(seen)), len(seen), seen)
        # Rows that came before their names were known as well.
        await self.tab.until("[...document.querySelectorAll('#rows .chip:first-child .tail')].slice(0, 20).every((tail) => /^room-\\d+\\/temperature$/.test(tail.textContent))")
        for width in (1440, 1000, 390, 320):
            await self.tab.resize(width, 844, touch=width < 500)
            # All topics of a message are seen, or how many more there are.
            rows = """[...document.querySelectorAll('#rows .message')].slice(0, 10).map((row) => {
                const box = row.querySelector('.chips').getBoundingClientRect()
                const parts = [...row.querySelector('.chips').children].filter((part) => part.getBoundingClientRect().right <= box.right + 1)
                const more = /^\\+(\\d+)$/.exec(parts.at(-1)?.textContent)
                return more ? parts.length - 1 + Number(more[1]) : parts.length
            })"""
            await self.tab.until(f"{rows}.every((count) => count === 9)", f"nine topics at {width}")
        self.no_complaints()

    # ---- Speed ----

    async def test_a_message_is_opened_at_a_thousand_a_second(self):
        await self.open("?topic=busy&last=0")
        self.start_casting()
        await self.tab.until(f"{ROWS}.length > 5")
        place = await self.tab.middle("#rows li:nth-child(4) .preview")
        await self.tab.point(place)
        await self.tab.until(HELD, "held")
        before = await self.tab.eval(f"{SEQS}.slice(0, 8)")
        received = text("#received") + ".replaceAll(',', '')"
        count = int(await self.tab.eval(received))
        await self.tab.until(f"Number({received}) > {count + 1000}", "a thousand more")
        self.assertEqual(await self.tab.eval(f"{SEQS}.slice(0, 8)"), before)
        await self.tab.click_at(place)
        await self.tab.until("document.querySelector('#rows pre')", "the open message")
        self.assertEqual(await self.tab.eval("[...document.querySelectorAll('#rows li:has(pre) .seq')].map((seq) => seq.textContent)"), [before[3]])
        await self.tab.press("Escape")
        await self.tab.eval("document.activeElement.blur()")
        await self.tab.point((5, 5))
        await self.tab.until(f"!{HELD} && {SEQS}[0] !== '{before[0]}'", "it goes on")
        # Who has the focus there reads as well.
        await self.tab.press("ArrowDown")
        await self.tab.until(HELD, "held by the focus")
        first = await self.tab.eval(f"{SEQS}[0]")
        count = int(await self.tab.eval(received))
        await self.tab.until(f"Number({received}) > {count + 500}")
        self.assertEqual(await self.tab.eval(f"{SEQS}[0]"), first)
        await self.tab.press("Escape")
        await self.tab.until(f"{SEQS}[0] !== '{first}'", "let go")
        self.no_complaints()

    async def test_a_resting_pointer_holds_nothing(self):
        await self.open("?topic=a")
        self.cast("a", "one")
        await self.until_shown("one")
        place = await self.tab.middle("#rows li")
        await self.tab.point(place)
        self.cast("a", "two")
        await self.tab.until(f"{text('#newer')} === '↑ 1 new'")
        # What is asked for anew comes in, though the pointer is there.
        await self.tab.press("a")
        await self.tab.write("b")
        await self.tab.press("Enter")
        await self.until_shown("two", "one")
        self.cast("b", "three")
        await self.until_shown("three", "two", "one")
        self.no_complaints()

    async def test_gaps_are_listed_long_after_they_were_pushed_out(self):
        process = "g" * 42 + "Q"
        await self.open(f"?process={process}&topic=busy")
        for call in (f'set_slot_mark(<<"{process}">>, 4)', f'publish_slot_gap(<<"{process}">>, 4, 4, not_cached)'):
            await asyncio.to_thread(self.vm.eval, f"hb_websocket_nif:{call}")
        await self.tab.until(f"{text('#gaps')} === 'in 1 gap'")
        self.cast_each(600, '#{<<"topic">> => <<"busy">>}')
        await self.tab.until(f"{text('#count')} === '500 shown' && !document.querySelector('#rows .gap')", "pushed out")
        await self.tab.click("#show-missing")
        self.assertEqual(
            await self.tab.eval("[...document.querySelectorAll('#missing li :is(b, small)')].map((part) => part.textContent)"),
            ["1 slot missing: not in the node's cache", "gggggg…gggQ 4"],
        )
        self.no_complaints()

    # ---- The server ----

    async def test_a_lost_server_is_told_by_the_title_and_a_bar(self):
        await self.open("?topic=a")
        self.assertEqual(await self.tab.eval("document.title"), "a – live")
        self.assertTrue(await self.tab.eval("document.querySelector('#gone').hidden"))
        port = urlsplit(self.page).port
        await asyncio.to_thread(self.vm.eval, "dev_websocket:stop()")
        await self.tab.until("document.title === 'Server gone – a'", "the title")
        told = "document.querySelector('#gone').checkVisibility() && document.querySelector('#gone-text').textContent"
        self.assertRegex(await self.tab.eval(told), r"^The server is gone since \d\d:\d\d:\d\d\.")
        # Attempts change nothing, and neither does another choice.
        await self.tab.click("#retry")
        await self.tab.until(f"{STATE} === 'waiting'")
        await self.tab.eval("document.querySelector('#last').value = '20'")
        await self.tab.eval("document.querySelector('#last').dispatchEvent(new Event('change'))")
        await self.tab.until(f"{STATE} === 'waiting'")
        self.assertEqual(await self.tab.eval("document.title"), "Server gone – a")
        self.assertRegex(await self.tab.eval(told), "^The server is gone since")
        self.assertEqual(await asyncio.to_thread(self.vm.eval, f"dev_websocket:start(#{{port => {port}}})"), "ok")
        await self.tab.click("#retry")
        await self.tab.until("document.title === 'a – live' && document.querySelector('#gone').hidden", "back")
        self.no_complaints(*NETWORK)

    async def test_totals_of_the_server_stand_beside_those_of_the_page(self):
        other = await self.subscriber("elsewhere")
        await self.open("?topic=a")
        totals = "Object.fromEntries([...document.querySelectorAll('#server dl div')].map((row) => [...row.children].map((part) => part.textContent)))"
        await self.tab.until(f"{totals}.Clients === '2'", "both clients")
        self.assertLessEqual({"Clients", "In", "Out", "Dropped", "Buffers"}, set(await self.tab.eval(f"Object.keys({totals})")))
        self.assertTrue(await self.tab.eval("document.querySelector('#server').checkVisibility()"))
        await other.close()
        with self.vm.settings(endpoints='[<<"page">>, <<"info">>, <<"events">>]'):
            await self.open("?topic=b")
            self.assertFalse(await self.tab.eval("document.querySelector('#server').checkVisibility()"))
        self.no_complaints(*NETWORK)

    # ---- Who does not see it, and small screens ----

    async def test_live_regions_say_one_thing_a_second_at_most(self):
        await self.open("?topic=busy")
        regions = "[...document.querySelectorAll('[role=status], [role=alert], [role=log], [role=timer], [aria-live], output')].map(({ id }) => id)"
        self.assertEqual(await self.tab.eval(regions), ["said", "alarm"])
        # The times at which one of them was given a text.
        await self.tab.eval("""(() => {
            window.said = []
            const note = (changes) => {
                if (changes.some(({ target }) => target.textContent !== '')) said.push(performance.now())
            }
            for (const id of ['said', 'alarm']) {
                new MutationObserver(note).observe(document.getElementById(id), { childList: true, characterData: true, subtree: true })
            }
        })()""")
        self.start_casting()
        await self.tab.until(f"Number({text('#received')}.replaceAll(',', '')) > 1000")
        port = urlsplit(self.page).port
        # More than can be said in time.
        for number in range(10):
            await self.tab.eval("document.querySelector('#copy-link').click()")
            await self.tab.eval("document.querySelector('#last').dispatchEvent(new Event('change'))")
            await self.tab.until(f"{STATE} === 'open'", f"live again, time {number}")
        await asyncio.to_thread(self.vm.eval, "dev_websocket:stop()")
        await self.tab.until(f"/server is gone/.test({text('#alarm')})", "read out")
        self.assertEqual(await asyncio.to_thread(self.vm.eval, f"dev_websocket:start(#{{port => {port}}})"), "ok")
        await self.tab.eval("document.querySelector('#retry').click()")
        await self.tab.until(f"{text('#said')} === 'Live'", "back")
        said = await self.tab.eval("said")
        self.assertGreaterEqual(len(said), 3)
        # The observer is told a little later than the region.
        self.assertLessEqual(len(said), (said[-1] - said[0]) / 1000 + 1.5)
        self.no_complaints(*NETWORK)

    async def test_a_phone_shows_messages_first_and_all_of_everything(self):
        for number in range(30):
            self.cast("prices", f"{number}", action="Price-Update", symbol="AR", target="T" * 43)
        for width, height in ((390, 844), (320, 640)):
            await self.tab.resize(width, height, scale=2, touch=True)
            await self.open("?topic=prices")
            await self.tab.until(f"{ROWS}.length > 5")
            self.assertLess(await self.tab.eval("document.querySelector('#rows li').getBoundingClientRect().top"), 300)
            await self.no_sideways()
            await self.tab.click("#show-more")
            await self.tab.until("document.querySelector('#more').matches(':popover-open')")
            await self.no_sideways()
            for what in ("#copy-link", "#show-limits", "#last", "#clear", "#export", "#server"):
                await self.tab.until(f"document.querySelector({json.dumps(what)}).checkVisibility()", what)
            await self.tab.press("Escape")
            await asyncio.to_thread(self.vm.eval, "dev_websocket:stop()")
            await self.tab.until("!document.querySelector('#gone').hidden")
            await self.no_sideways()
            self.assertEqual(await asyncio.to_thread(self.vm.eval, f"dev_websocket:start(#{{port => {urlsplit(self.page).port}}})"), "ok")
            for number in range(30):
                self.cast("prices", f"{number}", action="Price-Update", symbol="AR", target="T" * 43)
        # And back to a desk.
        await self.tab.resize(1440, 900)
        await self.open("?topic=prices")
        self.assertTrue(await self.tab.eval("document.querySelector('.bar #export').checkVisibility() && document.querySelector('#chooser #last').checkVisibility()"))
        self.no_complaints(*NETWORK)

    async def test_a_screen_reader_hears_whole_names(self):
        await self.open("?topic=*")
        self.cast("sensor/building-0/room-1", "x", action="Mint")
        self.cast("sensor/building-0/room-2", "x", action="Mint")
        await self.tab.until("document.querySelectorAll('#rows .chip .head').length > 2 && document.querySelector('#busiest .head')")
        await self.tab.do("Accessibility.enable")
        nodes = (await self.tab.do("Accessibility.getFullAXTree"))["nodes"]
        buttons = {node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "button"}
        self.assertLessEqual({"sensor/building-0/room-1", "sensor/building-0/room-2", "action:Mint", "Missed 0", "Pause"}, buttons)
        self.assertEqual({name for name in buttons if not name.strip()}, set())
        self.no_complaints()

    async def test_axe_finds_nothing(self):
        looks = ("the page", "light", "#show-limits", "#show-missing", "#show-help", "#access", "gone")
        for number in range(30):
            self.cast("prices", f"{number}", action="Price-Update", price=str(number), target="T" * 43)
        with open(os.path.join(OUT, "node_modules/axe-core/axe.min.js"), encoding="utf-8") as file:
            axe = file.read()
        port = urlsplit(self.page).port
        for width in (1440, 320):
            await self.tab.resize(width, 800, touch=width < 500)
            await self.open("?topic=prices&template=" + "%7B%22action%22:%22Price-Update%22%7D")
            await self.tab.until(f"{ROWS}.length > 5")
            # As a script of the DevTools, which the policy of the page does not bind.
            await self.tab.eval(axe + "; undefined")
            await self.tab.eval("document.querySelector('#topics').open = true")
            await self.tab.eval("document.querySelector('#rows .line').click()")
            for what in looks:
                await self.tab.prefer(prefers_color_scheme="light" if what == "light" else "dark", prefers_reduced_motion="reduce")
                if what.startswith("#show"):
                    await self.tab.eval(f"document.querySelector('{what}').click()")
                elif what == "#access":
                    await self.tab.eval("for (const id of ['access', 'notice']) document.getElementById(id).hidden = false")
                elif what == "gone":
                    await asyncio.to_thread(self.vm.eval, "dev_websocket:stop()")
                    await self.tab.until("!document.querySelector('#gone').hidden")
                found = await self.tab.eval(
                    "axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes.slice(0, 3).map(({ html }) => html)]))"
                )
                self.assertEqual(found, [], f"{what} at {width}")
                await self.tab.eval("document.querySelector('dialog[open]')?.close()")
            self.assertEqual(await asyncio.to_thread(self.vm.eval, f"dev_websocket:start(#{{port => {port}}})"), "ok")
            for number in range(30):
                self.cast("prices", f"{number}", action="Price-Update", price=str(number), target="T" * 43)
        self.no_complaints(*NETWORK)
