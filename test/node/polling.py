"""The loop of aos, which asks for the newest slot every two seconds, beside the monitor that is pushed every slot."""

import pathlib
import random
import subprocess
import tempfile
import threading
import time

import programs

MONITOR = pathlib.Path(__file__).parents[2] / "examples/aoconnect/monitor.mjs"
# Seconds between two calls of the loop.
PERIOD = 2


class Loop:
    """Asks for the newest slot, as aos does, and keeps each output once."""

    def __init__(self, node, process):
        self.node, self.process = node, process
        self.printed = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.done.wait(PERIOD):
            self.ask()

    def ask(self):
        output = self.node.get(f"/{self.process}~process@1.0/now/results/output/data", 10).body.decode()
        if output not in self.printed:
            self.printed.append(output)

    def close(self):
        self.done.set()
        self.thread.join()
        self.ask()


def polling(node, options):
    """`--count` slots at random times, which only the loop computes: what it prints, and what the monitor prints."""
    process = node.process(options.stranger, programs.PRINTER)
    node.compute(process, 0)
    expected = [f"line {number}" for number in range(1, options.count)]
    with tempfile.TemporaryDirectory() as folder:
        cursor = pathlib.Path(folder) / "cursor"
        cursor.write_text("0")
        command = ["node", MONITOR, f"http://{node.address[0]}:{node.address[1]}", process, cursor]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as monitor:
            loop, choose = Loop(node, process), random.Random(1)
            for line in expected:
                node.schedule(options.stranger, process, line=line)
                time.sleep(choose.uniform(0, 0.6))
            loop.close()
            stop = threading.Timer(60, monitor.terminate)
            stop.start()
            printed = [line.rstrip("\n") for line, _ in zip(monitor.stdout, expected)]
            stop.cancel()
            monitor.terminate()
    lost = [line for line in expected if line not in loop.printed]
    print(f"  {len(expected)} slots: the loop printed {len(loop.printed)} and lost {len(lost)}; the monitor printed {len(printed)}")
    failures = []
    if printed != expected:
        failures.append(f"the monitor printed {printed}")
    if [line for line in expected if line in loop.printed] != [line for line in loop.printed if line in expected]:
        failures.append(f"the loop printed another order: {loop.printed}")
    return failures
