"""Each way in which a VM, or the server in it, comes to its end: what clients see, and that the next one has the port at once."""

import os
import signal
import unittest

from support.clients import NodeClient, PythonClient
from support.vm import Vm

STOPPING = (1001, "server stopping")
# No close frame came; it is what clients say themselves.
ABNORMAL = (1006, "")
LOOPS = 4


class Ends(unittest.IsolatedAsyncioTestCase):
    def start(self, **settings):
        vm = Vm(**settings)
        self.addCleanup(vm.kill)
        return vm

    async def connect(self, vm):
        """Two clients, which get what is cast."""
        clients = []
        for kind in (PythonClient, NodeClient):
            client = await kind.connect(f"{vm.uri()}?topic=a")
            self.addAsyncCleanup(client.close)
            await client.frame()
            clients.append(client)
        vm.cast('#{<<"topic">> => <<"a">>}')
        for client in clients:
            await client.message()
        return clients

    async def ends(self, end, expected, status=0, application=False):
        """Ends a VM and gives the next one, with the same port."""
        vm = self.start()
        if application:
            self.assertEqual(vm.eval("application:start(dev_websocket)"), "ok")
        clients = await self.connect(vm)
        port = int(vm.uri().rsplit(":", 1)[1].split("/")[0])
        # It ends in the middle of work.
        for _ in range(LOOPS):
            vm.eval('spawn(fun() -> e2e_vm:burst(<<"nobody">>, 1, 100000000, 0) end), ok')
        end(vm)
        self.assertEqual([await client.closed() for client in clients], [expected] * 2)
        self.assertEqual(vm.ended(), status)
        following = self.start(port=port)
        self.assertTrue(following.uri().endswith(f":{port}/ws"), following.uri())
        await self.connect(following)
        return vm

    async def test_init_stop_tells_clients(self):
        await self.ends(lambda vm: vm.tell("init:stop()"), STOPPING)

    async def test_init_stop_tells_clients_of_a_node_that_started_the_application(self):
        await self.ends(lambda vm: vm.tell("init:stop()"), STOPPING, application=True)

    async def test_sigterm_tells_clients(self):
        await self.ends(lambda vm: vm.process.send_signal(signal.SIGTERM), STOPPING)

    async def test_halt_cuts_clients_off(self):
        await self.ends(lambda vm: vm.tell("halt()"), ABNORMAL)

    async def test_halt_without_a_flush_cuts_clients_off(self):
        await self.ends(lambda vm: vm.tell("erlang:halt(3, [{flush, false}])"), ABNORMAL, status=3)

    async def test_kill_9_cuts_clients_off(self):
        await self.ends(lambda vm: vm.process.kill(), ABNORMAL, status=-signal.SIGKILL)

    async def test_a_program_of_a_killed_vm_does_not_keep_the_port(self):
        programs = []

        def kill(vm):
            program = vm.eval('element(2, erlang:port_info(open_port({spawn, "sleep 60"}, []), os_pid))')
            self.addCleanup(os.kill, program, signal.SIGKILL)
            programs.append(program)
            vm.process.kill()

        await self.ends(kill, ABNORMAL, status=-signal.SIGKILL)
        # It has outlived the VM that started it.
        with open(f"/proc/{programs[0]}/cmdline", encoding="utf-8") as command:
            self.assertEqual(command.read().split("\0")[:2], ["sleep", "60"])

    async def test_the_end_of_the_application_tells_clients_and_its_start_serves_again(self):
        vm = self.start()
        port = int(vm.uri().rsplit(":", 1)[1].split("/")[0])
        self.assertEqual(vm.eval(f"dev_websocket:start(#{{port => {port}}})"), "ok")
        for _ in range(2):
            self.assertEqual(vm.eval("application:start(dev_websocket)"), "ok")
            clients = await self.connect(vm)
            self.assertEqual(vm.eval("application:stop(dev_websocket)"), "ok")
            self.assertEqual([await client.closed() for client in clients], [STOPPING] * 2)
            # Nothing of the server is left, and another program can have its port.
            self.assertEqual(vm.eval("dev_websocket:info()"), ["error", "stopped"])
            listener = f"begin {{ok, L}} = gen_tcp:listen({port}, [{{ip, {{127, 0, 0, 1}}}}, {{reuseaddr, true}}]), gen_tcp:close(L) end"
            self.assertEqual(vm.eval(listener), "ok")
