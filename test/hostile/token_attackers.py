"""What hostile clients do with tokens: very many that end together, and forged ones."""

import asyncio
import contextlib
import json
import time

from support.crowd import most_connections
from support.raw import CLOSE, PING, PONG, TEXT, frame, head
from support.tokens import forged_token, token

from connecting import Connection, counts, host, once, paced, under_way

# Tokens that end, how many of them come in a second, and how long that takes at the most.
TOKENS, LOGINS, CONNECTING, AT_A_TIME = 10_000, 800, 25, 100
MINUTE = 60
# Forged tokens a second, and how many a connection may send: the last one closes it.
FORGED, ATTEMPTS = 1000, 5
# What a measurement does before it begins to count.
WARMING_UP = 1.5
TOPIC = "t"
PING_FRAME = bytes([0x80 | PING, 0])
EXPIRED, REQUIRED, UNVERIFIED = b"token expired", b"token required", b"signature does not verify"


async def tokens_end(seconds):
    """Connections whose tokens end one after the other within so many seconds. It is under way shortly before the first
    one ends, and over when all connections are."""
    count = most_connections(TOKENS)
    begun = time.time()
    first = begun + CONNECTING
    turns = asyncio.Semaphore(AT_A_TIME)

    async def hold(number):
        end = int(first + seconds * number / count)
        held = token(0, ["held"], exp=end, jti=str(number))
        async with contextlib.AsyncExitStack() as stack:
            async with turns:
                connection = await stack.enter_async_context(Connection())
                received = await connection.upgrade("/ws?topic=held", Authorization=f"Bearer {held}")
            counts["held"] += 1
            while (place := received.find(EXPIRED)) < 0:
                received = received[-len(EXPIRED) - 2 :] + await connection.receive()
                if PING_FRAME in received:
                    received = received.replace(PING_FRAME, b"")
                    await connection.send(frame(PONG))
            code = received[place - 2 : place]
            counts[f"closed_{int.from_bytes(code, 'big')}"] += 1
            await connection.send(frame(CLOSE, code))
            await connection.end()

    holders = []
    for number in range(count):
        holders.append(asyncio.create_task(hold(number)))
        await asyncio.sleep(max(0, begun + number / LOGINS - time.time()))
    await asyncio.sleep(first - time.time() - WARMING_UP)
    counts["late"] = count - counts["held"]
    under_way.set()
    await asyncio.gather(*holders, return_exceptions=True)


async def tokens_that_end_within_a_minute():
    await tokens_end(MINUTE)


async def tokens_that_end_at_once():
    await tokens_end(0)


async def forged_tokens_in_requests():
    async def ask(connection):
        forged = forged_token(MINUTE, [TOPIC])
        await connection.send(head(host(), f"/ws?topic={TOPIC}", Authorization=f"Bearer {forged}"))
        answer = b""
        with contextlib.suppress(ConnectionError):
            while True:
                answer += await connection.receive()
        counts["forged"] += UNVERIFIED in answer

    await paced(ask, FORGED)


async def forged_tokens_in_frames():
    async def ask(connection):
        await connection.upgrade()
        for _ in range(ATTEMPTS):
            request = {"type": "auth", "token": forged_token(MINUTE, [TOPIC])}
            await connection.send(frame(TEXT, json.dumps(request).encode()))
            answer = await connection.receive()
            counts["forged"] += UNVERIFIED in answer or REQUIRED in answer
        await connection.end()

    await paced(ask, FORGED / ATTEMPTS)
