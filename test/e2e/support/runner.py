"""Runs tests, or those whose names are given, and counts them."""

import logging
import os
import sys
import time
import unittest

from .case import end_shared_vms
from .vm import OUT


class Result(unittest.TextTestResult):
    """Shows the name of a test as the sentence it is, and its time."""

    succeeded = 0

    def getDescription(self, test):
        # What happens to a class as a whole, and the parts of a test, name themselves.
        if not hasattr(test, "_testMethodName") or isinstance(test, unittest.case._SubTest):
            return str(test)
        return f"{type(test).__name__}: {test._testMethodName.removeprefix('test_').replace('_', ' ')}"

    def startTest(self, test):
        self.started = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        unittest.TestResult.addSuccess(self, test)
        self.succeeded += 1
        self.stream.writeln(f"ok ({time.monotonic() - self.started:.2f} s)")
        self.stream.flush()


def run(folder, names):
    """Runs the tests of a folder. Gives the status that the program should end with."""
    os.makedirs(OUT, exist_ok=True)
    # It would tell of each step of a test that took a tenth of a second.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in names] or None
    suite = loader.discover(folder, pattern="test_*.py")
    # No buffering: what a hanging test said is to be seen.
    result = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Result).run(suite)
    failed = len({test.id() for test, _ in result.failures + result.errors} | {test.id() for test in result.unexpectedSuccesses})
    try:
        end_shared_vms()
    except Exception as error:  # pylint: disable=broad-except
        print(error)
        failed += 1
    if result.testsRun == 0 and not result.skipped:
        print("no test has such a name")
        failed += 1
    print(f"{result.succeeded} passed, {failed} failed")
    return 1 if failed else 0
