"""TLS in the server itself: public clients over `wss`, and a renewed certificate under open connections."""

import asyncio
import base64
import hashlib
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import unittest
import urllib.parse

from support.browser import CHROMIUM, Tab
from support.clients import NodeClient, PythonClient
from support.crowd import most_connections
from support.vm import Vm

CONNECTIONS = 1000
# Connected at a time, by the one thread of this client.
AT_A_TIME = 20
DEADLINE = 60


def certify(folder):
    """A new certificate and key, moved into place as a renewal does it."""
    new = pathlib.Path(folder, "new")
    new.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", new / "key.pem", "-out", new / "cert.pem"],
        check=True, capture_output=True,
    )
    for name in ("cert.pem", "key.pem"):
        os.replace(new / name, pathlib.Path(folder, name))
    new.rmdir()


def fingerprint(cert):
    """The hash of a certificate's key by which Chromium can be told to accept it."""
    key = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-pubkey"], check=True, capture_output=True).stdout
    der = base64.b64decode(b"".join(line for line in key.splitlines() if not line.startswith(b"-----")))
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


@unittest.skipUnless(shutil.which("openssl"), "no openssl")
class Tls(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        certify(self.folder)
        self.cert, key = (os.path.join(self.folder, name) for name in ("cert.pem", "key.pem"))
        self.vm = Vm(tls_cert=self.cert, tls_key=key)
        self.addCleanup(self.vm.close)
        self.uri = self.vm.uri()
        self.assertRegex(self.uri, r"^wss://127\.0\.0\.1:\d+/ws$")

    def served_certificate(self):
        address = urllib.parse.urlsplit(self.uri)
        return ssl.get_server_certificate((address.hostname, address.port))

    async def subscriber(self, client=PythonClient, **options):
        opened = await client.connect(self.uri + "?topic=a", **options)
        self.addAsyncCleanup(opened.close)
        self.assertEqual((await opened.frame())["type"], "connection_established")
        return opened

    async def test_public_clients_get_messages(self):
        clients = [await self.subscriber(ssl=ssl.create_default_context(cafile=self.cert))]
        os.environ["NODE_EXTRA_CA_CERTS"] = self.cert
        try:
            clients.append(await self.subscriber(NodeClient))
        finally:
            del os.environ["NODE_EXTRA_CA_CERTS"]
        self.vm.cast('#{<<"topic">> => <<"a">>, <<"data">> => <<"over tls">>}')
        for client in clients:
            self.assertEqual((await client.message())["data"]["data"], "over tls")

    async def test_a_renewal_closes_no_connection(self):
        context = ssl.create_default_context(cafile=self.cert)
        count = most_connections(CONNECTIONS)
        clients = []
        while len(clients) < count:
            batch = min(AT_A_TIME, count - len(clients))
            clients += await asyncio.gather(*(self.subscriber(ssl=context) for _ in range(batch)))
        old = self.served_certificate()
        certify(self.folder)
        async with asyncio.timeout(DEADLINE):
            while await asyncio.to_thread(self.served_certificate) == old:
                await asyncio.sleep(0.1)
        clients.append(await self.subscriber(ssl=ssl.create_default_context(cafile=self.cert)))
        self.vm.cast('#{<<"topic">> => <<"a">>, <<"data">> => <<"still here">>}')
        for client in clients:
            self.assertEqual((await client.message())["data"]["data"], "still here")
        stats = self.vm.stats()
        self.assertEqual((stats["connections"], stats["connections_closed"]), (count + 1, 0))
        # One after the other would take longer than all the rest.
        await asyncio.gather(*(client.close() for client in clients))
        print(f"{count} connections: ", end="")

    @unittest.skipIf(CHROMIUM is None, "no chromium on PATH")
    async def test_a_browser_gets_the_page_and_messages(self):
        page = self.uri.replace("wss://", "https://").removesuffix("ws")
        # The browser checks the certificate, and accepts this key alone beside those of the system.
        async with Tab.open(arguments=[f"--ignore-certificate-errors-spki-list={fingerprint(self.cert)}"]) as tab:
            await tab.go(page + "?topic=a")
            await tab.until("document.querySelector('#state').dataset.state === 'open'", "live")
            # One script: a frame that came between two would be seen by nobody.
            opened = f"globalThis.seen = [], globalThis.own = new WebSocket({json.dumps(self.uri + '?topic=a')})"
            await tab.eval(f"{opened}, own.onmessage = ({{ data }}) => seen.push(JSON.parse(data))")
            await tab.until("seen[0]?.type === 'connection_established'", "a WebSocket of its own")
            self.vm.cast('#{<<"topic">> => <<"a">>, <<"data">> => <<"over tls">>}')
            await tab.until("/over tls/.test(document.querySelector('#rows').textContent)", "the message on the page")
            await tab.until("seen[1]?.data.data === 'over tls'", "the message")
            sockets = [url for url in tab.requests if "/ws" in url]
        self.assertEqual(len(sockets), 2)
        self.assertEqual([url for url in tab.requests if not url.startswith((page, self.uri, "data:", "blob:"))], [])

    @unittest.skipIf(CHROMIUM is None, "no chromium on PATH")
    async def test_a_browser_that_does_not_know_the_certificate_stays_away(self):
        async with Tab.open() as tab:
            failed = tab.event("Network.loadingFailed", lambda params: True)
            await tab.go(self.uri.replace("wss://", "https://").removesuffix("ws"))
            self.assertEqual((await failed)["errorText"], "net::ERR_CERT_AUTHORITY_INVALID")
        self.assertEqual(self.vm.stats()["connections_opened"], 0)

    async def test_a_client_without_tls_is_told_so(self):
        address = urllib.parse.urlsplit(self.uri)
        with socket.create_connection((address.hostname, address.port), timeout=DEADLINE) as plain:
            plain.sendall(b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = plain.makefile("rb").read()
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        self.assertIn(b'"error":"tls_required"', answer)


class Missing(unittest.TestCase):
    def test_a_certificate_without_a_key_keeps_the_vm_closed(self):
        vm = Vm(tls_cert="/nowhere/cert.pem")
        self.addCleanup(vm.close)
        self.assertIn("tls_key", str(vm.eval("dev_websocket:info()")))
