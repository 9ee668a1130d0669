"""What Prometheus reads, beside `stats()` and what the clients counted."""

import re
import shutil
import subprocess
import unittest
import urllib.request

from support.case import EngineTest

DEADLINE = 30
PROMTOOL = shutil.which("promtool")


class Metrics(EngineTest):
    def read(self):
        page = self.uri.replace("ws://", "http://").removesuffix("ws") + "metrics"
        with urllib.request.urlopen(page, timeout=DEADLINE) as answer:
            return answer.read().decode()

    def numbers(self):
        return {name: float(value) for name, value in re.findall(r"^dev_websocket_(\S+) (\S+)$", self.read(), re.MULTILINE)}

    async def test_they_are_the_numbers_of_stats_and_of_the_clients(self):
        before = self.numbers()
        clients = [await self.subscriber("metrics") for _ in range(5)]
        for number in range(100):
            self.vm.cast(f'#{{<<"topic">> => <<"metrics">>, <<"data">> => <<"{number}">>}}')
        received = 0
        for client in clients:
            for _ in range(100):
                await client.message()
                received += 1
        stats = self.vm.settle('maps:get(<<"publish_queued_bytes">>, S) =:= 0')
        after = self.numbers()
        self.assertEqual(after["deliveries_total"] - before["deliveries_total"], received)
        self.assertEqual(after["publications_total"] - before["publications_total"], 100)
        self.assertEqual(after['connections{format="json"}'], 5)
        for metric, stat in {
            "publications_total": "publications",
            "deliveries_expected_total": "deliveries_expected",
            "deliveries_total": "deliveries",
            "sent_bytes_total": "bytes_sent",
            "topics": "topics",
            "subscriptions": "subscriptions",
            'connections_closed_total{reason="client"}': "closed_by_client",
        }.items():
            self.assertEqual(after[metric], stats[stat], metric)
        self.assertEqual(stats["deliveries_expected"], stats["deliveries"] + stats["dropped_slow"] + stats["dropped_disconnected"])

    @unittest.skipIf(PROMTOOL is None, "no promtool on PATH")
    async def test_promtool_accepts_them(self):
        checked = subprocess.run([PROMTOOL, "check", "metrics"], input=self.read(), capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))
