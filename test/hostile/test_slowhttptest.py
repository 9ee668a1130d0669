"""Debian's slowhttptest against the listener: it must find the service available, and healthy clients must notice nothing."""

import re
import subprocess
import unittest

from support.clients import PythonClient
from support.hostile import HostileTest
from support.vm import Vm

CONNECTIONS = 2000
SECONDS = 20
# What the tool waits at most for the answer to its own probe.
PROBE_SECONDS = 5
MODES = {
    "slow headers": (["-H", "-i", "1", "-x", "24"], "/ws"),
    "slow bodies": (["-B", "-i", "1", "-s", "8192"], "/ws"),
    "slow reads": (["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-k", "3"], "/info"),
    "ranges": (["-R"], "/info"),
}


def slowhttptest(uri, mode, connections=CONNECTIONS):
    """The tool's own account of what it did."""
    options, path = MODES[mode]
    url = uri.replace("ws://", "http://").removesuffix("/ws") + path
    command = ["slowhttptest", *options, "-c", str(connections), "-r", "500", "-l", str(SECONDS), "-p", str(PROBE_SECONDS), "-u", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10 * SECONDS, check=True)
    told = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.stdout)
    return re.findall(r"service available:\s+(\w+)", told), re.search(r"Exit status: (.*)", told).group(1).strip()


class SlowHttpTest(HostileTest):
    async def besiege(self, mode):
        async with self.siege(handshakes=CONNECTIONS):
            available, status = await self.attack(slowhttptest, self.uri, mode)
        print(f"{status}: ", end="")
        self.assertEqual(set(available), {"YES"})

    async def test_slow_headers(self):
        await self.besiege("slow headers")

    async def test_slow_bodies(self):
        await self.besiege("slow bodies")

    async def test_slow_reads(self):
        await self.besiege("slow reads")

    async def test_ranges(self):
        await self.besiege("ranges")


class SlowHttpTestWithFewDescriptors(unittest.IsolatedAsyncioTestCase):
    async def test_slow_headers_beyond_the_descriptors_end_with_their_timeouts(self):
        vm = Vm(descriptors=256, handshake_timeout=1000)
        self.addCleanup(vm.close)
        client = await PythonClient.connect(f"{vm.uri()}?topic=a")
        await client.frame()
        slowhttptest(vm.uri(), "slow headers", connections=1000)
        self.assertGreater(vm.stats()["accept_failures"], 0)
        # Who was there is served, and so is who comes.
        other = await PythonClient.connect(f"{vm.uri()}?topic=a")
        await other.frame()
        vm.cast('#{<<"topic">> => <<"a">>}')
        for each in (client, other):
            self.assertEqual((await each.message())["topic"], "a")
            await each.close()
