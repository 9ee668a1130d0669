"""Very many tokens that end within a minute, and forged ones: healthy clients get every message meanwhile."""

import json
import os
import subprocess
import sys
from urllib.parse import urlsplit

from support.hostile import HostileTest
from support.process import settle
from support.tokens import keys

ATTACKERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "attackers.py")
# What the test waits at most for those that come, stay and are closed.
SECONDS = 180
# So many forged tokens a connection, and two seconds in which the server waits for it to leave, at 200 connections a second.
LEAVING = 1000


class Tokens(HostileTest):
    # The healthy clients have no token: their topics are public.
    settings = HostileTest.settings | {
        "access": "token",
        "token_keys": keys(),
        "public_topics": "healthy,still-serving",
        # No attacker is told to come later.
        "max_logins": 10_000,
        "workers": 1,
    }

    async def asyncSetUp(self):
        await super().asyncSetUp()
        # Beside the worker there is one that looks at the key file, from a second after the start.
        threads = await settle(lambda: self.process.threads()["ws-io"], 2)
        self.assertEqual(threads, 2)

    def attackers(self, attack, seconds):
        """The attackers' own account of so many seconds, or of as many as it takes."""
        command = [sys.executable, ATTACKERS, str(urlsplit(self.uri).port), attack]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            self.assertEqual(process.stdout.readline(), "ready\n")
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
            said, _ = process.communicate(timeout=SECONDS)
        return json.loads(said)

    async def ending(self, attack):
        closed = self.vm.stats()["closed_unauthorized"]
        async with self.siege(idle=10_000):
            counts = await self.attack(self.attackers, attack, 0)
        self.assertGreater(counts["held"], 0)
        self.assertEqual(counts["closed_3000"], counts["held"])
        self.assertEqual(self.vm.stats()["closed_unauthorized"] - closed, counts["held"])
        print(f"{counts['held']} connections: ", end="")

    async def test_tokens_that_end_within_a_minute_close_their_connections_alone(self):
        await self.ending("tokens_that_end_within_a_minute")

    async def test_tokens_that_end_at_once_close_their_connections_alone(self):
        await self.ending("tokens_that_end_at_once")

    async def forging(self, attack):
        async with self.siege(idle=LEAVING):
            counts = await self.attack(self.attackers, attack, 10)
        verified = self.vm.stats()["tokens_signature"]
        self.assertGreaterEqual(verified, counts["forged"])
        self.assertEqual(self.vm.stats()["tokens_accepted"], 0)
        print(f"{counts['forged'] / counts['seconds']:.0f} a second: ", end="")

    async def test_forged_tokens_in_requests_are_all_refused(self):
        await self.forging("forged_tokens_in_requests")

    async def test_forged_tokens_in_frames_are_all_refused(self):
        await self.forging("forged_tokens_in_frames")
