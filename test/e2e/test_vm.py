"""The device in an Erlang VM of its own: what it says when it is loaded, and when its port is taken."""

import itertools
import os
import re
import resource
import socket
import subprocess
import unittest
import urllib.parse

from support.clients import PythonClient
from support.vm import EBIN, Vm, environment

DEADLINE = 30


def erl(expression, *arguments, **settings):
    """Runs a VM with nothing but the device on its path, as an operator would."""
    command = ["erl", *arguments, "-pa", EBIN, "-noshell", "-eval", expression]
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
        result = erl('{ok,#{uri := U}}=dev_websocket:info(), io:format("~ts~n",[U]), init:stop().', shards="many")
        self.assertEqual(result.returncode, 0)
        self.assertIn("DEV_WEBSOCKET_SHARDS is ignored", result.stdout + result.stderr)
        self.assertRegex(result.stdout, r"ws://127\.0\.0\.1:\d+/ws")

    def test_a_setting_that_protects_and_does_not_fit_keeps_the_vm_closed_and_says_so_in_one_line(self):
        for name, value in (("host", "127.0.01"), ("origins", "app.example"), ("max_connections_per_ip", "ten")):
            with self.subTest(name):
                result = erl('{error,Reason}=dev_websocket:info(), io:format("~0tp~n",[Reason]), init:stop().', **{name: value})
                self.assertEqual(result.returncode, 0)
                self.assertRegex(result.stdout, rf"(?m)^\{{settings,#\{{{name} => ")
                lines = [line for line in (result.stdout + result.stderr).splitlines() if "stays closed until" in line]
                self.assertEqual(len(lines), 1, result)
                self.assertIn(f"DEV_WEBSOCKET_{name.upper()} is corrected: it is \"{value}\", but must be ", lines[0])


class Log(unittest.TestCase):
    def test_start_and_stop_are_told_to_who_wants_to_know(self):
        result = erl("ok = application:start(dev_websocket), init:stop().", "-kernel", "logger_level", "info")
        lines = [line for line in result.stdout.splitlines() if "WebSocket" in line]
        self.assertEqual(len(lines), 2, result.stdout)
        started = re.fullmatch(r"The WebSocket server \d+\.\d+\.\d+ listens on (127\.0\.0\.1:\d+) \(shards: \d+, workers: \d+\)\.", lines[0])
        self.assertEqual(lines[1], f"The WebSocket server on {started[1]} stopped.")

    def test_no_more_descriptors_is_told_and_ends(self):
        vm = Vm()
        self.addCleanup(vm.close)
        address = urllib.parse.urlsplit(vm.uri())
        # Its first line brings the code into the VM that the next ones need.
        vm.eval('logger:warning("ready")')
        vm.await_line("ready")
        pid = vm.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
        lowest_free = next(number for number in itertools.count() if number not in used)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
        with socket.create_connection((address.hostname, address.port), timeout=DEADLINE) as client:
            client.sendall(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
            vm.await_line("The WebSocket server failed to accept a connection: Too many open files")
            self.assertGreater(vm.stats()["accept_failures"], 0)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            self.assertEqual(client.recv(12), b"HTTP/1.1 404")
        self.assertLessEqual(len(vm.lines("failed to accept")), 10)


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
        lines = self.vm.lines(f"127.0.0.1:{self.port}")
        self.assertEqual(len(lines), 1, self.vm.log)
        self.assertIn("address already in use", lines[0])
