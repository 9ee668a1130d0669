"""Prints prices, and goes on where it was when it is started again. usage: prices.py [URL] [FILE of the cursor]"""

import asyncio
import sys
from pathlib import Path

from dev_websocket import Client, ClientError, Gap, GaveUp, Message, StateChange


def on_gap(gap: Gap) -> None:
    print("missed", gap.get("dropped"), gap["reason"], file=sys.stderr)


def on_state(change: StateChange) -> None:
    print(change["state"], change.get("reason", ""), file=sys.stderr)


async def on_error(error: ClientError) -> None:
    print(error.code, error, error.fatal, file=sys.stderr)


def show(message: Message) -> None:
    print(message["cursor"], message["topics"], message["data"], flush=True)


def store(file: Path, cursor: str) -> None:
    # In one step: a program that is killed meanwhile leaves the old cursor or the new one.
    new = file.with_name(file.name + ".new")
    new.write_text(cursor, encoding="utf-8")
    new.replace(file)


async def main(url: str, file: Path) -> None:
    cursor = file.read_text(encoding="utf-8") if file.exists() else None
    async with Client(url, topics=["prices"], cursor=cursor, last=1) as client:
        client.on("gap", on_gap)
        client.on("state", on_state)
        client.on("error", on_error)
        transfers = client.subscribe(topics=["action:Transfer"])
        reply = await transfers.reply()
        print("subscribed to", reply["subscribed_topics"], file=sys.stderr)
        async for message in client:
            show(message)
            # Behind the message in hand: after a crash it goes on with the next.
            store(file, client.cursor or "")


if __name__ == "__main__":
    URL = sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8735/ws"
    try:
        asyncio.run(main(URL, Path(sys.argv[2] if len(sys.argv) > 2 else "cursor")))
    except GaveUp as problem:
        sys.exit(f"{problem.code}: {problem}")
    except KeyboardInterrupt:
        pass
