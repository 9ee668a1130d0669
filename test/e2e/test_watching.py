"""The dashboard and the alerts, against what a real Prometheus reads from a running server."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

from support import proxies
from support.case import EngineTest
from support.vm import ROOT

DEADLINE = 60
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
ALERTS = os.path.join(ROOT, "docs/alerts.yml")


def dashboard():
    with open(os.path.join(ROOT, "docs/grafana.json"), encoding="utf-8") as file:
        return json.load(file)


def queries():
    """Each query of the dashboard as Grafana would send it, and each alert without its threshold."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
    with open(ALERTS, encoding="utf-8") as file:
        for expression in re.findall(r"^ +expr: (.*)$", file.read(), re.MULTILINE):
            yield re.sub(r" (==|>) (0|on .*)$", "", expression)


@unittest.skipIf(PROMTOOL is None, "no promtool on PATH")
class Alerts(unittest.TestCase):
    def test_each_alert_fires_in_its_case_and_none_on_a_healthy_node(self):
        rules = os.path.join(os.path.dirname(os.path.abspath(__file__)), "alerts.test.yml")
        checked = subprocess.run([PROMTOOL, "test", "rules", rules], capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        with open(ALERTS, encoding="utf-8") as file, open(rules, encoding="utf-8") as tests:
            names, tested = re.findall(r"alert: (\w+)", file.read()), tests.read()
        self.assertEqual(len(names), 6)
        for name in names:
            self.assertEqual(len(re.findall(rf"alertname: {name}\b", tested)), 2, name)


class Dashboard(unittest.TestCase):
    def test_each_panel_has_a_place_of_its_own_and_queries_with_a_legend(self):
        taken = set()
        for panel in dashboard()["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            self.assertFalse(cells & taken or max(x for x, _ in cells) > 23, panel["title"])
            taken |= cells
            for target in panel["targets"]:
                self.assertIn("{{instance}}", target["legendFormat"], panel["title"])


@unittest.skipIf(PROMETHEUS is None, "no prometheus on PATH")
class Watched(EngineTest):
    def start_prometheus(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        server = urllib.parse.urlsplit(self.uri).netloc
        config = os.path.join(folder, "prometheus.yml")
        with open(config, "w", encoding="utf-8") as file:
            json.dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [ALERTS],
                    "scrape_configs": [{"job_name": "dev_websocket", "static_configs": [{"targets": [server]}]}],
                },
                file,
            )
        at = f"127.0.0.1:{proxies.free_port()}"
        process = subprocess.Popen(
            [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={at}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait, DEADLINE)
        self.addCleanup(process.terminate)
        return f"http://{at}/api/v1"

    def ask(self, api, path):
        try:
            with urllib.request.urlopen(api + path, timeout=DEADLINE) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code != 503:
                self.fail(f"{path}: {error.read()}")
            return None
        except urllib.error.URLError:
            return None

    def until(self, api, path, holds, deadline=None):
        deadline = time.monotonic() + DEADLINE if deadline is None else deadline
        while (data := self.ask(api, path)) is None or not holds(data):
            self.assertLess(time.monotonic(), deadline, (path, data))
            time.sleep(0.1)
        return data

    async def test_each_query_has_an_answer_from_a_running_server(self):
        await self.subscriber("watched")
        self.vm.cast('#{<<"topic">> => <<"watched">>}')
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(self.uri.replace("ws://", "http://") + "?format=x", timeout=DEADLINE)
        api = self.start_prometheus()
        asked = list(queries())
        self.assertGreater(len(asked), 25)
        # One deadline for all, as they wait for the same two scrapes.
        deadline = time.monotonic() + DEADLINE
        for query in asked:
            with self.subTest(query):
                self.until(api, "/query?" + urllib.parse.urlencode({"query": query}), lambda data: data["result"], deadline)

    async def test_the_alerts_are_read_and_a_healthy_server_raises_none(self):
        api = self.start_prometheus()
        groups = self.until(
            api, "/rules", lambda data: data["groups"] and all(rule["health"] == "ok" for rule in data["groups"][0]["rules"])
        )["groups"]
        self.assertEqual(len(groups[0]["rules"]), 6)
        self.until(api, "/query?query=up", lambda data: data["result"] and data["result"][0]["value"][1] == "1")
        self.until(api, "/alerts", lambda data: not data["alerts"])


if __name__ == "__main__":
    unittest.main()
