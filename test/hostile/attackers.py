"""A process of hostile clients: they do one thing to a server, again and again at a bounded pace, until its input ends.

usage: attackers.py PORT ATTACK [PROCESS]
Says `ready` when it is under way, and at the end how often it did what. A server may refuse any of it.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import sys
import time
from urllib.parse import quote

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))

from support.crowd import most_connections  # noqa: E402
from support.raw import CONTINUATION, PING, TEXT, frame, head  # noqa: E402

import token_attackers as tokens  # noqa: E402
from connecting import PACE, Connection, aim, again, counts, host, many, once, paced, under_way  # noqa: E402

# Those that hold something, and how much of it: what an attack with 51,200 topics or globs, or 12,800 templates, needs.
HOLDERS, TOPICS, TEMPLATES = 400, 128, 16
# Those that do not read what is sent to them, in vain or slowly.
LATEST, PUTTING_OFF, SLOW_READING, REPLAYING, REPLAYING_SLOTS = 20, 50, 20, 4, 16
# So many connections at a time, and so many of anything in a second, are for none of these much work to make.
SILENT, DRIPPING, NEVER_READING, FLOODING, CROWD = 2000, 500, 50, 20, 3000
TOPIC = "t"


async def silent_sockets():
    await many(most_connections(SILENT), Connection.end)


async def slow_requests():
    async def drip(connection):
        await connection.send(head(host())[:-2] + b"X-Slow: ")
        while True:
            await connection.send(b"x")
            await asyncio.sleep(1)

    await many(DRIPPING, drip)


async def never_reading():
    async def sleep(connection):
        await connection.send(head(host(), f"/ws?topic={TOPIC}"))
        await asyncio.sleep(3600)

    await many(NEVER_READING, sleep, receive_buffer=4096)


async def resets():
    """At any byte of a request or of a first frame."""
    bytes_ = head(host(), f"/ws?topic={TOPIC}") + frame(TEXT, b'{"type":"subscribe","topics":["reset"]}')

    async def cut(connection):
        await connection.send(bytes_[: random.randrange(len(bytes_))])
        connection.reset()

    await paced(cut)


async def ping_floods():
    flood = frame(PING, b"p" * 125) * 100

    async def ping(connection):
        await connection.upgrade()
        await connection.send(flood)
        await connection.end()

    await paced(ping)


async def frames_of_one_byte():
    request = b'{"type":"ping"}' + b" " * 985
    small = frame(TEXT, request[:1], first_bits=0)
    small += b"".join(frame(CONTINUATION, bytes([byte]), first_bits=0) for byte in request[1:]) + frame(CONTINUATION)

    async def send(connection):
        await connection.upgrade()
        while True:
            await connection.send(small)
            await connection.receive()
            await asyncio.sleep(FLOODING / PACE)

    await many(FLOODING, send)


async def frames_of_no_bytes():
    empty = frame(TEXT, b"{", first_bits=0) + frame(CONTINUATION, first_bits=0) * 100_000

    async def send(connection):
        await connection.upgrade()
        with contextlib.suppress(OSError):
            await connection.send(empty)
        await connection.end()

    await many(FLOODING, send)


async def subscription_storms():
    numbers = itertools.count()

    async def storm(connection):
        await connection.upgrade()
        while True:
            name = next(numbers)
            request = {
                "type": "subscribe",
                "topics": [f"storm-{name}-{n}" for n in range(100)] + [f"storm-{name}-*"],
                "match": [f"^storm-{name}-[0-9]{{0,{n}}}$" for n in range(1, 8)],
                "template": [{"storm": str(name)}, f"/storm-{name}"],
            }
            await connection.send(frame(TEXT, json.dumps(request).encode()))
            await connection.receive()
            request["type"] = "unsubscribe"
            await connection.send(frame(TEXT, json.dumps(request).encode()))
            await connection.receive()
            await asyncio.sleep(2 * FLOODING / PACE)

    await many(FLOODING, storm)


async def crowds():
    """All come, get their first frame and go, over and over."""

    async def come(connection):
        await connection.upgrade(f"/ws?topic={TOPIC}")

    while True:
        await asyncio.gather(*(once(come) for _ in range(most_connections(CROWD))))


async def garbage():
    """What is no HTTP, oversized heads, and frames that are none."""
    requests = (
        os.urandom(1000),
        head(host())[:-2] + b"X-Large: " + b"x" * 100_000 + b"\r\n\r\n",
        head(host(), "/ws?" + "x" * 66_000),
        head(host()) * 2,
        head(host()) + os.urandom(1000),
    )

    async def send(connection):
        await connection.send(random.choice(requests))
        await connection.end()

    await paced(send)


def query(name, values):
    return "&".join(f"{name}={quote(value, safe='')}" for value in values)


def subscribed(target):
    """An act that subscribes, reads what comes, and goes on for ever."""

    async def hold(connection):
        await connection.upgrade(target)
        counts["held"] += 1
        await connection.end()

    return hold


async def holders(targets, then=None):
    """Connections that stay. It is under way once each of them is held or refused."""
    done = [asyncio.create_task(once(subscribed(target))) for target in targets]
    while counts["held"] + sum(task.done() for task in done) < len(done):
        await asyncio.sleep(0.01)
    counts["refused"] = sum(task.done() for task in done)
    under_way.set()
    await asyncio.gather(*done, *([then] if then else []))


async def resets_behind_requests():
    """Right behind the request, in each format: the answer meets a socket that is gone."""
    plain = f"GET /events?topic={TOPIC} HTTP/1.1\r\nHost: {host()}\r\n\r\n".encode()
    requests = (head(host(), f"/ws?topic={TOPIC}"), head(host(), f"/ws?topic={TOPIC}&format=raw"), plain)

    async def cut(connection):
        await connection.send(random.choice(requests))
        connection.reset()

    await paced(cut)


async def unsubscribing_of_12000_names():
    """Names that are not held, on a connection with as many patterns as it may have."""
    patterns = query("topic", [f"g{number}-*" for number in range(127)])
    patterns += "&" + query("match", [f"[{number}]x+y+z+$" for number in range(8)])
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    names = ["".join(pair) for pair in itertools.product(letters, repeat=2)]
    request = json.dumps({"type": "unsubscribe", "topics": (names * 4)[:12_000]}, separators=(",", ":")).encode()

    async def unsubscribe(connection):
        await connection.upgrade(f"/ws?{patterns}")
        while True:
            await connection.send(frame(TEXT, request))
            await connection.receive()
            counts["requests"] += 1
            await asyncio.sleep(0.05)

    await many(2, unsubscribe)


async def globs():
    await holders(f"/ws?{query('topic', [f'g{holder}-{number}-*' for number in range(TOPICS)])}" for holder in range(HOLDERS))


async def templates():
    """Of each connection half with a tag that all messages have, half with none that is a scalar."""

    def target(holder):
        common = [{"kind": "noise", "n": f"{holder}-{number}"} for number in range(TEMPLATES // 2)]
        nested = [{"deep": {"n": f"{holder}-{number}"}} for number in range(TEMPLATES // 2)]
        return f"/ws?{query('template', map(json.dumps, common + nested))}"

    await holders(map(target, range(2 * HOLDERS)))


async def latest_of_many_topics():
    """Clients with `slow=latest` that do not read, while each message has another topic."""

    async def sleep(connection):
        await connection.send(head(host(), "/ws?topic=*&slow=latest"))
        counts["held"] += 1
        await asyncio.sleep(3600)

    await many(LATEST, sleep, receive_buffer=4096)


async def infos():
    """One client asks for `/info` as fast as it is answered, while there are 51,200 topics."""

    async def ask(connection):
        await connection.send(f"GET /info HTTP/1.1\r\nHost: {host()}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            await connection.end()
        counts["requests"] += 1

    async def forever():
        while True:
            await once(ask)

    targets = [f"/ws?{query('topic', [f'info-{holder}-{number}' for number in range(TOPICS)])}" for holder in range(HOLDERS)]
    await holders(targets, forever())


async def replays_with_expressions():
    """Everything that is kept, against expressions whose automata are large."""
    numbers = itertools.count()

    async def replay(connection):
        expressions = [f"[01]*1[01]{{{25 + number}}}x{next(numbers)}" for number in range(8)]
        await connection.send(head(host(), f"/ws?since=0&{query('match', expressions)}"))
        received = b""
        while b'"type":"live"' not in received:
            received = received[-100:] + await connection.receive()
        counts["replays"] += 1

    await many(REPLAYING, replay)


async def replays_of_10000_slots():
    """So many clients read all slots of a process from the node's cache, one time after the other."""

    async def replay(connection):
        received = await connection.upgrade(f"/ws?process={sys.argv[3]}&from-slot=0")
        while b'"type":"live"' not in received:
            received = received[-20:] + await connection.receive()
            counts["received"] += 1
        counts["replays"] += 1

    await many(REPLAYING_SLOTS, replay)


async def requests_put_off():
    """Large requests within a replay that is not read."""

    async def ask(connection):
        await connection.send(head(host(), "/ws?topic=*&since=0"))
        for number in range(63):
            names = [f"{number}-{name:0250}" for name in range(250)]
            await connection.send(frame(TEXT, json.dumps({"type": "subscribe", "topics": names}).encode()))
            counts["requests"] += 1
            await asyncio.sleep(0.02)
        await asyncio.sleep(3600)

    await many(PUTTING_OFF, ask, receive_buffer=4096)


async def slow_readers():
    """20 KB a second of more than that, and an answer to every ping that it comes to. Many connections, at the end, are
    those that the server has cut off."""
    ping, pong = bytes([0x80 | PING, 0]), frame(10)

    async def read(connection):
        await connection.send(head(host(), "/ws?topic=*"))
        while True:
            data = await asyncio.get_running_loop().sock_recv(connection.socket, 1000)
            if not data:
                raise ConnectionError("the server has closed it")
            if ping in data:
                await connection.send(pong)
            await asyncio.sleep(0.05)

    await many(SLOW_READING, read, receive_buffer=4096)


ATTACKS = {
    attack.__name__: attack
    for attack in (
        silent_sockets, slow_requests, never_reading, resets, ping_floods, frames_of_one_byte, frames_of_no_bytes,
        subscription_storms, crowds, garbage, resets_behind_requests, unsubscribing_of_12000_names, globs, templates,
        latest_of_many_topics, infos, replays_with_expressions, replays_of_10000_slots, requests_put_off,
        slow_readers,
        tokens.tokens_that_end_within_a_minute, tokens.tokens_that_end_at_once, tokens.forged_tokens_in_requests,
        tokens.forged_tokens_in_frames,
    )
}
# These end by themselves, and their counts are complete only then.
ENDING = {tokens.tokens_that_end_within_a_minute, tokens.tokens_that_end_at_once}
# These say themselves when they are under way: what they hold takes a while to make.
PREPARED = {globs, templates, infos} | ENDING


async def main(attack):
    act = ATTACKS[attack]
    task = asyncio.create_task(act())
    if act in PREPARED:
        ready = asyncio.create_task(under_way.wait())
        await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
    print("ready", flush=True)
    begun = time.monotonic()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    if act in ENDING:
        await asyncio.wait([task])
    if task.done():
        task.result()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    print(json.dumps(counts | {"seconds": time.monotonic() - begun}), flush=True)


if __name__ == "__main__":
    aim(int(sys.argv[1]))
    asyncio.run(main(sys.argv[2]))
