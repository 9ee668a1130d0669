"""Prints the next prices of a script without asyncio. usage: prices_sync.py [URL] [COUNT]"""

import sys

from dev_websocket.sync import SyncClient


def main(url: str, count: int) -> None:
    with SyncClient(url, topics=["prices"], last=1) as client:
        client.ready(timeout=10)
        for number, message in enumerate(client, 1):
            print(message["cursor"], message["data"], flush=True)
            if number == count:
                return


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8735/ws", int(sys.argv[2]) if len(sys.argv) > 2 else 10)
