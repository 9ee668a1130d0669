"""nginx and Caddy with the configurations of examples/proxy, and the service that they ask about each connection."""

import contextlib
import http.cookies
import http.server
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from urllib.parse import parse_qsl, urlsplit

from .vm import DEADLINE, ROOT

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CADDY = shutil.which("caddy")
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
EXAMPLES = os.path.join(ROOT, "examples/proxy")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Authority(http.server.BaseHTTPRequestHandler):
    """Admits a client with a token, or a browser with a cookie, to the topics that begin with the name in it."""

    header = None

    def do_GET(self):
        scheme, _, name = self.headers.get("Authorization", "").partition(" ")
        if cookie := http.cookies.SimpleCookie(self.headers.get("Cookie")).get("session"):
            scheme, name = "Bearer", cookie.value
        # Only the proxy's own header: a client may send the other.
        uri = self.headers[self.header]
        asked = parse_qsl(urlsplit(uri).query, keep_blank_values=True)
        topics = [topic for key, value in asked if key == "topic" for topic in value.split(",")]
        is_known = all(key in ("topic", "since", "last") for key, _ in asked)
        if scheme != "Bearer":
            status = 401
        elif is_known and topics and all(topic.startswith(f"{name}-") for topic in topics):
            status = 204
        else:
            status = 403
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Service(http.server.ThreadingHTTPServer):
    # By default the system refuses all but five of the connections that come at once.
    request_queue_size = 1024


@contextlib.contextmanager
def authority(header):
    """The service, which reads the URL from this header; gives its port."""
    handler = type("Handler", (Authority,), {"header": header})
    with Service(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _example(name, ports, changes):
    with open(os.path.join(EXAMPLES, name), encoding="utf-8") as file:
        text = file.read()
    changes = {"127.0.0.1:8735": f"127.0.0.1:{ports['server']}", "127.0.0.1:9000": f"127.0.0.1:{ports['authority']}"} | changes
    for old, new in changes.items():
        assert old in text, f"{name} lacks {old}"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def _running(command, port, env=None):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    try:
        _await_port(process, port)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


def _await_port(process, port):
    end = time.monotonic() + DEADLINE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert process.poll() is None and time.monotonic() < end, f"it does not start: {process.stderr.read()}"
            time.sleep(0.02)


@contextlib.contextmanager
def _nginx(text, port):
    with tempfile.TemporaryDirectory() as folder:
        # What the example leaves to the system: its files, and who runs it.
        paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        text = text.replace("http {\n", f"http {{\naccess_log off;\n{paths}")
        text = text.replace("worker_processes auto;", "worker_processes 1;")
        if "stream {" in text and os.path.exists(STREAM_MODULE):
            text = f"load_module {STREAM_MODULE};\n{text}"
        path = os.path.join(folder, "nginx.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        about = f"daemon off; pid {folder}/pid; error_log stderr;"
        with _running([NGINX, "-p", folder, "-c", path, "-g", about], port):
            yield port


def nginx(server, authority):
    """nginx with the example, without TLS; gives its port."""
    port = free_port()
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "ssl_certificate /etc/ssl/node.example.pem;": "",
        "ssl_certificate_key /etc/ssl/node.example.key;": "",
    }
    return _nginx(_example("nginx.conf", {"server": server, "authority": authority}, changes), port)


def nginx_stream(server):
    """nginx that forwards bytes behind a header of the PROXY protocol."""
    port = free_port()
    text = f"worker_processes 1; events {{}}\nstream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{server}; proxy_protocol on; }} }}\n"
    return _nginx(text, port)


@contextlib.contextmanager
def caddy(server, authority):
    """Caddy with the example, without TLS; gives its port."""
    port = free_port()
    changes = {"node.example {": f"{{\n\tadmin off\n\tauto_https off\n}}\n\nhttp://:{port} {{\n\tbind 127.0.0.1"}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "Caddyfile")
        with open(path, "w", encoding="utf-8") as file:
            file.write(_example("Caddyfile", {"server": server, "authority": authority}, changes))
        env = os.environ | {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
        with _running([CADDY, "run", "--config", path, "--adapter", "caddyfile"], port, env):
            yield port


async def open_page(tab, at):
    """Opens the page behind the proxy as alice, whom the proxy knows by a cookie, and waits until it is live."""
    page = f"http://localhost:{at}/?topic=alice-1"
    await tab.go(page)
    await tab.until("document.querySelector('#state').dataset.state")
    await tab.eval("document.cookie = 'session=alice'")
    await tab.go(page)
    await tab.until("document.querySelector('#state').dataset.state === 'open'", "live")
