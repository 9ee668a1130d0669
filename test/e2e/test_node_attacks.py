"""The attacks of test/node, without a node: every table can be built, and every request can be sent. Attacking needs a node: test/node/README.md."""

import base64
import hashlib
import os
import sys
import unittest

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../node"))

import attack  # noqa: E402
import command  # noqa: E402
import device_keys  # noqa: E402
import other_devices  # noqa: E402
import paths  # noqa: E402
import programs  # noqa: E402
import signing  # noqa: E402
import silencing  # noqa: E402
from watching import Judge  # noqa: E402

STORED = ("lua", "state", "program", "stack", "device", "assignment", "own")


class Unsigned:
    """A wallet that signs nothing: a real signature costs milliseconds, and a table has hundreds."""

    owner = bytes(512)
    address = "s" * 43

    def sign(self, data):
        return bytes(512)


class Recorded:
    """Where the silencing table asks a node: an answer that names results."""

    def operator(self):
        return "o" * 43

    def process(self, wallet, lua):
        return "p" * 43

    def schedule(self, wallet, process, **tags):
        pass

    def compute(self, process, slot):
        return self

    def header(self, name):
        return "r" * 43


def scene(pending=False):
    ids = {name: name[0] * 43 for name in ("victim", "results", "state", "assignment", "own")}
    stored = {name: name[-1].upper() * 43 for name in STORED}
    return attack.Scene(newest=2, sender="s" * 43, operator="o" * 43, wallet=Unsigned(), stored=stored, pending=pending, **ids)


class TablesTest(unittest.TestCase):
    def tables(self, pending):
        place = scene(pending)
        yield paths.attacks(place)
        yield device_keys.attacks(place)
        yield other_devices.attacks(place)
        yield silencing.attacks(place, Recorded(), Unsigned(), ["1", "2", "3", "4"])

    def test_tables_are_as_wide_as_documented(self):
        attacks = [one for table in (paths, device_keys, other_devices) for one in table.attacks(scene())]
        self.assertGreater(len(attacks), 2_500)
        self.assertGreater(len({one.name.split(" / ")[0] for one in attacks}), 400)
        self.assertGreaterEqual(len(programs.BODIES), 36)

    def test_each_attack_has_a_name_of_its_own_and_can_be_sent(self):
        for table in (*self.tables(False), *self.tables(True)):
            names = set()
            for one in table:
                self.assertFalse(one.name in names, one.name)
                names.add(one.name)
                for request in one.requests:
                    request = request() if callable(request) else request
                    # What http.client refuses never leaves this machine, so it would attack nothing.
                    self.assertRegex(request.path, r"\A/[!-~]*\Z", one.name)
                    for name, value in request.headers:
                        self.assertRegex(name, r"\A[!-9;-~]+\Z", one.name)
                        self.assertNotRegex(value, r"[\r\n]", one.name)

    def test_a_waiting_slot_gets_no_base_that_the_node_itself_would_compute_from(self):
        """That limit is shown by a part of its own."""
        for one in paths.attacks(scene(pending=True)):
            for request in one.requests:
                request = request() if callable(request) else request
                if "initialized" in request.path:
                    self.assertNotRegex(request.path, r"[&?]slot(\+|%2B|%20)integer=3\b", one.name)

    def test_programs_are_complete(self):
        for name, lua in programs.strangers(scene(), 3):
            self.assertIn("return process", lua, name)
            self.assertNotIn("%(", lua, name)

    def test_parts_are_callable(self):
        for name, part in command.PARTS.items():
            self.assertTrue(callable(part), name)


class SigningTest(unittest.TestCase):
    def test_signatures_verify(self):
        """The public operation of RSA gives the padded block back, and its salt gives the hash."""
        one, other = signing.new_prime(2048), signing.new_prime(2048)
        wallet = signing.Wallet(one * other, pow(signing.EXPONENT, -1, (one - 1) * (other - 1)), one, other)
        block = pow(int.from_bytes(wallet.sign(b"text"), "big"), signing.EXPONENT, wallet.modulus).to_bytes(512, "big")
        masked, digest = block[:-33], block[-33:-1]
        plain = bytes(a ^ b for a, b in zip(masked, signing.mask(digest, len(masked))))
        salt = plain[-signing.SALT :]
        self.assertEqual(hashlib.sha256(bytes(8) + hashlib.sha256(b"text").digest() + salt).digest(), digest)

    def test_a_data_item_has_the_id_of_its_signature(self):
        item, name = signing.data_item(Unsigned(), {"b": "2", "a": "1"}, b"data")
        self.assertEqual(name, base64.urlsafe_b64encode(hashlib.sha256(bytes(512)).digest()).rstrip(b"=").decode())
        self.assertTrue(item.endswith(b"\x04\x02a\x021\x02b\x022\0data"))


class Frames:
    def __init__(self, *frames):
        self.frames = list(frames)


class JudgeTest(unittest.TestCase):
    """A judge that finds nothing would pass every node."""

    def setUp(self):
        self.judge = Judge("s" * 43)
        self.judge.honest["v" * 43] = {3: "moved 1"}
        self.judge.strangers.add("x" * 43)

    def faults(self, *frames):
        return [fault for fault, _ in self.judge.faults(Frames(*frames))]

    def result(self, **changes):
        process = changes.get("process", "v" * 43)
        data = {"type": "result", "process": process, "output": {"body": changes.pop("output", "moved 1")}}
        return {"type": "message", "process": process, "slot": 3, "path": "p", "topics": [f"process:{process}"], "data": data} | changes

    def test_honest_frames_pass(self):
        self.assertEqual(self.faults(self.result(), self.result(process="x" * 43, output="FORGED", path="q")), [])
        self.assertEqual(self.faults({"type": "message", "source": "http", "topics": ["prices", "sender:a"], "data": "FORGED"}), [])

    def test_forged_frames_do_not(self):
        for frames in (
            [self.result(), self.result()],
            [self.result(slot=4)],
            [self.result(output="moved 2")],
            [self.result(process="y" * 43)],
            [self.result(source="http")],
            [self.result(topics=["process:" + "x" * 43])],
            [self.result(**{"from": ["x" * 43]})],
            [self.result(data={"process": "v" * 43, "output": {"body": "moved 1"}, "error": "FORGED"})],
            [{"type": "message", "source": "http", "topics": ["process:" + "v" * 43], "data": 1}],
            [{"type": "message", "source": "http", "topics": [], "from": ["v" * 43], "data": 1}],
            [{"type": "message", "topics": [], "data": 1}],
            [{"type": "gap", "process": "v" * 43, "reason": "withheld"}],
        ):
            self.assertNotEqual(self.faults(*frames), [], frames)


if __name__ == "__main__":
    unittest.main()
