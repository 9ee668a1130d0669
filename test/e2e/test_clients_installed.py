"""The clients as users install them: into empty environments, under type checkers, in bundles and from the server itself."""

import ast
import asyncio
import json
import os
import re
import shutil
import sys
import unittest

from support.browser import CHROMIUM, Tab
from support.case import EngineTest
from support.installed import (
    DEADLINE, TOOLS, clean_environment, node_environment, packages, python_environment, pythons, repository, run,
)
from support.page import PageServer
from support.vm import OUT, ROOT

EXAMPLES = os.path.join(ROOT, "examples/clients")
PAGES = ("README.md", "docs/clients/python.md", "docs/clients/javascript.md", "clients/python/README.md", "clients/javascript/README.md")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", read(path), re.DOTALL | re.MULTILINE)


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


class Types(unittest.TestCase):
    def test_the_python_examples_pass_the_strict_type_checkers(self):
        python = python_environment()
        files = [os.path.join(EXAMPLES, name) for name in ("prices.py", "prices_sync.py")]
        cache = os.path.join(OUT, "mypy")
        checked = run(sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, "--python-executable", python, *files)
        self.assertIn("Success", checked)
        # The package itself, as it stands.
        package = os.path.join(ROOT, "clients/python/dev_websocket")
        self.assertIn("Success", run(sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, package))
        folder = os.path.join(OUT, "pyright")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(EXAMPLES, folder)
        write(folder, "pyrightconfig.json", json.dumps({"typeCheckingMode": "strict"}))
        checked = run(os.path.join(TOOLS, "pyright"), "--pythonpath", python, "-p", folder, cwd=folder)
        self.assertIn("0 errors", checked)

    def test_the_typescript_example_compiles_in_strict_mode(self):
        folder = node_environment()
        shutil.copy(os.path.join(EXAMPLES, "prices.ts"), folder)
        common = ["--strict", "--noEmit", "--exactOptionalPropertyTypes", "--target", "es2022", "--lib", "es2023,dom,dom.iterable"]
        write(folder, "wrong.ts", "import { Client } from 'dev-websocket-client'\nnew Client('ws://host/ws', { topic: ['a'] })\n")
        for module, resolution in (("esnext", "bundler"), ("nodenext", "nodenext")):
            tsc = [os.path.join(TOOLS, "tsc"), *common, "--module", module, "--moduleResolution", resolution]
            run(*tsc, "prices.ts", cwd=folder)
            self.assertIn("topic", run(*tsc, "wrong.ts", cwd=folder, check=False))


class Programs(EngineTest):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.environment = clean_environment()

    def price(self, price):
        self.vm.cast(f'#{{<<"topic">> => <<"prices">>, <<"symbol">> => <<"AR">>, <<"price">> => <<"{price}">>}}')

    def here(self, text):
        return text.replace("ws://localhost:8735/ws", self.uri)

    async def prints(self, *command, cwd=None):
        """The first line that a program prints, which shows the newest price."""
        self.price("1.5")
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            return (await asyncio.wait_for(process.stdout.readline(), DEADLINE)).decode()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def in_thread(self, function, *arguments):
        return await asyncio.to_thread(function, *arguments)

    async def test_the_wheel_runs_on_each_python_of_this_machine(self):
        found = pythons()
        print(f"Python {', '.join(found) or 'none besides that of the tests'}", end=" ... ", flush=True)
        for interpreter in found.values() or [sys.executable]:
            python = await self.in_thread(python_environment, interpreter)
            # Outside of the source tree.
            folder = os.path.dirname(python)
            for example, argument in (("prices_sync.py", "1"), ("prices.py", "cursor")):
                line = await self.prints(python, "-u", os.path.join(EXAMPLES, example), self.uri, argument, cwd=folder)
                self.assertIn("'price': '1.5'", line)

    async def test_pip_installs_from_the_folder_and_from_git(self):
        root = await self.in_thread(repository)
        for source in (os.path.join(root, "clients/python"), f"git+file://{root}#subdirectory=clients/python"):
            python = await self.in_thread(python_environment, sys.executable, source)
            line = await self.prints(python, "-u", os.path.join(EXAMPLES, "prices_sync.py"), self.uri, "1")
            self.assertIn("'price': '1.5'", line)

    async def test_npm_installs_from_the_tarball_the_folder_and_git(self):
        root = await self.in_thread(repository)
        sources = (packages()[0], os.path.join(root, "clients/javascript"), f"git+file://{root}")
        programs = {
            "esm.mjs": "import { Client } from 'dev-websocket-client'",
            "cjs.cjs": "const { Client } = require('dev-websocket-client')",
        }
        for source in sources:
            folder = await self.in_thread(node_environment, source, "ws@8")
            for name, first in programs.items():
                program = f"new Client('{self.uri}', {{ topics: ['prices'], last: 1 }}).on('message', ({{ data }}) => console.log(data.price))"
                line = await self.prints("node", write(folder, name, f"{first}\n{program}\n"), cwd=folder)
                self.assertEqual(line, "1.5\n", f"{name} of {source}")

    async def test_node_without_a_websocket_says_how_to_get_one(self):
        folder = await self.in_thread(node_environment)
        program = "import { Client } from 'dev-websocket-client'\n"
        program += f"const client = new Client('{self.uri}', {{ topics: ['prices'], last: 1 }})\n"
        program += "client.on('error', ({ fatal, message }) => console.log(fatal, message))\n"
        program += "client.on('message', ({ data }) => console.log(data.price))\n"
        line = await self.prints("node", write(folder, "without.mjs", program), cwd=folder)
        has_one = run("node", "-p", "typeof WebSocket").strip() != "undefined"
        self.assertRegex(line, r"^1\.5$" if has_one else "^true .*npm install ws")

    async def test_bundles_of_esbuild_and_vite_run(self):
        folder = await self.in_thread(node_environment)
        program = "import { Client } from 'dev-websocket-client'\n"
        program += "export function start (url, show) { new Client(url, { topics: ['prices'], last: 1 }).on('message', ({ data }) => show(data.price)) }\n"
        program += "globalThis.start = start\n"
        write(folder, "app.js", program)
        said = await self.in_thread(
            lambda: run(os.path.join(TOOLS, "esbuild"), "app.js", "--bundle", "--format=esm", "--minify", "--outfile=esbuild.mjs", cwd=folder, check=False)
        )
        self.assertNotIn("warning", said.lower())
        configuration = "export default { logLevel: 'warn', build: { outDir: 'vite', lib: { entry: 'app.js', formats: ['es'], fileName: () => 'app.mjs' } } }\n"
        write(folder, "vite.config.mjs", configuration)
        said = await self.in_thread(lambda: run(os.path.join(TOOLS, "vite"), "build", cwd=folder, check=False))
        self.assertNotIn("warn", said.lower())
        for bundle in ("esbuild.mjs", "vite/app.mjs"):
            runner = "import { createRequire } from 'node:module'\n"
            runner += f"globalThis.WebSocket ??= createRequire('{OUT}/')('ws').WebSocket\n"
            runner += f"const {{ start }} = await import('./{bundle}')\nstart('{self.uri}', (price) => console.log(price))\n"
            line = await self.prints("node", write(folder, "run.mjs", runner), cwd=folder)
            self.assertEqual(line, "1.5\n", bundle)

    @unittest.skipIf(CHROMIUM is None, "no chromium on PATH")
    async def test_a_page_imports_the_client_from_the_server_itself(self):
        self.price("1.5")
        page = PageServer({}, lambda **_: None)
        self.addCleanup(page.close)
        origin = self.uri.replace("ws://", "http://").removesuffix("/ws")
        async with Tab.open() as tab:
            # Any page: the module says itself that others may import it.
            await tab.go(page.uri("/clients/python/README.md"))
            price = await tab.eval(
                f"""import('{origin}/client.js').then(({{ Client, ClientError }}) => new Promise((resolve, reject) => {{
                    const client = new Client('{self.uri}', {{ topics: ['prices'], last: 1 }})
                    client.on('message', ({{ data }}) => {{ client.close(); resolve([data.price, typeof ClientError]) }})
                    client.on('error', reject)
                }}))"""
            )
            self.assertEqual(price, ["1.5", "function"])
            self.vm.await_connections(0)

    async def test_the_first_program_of_each_page_runs_as_printed(self):
        python = await self.in_thread(python_environment)
        node = await self.in_thread(node_environment, packages()[0], "ws@8")
        ran = 0
        for page in PAGES:
            for language, command, folder, name in (("python", [python, "-u"], OUT, "printed.py"), ("js", ["node"], node, "printed.mjs")):
                printed = blocks(page, language)
                if printed:
                    line = await self.prints(*command, write(folder, name, self.here(printed[0])), cwd=folder)
                    self.assertIn("1.5", line, f"{page}: {printed[0]}")
                    ran += 1
        self.assertGreaterEqual(ran, 5)

    async def test_every_other_program_of_each_page_can_be_read(self):
        for page in PAGES:
            for block in blocks(page, "python"):
                # As the inside of a function, where a page shows no more than that.
                ast.parse("async def printed():\n" + "".join(f"    {line}\n" for line in block.splitlines()))
            for block in blocks(page, "js"):
                file = write(OUT, "printed.mjs", block)
                await self.in_thread(run, "node", "--check", file)
