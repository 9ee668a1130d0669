"""An Erlang VM with the device, told what to do line by line."""

import contextlib
import json
import os
import queue
import subprocess
import threading

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
EBIN = os.path.join(ROOT, "_build/default/lib/dev_websocket/ebin")
OUT = os.path.join(ROOT, "_build/e2e")

# Generous: it must only be reached when something hangs.
DEADLINE = 60


def environment(**settings):
    """The environment of a VM: nothing of the caller's own settings, any free port, this machine only."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DEV_WEBSOCKET_")}
    wanted = {"host": "127.0.0.1", "port": 0} | settings
    return clean | {f"DEV_WEBSOCKET_{name.upper()}": str(value) for name, value in wanted.items()}


class ErlangError(Exception):
    """The expression raised."""


class Vm:
    def __init__(self, descriptors=None, ebin=EBIN, **settings):
        command = ["erl", "-noshell", "-pa", ebin, "-pa", os.path.join(OUT, "ebin"), "-run", "e2e_vm", "main"]
        if descriptors:
            command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(**settings),
            encoding="utf-8",
        )
        self.answers = queue.Queue()
        # What the VM said besides its answers: its log.
        self.log = []
        self.logged = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("=> "):
                self.answers.put(json.loads(line[3:]))
            else:
                with self.logged:
                    self.log.append(line.rstrip("\n"))
                    self.logged.notify_all()
        self.answers.put(None)

    def lines(self, text):
        """What the log says about something."""
        return [line for line in self.log if text in line]

    def await_line(self, text):
        """Waits until the log says something."""
        with self.logged:
            assert self.logged.wait_for(lambda: self.lines(text), DEADLINE), f"no {text!r} in {self.log}"

    def eval(self, expression, deadline=DEADLINE):
        """The value of an Erlang expression; tuples are lists, atoms and binaries are text."""
        self.process.stdin.write(" ".join(expression.split("\n")) + ".\n")
        self.process.stdin.flush()
        answer = self.answers.get(timeout=deadline)
        if answer is None:
            raise ErlangError("the VM is gone: " + "\n".join(self.log))
        if "error" in answer:
            raise ErlangError(answer["error"])
        return answer["ok"]

    def tell(self, expression):
        """Has it evaluated by a VM that may end before it can answer."""
        self.process.stdin.write(expression + ".\n")
        self.process.stdin.flush()

    def cast(self, message):
        """Casts a message that is written in Erlang, as the device's user would."""
        answer = self.eval(f"dev_websocket:cast({message}, #{{}})")
        assert answer == ["ok", "OK"], answer

    def uri(self):
        return self.eval("begin {ok, #{uri := Uri}} = dev_websocket:info(), Uri end")

    def topics(self):
        return self.eval("begin {ok, #{topics := Topics}} = dev_websocket:info(), Topics end")

    def stats(self):
        return self.eval("dev_websocket:stats()")

    def settle(self, condition):
        """Waits until the stats fit: an Erlang expression of `S`. Gives the stats that did."""
        return self.eval(f"e2e_vm:settle(fun(S) -> {condition} end)", DEADLINE + 5)

    def await_connections(self, count):
        self.settle(f'maps:get(<<"connections">>, S) =:= {count}')

    def await_topic(self, topic):
        """Waits until the server knows a topic."""
        self.settle(f'begin {{ok, #{{topics := T}}}} = dev_websocket:info(), lists:member(<<"{topic}">>, T) end')

    @contextlib.contextmanager
    def settings(self, **changed):
        """Changes settings of the running server for a while."""
        before = self.eval("dev_websocket:config()")
        self.start(changed)
        try:
            yield
        finally:
            self.start({name: before[name] for name in changed})

    def start(self, settings):
        """Starts the server, or changes settings of a running one."""
        given = ", ".join(f"{name} => {value}" for name, value in settings.items())
        answer = self.eval(f"dev_websocket:start(#{{{given}}})")
        assert answer == "ok", answer

    def ended(self):
        """Waits for a VM that ends by itself, and gives its status."""
        return self.process.wait(DEADLINE)

    def kill(self):
        """Ends the VM if it runs, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def close(self):
        """Ends the VM: it halts when its input ends."""
        try:
            self.process.stdin.close()
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process.stdout.close()
