"""What a run came to, in words and tables: for the terminal, and for docs/SOAK.md."""

import os
import time
from collections import namedtuple

import memory
import plot

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))

MIB = 1024 * 1024
WARM_UP = 1
PLOT = "docs/plots/soak-memory.svg"
# Rows of the tables of memory.
ROWS = 15


def number(value):
    return f"{value:,}"


def thinned(entries):
    """At most so many of them, the last included."""
    step = -(-len(entries) // ROWS)
    return [entry for place, entry in enumerate(entries) if place % step == 0 or place == len(entries) - 1]


def table(head, rows):
    """A table in Markdown that is also readable as it is."""
    rows = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


# After a cycle: bytes resident, and in use by Erlang.
Rest = namedtuple("Rest", "seconds resident erlang")
# When everybody has gone: bytes in use by the C library's allocator, bytes resident when it has given back what it can, and
# the number of shards.
Empty = namedtuple("Empty", "seconds in_use resident shards")


class Report:
    def __init__(self, soak):
        self.soak = soak
        minutes = lambda entry: entry.seconds / 60
        # Each shard keeps something.
        of_empty = lambda value: [(minutes(empty), value(empty), empty.shards) for empty in soak.empty if minutes(empty) >= WARM_UP]
        self.in_use = memory.line(of_empty(lambda empty: empty.in_use))
        self.resident = memory.line(of_empty(lambda empty: empty.resident))
        self.failures = list(soak.accounts.failures)
        for name, line in (("memory in use", self.in_use), ("resident memory", self.resident)):
            if line and not line.is_flat:
                self.failures.append(f"{name} rises: {self._slope(line)}")

    def text(self):
        failures = "\n".join(f"- {failure}" for failure in self.failures) or "none"
        parts = [
            ("Failures", failures),
            ("Casts", self._casts()),
            ("Deliveries", self._deliveries()),
            ("Clients", self._clients()),
            ("Memory", self._memory()),
            ("Long schedules", self._schedules()),
        ]
        return "\n\n".join(f"## {title}\n\n{body}" for title, body in parts)

    def _casts(self):
        casts, stats = self.soak.casts, self.soak.stats
        rows = [
            ("published", casts["ok"], "publications"),
            ("publish queue full, reported by a gap", casts["overload"], "dropped_overload"),
            ("too large", casts["too_large"], "dropped_too_large"),
            ("no audience", casts["no_audience"], "dropped_no_audience"),
            ("during a restart of the server", casts["not_running"], "dropped_not_running"),
        ]
        rows = [(what, number(count), f"`{counter}`", number(stats[counter])) for what, count, counter in rows]
        return table(("casts, by result of the call", "", "counter", ""), [*rows, ("total", number(sum(casts.values())), "", "")])

    def _deliveries(self):
        stats = self.soak.stats
        ends = ("deliveries", "dropped_slow", "dropped_disconnected")
        rows = [(f"`{name}`", number(stats[name])) for name in ends]
        rows += [("total", number(sum(stats[name] for name in ends))), ("`deliveries_expected`", number(stats["deliveries_expected"]))]
        exact = self.soak.accounts.cycles_exact
        return (
            table(("matched publications, counted per connection", ""), rows)
            + f"\n\n{number(stats['bytes_sent'])} bytes in {number(stats['writes'])} writes."
            + f"\nIn {exact} of {self.soak.cycles} cycles every client read to its end. In these the clients received exactly as many messages as `deliveries` counts."
        )

    def _clients(self):
        tally = self.soak.tally
        closed = ", ".join(f"{number(count)} with {code}" for code, count in sorted(tally["closed"].items())) or "none"
        rows = [
            ("connections upgraded", number(self.soak.stats["connections_opened"])),
            ("clients that died on purpose", number(tally["died"])),
            ("publications received by observers", number(self.soak.observed)),
            ("publications received by other clients", number(tally["received"])),
            ("of these compared with the observers' by number", number(tally["compared"])),
            ("gaps with an exact count", number(tally["gaps_exact"])),
            ("gaps with a count within bounds (observers missed a part, or other topics were lost)", number(tally["gaps_within_bounds"])),
            ("messages reported missing: slow", number(tally["told_slow"])),
            ("messages reported missing: overload", number(tally["told_overload"])),
            ("completed replays", number(tally["replays"])),
            ("gaps of expired publications", number(tally["forgotten"])),
            ("requests answered", number(tally["answers"])),
            ("messages echoed by the listener process", number(tally["echoes"])),
            ("connections closed by the server", closed),
        ]
        return table(("clients", ""), rows)

    def _memory(self):
        soak = self.soak
        mib = lambda value: f"{value / MIB:.2f}"
        rows = [(f"{rest.seconds / 60:.1f}", mib(rest.resident), mib(rest.erlang)) for rest in thinned(soak.rests)]
        empty = [(f"{empty.seconds / 60:.1f}", empty.shards, mib(empty.in_use), mib(empty.resident)) for empty in thinned(soak.empty)]
        samples = [resident for _, resident in soak.samples]
        return "\n".join(
            [
                table(("minute, at rest", "resident, MiB", "of that Erlang, MiB"), rows),
                "",
                table(("minute, without connections", "shards", "in use outside of Erlang, MiB", "resident, MiB"), empty),
                "",
                f"- In use without connections, from minute {WARM_UP} on: {self._slope(self.in_use)}.",
                f"- Resident without connections, from minute {WARM_UP} on: {self._slope(self.resident)}.",
                f"- Resident every two seconds, mostly under load: {mib(min(samples))} to {mib(max(samples))} MiB.",
            ]
        )

    def _slope(self, line):
        if line is None:
            return self._figures(line)
        return f"{self._figures(line)}: {'flat' if line.is_flat else 'RISING'}"

    @staticmethod
    def _figures(line):
        if line is None:
            return f"too few samples to judge (fewer than {memory.FEWEST})"
        return (
            f"{line.mean / MIB:.1f} MiB on average, {line.slope / 1024:+.0f} KiB a minute, off by {line.error / 1024:.0f} at most (95 %), "
            f"{line.growth / MIB:+.1f} MiB over {line.minutes:.1f} minutes"
        )

    def _schedules(self):
        soak = self.soak
        rows = []
        for name, noted, minutes in (
            ("control: no casts, a busy core", soak.control, soak.control_seconds / 60),
            ("soak", soak.schedules, soak.soak_seconds / 60),
        ):
            native = [entry for entry in noted if any("websocket" in place for place in entry[:2])]
            for part, entries in (("all", noted), ("from or to the device", native)):
                count = sum(entry[2] for entry in entries)
                longest = max((entry[3] for entry in entries), default=0)
                rows.append((f"{name}, {part}", number(count), f"{count / minutes:.1f}", longest))
        text = table((f"at least {soak.long_schedule_ms} ms", "", "a minute", "longest, ms"), rows)
        worst = sorted((entry for entry in soak.schedules if any("websocket" in place for place in entry[:2])), key=lambda entry: -entry[3])
        if worst:
            text += "\n\n" + table(("scheduled in at", "out at", "", "longest, ms"), [(f"`{i}`", f"`{o}`", c, ms) for i, o, c, ms in worst[:8]])
        return text + "\n\nA thread that loses its core meanwhile counts as well, so compare with the control."

    def record(self, known, quietness):
        """Writes docs/SOAK.md and its plot; `known` is what the machine said of itself and the code."""
        quiet = quietness.summary()
        minutes_mib = lambda points: [(seconds / 60, size / MIB) for seconds, size in points]
        svg = plot.memory(
            minutes_mib(self.soak.samples),
            minutes_mib((rest.seconds, rest.resident) for rest in self.soak.rests),
            minutes_mib((empty.seconds, empty.in_use) for empty in self.soak.empty),
        )
        with open(os.path.join(ROOT, PLOT), "w", encoding="utf-8") as file:
            file.write(svg)
        head = f"""# Soak

The record of a run of `make soak`. [test/soak/README.md](../test/soak/README.md) describes the test.

- {time.strftime("%Y-%m-%d %H:%M", time.gmtime())} UTC, {self.soak.seconds / 60:.1f} minutes, {self.soak.cycles} cycles, seed {self.soak.seed}
- commit {known["commit"]}, {known["rust"]}, OTP {known["otp"]}
- {known["cores"]} x {known["cpu"]}, {known["memory_gib"]} GiB, Linux {known["kernel"]}; the VM and its clients share the cores
- load average {quiet["load_before"]} before, {quiet["load_after"]} after; {100 * quiet["stolen"]:.1f} % of CPU time stolen
"""
        with open(os.path.join(ROOT, "docs/SOAK.md"), "w", encoding="utf-8") as file:
            file.write(f"{head}\n{self.text()}\n".replace("## Memory\n", "## Memory\n\n![Memory of the VM](plots/soak-memory.svg)\n"))
