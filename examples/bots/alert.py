"""A bot that tells when a price moves. It resumes where it stopped, and names what it missed.

usage: alert.py URL PERCENT [FILE of the cursor], after `pip install ./clients/python`
"""

import asyncio
import sys
from pathlib import Path
from typing import Dict, Optional

from dev_websocket import Client, Gap


def tags(data: Dict[str, object]) -> Dict[str, str]:
    """The tags of a message by their names in lower case: each process writes them its own way."""
    return {name.lower(): str(value) for name, value in data.items()}


def store(file: Path, cursor: str) -> None:
    """Replaces the file in one step, so that a bot that is killed meanwhile leaves the old cursor or the new one."""
    new = file.with_name(file.name + ".new")
    new.write_text(cursor, encoding="utf-8")
    new.replace(file)


async def main(url: str, percent: float, file: Optional[Path]) -> None:
    cursor = file.read_text(encoding="utf-8") if file and file.exists() else None
    known: Dict[str, float] = {}

    def on_gap(gap: Gap) -> None:
        # Prices from before the gap are too old to compare with.
        known.clear()
        print(f"missed {gap.get('dropped', 'some')} messages: {gap['reason']}", flush=True)

    async with Client(url, topics=["prices"], cursor=cursor) as client:
        client.on("gap", on_gap)
        async for message in client:
            found = tags(message["data"])
            if "symbol" in found and "price" in found:
                symbol, price = found["symbol"], float(found["price"])
                before = known.get(symbol)
                if before is None:
                    known[symbol] = price
                elif abs(price - before) >= before * percent / 100:
                    known[symbol] = price
                    print(f"{symbol} moved from {before} to {price}", flush=True)
            # After the work: a bot that is stopped in the middle does this message again.
            if file and client.cursor:
                store(file, client.cursor)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None))
    except KeyboardInterrupt:
        pass
