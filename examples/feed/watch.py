"""Prints each frame that a subscriber of a topic gets, one a line."""

import asyncio
import signal
import sys
from urllib.parse import quote

import websockets


async def watch(uri, topic):
    url = f"{uri}?topic={quote(topic, safe=',:*/')}"
    print(f"watching {url}", file=sys.stderr)
    # A message may be as large as the node allows.
    async with websockets.connect(url, max_size=None) as connection:
        async for frame in connection:
            # In raw text a line break could stand between the tokens of JSON; the server sends none.
            print(frame, flush=True)
        print(f"closed: {connection.close_code} {connection.close_reason}", file=sys.stderr)


def main():
    uri, topic = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        asyncio.run(watch(uri, topic))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Whoever read our lines has had enough.
        sys.stderr.close()
    except OSError as error:
        sys.exit(f"nothing answers at {uri}: {error.strerror or error}. Is the feed running (make run)?")
    except websockets.exceptions.WebSocketException as error:
        sys.exit(f"{uri}: {error}")


main()
