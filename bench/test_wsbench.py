"""Tests of what the orchestrator computes; what it measures needs servers."""

import json
import sys
import tempfile
import unittest
import xml.dom.minidom
from pathlib import Path

from wsbench import casts, goals, plan, plots, report, servers, stats
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
        made = results([{"rate": 9.0}], [{"rate": 10.0}])
        self.assertEqual(self.row(made, "1,000: deliveries/s vs floor").verdict(), "met")
        made = results([{"rate": 8.9}], [{"rate": 10.0}])
        self.assertEqual(self.row(made, "1,000: deliveries/s vs floor").verdict(), "MISSED")
        self.assertEqual(self.row(made, "1,000: deliveries/s vs uWeb").verdict(), "not measured")

    def test_a_cast_is_judged_by_the_spawn_beside_it(self):
        made = plan.Results()
        for number, (median, p99) in enumerate([(0.5, 1.0), (0.7, 1.6), (0.9, 1.7)]):
            made.add("cast-0-hot:six", "device", number, {"p50_ratio": median, "p99_ratio": p99})
        label = "AO message, 6 tags, 0 subscribers, hot: "
        self.assertEqual(self.row(made, label + "median").verdict(), "met")
        self.assertEqual(self.row(made, label + "p99").verdict(), "MISSED")
        self.assertEqual(self.row(made, "AO message, signed, 0 subscribers, hot: p99").verdict(), "not measured")

    def test_every_kind_of_message_and_case_has_a_goal(self):
        rows = [row.measure for row in goals.Table(plan.Results()).rows()]
        self.assertEqual(len(rows), len(set(rows)))
        for message in casts.MESSAGES.values():
            for case in ("0 subscribers:", "0 subscribers, hot:", "10,000 subscribers:"):
                self.assertEqual(sum(f"cast, {message}, {case}" in row for row in rows), 2, (message, case))

    def test_any_fault_anywhere_is_a_miss(self):
        fine = {"rate": 1, "lost": 0, "duplicated": 0, "reordered": 0, "closed": 0}
        self.assertEqual(self.row(results([fine], []), "all other scenarios").verdict(), "met")
        self.assertEqual(self.row(results([fine, fine | {"lost": 1}], []), "all other scenarios").verdict(), "MISSED")


class Publisher:
    """A server that answers as if it had measured."""

    def __init__(self, costs):
        self.costs = costs
        self.asked = []

    def ask(self, _timeout, **command):
        self.asked.append(command)
        return {"costs": self.costs, "timing_ns": {"p50": 100}, "count": 40}


class Casts(unittest.TestCase):
    def test_a_cast_is_compared_without_the_clock(self):
        cost = lambda p50, p99: {"p50": p50, "p99": p99, "max": p99, "samples": 1, "over_1ms": 0}
        publisher = Publisher({"six": cost(600, 5100), "topic": cost(90, 100), casts.SPAWN: cost(1100, 10_100)})
        figures = casts.cast_cost(publisher, None, 1024, plan.EVERY_MS, 4, messages=["topic", "six"])
        self.assertEqual((figures["six"]["p50_ratio"], figures["six"]["p99_ratio"]), (0.5, 0.5))
        # Less than the clock itself is a step of the histogram.
        self.assertEqual(figures["topic"]["p50_ratio"], 0.01)
        self.assertNotIn("p50_ratio", figures[casts.SPAWN])
        self.assertEqual(figures["six"]["per_second"], 10)
        self.assertEqual({command["kinds"] for command in publisher.asked}, {"topic,six,spawn"})

    def test_so_many_processes_make_as_many_calls(self):
        pace = casts.Pace(10, 1)
        self.assertEqual(pace.shared_by(5), casts.Pace(2, 1))
        self.assertEqual(casts.Pace(1, 10).shared_by(8), casts.Pace(1, 80))


class Plans(unittest.TestCase):
    def run_of(self, mode, chosen=None):
        every = Ready(Path("uws"), nats=Path("nats"), nchan=Path("nchan"), node=Path("ws"), axum=True, device=True, tls=True,
                      cowboy_ebins=[Path("ebin")])
        return plan.Run(plan.modes()[mode], every, lambda line: None, servers=chosen)

    def servers(self, mode, number, scenario, chosen=None):
        return next(names for name, names, _ in self.run_of(mode, chosen)._goal_steps(number) if name == scenario)

    def test_peers_in_no_goal_are_measured_in_the_first_rounds(self):
        self.assertLess(set(plan.BESIDE), set(self.servers("full", 1, "thousand")))
        self.assertFalse(set(plan.BESIDE) & set(self.servers("full", 2, "thousand")))
        self.assertFalse(set(plan.BESIDE) & set(self.servers("goals", 0, "thousand")))
        self.assertEqual(self.servers("goals", 4, "thousand", ["nats", "device"]), ["nats", "device"])

    def test_all_that_is_measured_has_a_name_and_a_colour(self):
        self.assertLess(set(plots.COLOURS), set(servers.LABELS))
        self.assertEqual(set(servers.LABELS) - set(plots.COLOURS), {servers.TLS})

    def test_the_goals_end_in_time(self):
        self.assertLess(plan.modes()["goals"].minutes, 15)
        run = self.run_of("goals")
        run._deadline = 0
        run.go()
        self.assertFalse(run.results.figures)
        # The first round says what it lacks; the later ones are left out whole.
        self.assertTrue(all("round 1: left out" in failure for failure in run.results.failures))
        self.assertIn("cast, device, round 1: left out, time is up", run.results.failures)


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
