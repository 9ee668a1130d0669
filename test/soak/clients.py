"""The process of the clients, told what to do order by order."""

import json
import queue
import subprocess
import threading

# Generous: it must only be reached when something hangs. A client gives up after a minute.
DEADLINE = 180


class ClientsError(Exception):
    """The clients are gone, or do not answer."""


class Clients:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        self.answers = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put(None)

    def order(self, what, **details):
        """Gives an order and waits until it is carried out."""
        self.tell(what, **details)
        return self.answer(what)

    def tell(self, what, **details):
        self.process.stdin.write(json.dumps({"do": what, **details}) + "\n")
        self.process.stdin.flush()

    def answer(self, what):
        try:
            answer = self.answers.get(timeout=DEADLINE)
        except queue.Empty:
            raise ClientsError(f"no answer to {what}") from None
        if answer is None:
            raise ClientsError(f"the clients ended instead of an answer to {what}")
        return answer

    def close(self):
        """Ends the process: it ends when its input does."""
        self.process.stdin.close()
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process.stdout.close()
