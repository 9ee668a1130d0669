"""What a process takes: memory, threads, file descriptors."""

import os
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * PAGE


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class MemorySamples:
    """Samples the resident memory of a process until stopped: (seconds since the start, bytes)."""

    INTERVAL = 2

    def __init__(self, pid):
        self.pid = pid
        self.started = time.monotonic()
        self.samples = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def now(self):
        return time.monotonic() - self.started

    def _run(self):
        while not self._stop.wait(self.INTERVAL):
            try:
                self.samples.append((self.now(), resident_bytes(self.pid)))
            except OSError:
                return

    def stop(self):
        self._stop.set()
        self._thread.join()
        return self.samples
