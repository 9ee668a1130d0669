"""Runs the end-to-end tests, or those whose names are given, and counts them."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from support.runner import run  # noqa: E402

sys.exit(run(HERE, sys.argv[1:]))
