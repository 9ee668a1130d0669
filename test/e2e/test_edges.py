"""`format=edges`, and examples/aoconnect: each slot once, from a node that the test drives."""

import asyncio
import json
import os
import signal
import subprocess
import tempfile

from jsonschema import Draft202012Validator
from support.case import EngineTest
from support.clients import PythonClient
from support.vm import ROOT
from test_documented_schemas import document, resolved
from test_feed import Lines
from test_slots import Events

DEADLINE = 60
EXAMPLE = os.path.join(ROOT, "examples/aoconnect")


class Edges(EngineTest):
    settings = {"tail_interval": 20}

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.vm.eval("e2e_node:start()")
        self.process = self.vm.eval("e2e_node:process()")
        self.query = f"format=edges&process={self.process}"
        asyncapi = document("asyncapi.yaml")
        self.schema = resolved(asyncapi["components"]["messages"], asyncapi)["edge"]["payload"]

    def compute(self, first, last, kind="compute"):
        self.vm.eval(f'e2e_node:{kind}(<<"{self.process}">>, {first}, {last})')

    def cursor(self, frame):
        Draft202012Validator(self.schema).validate(frame)
        return int(frame["cursor"])

    async def test_a_websocket_gets_past_edges_and_then_new_ones(self):
        self.compute(0, 4)
        client = await PythonClient.connect(f"{self.uri}?{self.query}&from-slot=3")
        self.addAsyncCleanup(client.close)
        await client.frame()
        edge = await client.frame()
        message = {"Target": "", "Data": "", "Anchor": "", "Tags": [{"name": "N", "value": "3"}]}
        node = {"Output": {}, "Messages": [message], "Spawns": [], "Assignments": []}
        self.assertEqual(edge, {"cursor": "3", "node": node})
        self.assertEqual(self.cursor(await client.frame()), 4)
        live = await client.frame()
        self.assertEqual((live["type"], live["slot"]), ("live", 5))
        self.compute(5, 6)
        self.assertEqual([self.cursor(await client.frame()) for _ in range(2)], [5, 6])

    async def test_events_that_are_cut_off_resume_behind_their_last_edge(self):
        self.compute(0, 9)
        cursors, cursor = [], None
        while len(cursors) < 12:
            stream = await Events.connect(self.uri, f"/events?{self.query}&from-slot=0", cursor)
            await stream.event()
            frame, cursor = await stream.event()
            while "type" in frame:
                if frame["type"] == "live" and frame["slot"] == 10:
                    self.compute(10, 11)
                frame, cursor = await stream.event()
            cursors.append(self.cursor(frame))
            await stream.close()
        self.assertEqual(cursors, list(range(12)))

    def monitor(self, file):
        process = subprocess.Popen(
            ["node", os.path.join(EXAMPLE, "monitor.mjs"), self.uri, self.process, file],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait, DEADLINE)
        self.addCleanup(lambda: process.poll() is None and process.send_signal(signal.SIGTERM))
        return Lines(process)

    async def test_the_monitor_prints_each_output_once(self):
        self.compute(0, 3, "outputs")
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "cursor")
            with open(file, "w", encoding="utf-8") as stored:
                stored.write("1")
            monitor = self.monitor(file)
            await asyncio.to_thread(monitor.until, "^3$")
            # More slots at once than a loop that asks for the newest one could see.
            self.compute(4, 40, "outputs")
            await asyncio.to_thread(monitor.until, "^40$")
            self.assertEqual(monitor.seen, [str(slot) for slot in range(2, 41)])
            monitor.process.send_signal(signal.SIGKILL)
            monitor.process.wait(DEADLINE)
            self.compute(41, 50, "outputs")
            with open(file, encoding="utf-8") as stored:
                first = int(stored.read()) + 1
            # The cursor is stored behind the output, so a kill between the two repeats one.
            self.assertIn(first, (40, 41))
            again = self.monitor(file)
            await asyncio.to_thread(again.until, "^50$")
            self.assertEqual(again.seen, [str(slot) for slot in range(first, 51)])
            again.process.send_signal(signal.SIGTERM)
            again.process.wait(DEADLINE)

    async def test_results_answer_as_aoconnect_does(self):
        self.compute(0, 4, "outputs")
        program = f"""
            import {{ connect }} from {json.dumps(os.path.join(EXAMPLE, "results.mjs"))}
            const ao = connect({{ WEBSOCKET_URL: {json.dumps(self.uri)} }})
            const process = {json.dumps(self.process)}
            for (const given of [{{ from: '0', limit: 2 }}, {{ from: '2', to: '3' }}, {{ sort: 'DESC', limit: 1 }}, {{ from: '4' }}]) {{
              console.log(JSON.stringify(await ao.results({{ process, ...given }})))
            }}
            ao.close()
        """
        command = ["node", "--input-type=module", "--eval", program]
        run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        answers = [json.loads(line) for line in run.stdout.splitlines()]
        told = [([int(edge["cursor"]) for edge in answer["edges"]], answer["pageInfo"]["hasNextPage"]) for answer in answers]
        self.assertEqual(told, [([1, 2], True), ([3], False), ([4], True), ([], False)])
        output = {"data": "1", "print": True, "prompt": "aos> "}
        self.assertEqual(answers[0]["edges"][0]["node"], {"Output": output, "Messages": [], "Spawns": [], "Assignments": []})

    async def test_the_example_answers_as_recorded(self):
        command = ["node", "--test", EXAMPLE]
        run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(run.returncode, 0, run.stdout)
