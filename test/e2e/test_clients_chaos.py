"""Both clients behind a proxy at its worst. `make chaos` runs it for 1,000 reconnects, this for some of them."""

import asyncio
import gc
import json
import os
import random

from support.case import EngineTest
from support.chaos import Account, ChaosProxy
from support.process import settle
from support.vm import OUT, ROOT

from dev_websocket import Client  # pylint: disable=wrong-import-order

RECONNECTS = int(os.environ.get("RECONNECTS") or 60)
RATE = int(os.environ.get("RATE") or 2000)
DEADLINE = 60 + RECONNECTS * 5


class Chaos(EngineTest):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.seed = int(os.environ.get("SEED") or random.randrange(2**32))
        self.proxy = await ChaosProxy.start(self.uri, self.seed)
        self.addAsyncCleanup(self.proxy.close)

    async def in_vm(self, expression):
        return await asyncio.to_thread(self.vm.eval, expression)

    async def rage(self):
        """Casts while the proxy does its worst. Gives how many were cast."""
        await self.in_vm(f'e2e_vm:start_casting(<<"chaos">>, {RATE})')
        self.proxy.calm = False
        self.proxy.cut()
        try:
            await asyncio.wait_for(self.proxy.until(RECONNECTS), DEADLINE)
        finally:
            self.proxy.calm = True
            self.proxy.cut()
            count = await self.in_vm("e2e_vm:stop_casting()")
        return count

    def report(self, count, gaps):
        print(f"{self.proxy.accepted} connections, {count} messages, {gaps} gaps, seed {self.seed} ... ", end="", flush=True)
        self.assertGreater(min(count, self.proxy.accepted), 0)

    def assert_flat(self, samples):
        """Later samples are no larger than earlier ones, but for noise."""
        if len(samples) >= 8:
            early, late = max(samples[2 : len(samples) // 2]), min(samples[-3:])
            self.assertLess(late, early * 1.3 + 1_000_000, samples)

    async def test_python_gets_every_message_or_a_gap_that_names_it(self):
        account, samples = Account(), []
        quick = {"min_reconnect_delay": 0.001, "max_reconnect_delay": 0.02, "ping_interval": 0.2, "timeout": 0.5}
        client = Client(lambda: self.proxy.uri, topics=["chaos"], proxy=None, **quick)
        self.addAsyncCleanup(client.close)
        await asyncio.wait_for(client.ready(), DEADLINE)

        def count_objects(change):
            if change["state"] == "connecting" and self.proxy.accepted % 20 == 0:
                gc.collect()
                samples.append(len(gc.get_objects()))

        client.on("state", count_objects)
        end = asyncio.get_running_loop().create_future()

        async def read():
            async for update in client.updates():
                account.take(update)
                if end.done() and account.last >= end.result():
                    return

        reading = asyncio.create_task(read())
        count = await self.rage()
        end.set_result(count)
        if account.last < count:
            await asyncio.wait_for(reading, DEADLINE)
        await client.close()
        reading.cancel()
        self.report(count, account.gaps)
        self.assertEqual(account.last, count)
        self.assert_flat(samples)
        # Those of the proxy end with their connections.
        mine = lambda: [task for task in asyncio.all_tasks() if "/dev_websocket/" in str(task.get_coro().cr_code.co_filename)]  # noqa: E731
        self.assertEqual(await settle(mine, []), [])
        self.assertEqual((client._wake is None or client._wake.done(), client._waiters, client._line), (True, [], None))

    async def test_node_gets_every_message_or_a_gap_that_names_it(self):
        process = await asyncio.create_subprocess_exec(
            "node",
            "--expose-gc",
            os.path.join(ROOT, "test/e2e/clients/chaos.mjs"),
            self.proxy.uri,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"NODE_PATH": os.path.join(OUT, "node_modules")},
        )
        try:
            self.assertIn("open", (await asyncio.wait_for(process.stdout.readline(), DEADLINE)).decode())
            count = await self.rage()
            process.stdin.write(f"{count}\n".encode())
            done = json.loads(await asyncio.wait_for(process.stdout.readline(), DEADLINE))
            self.report(count, done["gaps"])
            self.assertEqual((done["wrong"], done["last"]), (None, count))
            self.assert_flat(done["memory"])
            # It ends by itself: no timer and no socket is left.
            self.assertEqual(await asyncio.wait_for(process.wait(), DEADLINE), 0)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
