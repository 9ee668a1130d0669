"""The device in an Erlang VM of its own: what it says when it is loaded, and when its port is taken."""

import re
import socket
import subprocess
import unittest

from support.clients import PythonClient
from support.vm import EBIN, Vm, environment

DEADLINE = 30


def erl(expression, **settings):
    """Runs a VM with nothing but the device on its path, as an operator would."""
    command = ["erl", "-pa", EBIN, "-noshell", "-eval", expression]
    return subprocess.run(
        command, env=environment(**settings), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE
    )


class Loading(unittest.TestCase):
    def test_info_starts_the_server_and_prints_as_documented(self):
        result = erl('io:format("~p~n",[dev_websocket:info()]),halt().')
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        uri = r'uri => <<"ws://127\.0\.0\.1:\d+/ws">>'
        self.assertRegex(
            result.stdout.strip(),
            rf"^\{{ok,#\{{(topics => \[\],{uri}|{uri},topics => \[\])\}}\}}$",
        )

    def test_a_vm_that_serves_ends_cleanly(self):
        result = erl('{ok,_}=dev_websocket:info(), dev_websocket:cast(#{<<"topic">> => <<"a">>}, #{}), init:stop().')
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_a_setting_that_does_not_fit_is_named_in_the_log_and_the_rest_holds(self):
        result = erl('{ok,#{uri := U}}=dev_websocket:info(), io:format("~ts~n",[U]), init:stop().', ping_interval="soon")
        self.assertEqual(result.returncode, 0)
        self.assertIn("DEV_WEBSOCKET_PING_INTERVAL", result.stdout + result.stderr)
        self.assertRegex(result.stdout, r"ws://127\.0\.0\.1:\d+/ws")


class TakenPort(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        self.port = taken.getsockname()[1]
        self.vm = Vm(port=self.port)
        self.addCleanup(self.vm.close)

    async def test_info_says_why_and_another_port_works(self):
        self.assertEqual(
            self.vm.eval("dev_websocket:info()"),
            ["error", ["listen", {"address": f"127.0.0.1:{self.port}", "reason": "eaddrinuse"}]],
        )
        self.vm.cast('#{<<"topic">> => <<"a">>}')
        self.assertEqual(self.vm.eval("dev_websocket:start(#{port => 0})"), "ok")
        self.assertTrue(re.fullmatch(r"ws://127\.0\.0\.1:\d+/ws", self.vm.uri()))
        client = await PythonClient.connect(f"{self.vm.uri()}?topic=a")
        await client.frame()
        self.vm.cast('#{<<"topic">> => <<"a">>, <<"data">> => <<"x">>}')
        self.assertEqual((await client.message())["data"]["data"], "x")
        await client.close()

    async def test_the_log_says_it_in_one_line(self):
        self.vm.eval("dev_websocket:info()")
        lines = [line for line in self.vm.log if f"127.0.0.1:{self.port}" in line]
        self.assertEqual(len(lines), 1, self.vm.log)
        self.assertIn("address already in use", lines[0])
