"""What the system knows of a process: its memory, file descriptors, threads and CPU time."""

import asyncio
import collections
import os
import time

DEADLINE = 60
TICKS = os.sysconf("SC_CLK_TCK")


async def settle(look, expected):
    """Looks until there is what is expected, for a minute at the most. Gives what was seen last: the system does not say
    when a descriptor is closed, and a connection counts as gone before its writer has let go of it."""
    deadline = time.monotonic() + DEADLINE
    while (seen := look()) != expected and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return seen


class Process:
    def __init__(self, pid):
        self.folder = f"/proc/{pid}"

    def _status(self, name):
        with open(f"{self.folder}/status", encoding="utf-8") as status:
            for line in status:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
        raise AssertionError(f"the system does not tell {name}")

    def memory(self):
        """Resident bytes."""
        return self._status("VmRSS")

    def peak(self):
        """The most resident bytes since the last `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self):
        with open(f"{self.folder}/clear_refs", "w", encoding="utf-8") as references:
            references.write("5")

    def descriptors(self):
        """How many file descriptors of each kind are open."""
        kinds = collections.Counter()
        for descriptor in os.listdir(f"{self.folder}/fd"):
            try:
                kinds[os.readlink(f"{self.folder}/fd/{descriptor}").split(":")[0]] += 1
            except FileNotFoundError:
                pass  # Closed since it was listed.
        return kinds

    def threads(self):
        """How many threads of each name run."""
        names = collections.Counter()
        for thread in os.listdir(f"{self.folder}/task"):
            try:
                with open(f"{self.folder}/task/{thread}/comm", encoding="utf-8") as name:
                    names[name.read().strip()] += 1
            except (FileNotFoundError, ProcessLookupError):
                pass  # It ended since it was listed.
        return names

    def cpu_seconds(self):
        """User and system time."""
        with open(f"{self.folder}/stat", encoding="utf-8") as stat:
            fields = stat.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
