"""TLS in the server itself: public clients over `wss`, and a renewed certificate under open connections."""

import asyncio
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import unittest
import urllib.parse

from support.clients import NodeClient, PythonClient
from support.vm import Vm

CONNECTIONS = 200
DEADLINE = 30


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
        clients = [await self.subscriber(ssl=context) for _ in range(CONNECTIONS)]
        old = self.served_certificate()
        certify(self.folder)
        async with asyncio.timeout(DEADLINE):
            while await asyncio.to_thread(self.served_certificate) == old:
                await asyncio.sleep(0.1)
        clients.append(await self.subscriber(ssl=ssl.create_default_context(cafile=self.cert)))
        self.vm.cast('#{<<"topic">> => <<"a">>, <<"data">> => <<"still here">>}')
        for client in clients:
            self.assertEqual((await client.message())["data"]["data"], "still here")
        self.assertEqual(self.vm.stats()["connections_closed"], 0)

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
