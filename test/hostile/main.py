"""Runs the long tests with hostile clients, or those whose names are given, and then measures what attacks cost others."""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../e2e"))

from support.runner import run  # noqa: E402

status = run(HERE, sys.argv[1:])
if len(sys.argv) == 1:
    status |= subprocess.run([sys.executable, os.path.join(HERE, "latency.py")], check=False).returncode
sys.exit(status)
