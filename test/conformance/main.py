"""Runs the Autobahn test suite by kosoku against an echo through Erlang, and compares each case with what is expected of it."""

import collections
import fnmatch
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../e2e"))

from support.vm import ROOT, Vm  # noqa: E402

REPORTS = os.path.join(ROOT, "_build/conformance/reports")
MIB = 1024 * 1024
# The largest messages of 9.* have 16 MiB, and echoes of several may wait.
SETTINGS = {
    "max_inbound_bytes": 16 * MIB,
    "max_message_bytes": 16 * MIB,
    "inbound_queue_bytes": 64 * MIB,
    "send_buffer_bytes": 64 * MIB,
    "max_inbound_rate": 0,
    "compression": "shared",
}
# Of each kind of compression: messages of 16 B to 4 KB, and 8 KB in fragments. 1,000 larger ones take longer than kosoku waits.
COMPRESSION = [f"{group}.*.{size}" for group in (12, 13) for size in range(1, 19) if size not in (1, 2, 3, 4, 5, 11)]
REPAIRED = os.path.join(HERE, "repaired.py")
# Generous: it must only be reached when something hangs. kosoku gives each case 20 seconds.
DEADLINE = 1800


def read_expected():
    """How many cases there are, and the results that those may have which are not simply OK."""
    count, results = 0, {}
    with open(os.path.join(HERE, "expected.txt"), encoding="utf-8") as lines:
        for line in lines:
            name, *values = line.split() or "#"
            if name == "cases":
                count = int(values[0])
            elif not name.startswith("#"):
                results[name] = values
    return count, results


def run_cases(kosoku, url, names):
    """The results of the cases, as the suite's own report has them."""
    shutil.rmtree(REPORTS, ignore_errors=True)
    command = [os.path.join(os.path.dirname(kosoku), "python"), REPAIRED, url, "-o", REPORTS]
    for name in names:
        command += ["-i", name]
    for name in COMPRESSION:
        command += ["-x", name]
    subprocess.run(command, timeout=DEADLINE, check=False)
    with open(os.path.join(REPORTS, "index.json"), encoding="utf-8") as index:
        (cases,) = json.load(index).values()
    return cases


def unexpected(cases, expected):
    """One line for each case that gave what it should not."""
    for name, case in cases.items():
        allowed = expected.get(name, ["OK"])
        # What a case says of the close is only informational when all of it is.
        closes = ["INFORMATIONAL"] if allowed == ["INFORMATIONAL"] else ["OK"]
        if case["behavior"] not in allowed or case["behaviorClose"] not in closes:
            found = f"{case['behavior']}, close {case['behaviorClose']} ({case['remoteCloseCode']})"
            yield f"{name}: {found}, expected {' or '.join(allowed)}; see {os.path.join(REPORTS, case['reportfile'])}"


def main(kosoku, names):
    count, expected = read_expected()
    vm = Vm(**SETTINGS)
    try:
        assert vm.eval("e2e_vm:echo()") == "ok"
        cases = run_cases(kosoku, vm.uri() + "?format=raw", names)
        vm.await_connections(0)
        faults = vm.stats()["panics"]
    finally:
        status = vm.close()

    results = collections.Counter(case["behavior"] for case in cases.values())
    wrong = list(unexpected(cases, expected))
    failed = len(wrong)
    for line in wrong:
        print(line)
    if not names and len(cases) != count:
        print(f"{len(cases)} cases ran, expected {count}")
        failed += 1
    for name in expected:
        if name not in cases and any(fnmatch.fnmatchcase(name, pattern) for pattern in names or "*"):
            print(f"{name}: there is no such case any more")
            failed += 1
    if status != 0 or faults != 0 or vm.log:
        print(f"the VM ended with status {status} and {faults} faults: {vm.log}")
        failed += 1
    print(f"{len(cases)} cases:", ", ".join(f"{number} {result}" for result, number in sorted(results.items())))
    print(f"{len(cases) - len(wrong)} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main(sys.argv[1], sys.argv[2:]))
