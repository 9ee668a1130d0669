"""Numbers and files that documents name, beside what they stand for."""

import glob
import json
import os
import re
import shutil
import subprocess
import unittest
import urllib.request

from support.case import EngineTest
from support.vm import ROOT

DEADLINE = 60
ANALYZE = shutil.which("systemd-analyze")


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def find(pattern, text):
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"nothing matches {pattern!r}"
    return found.group(1)


class Versions(unittest.TestCase):
    def test_all_packages_have_the_version_of_the_changelog(self):
        version = find(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", read("CHANGELOG.md"))
        for name, pattern in {
            "Cargo.toml": r'^version = "(.*)"$',
            "erlang/dev_websocket.app.src": r'\{vsn, "(.*)"\}',
            "package.json": r'"version": "(.*)"',
            "clients/javascript/package.json": r'"version": "(.*)"',
            "clients/python/pyproject.toml": r'^version = "(.*)"$',
            "clients/python/dev_websocket/__init__.py": r'^__version__ = "(.*)"$',
        }.items():
            self.assertEqual(find(pattern, read(name)), version, name)

    def test_the_device_and_the_library_have_one_version_word(self):
        self.assertEqual(
            find(r"^interface\(\) -> (\d+)\.$", read("erlang/dev_websocket_library.erl")),
            find(r"^const INTERFACE: u32 = (\d+);$", read("native/dev_websocket_nif/src/lib.rs")),
        )


class Figures(unittest.TestCase):
    """Figures of the README and of docs/DEPLOYING.md are those of bench/RESULTS.md, rounded."""

    def cell(self, section, row, column):
        body = find(rf"^## {re.escape(section)}\n\n((?:\|.*\n)+)", read("bench/RESULTS.md"))
        lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in body.splitlines()]
        at = lines[0].index(column)
        text = next(line[at] for line in lines[2:] if line[0 if len(row) == 1 else slice(2)] == (row[0] if len(row) == 1 else list(row)))
        number, _, unit = text.replace(",", "").partition(" ")
        return float(number) * {"": 1, "k": 1e3, "M": 1e6}[unit]

    def cast(self, casts, column):
        return self.cell("Cost of a cast for its caller, 1 KB, us", (casts, "dev_websocket"), column)

    def test_the_readme_has_those_of_a_cast(self):
        text = read("README.md")
        median = float(find(r"costs its caller (\S+) µs in the median", text))
        few, many = (float(number) for number in re.search(r"99th percentile is (\d+) and (\d+) µs", text).groups())
        for casts, p99 in (("0 subscribers", few), ("10,000 subscribers", many)):
            self.assertAlmostEqual(median, self.cast(casts, "median"), delta=0.1)
            self.assertEqual(p99, round(self.cast(casts, "p99")))
        low, high = (int(number) for number in re.search(r"a single call takes (\d+) to (\d+) µs", text).groups())
        cold = [self.cast(f"{number} subscribers, cold, 1 process", "median") for number in ("0", "1,000", "10,000")]
        self.assertLessEqual(abs(low - min(cold)), 0.5)
        self.assertLessEqual(abs(high - max(cold)), 0.5)

    def test_the_readme_has_that_of_a_burst(self):
        millions = float(find(r"deliver (\S+) million 200-byte messages", read("README.md")))
        rate = self.cell("Burst of 500 messages to 1,000 subscribers, 200 B", ("dev_websocket",), "deliveries/s")
        self.assertAlmostEqual(millions, rate / 1e6, delta=0.05)

    def test_deploying_has_those_of_memory_and_cpu(self):
        rows = re.findall(r"^\| ([\d,]+) \| (\d+) MB.*?\| ([\d,]+) \| ([\d.]+) (ms|s)\b.*?\| ([\d.]+) ms", read("docs/DEPLOYING.md"), re.MULTILINE)
        self.assertEqual([row[0] for row in rows], ["1,000", "10,000", "100,000"])
        each = self.cell("Memory of idle connections, 10,000 of them", ("dev_websocket",), "KB each")
        steady = self.cell("Steady 100 messages/s to 1,000 subscribers, 200 B", ("dev_websocket",), "CPU")
        burst = self.cell("Burst of 500 messages to 1,000 subscribers, 200 B", ("dev_websocket",), "CPU")
        for clients, memory, descriptors, single, unit, share in rows:
            clients = int(clients.replace(",", ""))
            self.assertLessEqual(abs(int(memory) * 1e6 - clients * each * 1024), clients * 300, clients)
            self.assertGreaterEqual(int(descriptors.replace(",", "")) * 7 / 8, clients)
            self.assertLessEqual(abs(float(single) * {"ms": 1e3, "s": 1e6}[unit] / clients - steady), 0.5, clients)
            self.assertLessEqual(abs(float(share) * 1e3 / clients - burst), 0.05, clients)


class Deployment(EngineTest):
    @unittest.skipIf(ANALYZE is None, "no systemd-analyze on PATH")
    def test_systemd_knows_every_line_of_the_unit(self):
        unit = os.path.join(ROOT, "examples/deploy/hyperbeam.service")
        checked = subprocess.run([ANALYZE, "verify", unit], capture_output=True, text=True, timeout=DEADLINE, check=False)
        # The program and the user are those of a node, and are not on this machine.
        said = [line for line in (checked.stdout + checked.stderr).splitlines() if "hyperbeam.service" in line and "is not executable" not in line]
        self.assertEqual(said, [])

    def test_settings_of_the_examples_exist(self):
        known = set(re.findall(r"^\| `(\w+)` \|", read("docs/PROTOCOL.md"), re.MULTILINE))
        files = glob.glob(os.path.join(ROOT, "examples/deploy/*")) + [os.path.join(ROOT, "docs/OPERATING.md"), os.path.join(ROOT, "docs/DEPLOYING.md")]
        named = {name for file in files for name in re.findall(r"\bDEV_WEBSOCKET_([A-Z_]+)\b", read(file))}
        self.assertLess({"PUBLIC_URI", "OPERATOR_PORT"}, named)
        # The others are read by the build.
        of_the_build = {name for name in named if name.startswith("NIF")} | {"FEATURES"}
        self.assertEqual({name for name in named - of_the_build if name.lower() not in known}, set())

    def test_the_probes_of_the_pod_are_answered(self):
        paths = re.findall(r"httpGet: \{path: (\S+), port: operator\}", read("examples/deploy/kubernetes.yaml"))
        self.assertEqual(paths, ["/health", "/health"])
        for path in paths:
            with urllib.request.urlopen(self.uri.replace("ws://", "http://").removesuffix("/ws") + path, timeout=DEADLINE) as answer:
                self.assertEqual((answer.status, json.load(answer)), (200, {"status": "ok"}))

    def test_sysctl_settings_are_those_of_the_system(self):
        for name, value in re.findall(r"^(\S+) = (\d+)$", read("examples/deploy/99-dev_websocket.conf"), re.MULTILINE):
            self.assertTrue(os.path.exists("/proc/sys/" + name.replace(".", "/")), name)
            self.assertGreater(int(value), 0)


if __name__ == "__main__":
    unittest.main()
