"""Code of the device changes in a running VM, while messages flow: connections stay, and nothing is lost or doubled."""

from support.hostile import HostileTest
from support.raw import RawClient

TIMES = 2
# So many casts at once, none of which may find the library gone. The queue has room for all, however slow its writers are.
PROCESSES, EACH = 4, 5_000


class CodeChanges(HostileTest):
    async def test_the_device_is_upgraded_while_messages_flow(self):
        # The compiler's own code stays in the VM, and is no memory of the device.
        self.vm.eval("e2e_vm:upgrade(0)")
        with RawClient(self.uri).upgrade() as listened_to:
            self.vm.eval("e2e_vm:echo()")
            async with self.siege(idle=1):
                for version in range(1, TIMES + 1):
                    modules = await self.attack(self.vm.eval, f"e2e_vm:upgrade({version})")
                    self.assertIn("dev_websocket", modules)
                    self.assertGreater(len(modules), 4)
            # Who listened before listens still.
            listened_to.send_json({"type": "send", "data": "here"})
            self.assertEqual(listened_to.json()["data"], "here")
            self.vm.eval("e2e_vm:unlisten()")

    async def test_the_library_is_purged_and_loaded_again_while_messages_flow(self):
        def reload():
            burst = f'e2e_vm:burst(<<"flood">>, {PROCESSES}, {EACH}, 0)'
            self.vm.eval(f"register(e2e_burst, spawn(fun() -> {burst} end))")
            for _ in range(TIMES):
                self.assertEqual(self.vm.eval("e2e_vm:reload_engine()"), "ok")
            self.vm.settle("is_map(S) andalso whereis(e2e_burst) =:= undefined")

        before = self.vm.stats()["publications"]
        async with self.siege():
            await self.attack(reload)
        published = self.vm.stats()["publications"] - before
        self.assertEqual(published, PROCESSES * EACH + self.cast_count)
