"""The container for a look, built and run as docs/DEPLOYING.md says, where an engine and the base image are to be had."""

import asyncio
import functools
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from support.clients import PythonClient
from support.copies import copy_project
from support.vm import ROOT

ENGINES = ("podman", "docker")
IMAGE = "localhost/dev_websocket_test"
# Packages are fetched, and a slow machine is no fault.
DEADLINE = 1800
# A registry that does not answer has no image.
PULL_DEADLINE = 120


def ask(*command, deadline=DEADLINE):
    """Status and output of a command; one that takes too long has failed."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=deadline, check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"no answer in {deadline} seconds"
    return done.returncode, done.stdout.strip()


def base():
    with open(os.path.join(ROOT, "Containerfile"), encoding="utf-8") as file:
        return re.search(r"^ARG BASE=(\S+)$", file.read(), re.M).group(1)


def last_line(said):
    return said.splitlines()[-1] if said else "it said nothing"


@functools.lru_cache(maxsize=None)
def engine():
    """An engine that can run the base image, and why there is none."""
    reasons = []
    for name in filter(shutil.which, ENGINES):
        status, said = ask(name, "info", deadline=PULL_DEADLINE)
        if status == 0:
            if ask(name, "image", "inspect", base(), deadline=PULL_DEADLINE)[0] != 0:
                status, said = ask(name, "pull", "--quiet", base(), deadline=PULL_DEADLINE)
            if status == 0:
                status, said = ask(name, "run", "--rm", base(), "true", deadline=PULL_DEADLINE)
            if status == 0:
                return name, ""
        reasons.append(f"{name}: {last_line(said)}")
    return None, "; ".join(reasons) or f"no {' or '.join(ENGINES)} on PATH"


class Container(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.engine, reason = engine()
        if cls.engine is None:
            raise unittest.SkipTest(f"no container was built: {reason}")
        cls.addClassCleanup(ask, cls.engine, "rmi", "--force", IMAGE)
        with tempfile.TemporaryDirectory() as clone:
            cls.build(clone)

    @classmethod
    def build(cls, clone):
        """Builds the image of a clone that has the library of this build: the minutes of cargo are another test's."""
        copy_project(clone)
        for command in (
            [os.path.join(ROOT, "native/package-nif.sh"), os.path.join(clone, "priv")],
            [cls.engine, "build", "-f", os.path.join(clone, "Containerfile"), "-t", IMAGE, clone],
        ):
            status, said = ask(*command)
            if status != 0:
                raise AssertionError(f"{' '.join(command)}\n{said}")

    def run_image(self, *options):
        """The name of a container that runs the image, and where its port is."""
        status, name = ask(self.engine, "run", "--detach", "--publish", "127.0.0.1::8735", *options, IMAGE)
        self.assertEqual(status, 0, name)
        name = name.splitlines()[-1]
        self.addCleanup(ask, self.engine, "rm", "--force", name)
        status, said = ask(self.engine, "port", name, "8735")
        self.assertEqual(status, 0, said)
        return name, said.splitlines()[0]

    async def first_message(self, name, address):
        """A client that got a message of the feed. The log tells when the feed is up."""
        logs = await asyncio.create_subprocess_exec(
            self.engine, "logs", "--follow", name, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said = b""
        while b"Ctrl-C ends the feed" not in said:
            line = await asyncio.wait_for(logs.stdout.readline(), DEADLINE)
            self.assertTrue(line, f"the feed ended: {said.decode()}")
            said += line
        logs.kill()
        await logs.wait()
        client = await PythonClient.connect(f"ws://{address}/ws?topic=prices")
        self.addAsyncCleanup(client.close)
        self.assertEqual((await client.frame())["type"], "connection_established")
        self.assertEqual((await client.message())["topic"], "prices")
        return client

    async def test_the_feed_runs_as_nobody_and_writes_into_tmp_only(self):
        name, address = await asyncio.to_thread(self.run_image, "--read-only", "--tmpfs", "/tmp")
        await self.first_message(name, address)
        self.assertEqual(ask(self.engine, "exec", name, "id", "-u"), (0, "65534"))
        owned = ask(self.engine, "exec", name, "find", "/dev_websocket", "-user", "65534")
        self.assertEqual(owned, (0, ""))
        self.assertEqual(ask(self.engine, "exec", name, "sh", "-c", "command -v cc cargo rebar3 || true"), (0, ""))

    async def test_a_stop_ends_the_vm_in_order(self):
        name, address = await asyncio.to_thread(self.run_image)
        client = await self.first_message(name, address)
        stopped = asyncio.create_task(asyncio.to_thread(ask, self.engine, "stop", "--time", "60", name))
        self.assertEqual((await client.closed())[0], 1001)
        self.assertEqual((await stopped)[0], 0)
        self.assertEqual(ask(self.engine, "inspect", "--format", "{{.State.ExitCode}}", name), (0, "0"))


if __name__ == "__main__":
    unittest.main()
