"""Subscribers of the device, and the judgement of what they got."""

import collections
import json
import threading
import time
import urllib.parse
import urllib.request

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from attack import FORGED
from node import until

# Only the node may put a message under a topic that begins so.
RESERVED = ("process:", "from:", "slot:", "owner:", "hashpath:")
# Counters that no legal request may raise.
ATTACKS = (
    'messages_dropped{reason="refused"}',
    'messages_dropped{reason="malformed"}',
    'messages_dropped{reason="repeated"}',
    'message_topics_dropped{reason="reserved"}',
    'result_slots_missing{reason="not_cached"}',
    'result_slots_missing{reason="withheld"}',
    "results_withheld",
    "exceptions",
    "panics",
)


class Watch:
    """One client: every frame that it gets, in order."""

    def __init__(self, uri, query):
        self.query = query
        self.frames = []
        self.times = []
        self.socket = connect(f"{uri}?{query}", max_size=None, proxy=None, ping_interval=None)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for text in self.socket:
                self.times.append(time.monotonic())
                self.frames.append(json.loads(text))
        except ConnectionClosed:
            pass

    def messages(self):
        return [frame for frame in self.frames[:] if frame.get("type") == "message"]

    def gaps(self):
        return [frame for frame in self.frames[:] if frame.get("type") == "gap"]

    def results(self, process):
        """Slots and outputs of a process, in the order in which they came."""
        return [(frame["slot"], frame["data"].get("output")) for frame in self.messages() if frame.get("process") == process and is_result(frame)]

    def slots(self, process):
        return [slot for slot, _ in self.results(process)]

    def close(self):
        self.socket.close()


def is_result(frame):
    return "from" not in frame


def watch_process(uri, process):
    return Watch(uri, "process=" + process)


def watch_topic(uri, topic):
    return Watch(uri, "topic=" + urllib.parse.quote(topic, safe=""))


class Judge:
    """Everybody who may speak, and the rules that each frame must keep."""

    def __init__(self, stranger):
        # Honest processes: the output of the program in each scheduled slot, by process.
        self.honest = collections.defaultdict(dict)
        self.strangers = set()
        # Honest processes that a stranger made the node serve no more: slots are told as missing there.
        self.blocked = set()
        self.signers = {stranger}

    def faults(self, watch):
        """Frames that break a rule: why, and the frame."""
        seen = set()
        for frame in watch.frames[:]:
            for fault in self._faults(frame, seen):
                yield fault, frame

    def _faults(self, frame, seen):
        process = frame.get("process")
        if frame.get("type") == "gap" and process in self.honest and process not in self.blocked:
            yield f"a gap of reason {frame.get('reason')}"
        if frame.get("type") != "message":
            return
        topics = [topic for topic in frame.get("topics", [frame.get("topic") or ""]) if topic.startswith(RESERVED)]
        data = frame.get("data") if isinstance(frame.get("data"), dict) else {}
        if process is None:
            if frame.get("source") != "http":
                yield "neither a result nor a cast"
            if topics:
                yield f"a cast with the topics {topics}"
            if set(frame.get("from", [])) - self.signers:
                yield "a cast in somebody's name"
            return
        if frame.get("source") is not None or set(topics) - {f"process:{process}", f"from:{process}"}:
            yield f"a result with the topics {topics} and the source {frame.get('source')}"
        if data.get("process") != process or frame.get("from", [process]) != [process] or data.get("from", process) != process:
            yield "a result of another process in its data"
        place = (process, frame.get("slot"), frame.get("path"))
        if place in seen:
            yield "an event that came before"
        seen.add(place)
        if process in self.strangers:
            return
        if process not in self.honest:
            yield "a process that nobody made"
            return
        expected = self.honest[process].get(frame.get("slot"))
        if expected is None:
            yield "a slot that nobody scheduled"
        elif is_result(frame) and expected != (data.get("output") or {}).get("body"):
            yield f"another output than the program's: {expected!r}"
        if FORGED in json.dumps(frame):
            yield "content of the stranger"


def expect(watch, process, slots, seconds=30):
    """Whether a watch has exactly these slots of a process, in this order."""
    until(lambda: len(watch.slots(process)) >= len(slots), seconds)
    return watch.slots(process) == list(slots)


def counters(uri):
    """The device's counters, from the WebSocket port: the node itself takes long to answer with so many keys."""
    parts = urllib.parse.urlsplit(uri)
    with urllib.request.urlopen(f"http://{parts.netloc}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    samples = (line.removeprefix("dev_websocket_").rsplit(" ", 1) for line in lines if line.startswith("dev_websocket_"))
    return {name.replace("_total", ""): float(value) for name, value in samples}


def raised(before, after, names=ATTACKS):
    """The counters that grew."""
    return {name: after[name] - before[name] for name in names if after.get(name, 0) != before.get(name, 0)}
