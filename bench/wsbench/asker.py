"""A client that asks for `/info` as fast as it is answered. Reads commands as JSON lines: `ask` with a port, `stop`, `quit`."""

import json
import socket
import sys
import threading

REQUEST = b"GET /info HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def ask(port, stop, answers):
    while not stop.is_set():
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(REQUEST)
            answer = connection.recv(65536)
            while connection.recv(65536):
                pass
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"not answered: {answer[:80]!r}")
        answers.append(len(answer))


def say(**event):
    print(json.dumps(event), flush=True)


def main():
    stop, answers, thread = threading.Event(), [], None
    say(ready=True)
    for line in sys.stdin:
        command = json.loads(line)
        match command["cmd"]:
            case "ask":
                stop.clear()
                answers.clear()
                thread = threading.Thread(target=ask, args=(command["port"], stop, answers))
                thread.start()
            case "stop":
                stop.set()
                thread.join()
                say(event="done", answers=len(answers))
            case "quit":
                return


if __name__ == "__main__":
    main()
