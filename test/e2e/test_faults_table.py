"""docs/FAULTS.md names tests: all of them exist, and all tests of hostile clients and of faults are in it."""

import collections
import glob
import os
import re
import unittest

from support.vm import ROOT

DOCUMENT = os.path.join(ROOT, "docs/FAULTS.md")
SOURCES = (
    ("test/**/*.py", r"^\s+(?:async )?def (test_\w+)\("),
    ("test/*_tests.erl", r"^(\w+)\(\w*\) ->"),
    ("native/**/*.rs", r"^\s*(?:async )?fn (\w+)\("),
)
# Whoever adds a test to these says in the document what it showed.
COMPLETE = ("test_hostile_", "test_faults_ends", "test_faults_code", "test_slowhttptest")
COMPLETE_IN_ERLANG = "fault_tests"


def tests():
    """The functions that there are, by the name of their file."""
    found = collections.defaultdict(set)
    for pattern, function in SOURCES:
        for path in glob.glob(os.path.join(ROOT, pattern), recursive=True):
            with open(path, encoding="utf-8") as source:
                found[os.path.splitext(os.path.basename(path))[0]] |= set(re.findall(function, source.read(), re.M))
    return found


def rows():
    """The cells of all tables, without their heads."""
    with open(DOCUMENT, encoding="utf-8") as document:
        lines = [line.strip() for line in document if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "fault" and set(row[0]) != {"-"}]


class FaultsTable(unittest.TestCase):
    def test_every_row_names_tests_that_exist(self):
        found = tests()
        for row in rows():
            self.assertEqual(len(row), 4, row)
            named = re.findall(r"`(\w+)\.(\w+)`", row[3])
            self.assertTrue(named, row)
            self.assertEqual(re.sub(r"`\w+\.\w+`", "", row[3]).strip(), "", row)
            for module, name in named:
                self.assertIn(name, found[module], module)

    def test_every_test_of_hostile_clients_and_of_faults_is_in_a_row(self):
        named = {name for row in rows() for name in re.findall(r"`(\w+\.\w+)`", row[3])}
        found = {f"{module}.{name}" for module, names in tests().items() if module.startswith(COMPLETE) for name in names}
        with open(os.path.join(ROOT, f"test/{COMPLETE_IN_ERLANG}.erl"), encoding="utf-8") as source:
            listed = re.search(r"fresh_server:each\([^\[]*\[(.*?)\]", source.read(), re.S).group(1)
        found |= {f"{COMPLETE_IN_ERLANG}.{name}" for name in re.findall(r"\w+", listed)}
        self.assertGreater(len(found), 40)
        self.assertEqual(found - named, set())
