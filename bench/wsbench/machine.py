"""What this machine is, and how quiet it was."""

import os
import platform
import subprocess
from pathlib import Path


def _first(path, prefix):
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(prefix):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown"


def _output(command, cwd=None):
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else ""
    except (OSError, subprocess.SubprocessError):
        return ""


def describe(root):
    commit = _output(["git", "rev-parse", "--short=12", "HEAD"], root) or "none"
    if _output(["git", "status", "--porcelain", "--untracked-files=no"], root):
        commit += " with changes"
    otp = _output(["erl", "-noshell", "-eval", 'io:put_chars(erlang:system_info(otp_release)),halt().'])
    return {
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "otp": otp or "none",
        "rust": _output(["rustc", "--version"]) or "none",
        "commit": commit,
    }


class Quietness:
    """Load and stolen time between two moments."""

    def __init__(self):
        self._before = self._cpu()
        self.load_before = os.getloadavg()[0]

    @staticmethod
    def _cpu():
        with open("/proc/stat", encoding="ascii") as stat:
            numbers = [int(field) for field in stat.readline().split()[1:9]]
        return sum(numbers), numbers[7]

    def summary(self):
        total, stolen = (after - before for after, before in zip(self._cpu(), self._before))
        return {
            "load_before": round(self.load_before, 2),
            "load_after": round(os.getloadavg()[0], 2),
            "stolen": round(stolen / total, 4) if total else 0.0,
        }
