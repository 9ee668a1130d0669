#!/usr/bin/env python3
"""The benchmark: dev_websocket beside its peers and the floor. See bench/README.md."""

import argparse
import datetime
import json
import os
import sys
import time

from wsbench import machine, plan, plots, prepare
from wsbench.procs import raise_file_limit
from wsbench.report import Report
from wsbench.servers import ALL, LABELS, available

RESULTS = prepare.BENCH / "RESULTS.md"
RAW = prepare.CACHE / "last.json"
PLOTS = prepare.ROOT / "docs/plots"


def say(line):
    print(line, file=sys.stderr, flush=True)


def options():
    """Flags, or the same as environment variables, as `make bench GOALS=1` sets them."""
    given = lambda name: os.environ.get(name, "") not in ("", "0")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", default=given("QUICK"), help="under 3 minutes, one round")
    parser.add_argument("--goals", action="store_true", default=given("GOALS"), help="the table of goals, under 15 minutes")
    parser.add_argument("--record", action="store_true", default=given("RECORD"), help="write bench/RESULTS.md and docs/plots")
    parser.add_argument("--rounds", type=int, help="interleaved rounds, instead of the mode's own number")
    parser.add_argument("--only", help="of the scenarios only these, separated by commas")
    parser.add_argument("--servers", help="only these, separated by commas: " + ", ".join(ALL))
    parser.add_argument("--prepare", action="store_true", help="only build and fetch")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    return parser.parse_args()


def choose(opts):
    mode = plan.modes()["quick" if opts.quick else "goals" if opts.goals else "full"]
    if opts.rounds:
        mode.rounds, mode.wide_rounds = opts.rounds, min(mode.wide_rounds, opts.rounds)
    chosen = opts.servers.split(",") if opts.servers else mode.servers
    unknown = set(chosen) - set(LABELS)
    if unknown:
        raise SystemExit(f"bench: no server {', '.join(sorted(unknown))}; there are {', '.join(LABELS)}")
    return mode, chosen


def save(report, run, record):
    """The raw figures always, so that nothing is lost; the documents only when asked."""
    RAW.write_text(json.dumps({"machine": report.machine, "quiet": report.quiet, "date": report.date,
                               "figures": run.results.figures, "failures": run.results.failures}, indent=1), "utf-8")
    if not record:
        return
    RESULTS.write_text(report.text(), "utf-8")
    PLOTS.mkdir(parents=True, exist_ok=True)
    for name, svg in plots.draw(run.results, report.median).items():
        (PLOTS / name).write_text(svg, "utf-8")
    say(f"written: {RESULTS.relative_to(prepare.ROOT)}, {PLOTS.relative_to(prepare.ROOT)}")


def main():
    opts = options()
    mode, chosen = choose(opts)
    say(f"{raise_file_limit()} files allowed per process")
    begun = time.monotonic()
    ready = prepare.prepare(chosen, say)
    say(f"prepared in {time.monotonic() - begun:.0f} s; servers: {', '.join(name for name in chosen if available(name, ready))}")
    if opts.prepare:
        return 0
    # What is measured is what was there at the start, whatever is committed meanwhile.
    measured = machine.describe(prepare.ROOT)
    begun, quiet = time.monotonic(), machine.Quietness()
    run = plan.Run(mode, ready, say, set(opts.only.split(",")) if opts.only else None, chosen)
    try:
        run.go()
    except KeyboardInterrupt:
        say("interrupted; what was measured so far:")
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    minutes = (time.monotonic() - begun) / 60
    report = Report(run.results, measured, quiet.summary(), mode, ready, minutes, date)
    print(report.text())
    save(report, run, opts.record)
    missed = [goal for goal in report.goals if goal.value is not None and not goal.met]
    return 1 if opts.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
