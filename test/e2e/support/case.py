"""What the tests have in common: the VM that they talk to, and that it is well after each of them."""

import unittest

from .clients import NodeClient, PythonClient
from .vm import Vm

_vms = {}


def shared_vm(**settings):
    """The VM of all tests that want these settings, started by the first that needs it."""
    key = tuple(sorted(settings.items()))
    if key not in _vms:
        _vms[key] = Vm(**settings)
    return _vms[key]


def end_shared_vms():
    """Ends the VMs, which must end well."""
    while _vms:
        _, vm = _vms.popitem()
        status = vm.close()
        assert status == 0, f"the VM ended with status {status}: {vm.log}"


class EngineTest(unittest.IsolatedAsyncioTestCase):
    """Each test must leave an engine that serves, has contained no fault, and has no connection left."""

    maxDiff = 4000
    # Those that the VM starts with.
    settings = {}

    async def asyncSetUp(self):
        self.vm = shared_vm(**self.settings)
        self.uri = self.vm.uri()
        # What is added first is done last: when the clients of the test are closed.
        self.addAsyncCleanup(self._check_engine)

    async def _check_engine(self):
        self.vm.await_connections(0)
        client = await PythonClient.connect(self.vm.uri() + "?topic=still-serving")
        await client.frame()
        self.vm.cast('#{<<"topic">> => <<"still-serving">>}')
        self.assertEqual((await client.message())["topic"], "still-serving")
        await client.close()
        self.vm.await_connections(0)
        # Each publication came to each connection that it was for, or is accounted for.
        self.vm.settle(
            "begin [M | Rest] = [maps:get(N, S) || N <- [<<\"deliveries_expected\">>, <<\"deliveries\">>, <<\"dropped_slow\">>, "
            "<<\"dropped_disconnected\">>]], M =:= lists:sum(Rest) end"
        )
        self.assertEqual(self.vm.stats()["panics"], 0)

    async def subscriber(self, topics="", client=PythonClient, **options):
        """A client that has its first frame, and is closed with the test."""
        opened = await client.connect(f"{self.uri}?topic={topics}", **options)
        self.addAsyncCleanup(opened.close)
        opened.established = await opened.frame()
        self.assertEqual(opened.established["type"], "connection_established")
        return opened


class EachClient:
    """Mixed into a test of what holds for both clients: `self.connect(topics)` opens one of each in turn."""

    client = None

    async def connect(self, topics="", **options):
        return await self.subscriber(topics, self.client, **options)


def with_each_client(tests):
    """Makes two test cases of one: with Python `websockets`, and with Node `ws`."""
    module = __import__(tests.__module__)
    for client, suffix in ((PythonClient, "WithPython"), (NodeClient, "WithNode")):
        name = tests.__name__ + suffix
        case = type(name, (tests, EachClient, EngineTest), {"client": client, "__module__": tests.__module__})
        setattr(module, name, case)
    return tests
