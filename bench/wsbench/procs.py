"""Child processes that speak JSON lines, and what the operating system says of them."""

import json
import os
import queue
import resource
import subprocess
import threading
import time
from pathlib import Path


class Failure(Exception):
    """A measurement that could not be made; told, and the run goes on without it."""


def raise_file_limit():
    """Every connection is a file at both ends; children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (1 << 17, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
            return wanted
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def cpu_seconds(pid):
    """User and system time of a whole process, from the kernel's account of it, in nanosecond steps."""
    try:
        # The clock of a process by its number: what clock_getcpuclockid(3) gives.
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    except OSError:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid):
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise Failure(f"process {pid}: no memory figure")


class Child:
    """A process with commands on stdin and events on stdout, one JSON object a line each."""

    def __init__(self, name, command, log_dir, env=None, cwd=None):
        self.name = name
        self._log_path = Path(log_dir) / f"{name}.log"
        self._log = open(self._log_path, "ab")
        self._events = queue.Queue()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=env, cwd=cwd)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            try:
                self._events.put(json.loads(line))
            except ValueError:
                self._log.write(f"not JSON: {line}".encode())
        self._events.put(None)

    def send(self, **command):
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise Failure(f"{self.name} is gone, see {self._log_path}") from error

    def wait(self, event, timeout):
        """The next event of that name; an error event, the end or the timeout is a Failure."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                got = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failure(f"{self.name}: no '{event}' within {timeout:.0f} s") from None
            if got is None:
                raise Failure(f"{self.name} ended, see {self._log_path}")
            if got.get("event") == "error":
                raise Failure(f"{self.name}: {got.get('message')}")
            if got.get("event") == event or (event == "ready" and got.get("ready")):
                return got

    def ask(self, timeout, **command):
        self.send(**command)
        return self.wait("done", timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Asks to quit, then insists; only ever this one process."""
        try:
            self.send(cmd="quit")
        except Failure:
            pass
        try:
            self._process.stdin.close()
        except OSError:
            pass  # what was still to be written has no reader any more
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._reader.join(2)
        self._process.stdout.close()
        self._log.close()

    def cpu_seconds(self):
        return cpu_seconds(self.pid)

    def memory_bytes(self):
        return memory_bytes(self.pid)
