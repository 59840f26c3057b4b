"""What examples/demo takes of a client, and how it stops."""

import asyncio
import contextlib
import socket
import time
import unittest
import urllib.parse

import websockets

from support import ask, serving


def connection(server):
    address = urllib.parse.urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=15)


async def close_of(url, headers, then):
    """How a socket was closed after this was done with it."""
    async with websockets.connect(url, additional_headers=headers, max_size=None) as opened:
        with contextlib.suppress(websockets.ConnectionClosed):
            await then(opened)
            await opened.recv()
        await opened.wait_closed()
        return opened.close_code


class Limits(unittest.TestCase):
    def test_a_long_message_closes_its_socket(self):
        with serving() as server:
            headers = {"ACCESS-TOKEN": server.new("long")["access_token"]}
            for path in ["/ws", "/access/ws"]:
                self.assertEqual(asyncio.run(self.echoed(server.websocket(path), headers, 64 << 10)), 64 << 10)
                code = asyncio.run(close_of(server.websocket(path), headers, lambda it: it.send("x" * (65 << 10))))
                self.assertIn(code, [1006, 1009])

    async def echoed(self, url, headers, size):
        async with websockets.connect(url, additional_headers=headers, max_size=None) as opened:
            await opened.send("x" * size)
            return len(await opened.recv())

    def test_a_long_head_is_refused(self):
        with serving() as server, connection(server) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * (40 << 10) + b"\r\n\r\n")
            self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 431 "))
            self.assertEqual(ask(f"{server.url}/health")[0], 200)


class Stop(unittest.TestCase):
    def test_sockets_are_told_that_the_server_stops(self):
        for path in ["/ws", "/access/ws"]:
            with serving() as server:
                headers = {"ACCESS-TOKEN": server.new("stop")["access_token"]}

                async def stop(_):
                    server.process.terminate()

                self.assertEqual(asyncio.run(close_of(server.websocket(path), headers, stop)), 1001)
                self.assertEqual(server.process.wait(15), 0)

    def test_a_second_signal_waits_for_nobody(self):
        with serving() as server, connection(server) as client:
            client.sendall(b"POST /auth/token/revoke HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
            ask(f"{server.url}/health")
            server.process.terminate()
            with contextlib.suppress(OSError):
                while True:
                    connection(server).close()
            self.assertIsNone(server.process.poll(), "it waits for the body")
            began = time.monotonic()
            server.process.terminate()
            self.assertEqual(server.process.wait(15), 0)
            self.assertLess(time.monotonic() - began, 2)


if __name__ == "__main__":
    unittest.main()
