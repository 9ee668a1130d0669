"""Tests of what the orchestrator computes; what it measures needs servers."""

import json
import sys
import tempfile
import unittest
import xml.dom.minidom
from pathlib import Path

from wsbench import goals, plan, plots, report, stats
from wsbench.prepare import Ready
from wsbench.procs import Child, Failure


def results(ours, floor, uws=None, scenario="burst-1000"):
    made = plan.Results()
    for server, rows in (("device", ours), ("floor-coalesce", floor), ("uws", uws or [])):
        for number, figures in enumerate(rows):
            made.add(scenario, server, number, figures)
    return made


class Stats(unittest.TestCase):
    def test_ratios_are_of_the_same_round(self):
        self.assertEqual(stats.paired_ratio([{"rate": 10}, {"rate": 1}], [{"rate": 10}, {"rate": 1}], "rate"), 1)
        self.assertEqual(stats.paired_ratio([{"rate": 10}, None], [{"rate": 5}, {"rate": 1}], "rate"), 2)
        self.assertIsNone(stats.paired_ratio([], [{"rate": 1}], "rate"))

    def test_spread(self):
        self.assertEqual(stats.spread([10, None, 12, 11]), 2 / 11)
        self.assertEqual(stats.spread([3]), 0)

    def test_the_median_lies_between_ranks(self):
        # The 95 % interval of the median of 100 values is from the 40th or so to the 60th.
        self.assertEqual(stats.interval_of_median(range(100, 0, -1)), (41, 61))
        self.assertEqual(stats.interval_of_median([2, 1, 3]), (1, 3))

    def test_a_round_that_failed_leaves_a_hole(self):
        made = plan.Results()
        made.add("x", "device", 0, {"rate": 1})
        made.add("x", "device", 2, {"rate": 3})
        self.assertEqual(made.of("x", "device"), [{"rate": 1}, None, {"rate": 3}])


class Goals(unittest.TestCase):
    def row(self, made, text):
        return next(row for row in goals.Table(made).rows() if text in row.measure)

    def test_at_least(self):
        made = results([{"rate": 8.0}], [{"rate": 10.0}])
        self.assertEqual(self.row(made, "1,000: deliveries/s vs floor").verdict(), "met")
        made = results([{"rate": 7.9}], [{"rate": 10.0}])
        self.assertEqual(self.row(made, "1,000: deliveries/s vs floor").verdict(), "MISSED")
        self.assertEqual(self.row(made, "1,000: deliveries/s vs uWeb").verdict(), "not measured")

    def test_the_clock_is_taken_off_a_cast(self):
        made = plan.Results()
        made.add("cast-unheard", "device", 0, {"p50_ns": 250, "timing_ns": 60})
        self.assertEqual(self.row(made, "without receivers").verdict(), "met")

    def test_any_fault_anywhere_is_a_miss(self):
        fine = {"rate": 1, "lost": 0, "duplicated": 0, "reordered": 0, "closed": 0}
        self.assertEqual(self.row(results([fine], []), "all other scenarios").verdict(), "met")
        self.assertEqual(self.row(results([fine, fine | {"lost": 1}], []), "all other scenarios").verdict(), "MISSED")


class Texts(unittest.TestCase):
    def test_a_report_of_little_is_whole(self):
        made = results([{"rate": 2e6, "cpu": 0.1}], [{"rate": 4e6, "cpu": 0.05}])
        made.failures.append("topics, uws, round 1: gone")
        machine = {"cpu": "c", "cores": 2, "memory_gib": 1, "kernel": "k", "otp": "25", "rust": "r", "commit": "x"}
        quiet = {"load_before": 0, "load_after": 1, "stolen": 0.01}
        text = report.Report(made, machine, quiet, plan.modes()["quick"], Ready(), 1, "today").text()
        for wanted in ("0.500", "2.00 M", "topics, uws, round 1: gone", "| measure"):
            self.assertIn(wanted, text)

    def test_tls_is_compared_round_by_round(self):
        made = results([{"rate": 1}], [])
        for number, (plain, tls) in enumerate([(8e6, 2e6), (4e6, 2e6), (2e6, 1e6)]):
            made.add("tls", "device", number, {"rate": plain, "bytes": 2048})
            made.add("tls", "device-tls", number, {"rate": tls, "bytes": 8192})
        machine = {"cpu": "c", "cores": 2, "memory_gib": 1, "kernel": "k", "otp": "25", "rust": "r", "commit": "x"}
        quiet = {"load_before": 0, "load_after": 1, "stolen": 0.01}
        made_report = report.Report(made, machine, quiet, plan.modes()["quick"], Ready(), 1, "today")
        (ratios,) = [line for line in made_report.text().splitlines() if line.startswith("| TLS vs plain")]
        self.assertEqual([cell.strip() for cell in ratios.split("|")[2:7]], ["0.50 x", "-", "-", "-", "4.00 x"])
        self.assertNotIn("TLS vs plain", report.Report(results([{"rate": 1}], []), machine, quiet, plan.modes()["quick"], Ready(), 1, "").text())

    def test_plots_are_well_formed(self):
        svg = plots.bars("a < b", "unit", {"device": 5e6, "uws": 3e5, "axum": None})
        self.assertEqual(len(xml.dom.minidom.parseString(svg).getElementsByTagName("rect")), 2)
        svg = plots.lines("t", "x", "y", {"device": [(10, 0.5), (100, 0.25)], "uws": [(10, None)]})
        self.assertEqual(len(xml.dom.minidom.parseString(svg).getElementsByTagName("polyline")), 1)
        self.assertIsNone(plots.bars("t", "u", {}))


ECHO = """
import json, sys
print(json.dumps({"ready": True, "port": 1}), flush=True)
for line in sys.stdin:
    command = json.loads(line)
    if command["cmd"] == "quit": break
    print("no json", flush=True)
    print(json.dumps({"event": command["cmd"]}), flush=True)
"""


class Processes(unittest.TestCase):
    def child(self, code):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        child = Child("child", [sys.executable, "-c", code], Path(folder.name))
        self.addCleanup(child.close)
        return child

    def test_asking(self):
        child = self.child(ECHO)
        self.assertEqual(child.wait("ready", 10)["port"], 1)
        self.assertEqual(child.ask(10, cmd="done"), {"event": "done"})
        with self.assertRaises(Failure):
            child.ask(10, cmd="error")
        with self.assertRaises(Failure):
            child.ask(0.2, cmd="other")
        self.assertGreater(child.cpu_seconds(), 0)
        self.assertGreater(child.memory_bytes(), 1 << 20)

    def test_a_child_that_ends(self):
        child = self.child("pass")
        with self.assertRaises(Failure):
            child.wait("ready", 10)
        with self.assertRaises(Failure):
            for _ in range(100):
                child.send(cmd="x", text=json.dumps("x" * 1000))


if __name__ == "__main__":
    unittest.main()
