"""Copies of the project, as a clone would have it, with changes that are not committed yet."""

import os
import shutil
import subprocess

from .vm import ROOT

DEADLINE = 120


def copy_project(folder):
    """Copies all files of the project but ignored ones."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=DEADLINE,
    ).stdout.split("\0")
    for name in filter(None, names):
        if os.path.isfile(os.path.join(ROOT, name)):
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, name), os.path.join(folder, name))
