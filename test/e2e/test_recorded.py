"""Conversations with a server of open access, byte for byte as they were recorded before there were tokens.

`test/e2e/record` shows differences, and records anew."""

import os
import unittest

from support.case import shared_vm
from support.conversation import RECORDED, conversations, play, recorded


class Recorded(unittest.TestCase):
    maxDiff = None

    def test_each_conversation_has_a_recording_and_each_recording_a_conversation(self):
        told = {name for name, _, _ in conversations()}
        self.assertEqual(told, {os.path.splitext(name)[0] for name in os.listdir(RECORDED)})
        self.assertGreaterEqual(len(told), 40)


def of(name, function, settings):
    def test(self):
        # A VM of its own, as each conversation has a new server.
        transcript = play(shared_vm(history_bytes=16777216), function, settings)
        self.assertMultiLineEqual(recorded(name), transcript)

    return test


for told in conversations():
    setattr(Recorded, f"test_{told[0]}", of(*told))
