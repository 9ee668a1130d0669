"""Every command and example of README.md, run as it is written. Only its port is another one, which no other program has."""

import asyncio
import json
import os
import re
import subprocess
import tempfile
import unittest
from urllib.parse import quote

from support.browser import CHROMIUM, Tab
from support.case import EngineTest
from support.clients import PythonClient
from support.installed import clean_environment, python_environment
from support.vm import ROOT
from websockets.asyncio.client import connect

DEADLINE = 60


def readme():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        return file.read()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", readme(), re.DOTALL | re.MULTILINE)


def lines(beginning):
    """Indented lines, which are commands and addresses, by how they begin."""
    return re.findall(rf"^    ({re.escape(beginning)}.*)$", readme(), re.MULTILINE)


def prose(name):
    """A document without its code."""
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        text = re.sub(r"^```.*?^```", "", file.read(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`([^`\n]*)`", lambda code: code[1].replace("](", ""), text)


def anchors(name):
    """The headings of a document, as links name them."""
    headings = re.findall(r"^#+ (.*)$", prose(name), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


class Commands(unittest.TestCase):
    def test_every_make_target_is_there(self):
        targets = set(re.findall(r"(?:^    |`)make ([a-z]+)", readme(), re.MULTILINE))
        self.assertLess({"run", "watch", "test", "bench", "clean"}, targets)
        for target in targets:
            made = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual(made.returncode, 0, made.stderr)

    def test_every_link_of_a_document_leads_to_a_file_and_a_heading(self):
        listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=True)
        self.assertIn("README.md", listed.stdout.split())
        for name in listed.stdout.split():
            for link in re.findall(r"\]\(([^)\s]+)\)", prose(name)):
                if link.startswith("http"):
                    continue
                path, _, anchor = link.partition("#")
                path = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
                self.assertTrue(os.path.exists(os.path.join(ROOT, path)), f"{name}: {link}")
                if anchor:
                    self.assertIn(anchor, anchors(path), f"{name}: {link}")


class Examples(EngineTest):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.assertEqual(self.vm.eval("begin dev_websocket:stop(), dev_websocket:start(#{port => 0}) end"), "ok")
        self.uri = self.vm.uri()
        self.port = self.uri.split(":")[2].split("/")[0]

    def here(self, text):
        return text.replace("localhost:8735", f"127.0.0.1:{self.port}")

    def price(self, price):
        self.vm.cast(
            f'#{{<<"topic">> => <<"prices">>, <<"symbol">> => <<"AR">>, <<"price">> => <<"{price}">>, <<"data">> => <<"x">>}}'
        )

    async def test_curl(self):
        commands = lines("curl")
        self.assertEqual(len(commands), 4)
        for command in commands:
            # As the shell itself, so that it can be ended.
            process = subprocess.Popen(
                "exec " + self.here(command), shell=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            if "-N" in command.split():
                self.vm.await_connections(1)
                self.price("1")
                events = iter(process.stdout.readline, "")
                messages = (json.loads(event[6:]) for event in events if event.startswith("data: "))
                self.assertEqual([next(messages)["type"], next(messages)["type"]], ["connection_established", "message"])
                process.kill()
            body = process.communicate(timeout=DEADLINE)[0]
            if "-N" not in command.split():
                self.assertEqual(process.returncode, 0, command)
                self.assertIn({"health": '"ok"', "info": '"uri"', "metrics": "# TYPE"}[command.rsplit("/", 1)[1]], body)

    async def test_addresses(self):
        addresses = [line.split()[0] for line in lines("ws://")]
        self.assertEqual(len(addresses), 7)
        # One needs a node with a process.
        self.vm.eval("e2e_node:start()")
        process = self.vm.eval("e2e_node:process()")
        self.vm.eval(f'e2e_node:compute(<<"{process}">>, 0, 0)')
        for address in addresses:
            base, query = self.here(address).replace("<id>", process).split("?")
            # As a browser writes it, which leaves an escaped byte alone.
            async with connect(f"{base}?{quote(query, safe='=&:,*%')}", proxy=None) as client:
                if "format=raw" not in query:
                    self.assertEqual(json.loads(await client.recv())["type"], "connection_established")
                if "from-slot=" in query:
                    self.assertEqual(json.loads(await client.recv())["slot"], 0)
                if "match=" in query:
                    self.vm.cast('#{<<"topic">> => <<"room:17">>}')
                    self.assertEqual(json.loads(await client.recv())["topics"], ["room:17"])

    async def test_erlang(self):
        shells = [block for block in blocks("erlang") if block.startswith("1>")]
        self.assertEqual(len(shells), 1)
        client = await PythonClient.connect(f"{self.uri}?topic=prices,action:Transfer")
        self.addAsyncCleanup(client.close)
        await client.frame()
        for expression, answer in re.findall(r"^\d+> (.*)\.\n(.*)$", shells[0], re.MULTILINE):
            shown = self.vm.eval(f'iolist_to_binary(io_lib:format("~0p", [{expression}]))')
            # The topics are those of the client here.
            expected = self.here(answer).replace("topics => []", 'topics => [<<"action:Transfer">>,<<"prices">>]')
            self.assertEqual(sorted(re.split(r"[,{}#]", shown)), sorted(re.split(r"[,{}#]", expected)))
        message = await client.message()
        (documented,) = [json.loads(block) for block in blocks("json")]
        for frame in (message, documented):
            del frame["timestamp"]
        self.assertEqual(message, documented)
        # What needs a whole node is at least Erlang.
        for block in blocks("erlang"):
            if not block.startswith("1>"):
                text = json.dumps(block.strip().rstrip("."))
                self.vm.eval(f"begin {{ok, T, _}} = erl_scan:string({text} ++ \".\"), {{ok, _}} = erl_parse:parse_exprs(T), true end")

    async def test_python(self):
        (code,) = blocks("python")
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(self.here(code))
            file.flush()
            process = await asyncio.create_subprocess_exec(
                # Installed as printed above it.
                await asyncio.to_thread(python_environment),
                "-u",
                file.name,
                env=clean_environment(),
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                self.vm.await_connections(1)
                self.price("2")
                line = (await asyncio.wait_for(process.stdout.readline(), DEADLINE)).decode()
                self.assertRegex(line, r"^[a-z0-9]{6}:1 \{.*'price': '2'")
            finally:
                process.kill()
                await process.wait()

    @unittest.skipIf(CHROMIUM is None, "no chromium on PATH")
    async def test_dashboards(self):
        (page,) = blocks("html")
        self.price("1.5")
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "page.html")
            with open(file, "w", encoding="utf-8") as out:
                out.write(self.here(page))
            async with Tab.open() as tab:
                await tab.go(f"file://{file}")
                await tab.until("document.querySelectorAll('li').length === 1", "the newest message")
                self.assertIn('"price":"1.5"', await tab.eval("document.querySelector('li').textContent"))
                dashboard = os.path.join(ROOT, "examples/dashboard/index.html")
                await tab.go(f"file://{dashboard}?ws={quote(self.uri)}")
                await tab.until("document.querySelector('td:nth-child(2)')?.textContent === '1.5'", "the price")
                self.price("2.25")
                await tab.until("document.querySelector('td:nth-child(3)')?.textContent === '0.7500'", "its change")
                # It comes back, and has missed nothing.
                port = self.port
                self.vm.eval(f"begin dev_websocket:stop(), dev_websocket:start(#{{port => {port}}}) end")
                self.price("3.25")
                await tab.until("document.querySelector('td:nth-child(2)')?.textContent === '3.25'", "the price after")
        self.vm.eval("begin dev_websocket:stop(), dev_websocket:start(#{port => 0}) end")
        self.uri = self.vm.uri()
