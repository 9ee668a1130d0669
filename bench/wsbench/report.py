"""Results as text: Markdown that also reads well in a terminal."""

from . import casts, goals
from .servers import LABELS, TLS
from .stats import median, paired_ratio, spread


def table(head, rows):
    """A Markdown table with columns as wide as they must be."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    line = lambda cells: "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"
    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def _number(value, digits=1):
    if value is None:
        return "-"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.2f} M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.0f} k"
    return f"{value:,.{digits}f}" if digits else f"{value:,.0f}"


class Report:
    def __init__(self, results, machine, quiet, mode, ready, minutes, date):
        self.results, self.machine, self.quiet, self.mode = results, machine, quiet, mode
        self.ready, self.minutes, self.date = ready, minutes, date
        self.goals = goals.Table(results).rows()

    def median(self, scenario, server, name):
        return median([figures.get(name) for figures in self.results.of(scenario, server) if figures])

    def text(self):
        parts = [self._head(), self.goals_text(), *self._sections(), self._notes()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _head(self):
        m, q = self.machine, self.quiet
        return "\n".join([
            "# Results",
            "",
            f"- {self.date}, `{self.mode.name}` run of {self.minutes:.0f} minutes, {self.mode.rounds} interleaved rounds, medians",
            f"- commit {m['commit']}, {m['rust']}, OTP {m['otp']}",
            f"- {m['cores']} x {m['cpu']}, {m['memory_gib']} GiB, Linux {m['kernel']}; server and load client share the cores",
            f"- load average {q['load_before']} before, {q['load_after']} after; {q['stolen'] * 100:.1f} % of CPU time stolen",
            "",
            "CPU is seconds of the whole server process per million deliveries. Compare ratios within this run, not figures",
            "of different machines. The method is in [README.md](README.md).",
        ])

    def goals_text(self):
        rows = [[row.measure, row.goal, row.shown(), row.verdict()] for row in self.goals]
        return "## Goals\n\n" + table(["measure", "goal", "this run", ""], rows)

    def _section(self, title, scenario, columns, baseline=None):
        """A row per server; `columns` are (heading, field, scale, digits)."""
        servers = [name for name in LABELS if self.results.of(scenario, name)]
        if not servers:
            return ""
        head = ["server", *(column[0] for column in columns)]
        if baseline:
            head += ["vs floor-coalesce", "spread of rounds"]
        rows = []
        for name in servers:
            row = [LABELS[name]]
            for _, key, scale, digits in columns:
                value = self.median(scenario, name, key)
                row.append(_number(None if value is None else value * scale, digits))
            if baseline:
                floor, own = self.median(scenario, "floor-coalesce", baseline), self.median(scenario, name, baseline)
                row.append(f"{own / floor:.3f}" if floor and own else "-")
                rounds = [figures.get(baseline) for figures in self.results.of(scenario, name) if figures]
                row.append(f"{spread(rounds) * 100:.0f} %")
            rows.append(row)
        return f"## {title}\n\n" + table(head, rows)

    def _sections(self):
        burst = [("deliveries/s", "rate", 1, 0), ("CPU", "cpu", 1, 2), ("p50 ms", "p50_ms", 1, 1), ("p99 ms", "p99_ms", 1, 1),
                 ("lost", "lost", 1, 0), ("duplicated", "duplicated", 1, 0), ("reordered", "reordered", 1, 0)]
        yield self._section("Burst of 500 messages to 1,000 subscribers, 200 B", "burst-1000", burst, "rate")
        yield self._section("Burst of 50 messages to 10,000 subscribers, 200 B", "burst-10000", burst, "rate")
        yield self._section("10 messages to each of 5,000 topics with one subscriber each, 200 B", "topics-5000", burst, "rate")
        yield self._section("The same with recorded AO messages of six tags", "topics-5000-six", burst)
        pace = [("p50 ms", "p50_ms", 1, 1), ("p99 ms", "p99_ms", 1, 1), ("max ms", "max_ms", 1, 1), ("CPU", "cpu", 1, 2),
                ("lost", "lost", 1, 0), ("reordered", "reordered", 1, 0)]
        for rate in (100, 20):
            yield self._section(f"Steady {rate} messages/s to 1,000 subscribers, 200 B", f"steady-{rate}", pace)
        yield self._section("Memory of idle connections, 10,000 of them", "memory",
                            [("KB each", "bytes", 1 / 1024, 2), ("all connected after ms", "connect_ms", 1, 0)])
        yield self._tls()
        yield self._section("10 of 1,000 clients never read, 4 KB, 100 messages/s", "slow", [
            ("p99 ms of the others without", "p99_without_ms", 1, 1), ("with", "p99_with_ms", 1, 1), ("memory cost, MB", "grown_mb", 1, 1),
            ("lost for the others", "lost_with", 1, 0), ("reordered", "reordered_with", 1, 0)])
        for size, label in ((200, "200 B x 500"), (4096, "4 KB x 100"), (65_536, "64 KB x 10")):
            yield self._section(f"Burst to 1,000 subscribers, {label}", f"size-{size}",
                                [*burst[:2], ("MB/s", "mb_per_second", 1, 0), *burst[2:]], "rate")
        yield self._overlapping(burst)
        yield self._section("Burst of 500 messages to 1,000 subscribers, 200 B, with measuring vs without, in the same server", "measuring", [
            ("pairs", "pairs", 1, 0), ("deliveries/s", "rate_ratio", 1, 3), ("from", "rate_ratio_low", 1, 3), ("to (95 %)", "rate_ratio_high", 1, 3),
            ("CPU", "cpu_ratio", 1, 3), ("from", "cpu_ratio_low", 1, 3), ("to (95 %)", "cpu_ratio_high", 1, 3)])
        yield self._section("Burst of 500 messages to 1,000 subscribers while a client asks for `/info` in a loop, vs without", "asked", [
            ("rounds", "rounds", 1, 0), ("deliveries/s", "asked_ratio", 1, 3), ("from", "asked_low", 1, 3), ("to (95 %)", "asked_high", 1, 3),
            ("answers", "asked_answers", 1, 0), ("the client asks another server: deliveries/s", "elsewhere_ratio", 1, 3),
            ("from", "elsewhere_low", 1, 3), ("to (95 %)", "elsewhere_high", 1, 3), ("answers", "elsewhere_answers", 1, 0)])
        yield self._section("Storm: 200 connections/s open and close during 100 messages/s to 1,000", "storm", [
            ("p99 ms calm", "p99_calm_ms", 1, 1), ("p99 ms", "p99_ms", 1, 1), ("CPU calm", "cpu_calm", 1, 2), ("CPU", "cpu", 1, 2),
            ("storm connections", "opened", 1, 0), ("failed", "failed", 1, 0), ("lost for the others", "lost", 1, 0),
            ("lost for the storm", "storm_lost", 1, 0)])
        yield self._section("12,000 connections at once during 100 messages/s to 500", "connects", [
            ("p99 ms calm", "p99_calm_ms", 1, 1), ("p99 ms", "p99_ms", 1, 1), ("vs calm", "p99_ratio", 1, 2), ("max ms calm", "max_calm_ms", 1, 1),
            ("max ms", "max_ms", 1, 1), ("all connected after ms", "came_ms", 1, 0), ("lost", "lost", 1, 0), ("reordered", "reordered", 1, 0)])
        yield self._choices()
        yield self._cast()
        yield self._section("Round trip of two other processes, quiet and during 100 messages/s to 1,000", "ping-pong", [
            *((f"{when} {key} us", f"{when}_{key}_us", 1, 1) for when in ("quiet", "busy") for key in ("p50", "p99", "max")),
            ("p99 busy vs quiet", "p99_ratio", 1, 2)])
        yield self._growth("subscribers", "Cost as subscribers grow", "subscribers-")
        yield self._growth("topics", "Cost as topics grow (up to 1,000 connections)", "topics-growth-")

    def _tls(self):
        """Both servers, and TLS divided by plain, round by round."""
        columns = [("deliveries/s", "rate", 1, 0), ("CPU", "cpu", 1, 2), ("CPU of the clients", "load_cpu", 1, 2), ("p99 ms", "p99_ms", 1, 1),
                   ("KB each of 10,000 idle", "bytes", 1 / 1024, 2), ("connected after ms", "connect_ms", 1, 0), ("lost", "lost", 1, 0)]
        rounds = {name: self.results.of("tls", name) for name in ("device", TLS)}
        if not all(rounds.values()):
            return ""
        rows = []
        for name in rounds:
            values = [(self.median("tls", name, key), scale, digits) for _, key, scale, digits in columns]
            rows.append([LABELS[name], *(_number(None if value is None else value * scale, digits) for value, scale, digits in values)])
        ratios = [paired_ratio(rounds[TLS], rounds["device"], key) for _, key, _, _ in columns[:-1]]
        rows.append(["TLS vs plain", *("-" if ratio is None else f"{ratio:.2f} x" for ratio in ratios), ""])
        return "## TLS: burst of 500 messages to 1,000 subscribers, 200 B\n\n" + table(
            ["server", *(column[0] for column in columns)], rows)

    def _overlapping(self, columns):
        rows = []
        for topics in (1, 10, 1000):
            name = f"overlapping-{topics}"
            if self.results.of(name, "device"):
                rows.append([topics, *(_number(self.median(name, "device", column[1]), column[3]) for column in columns)])
        if not rows:
            return ""
        return "## Messages with many topics, 1,000 subscribers of up to three of them\n\n" + table(
            ["topics per message", *(column[0] for column in columns)], rows)

    def _choices(self):
        rows = []
        for kind in ("topic", "glob", "match", "template"):
            rate, cpu, publish = (self.median(f"choices-{kind}", "device", key) for key in ("rate", "cpu", "publish_ns"))
            by_topic = self.median("choices-topic", "device", "cpu")
            if rate and by_topic:
                rows.append([kind, _number(rate, 0), _number(cpu, 2), f"{cpu / by_topic:.2f} x", _number(publish, 0)])
        if not rows:
            return ""
        return "## 10,000 connections with 1,000 distinct subscriptions over 10,000 topics\n\n" + table(
            ["subscription", "deliveries/s", "CPU", "CPU vs topic", "ns per cast"], rows)

    def _cast(self):
        rows = []
        for scenario, servers in self.results.figures.items():
            if not scenario.startswith("cast-"):
                continue
            case, _, kind = scenario.partition(":")
            for name in servers:
                cells = [self.median(scenario, name, key) for key in ("p50_ns", "p99_ns", "max_ns", "timing_ns", "per_second")]
                if cells[0] is None:
                    continue
                micro = [f"{cell / 1000:,.2f}" for cell in cells[:4]]
                by_spawn = [self.median(scenario, name, f"{key}_ratio") for key in ("p50", "p99")]
                ratios = ["-" if value is None else f"{value:.2f} x" for value in by_spawn]
                rows.append([_cast_label(case), casts.LABELS[kind], LABELS[name], *micro[:2], *ratios, *micro[2:], _number(cells[4], 0)])
        if not rows:
            return ""
        return "## Cost of a cast for its caller, 1 KB, us, and by a bare `spawn` in the same loop\n\n" + table(
            ["calls", "message", "server", "median", "p99", "median vs spawn", "p99 vs spawn", "max", "clock reading", "of each kind/s"], rows)

    def _growth(self, what, title, prefix):
        points = sorted((int(name.removeprefix(prefix)) for name in self.results.figures
                         if name.startswith(prefix) and name.removeprefix(prefix).isdigit()))
        if not points:
            return ""
        servers = [name for name in LABELS if any(self.results.of(f"{prefix}{point}", name) for point in points)]
        head = [what]
        for name in servers:
            head += [f"{name} deliveries/s", f"{name} CPU"] + (["ns per cast"] if name == "device" else [])
        rows = []
        for point in points:
            row = [f"{point:,}"]
            for name in servers:
                row += [_number(self.median(f"{prefix}{point}", name, "rate"), 0), _number(self.median(f"{prefix}{point}", name, "cpu"), 2)]
                if name == "device":
                    row.append(_number(self.median(f"{prefix}{point}", name, "publish_ns"), 0))
            rows.append(row)
        return f"## {title}\n\n" + table(head, rows)

    def _notes(self):
        lines = [f"- skipped {name}: {reason}" for name, reason in self.ready.skipped.items()]
        lines += [f"- failed: {failure}" for failure in self.results.failures]
        return "## Skipped or failed\n\n" + "\n".join(lines) if lines else ""


def _cast_label(case):
    parts = case.split("-")[1:]
    if parts == ["unheard"]:
        return "0 subscribers, no history"
    label = f"{int(parts[0]):,} subscribers"
    if len(parts) > 2:
        return f"{label}, {parts[1]}, {parts[2]} process{'' if parts[2] == '1' else 'es'}"
    return ", ".join([label, *parts[1:]])
