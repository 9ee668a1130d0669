"""Real proxies in front of the server, with the configurations that docs/OPERATING.md shows."""

import asyncio
import contextlib
import http.client
import json
import os
import unittest

from support import proxies
from support.browser import CHROMIUM, Tab
from support.clients import PythonClient
from support.reconnecting import Client
from support.vm import Vm

HOST = "node.example"
# Not the address of a trusted proxy, but one of this machine.
CLIENT = "127.0.0.2"
DEADLINE = 120
ALICE = {"Authorization": "Bearer alice"}


class Proxied(unittest.IsolatedAsyncioTestCase):
    """A VM that trusts the proxies of this machine."""

    settings = {}

    def start(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.port = proxies.free_port()
        settings = {"port": self.port, "trusted_proxies": "127.0.0.1,::1"} | self.settings
        self.vm = Vm(**settings)
        self.stack.callback(self.vm.close)
        self.vm.eval("begin logger:set_primary_config(level, info), {ok, _} = dev_websocket:info(), ok end")

    def get(self, path, source=CLIENT, **headers):
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.at, timeout=20, source_address=(source, 0))
        self.addCleanup(connection.close)
        connection.request("GET", path, headers={"Host": HOST} | headers)
        return connection.getresponse()

    async def connect(self, query="", source=CLIENT, **headers):
        client = await PythonClient.connect(
            f"ws://{HOST}:{self.at}/ws{query}", host="127.0.0.1", port=self.at, local_addr=(source, 0), additional_headers=ALICE | headers
        )
        self.addAsyncCleanup(client.close)
        return client

    def peers(self):
        expression = "begin {ok, #{connections := All}} = dev_websocket:connections(), [P || #{peer := P} <- All] end"
        return self.vm.eval(expression)


class Behind(Proxied):
    """A VM behind one of the proxies of examples/proxy."""

    def setUp(self):
        self.start()
        authority = self.stack.enter_context(proxies.authority(self.header))
        self.at = self.stack.enter_context(self.proxy(self.port, authority))


class BehindNginx(Behind):
    proxy = staticmethod(proxies.nginx)
    header = "X-Original-URI"


class BehindCaddy(Behind):
    proxy = staticmethod(proxies.caddy)
    header = "X-Forwarded-Uri"


class AsDocumented:
    """What the example of each proxy does."""

    settings = {
        "public_uri": f"wss://{HOST}/ws",
        "control": "off",
        "max_connections_per_ip": 2,
    }

    async def test_a_websocket_gets_what_its_url_is_admitted_to_and_no_more(self):
        client = await self.connect("?topic=alice-1")
        self.assertEqual((await client.frame())["subscribed_topics"], ["alice-1"])
        self.vm.cast('#{<<"topic">> => <<"alice-1">>, <<"data">> => <<"x">>}')
        self.assertEqual((await client.message())["data"]["data"], "x")
        for request in ({"type": "subscribe", "topics": ["bob-1"]}, {"type": "send", "data": 1}):
            error = await client.ask(id=1, **request)
            self.assertEqual((error["type"], error["id"], error["code"]), ("error", 1, "forbidden"))
        self.assertEqual((await client.ask(type="ping"))["type"], "pong")

    async def test_the_service_refuses_what_it_does_not_admit(self):
        for query in ("?topic=bob-1", "?topic=alice-1,bob-1", "?topic=alice-1&topic=bob-1", "?topic=alice-1&match=.", ""):
            self.assertEqual(await self.status(f"/ws{query}", ALICE), 403, query)
        self.assertEqual(await self.status("/ws?topic=alice-1", {}), 401)
        for header in ("X-Original-URI", "X-Forwarded-Uri"):
            self.assertEqual(await self.status("/ws?topic=bob-1", ALICE | {header: "/ws?topic=alice-1"}), 403, header)
        self.assertEqual(self.vm.stats()["connections_opened"], 0)

    async def status(self, path, headers):
        """The status of an upgrade."""
        answer = self.get(
            path,
            Connection="Upgrade",
            Upgrade="websocket",
            **{"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
            **headers,
        )
        return answer.status

    async def test_events_and_the_page_come_through_and_metrics_do_not(self):
        events = self.get("/events?topic=alice-1", **ALICE)
        self.assertEqual((events.status, events.headers["Content-Type"]), (200, "text/event-stream"))
        self.assertIn(b"connection_established", events.readline())
        self.vm.cast('#{<<"topic">> => <<"alice-1">>, <<"data">> => <<"x">>}')
        while b'"message"' not in (line := events.readline()):
            pass
        self.assertIn(b'"data":"x"', line)
        self.assertEqual(self.get("/events?topic=bob-1", **ALICE).status, 403)
        page = self.get("/")
        self.assertEqual((page.status, page.headers.get_content_type()), (200, "text/html"))
        self.assertIn(b"</html>", page.read())
        self.assertEqual(self.get("/client.js").status, 200)
        self.assertEqual(json.load(self.get("/info"))["uri"], f"wss://{HOST}/ws")
        self.assertEqual(self.get("/health").status, 200)
        for path in ("/metrics", "/authorize", "/ws/../metrics", "/%6detrics", "//metrics"):
            self.assertEqual(self.get(path).status, 404, path)

    @unittest.skipIf(CHROMIUM is None, "no chromium on PATH")
    async def test_the_page_shows_messages_in_a_browser(self):
        async with Tab.open() as tab:
            await proxies.open_page(tab, self.at)
            self.vm.cast('#{<<"topic">> => <<"alice-1">>, <<"data">> => <<"through the proxy">>}')
            await tab.until("document.querySelector('#rows .preview').textContent.includes('through the proxy')", "a row")

    async def test_addresses_are_those_of_the_clients(self):
        forged = {"X-Forwarded-For": "203.0.113.1", "Forwarded": "for=203.0.113.2"}
        first = await self.connect("?topic=alice-1", **forged)
        await first.frame()
        other = await self.connect("?topic=alice-1", source="127.0.0.3")
        await other.frame()
        self.assertEqual(self.peers(), [f"{CLIENT}:0", "127.0.0.3:0"])
        second = await self.connect("?topic=alice-1")
        await second.frame()
        self.assertEqual(await self.status("/ws?topic=alice-1", ALICE | forged), 429)
        self.vm.await_line(f"refused a request of {CLIENT}:0: too_many_connections.")
        await (await self.connect("?topic=alice-1", source="127.0.0.3")).frame()


@unittest.skipIf(proxies.NGINX is None, "no nginx")
class Nginx(AsDocumented, BehindNginx):
    pass


@unittest.skipIf(proxies.CADDY is None, "no caddy on PATH")
class Caddy(AsDocumented, BehindCaddy):
    pass


class Restarted:
    """Many clients of a node that starts anew behind its proxy."""

    settings = {name: AsDocumented.settings[name] for name in ("public_uri", "control")}
    clients = 1000

    async def test_all_clients_come_back_and_none_loses_a_message_in_silence(self):
        clients = [
            Client(
                f"ws://127.0.0.1:{self.at}/ws", topics=["alice-1"], headers=ALICE,
                min_reconnect_delay=0.1, max_reconnect_delay=2, timeout=DEADLINE,
            )
            for _ in range(self.clients)
        ]
        seen = [[] for _ in clients]

        async def follow(client, into):
            client.on("gap", lambda gap: into.append(("gap", gap["reason"])))
            async for message in client:
                into.append(message["data"]["data"])

        async with contextlib.AsyncExitStack() as stack:
            # A few at a time: the service about each connection is a small one.
            for start in range(0, len(clients), 50):
                few = clients[start : start + 50]
                await asyncio.gather(*(stack.enter_async_context(client) for client in few))
                await asyncio.gather(*(client.ready() for client in few))
            tasks = [asyncio.ensure_future(follow(client, into)) for client, into in zip(clients, seen)]
            self.cast("before")
            await self.until(lambda: all(into == ["before"] for into in seen))
            await asyncio.to_thread(self.vm.close)
            self.vm = Vm(port=self.port, trusted_proxies="127.0.0.1,::1", **self.settings)
            self.stack.callback(self.vm.close)
            self.vm.eval("begin {ok, _} = dev_websocket:info(), ok end")
            self.cast("meanwhile")
            await self.until(lambda: all(("gap", "epoch") in into for into in seen))
            self.cast("after")
            await self.until(lambda: all(into[-1] == "after" for into in seen))
            self.assertEqual(self.vm.stats()["connections"], self.clients)
            for into in seen:
                self.assertIn(into, (["before", ("gap", "epoch"), "after"], ["before", ("gap", "epoch"), "meanwhile", "after"]))
            for task in tasks:
                task.cancel()

    def cast(self, data):
        self.vm.cast(f'#{{<<"topic">> => <<"alice-1">>, <<"data">> => <<"{data}">>}}')

    async def until(self, holds):
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while not holds():
            self.assertLess(asyncio.get_running_loop().time(), deadline)
            await asyncio.sleep(0.02)


@unittest.skipIf(proxies.NGINX is None, "no nginx")
class NginxRestarted(Restarted, BehindNginx):
    pass


@unittest.skipIf(proxies.CADDY is None, "no caddy on PATH")
class CaddyRestarted(Restarted, BehindCaddy):
    pass


@unittest.skipIf(proxies.NGINX is None or not os.path.exists(proxies.STREAM_MODULE), "no nginx with its stream module")
class ProxyProtocol(Proxied):
    settings = {"proxy_protocol": "on", "public_host": HOST}

    async def test_the_address_comes_in_the_header_and_other_connections_are_closed(self):
        operator = proxies.free_port()
        self.settings = self.settings | {"operator_port": operator}
        self.start()
        self.at = self.stack.enter_context(proxies.nginx_stream(self.port))
        client = await self.connect("?topic=a")
        await client.frame()
        (peer,) = self.peers()
        self.assertRegex(peer, rf"^{CLIENT}:[1-9]\d*$")
        self.at = self.port
        with self.assertRaises((http.client.RemoteDisconnected, ConnectionResetError)):
            self.get("/health")
        self.vm.await_line(f"closed a connection of {CLIENT}:")
        self.assertEqual(self.vm.stats()["proxy_headers_refused"], 1)
        self.at = operator
        self.assertEqual(self.get("/health").status, 200)
        self.assertIn(b"dev_websocket_proxy_headers_refused_total 1", self.get("/metrics").read())


if __name__ == "__main__":
    unittest.main()
