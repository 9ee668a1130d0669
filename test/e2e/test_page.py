"""The live page in a browser."""

import asyncio
import json
import os
from urllib.parse import quote, urlsplit

from support.browser import PageError
from support.live_page import NETWORK, ROWS, STATE, TEXTS, PageTest, binary, text
from support.peers import PathProxy
from support.vm import OUT


class LivePage(PageTest):
    async def test_messages_appear_as_they_are_published(self):
        self.cast("a", "before the page")
        await self.open("?topic=a")
        await self.until_shown("before the page")
        self.cast("a", "one", action="Mint")
        self.cast("elsewhere", "not chosen")
        self.cast("a", "two")
        await self.until_shown("two", "one", "before the page")
        chips = "[...document.querySelectorAll('#rows li:nth-child(2) .chip')].map((chip) => chip.textContent)"
        self.assertEqual(await self.tab.eval(chips), ["a", "action:Mint"])
        self.assertEqual(await self.tab.eval("[...document.querySelectorAll('#rows .chosen')].map((chip) => chip.textContent)"), ["a"] * 3)
        await self.tab.until(f"{text('#received')} === '3'")
        self.assertRegex(await self.tab.until(f"/ms|s/.test({text('#latency')}) && {text('#latency')}"), r"^-?\d+ ms$|^-?[\d.]+ s$")
        self.assertRegex(await self.tab.eval(text("#cursor")), r"^[0-9a-z]{6}:\d+$")
        self.assertEqual(await self.tab.eval(text("#missed")), "0")
        busiest = "[...document.querySelectorAll('#busiest li')].map((row) => [row.querySelector('.name').textContent, row.querySelector('.count').textContent])"
        self.assertIn(["a", "3"], await self.tab.until(f"{busiest}.some(([, count]) => count === '3') && {busiest}"))
        # Once the second is over in which they came.
        await self.tab.until("document.querySelector('#busiest path.line').getAttribute('d').startsWith('M0,')", "a sparkline")
        self.no_complaints()

    async def test_a_choice_is_made_by_hand_and_shared_as_an_address(self):
        await self.open()
        self.assertEqual(await self.tab.eval(text("#chosen")), "All messages")
        for data, topic, tags in (("one", "a", {"action": "Mint"}), ("two", "b", {}), ("three", "b", {"action": "Burn"})):
            self.cast(topic, data, **tags)
        await self.tab.until(f"{ROWS}.length >= 3")
        # A click shows one topic alone, with another key it is added.
        await self.tab.click("#rows li:nth-child(3) .chip")
        await self.until_shown("one")
        self.assertEqual(await self.query(), "?topic=a")
        await self.tab.until("document.querySelector('#busiest [data-add=\"action:Burn\"]')", "a topic of the server's own list")
        await self.tab.click('#busiest [data-add="action:Burn"]')
        await self.until_shown("three", "one")
        self.assertEqual(await self.query(), "?topic=a,action:Burn")
        await self.tab.click("#rows li:nth-child(2) .chip:nth-child(2)", "Control")
        await self.tab.until(f"{STATE} === 'open'")
        self.assertEqual(await self.query(), "?topic=a,action:Burn,action:Mint")
        # By hand: a template, with which both must hold.
        await self.tab.eval("document.querySelector('#kind').value = 'template'")
        await self.tab.eval("document.querySelector('#kind').dispatchEvent(new Event('change'))")
        await self.tab.write('{"action": "Burn"}')
        await self.tab.press("Enter")
        await self.until_shown("three")
        self.assertEqual(await self.tab.eval(text("#chosen")), 'a×oraction:Burn×oraction:Mint×andtemplate{"action": "Burn"}×')
        shared = await self.tab.eval("location.href")
        await self.tab.do("Browser.grantPermissions", permissions=["clipboardReadWrite"])
        for button, copied in (("#copy-link", shared), ("#copy-address", self.uri + await self.query())):
            await self.tab.click(button)
            await self.tab.until(f"document.querySelector('{button}').classList.contains('copied')")
            self.assertEqual(await self.tab.eval("navigator.clipboard.readText()"), copied)
        await self.tab.go("about:blank")
        await self.open(page=shared)
        await self.until_shown("three")
        self.cast("a", "four", action="Burn")
        await self.until_shown("four", "three")
        self.assertEqual(await self.tab.eval("location.href"), shared)
        # Everything is what is left when all has been taken away.
        for _ in range(4):
            await self.tab.click("#chosen button")
            await self.tab.until(f"{STATE} === 'open'")
        self.assertEqual((await self.query(), await self.tab.eval(text("#chosen"))), ("", "All messages"))
        self.no_complaints()

    async def test_the_parameters_of_the_websocket_are_those_of_the_page(self):
        for data in ("one", "two", "three"):
            self.cast("room:1", data, action="Say")
        await self.open("?match=^room:&last=2&slow=latest&token=mine")
        await self.until_shown("three", "two")
        (socket,) = [url for url in self.tab.requests if url.startswith("ws:")]
        self.assertEqual(urlsplit(socket).query, "token=mine&match=%5Eroom%3A&slow=latest&last=2")
        self.assertEqual(await self.query(), "?match=%5Eroom:&last=2&slow=latest&token=mine")
        epoch, seq = (await self.tab.eval(text("#cursor"))).split(":")
        await self.open(f"?topic=room:1&since={epoch}:{int(seq) - 1}")
        await self.until_shown("three")
        await self.open("?process=p1")
        self.assertEqual(await self.tab.eval(text("#chosen")), "processp1×")
        self.no_complaints()

    async def test_suggestions_come_from_the_topics_that_the_server_knows(self):
        self.cast("suggested", "x", colour="red")
        self.cast("suggested", "x", colour="blue")
        self.vm.await_topic("colour:blue")
        await self.open("?topic=unrelated")
        await self.tab.press("a")
        await self.tab.write("colour")
        options = "[...document.querySelectorAll('#suggestions bdi')].map((option) => option.textContent)"
        self.assertEqual(sorted(await self.tab.until(f"{options}.length === 3 && {options}")), ["colour:*", "colour:blue", "colour:red"])
        await self.tab.press("ArrowDown", "Enter")
        self.assertEqual(await self.query(), "?topic=unrelated,colour:*")
        self.cast("a", "found", colour="green")
        await self.tab.until(f"{TEXTS}[0]?.includes('found')")
        self.no_complaints()

    async def test_what_is_shown_is_filtered_paused_cleared_and_exported(self):
        await self.open("?topic=a")
        for data in ("apple", "pear", "apple pie"):
            self.cast("a", data)
        await self.until_shown("apple pie", "pear", "apple")
        await self.tab.press("/")
        await self.tab.write("apple")
        await self.until_shown("apple pie", "apple")
        self.assertEqual(await self.tab.eval(text("#count")), "2 of 3 shown")
        await self.tab.do("Browser.setDownloadBehavior", behavior="allow", downloadPath=OUT, eventsEnabled=True)
        finished = self.tab.event("Browser.downloadProgress", lambda params: params["state"] == "completed")
        await self.tab.click("#export")
        with open((await finished)["filePath"], encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        os.remove(file.name)
        self.assertEqual([line["data"]["data"] for line in lines], ["apple", "apple pie"])
        self.assertEqual(set(lines[0]), {"type", "seq", "timestamp", "topic", "topics", "data"})
        await self.tab.eval("document.querySelector('#filter').focus()")
        await self.tab.press("Escape", "Escape", " ")
        await self.tab.until(f"{text('#pause')} === 'Resume'")
        for data in ("four", "five"):
            self.cast("a", data)
        await self.tab.until(f"{text('#pause')} === 'Resume · 2 new'")
        await self.until_shown("apple pie", "pear", "apple")
        await self.tab.press(" ")
        await self.until_shown("five", "four", "apple pie", "pear", "apple")
        await self.tab.click("#clear")
        await self.until_shown()
        self.assertIn("next message", await self.tab.eval(text("#empty")))
        self.cast("a", "six")
        await self.until_shown("six")
        self.no_complaints()

    async def test_everything_is_done_with_keys(self):
        await self.open("?topic=a")
        # Until a row has the focus, keys begin at the newest, not at the one that was the newest first.
        self.cast("a", "one", action="Say")
        await self.until_shown("one")
        for data in ("two", "three"):
            self.cast("a", data, action="Say")
        await self.until_shown("three", "two", "one")
        focused = "document.activeElement.closest('li')?.querySelector('.seq').textContent"
        newest = int(await self.tab.eval(text("#rows .seq")))
        await self.tab.press("ArrowDown", "ArrowDown")
        self.assertEqual(await self.tab.eval(focused), str(newest - 1))
        await self.tab.press("Enter")
        pre = "document.querySelector('#rows pre')"
        self.assertEqual(await self.tab.until(f"JSON.parse({pre}.textContent)"), {"topic": "a", "data": "two", "action": "Say"})
        self.assertEqual(await self.tab.eval("document.activeElement.getAttribute('aria-expanded')"), "true")
        # Who reads is not disturbed.
        self.cast("a", "four", action="Say")
        self.assertEqual(await self.tab.until(f"!document.querySelector('#newer').hidden && {text('#newer')}"), "↑ 1 new")
        await self.tab.press("Escape")
        self.assertIsNone(await self.tab.eval(pre))
        self.assertEqual(await self.tab.eval(focused), str(newest - 1))
        # Nor is who has the focus there, until the focus goes above the newest.
        self.cast("a", "five", action="Say")
        self.assertEqual(await self.tab.until(f"{text('#newer')} === '↑ 2 new' && {text('#rows .seq')}"), str(newest))
        await self.tab.press("ArrowUp", "ArrowUp")
        await self.until_shown("five", "four", "three", "two", "one")
        self.assertEqual(await self.tab.eval(focused), str(newest + 1))
        await self.tab.press("ArrowRight", "ArrowRight")
        self.assertEqual(await self.tab.eval("document.activeElement.textContent"), "action:Say")
        await self.tab.press("Enter")
        self.assertEqual(await self.query(), "?topic=action:Say")
        await self.tab.press("?")
        self.assertTrue(await self.tab.eval("document.querySelector('#help').open"))
        await self.tab.press("/")
        await self.tab.press("Escape")
        self.assertFalse(await self.tab.eval("document.querySelector('#help').open"))
        # Keys of one character can be switched off.
        await self.tab.eval("document.querySelector('#keys').click()")
        await self.tab.press("?")
        self.assertFalse(await self.tab.eval("document.querySelector('#help').open"))
        self.no_complaints()

    async def test_keys_go_on_from_the_row_that_has_the_focus(self):
        await self.open("?topic=a")
        self.cast("a", "one")
        await self.until_shown("one")
        # It has the focus already when it is asked for again.
        await self.tab.press("Home", "Home")
        self.cast("a", "two")
        await self.tab.until(f"{text('#newer')} === '↑ 1 new'")
        await self.until_shown("one")
        focused = "document.activeElement.closest('li')?.querySelector('.preview').textContent.includes('two')"
        self.assertIs(await self.tab.eval(focused), False)
        await self.tab.press("ArrowUp")
        await self.until_shown("two", "one")
        self.assertIs(await self.tab.eval(focused), True)
        await self.tab.press("ArrowDown")
        self.assertIs(await self.tab.eval(focused), False)
        await self.tab.press("Home")
        self.assertIs(await self.tab.eval(focused), True)
        self.no_complaints()

    async def test_hostile_messages_are_text(self):
        hostile = (
            "<img src=x onerror=\"window.hacked=1\">",
            "</script><script>window.hacked=2</script>",
            "\"'`><svg onload=window.hacked=3>${window.hacked=4}",
            "javascript:window.hacked=5",
            "\u202eesrever\u2066 \u200b\ufeff\u2028",
            "\\ud800 \\u0000 %FF%00 \ufffd &lt;b&gt; &#x3c;",
            "עברית العربية 漢字 🏴‍☠️ e\u0301",
            "x" * 250,
        )
        await self.open()
        for value in hostile:
            self.cast(value.replace(",", ";"), value, **{value[:60]: value[:100]})
        self.vm.cast(f"#{{<<\"topic\">> => <<\"bytes\">>, <<\"data\">> => {binary(bytes([255, 254, 0, 10]))}}}")
        self.vm.cast('#{<<"topic">> => <<"large">>, <<"data">> => binary:copy(<<"<b>&\\"">>, 20480)}')
        self.vm.cast('#{<<"topic">> => <<"deep">>, <<"data">> => lists:foldl(fun(_, Deep) -> #{<<"<i>">> => [Deep]} end, <<"bottom">>, lists:seq(1, 60))}')
        self.vm.cast('#{<<"topic">> => <<"wide">>, <<"data">> => maps:from_list([{integer_to_binary(N), N} || N <- lists:seq(1, 5000)])}')
        shown = len(hostile) + 4
        await self.tab.until(f"{ROWS}.length >= {shown}")
        for place in range(1, shown + 1):
            row = f"#rows li:nth-child({place})"
            await self.tab.eval(f"document.querySelector('{row} .line').click()")
        await self.tab.until(f"document.querySelectorAll('#rows pre').length === {shown}")
        details = await self.tab.eval(f"[...document.querySelectorAll('#rows pre')].slice(0, {shown}).map((pre) => pre.textContent)")
        for value, detail in zip(reversed(hostile), details[4:]):
            self.assertEqual(json.loads(detail)["data"], value)
        wide, deep, large, raw = details[:4]
        self.assertIn("… 4", wide)
        self.assertEqual(deep.count('"<i>": ['), 31)
        self.assertIn("more characters", large)
        self.assertEqual(json.loads(raw)["data"], {"$base64url": "__4ACg"})
        # All of it when asked for.
        await self.tab.eval("document.querySelector('#rows li:nth-child(3) .detail .link:last-child').click()")
        whole = json.loads(await self.tab.eval(text("#rows li:nth-child(3) pre")))
        self.assertEqual(whole["data"], '<b>&"' * 20480)
        self.assertNotIn("\u202e", await self.tab.eval("document.body.textContent"))
        # As what is chosen, and in the address.
        for value in hostile[:5]:
            await self.open("?topic=" + quote(value))
            self.assertIn(value.strip("\u202e")[:3], await self.tab.eval(text("#chosen")))
            await self.open("?template=" + quote(json.dumps({value: value})))
        self.assertIsNone(await self.tab.eval("window.hacked"))
        self.assertEqual(await self.tab.eval("document.querySelectorAll('script, img, iframe, object, b:not(.hint b, .gap b)').length"), 1)
        self.no_complaints()

    async def test_the_policy_holds_in_the_browser(self):
        await self.open()
        for sink in (
            "document.body.innerHTML = '<b>x</b>'",
            "document.createElement('script').text = 'x'",
            "document.body.setAttribute('onclick', 'x')",
            "eval('1')",
        ):
            with self.assertRaises(PageError, msg=sink) as refused:
                await self.tab.eval(sink)
            self.assertRegex(str(refused.exception), "TrustedHTML|TrustedScript|EvalError")
        violated = "new Promise((done) => document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective), { once: true }))"
        for attempt, directive in (
            ("fetch('http://127.0.0.1:9/').catch(() => {})", "connect-src"),
            ("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/' }))", "img-src"),
            ("document.body.setAttribute('style', 'top: 0')", "style-src-attr"),
        ):
            self.assertEqual(await self.tab.eval(f"(() => {{ const seen = {violated}; {attempt}; return seen }})()"), directive)
        self.tab.requests = [url for url in self.tab.requests if "127.0.0.1:9/" not in url]

    async def test_what_the_server_refuses_is_said_beside_the_field(self):
        self.cast("a", "shown all the same")
        await self.open("?topic=a&match=(&template={x&last=5000")
        fault = await self.tab.eval(text("#fault"))
        self.assertIn("( – match: invalid regular expression", fault)
        self.assertIn("{x – template: a template must be JSON", fault)
        self.assertEqual(await self.tab.eval("[document.querySelector('#kind').value, document.querySelector('#item').value]"), ["match", "("])
        self.assertIn("last: must be a number from 0 to 1000", await self.tab.eval(text("#notice")))
        await self.until_shown("shown all the same")
        self.assertEqual(await self.query(), "?topic=a&last=1000")
        self.assertEqual(await self.tab.eval("document.querySelector('#item').getAttribute('aria-invalid')"), "true")
        await self.tab.eval("document.querySelector('#item').select()")
        await self.tab.write("^a$")
        await self.tab.press("Enter")
        await self.tab.until(f"{STATE} === 'open'")
        self.assertEqual(await self.query(), "?topic=a&match=%5Ea$&last=1000")
        self.assertTrue(await self.tab.eval("document.querySelector('#fault').hidden"))
        # A cursor that is none, and one of the future.
        epoch, seq = (await self.tab.until(f"{text('#cursor')}.includes(':') && {text('#cursor')}")).split(":")
        await self.open("?topic=a&since=nonsense")
        self.assertIn("a cursor is epoch:seq", await self.tab.eval(text("#notice")))
        await self.open(f"?topic=a&since={epoch}:{int(seq) + 1000}")
        self.assertIn("since", await self.tab.eval(text("#notice")))
        self.assertEqual(await self.query(), "?topic=a")
        self.no_complaints(*NETWORK)

    async def test_a_restarted_server_is_found_again_and_the_gap_is_shown(self):
        await self.open("?topic=a")
        self.cast("a", "before")
        await self.until_shown("before")
        cursor = await self.tab.eval(text("#cursor"))
        port = urlsplit(self.page).port
        await asyncio.to_thread(self.vm.eval, "dev_websocket:stop()")
        # All in one look, because the next attempt may begin at any time.
        countdown = f"{STATE} === 'waiting' && /^ in \\d+ s$/.test({text('#state-wait')}) && {text('#state-name')}"
        self.assertEqual(await self.tab.until(countdown, "a countdown"), "Reconnecting")
        self.assertEqual(await asyncio.to_thread(self.vm.eval, f"dev_websocket:start(#{{port => {port}}})"), "ok")
        await self.tab.eval("document.querySelector('#retry').click()")
        await self.tab.until(f"{STATE} === 'open'", "live again")
        self.cast("a", "after")
        await self.tab.until(f"{TEXTS}[0]?.includes('after')")
        rows = "[...document.querySelectorAll('#rows li')].map((row) => row.className.split(' ')[0])"
        self.assertEqual(await self.tab.eval(rows), ["message", "gap", "message"])
        self.assertIn("The server restarted", await self.tab.eval(text("#rows .gap b")))
        self.assertEqual(await self.tab.eval(text("#rows .gap code")), "epoch")
        self.assertEqual(await self.tab.eval(text("#gaps")), "in 1 gap")
        epoch = (await self.tab.until(f"{text('#cursor')} !== '{cursor}' && {text('#cursor')}")).split(":")[0]
        self.assertNotEqual(epoch, cursor.split(":")[0])
        self.no_complaints(*NETWORK)

    async def test_missing_slots_of_a_process_are_shown(self):
        process = "p" * 42 + "Q"
        await self.open(f"?process={process}")
        for call in (
            f'set_slot_mark(<<"{process}">>, 4)',
            f'publish_slot_gap(<<"{process}">>, 4, 4, not_cached)',
            f'publish_slot_gap(<<"{process}">>, 5, 7, withheld)',
            f'publish_slot_gap(<<"{process}">>, undefined, undefined, limit)',
        ):
            await asyncio.to_thread(self.vm.eval, f"hb_websocket_nif:{call}")
        rows = "[...document.querySelectorAll('#rows .gap')].map((row) => [...row.children].map((part) => part.textContent).join(' | '))"
        await self.tab.until(f"{rows}.length === 3", "three gaps")
        self.assertEqual(
            await self.tab.eval(rows),
            [
                " | Not followed: limit of followed processes reached | pppppp…pppQ | limit",
                " | 3 slots withheld: failed the node’s checks | pppppp…pppQ 5–7 | withheld",
                " | 1 slot missing: not in the node's cache | pppppp…pppQ 4 | not_cached",
            ],
        )
        await self.tab.until(f"{text('#gaps')} === 'in 3 gaps'", "the count of gaps")
        self.no_complaints()

    async def test_a_burst_leaves_the_newest(self):
        await self.open("?topic=burst")
        await asyncio.to_thread(self.vm.eval, 'e2e_vm:burst(<<"burst">>, 4, 2500, 50)')
        await self.tab.until(f"{text('#received')} === '10,000' || {text('#missed')} !== '0'")
        self.cast("burst", "the last one")
        await self.tab.until(f"{TEXTS}[0]?.includes('the last one')")
        self.assertEqual(await self.tab.eval(text("#count")), "500 shown")
        self.assertLess(await self.tab.eval(f"{ROWS}.length"), 100)
        # All that is kept, for who looks further down.
        await self.tab.eval("document.querySelector('#scroller').scrollTop = 200")
        await self.tab.until(f"{ROWS}.length === 500")
        self.cast("burst", "later")
        await self.tab.until("!document.querySelector('#newer').hidden")
        await self.tab.click("#newer")
        await self.tab.until(f"{TEXTS}[0]?.includes('later')")
        self.no_complaints()

    async def test_the_page_works_below_a_path_of_a_proxy(self):
        proxy = await PathProxy.start(self.uri)
        self.addAsyncCleanup(proxy.close)
        self.page = proxy.uri.replace("ws://", "http://").removesuffix("/ws") + proxy.PATH.decode()
        self.cast("a", "through a proxy")
        await self.open("?topic=a")
        await self.until_shown("through a proxy")
        self.assertTrue(any(url.endswith("/node/live/info") for url in self.tab.requests))
        self.assertEqual(await self.tab.eval("location.pathname"), "/node/live/")
        self.no_complaints()

    async def test_a_page_that_is_switched_off_is_not_there(self):
        with self.vm.settings(endpoints='[<<"info">>, <<"events">>]'):
            await self.tab.go(self.page)
            self.assertIn("not_found", await self.tab.until("document.body?.textContent"))
        await self.open()

    async def test_it_fits_a_phone_and_wears_light_and_dark(self):
        for number in range(30):
            self.cast("prices", f"{number}", action="Price-Update", symbol="AR", price=f"{7 + number / 10:.2f}", target="T" * 43)
        await self.open("?topic=prices&match=^symbol:.*&template=" + quote('{"action":"Price-Update","symbol":"AR"}'))
        await self.tab.until(f"{ROWS}.length > 20")
        for scheme in ("light", "dark"):
            await self.tab.prefer(prefers_color_scheme=scheme)
            self.assertEqual(await self.tab.eval("getComputedStyle(document.body).backgroundColor") == "rgb(245, 246, 247)", scheme == "light")
            await self.tab.screenshot(os.path.join(OUT, f"page-{scheme}.png"))
        await self.tab.eval("document.querySelector('#theme').click()")
        self.assertEqual(await self.tab.eval("getComputedStyle(document.body).backgroundColor"), "rgb(245, 246, 247)")
        await self.tab.eval("localStorage.clear()")
        await self.tab.prefer(prefers_color_scheme="light", prefers_reduced_motion="reduce")
        for width in (360, 760, 1000):
            await self.tab.resize(width, 740, scale=2, touch=width < 500)
            await self.open("?topic=prices&template=" + quote('{"action":"Price-Update","symbol":"AR"}'))
            await self.tab.until(f"{ROWS}.length > 10")
            await self.no_sideways()
            await self.tab.eval("document.querySelector('#rows .line').click()")
            await self.tab.eval("document.querySelector('#topics').open = true")
            await self.no_sideways()
            await self.tab.screenshot(os.path.join(OUT, f"page-{width}.png"))
            await self.tab.eval("document.querySelector('#show-limits').click()")
            await self.no_sideways()
        self.assertEqual(await self.tab.eval("document.getAnimations().length"), 0)
        self.no_complaints()
