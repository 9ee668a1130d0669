"""Like load.cjs, with Python `websockets`.

usage: load.py URL CONNECTIONS PROCESSES EACH
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


def tell(**event):
    print(json.dumps(event), flush=True)


async def receive(socket, processes, each):
    expected = [1] * (processes + 1)
    count, seq = 0, 0
    try:
        while count < processes * each:
            frame = json.loads(await socket.recv())
            if frame["type"] != "message":
                return {"count": count, "problem": f"a frame of type {frame['type']}: {frame}"}
            caster, number = map(int, frame["data"]["data"].split(":"))
            if number != expected[caster]:
                return {"count": count, "problem": f"{caster}:{number} instead of :{expected[caster]}"}
            if frame["seq"] <= seq:
                return {"count": count, "problem": f"seq {frame['seq']} after {seq}"}
            expected[caster] += 1
            seq = frame["seq"]
            count += 1
    except ConnectionClosed as closed:
        return {"count": count, "problem": str(closed)}
    return {"count": count, "problem": None}


async def main():
    url = sys.argv[1]
    connections, processes, each = map(int, sys.argv[2:])
    # A process that is busy receiving answers pings late; that is not what is measured here.
    sockets = [await connect(url, proxy=None, ping_interval=None) for _ in range(connections)]
    for socket in sockets:
        await socket.recv()
    tell(event="ready")
    results = await asyncio.gather(*(receive(socket, processes, each) for socket in sockets))
    tell(event="done", results=results)
    for socket in sockets:
        await socket.close()


asyncio.run(main())
