"""WebSockets that a page opens."""

import asyncio
import concurrent.futures
import contextlib
import json
import tempfile
import time
import unittest

import websockets

from support import BrowserTest, serving

# What became of a socket: its protocol, the answer to a message, or how it was closed.
OPEN = """([url, protocols]) => new Promise((resolve) => {
    const socket = new WebSocket(url, protocols);
    const found = { opened: false, messages: [] };
    socket.onopen = () => {
        found.opened = true;
        found.protocol = socket.protocol;
        socket.send("hello");
    };
    socket.onmessage = (event) => {
        found.messages.push(event.data);
        if (event.data === "hello") socket.close(1000);
    };
    socket.onclose = (event) => resolve({ ...found, code: event.code, reason: event.reason });
})"""

TICKET = """async (token) => {
    const answer = await fetch("/auth/ticket", { method: "POST", headers: { "ACCESS-TOKEN": token } });
    return (await answer.json()).ticket;
}"""

# Opens a socket, and leaves it open.
HOLD = """([url, protocols]) => new Promise((resolve) => {
    const socket = new WebSocket(url, protocols);
    window.closed_by = new Promise((resolve) => {
        socket.onclose = (event) => resolve([event.code, event.reason]);
    });
    socket.onopen = resolve;
})"""


def run(coroutine):
    """Runs it in a thread of its own: Playwright has a loop in this one."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


class Sockets(BrowserTest):
    def open(self, path, protocols=()):
        return self.run_script(OPEN, [self.server.websocket(path), list(protocols)])

    def test_a_page_opens_a_socket_with_its_token(self):
        token = self.server.new("page")["access_token"]
        found = self.open("/access/ws", ["fastauth", token])
        self.assertEqual((found["protocol"], found["messages"], found["code"]), ("fastauth", ["hello"], 1000))
        # The token may be offered where nothing is asked, too.
        found = self.open("/ws", ["fastauth", token])
        self.assertEqual((found["protocol"], found["messages"]), ("fastauth", ["hello"]))
        self.assertNotIn(token, self.server.logged())

    def test_a_page_without_a_token_opens_nothing(self):
        revoked = self.server.new("revoked")["access_token"]
        self.server.revoke(client_id="revoked")
        for protocols in [[], ["fastauth"], ["fastauth", "x.y.z"], ["fastauth", revoked]]:
            found = self.open("/access/ws", protocols)
            self.assertEqual((found["opened"], found["code"]), (False, 1006), protocols)

    def test_python_opens_a_socket_by_either_way(self):
        token = self.server.new("python")["access_token"]

        async def echoed(**options):
            async with websockets.connect(self.server.websocket("/access/ws"), **options) as socket:
                await socket.send("hello")
                return socket.subprotocol, await socket.recv()

        by_header = run(echoed(additional_headers={"ACCESS-TOKEN": token}))
        self.assertEqual(by_header, (None, "hello"))
        by_protocol = run(echoed(subprotocols=["fastauth", token]))
        self.assertEqual(by_protocol, ("fastauth", "hello"))
        with self.assertRaises(websockets.InvalidStatus) as refused:
            run(echoed())
        self.assertEqual(refused.exception.response.status_code, 401)

    def test_a_ticket_opens_one_socket(self):
        token = self.server.new("page")["access_token"]
        ticket = self.run_script(TICKET, token)
        path = f"/access/ws?ticket={ticket}"
        found = self.open(path)
        self.assertEqual((found["protocol"], found["messages"], found["code"]), ("", ["hello"], 1000))
        found = self.open(path)
        self.assertEqual((found["opened"], found["code"]), (False, 1006))

    def test_a_page_is_told_that_its_right_has_ended(self):
        token = self.server.new("leaving")["access_token"]
        self.run_script(HOLD, [self.server.websocket("/access/ws"), ["fastauth", token]])
        self.server.revoke(client_id="leaving")
        code, reason = self.run_script("() => window.closed_by")
        self.assertEqual((code, reason), (1008, "the access token was revoked"))


class Refusals(BrowserTest):
    settings = {"websocket_refusal": "close"}

    def test_a_page_is_told_why_its_socket_closes(self):
        access = "Disconnected: Unauthrized ACCESS-TOKEN"
        for path, protocols, detail, reason in [
            ("/access/ws", [], access, "missing_access_token"),
            ("/access/ws", ["fastauth", "x.y.z"], access, "malformed_token"),
            ("/access/ws", ["chat"], access, "missing_access_token"),
            ("/master/ws", [], "Disconnected: Unauthorized Master Token", "missing_master_token"),
        ]:
            found = self.run_script(OPEN, [self.server.websocket(path), protocols])
            self.assertEqual((found["opened"], found["code"], found["reason"]), (True, 1008, ""), (path, protocols))
            expected = [{"status": "error", "detail": detail, "reason": reason}]
            self.assertEqual([json.loads(text) for text in found["messages"]], expected)
        token = self.server.new("page")["access_token"]
        found = self.run_script(OPEN, [self.server.websocket("/access/ws"), ["fastauth", token]])
        self.assertEqual((found["messages"], found["code"]), (["hello"], 1000))

    def test_python_is_told_too(self):
        async def told():
            async with websockets.connect(self.server.websocket("/access/ws")) as socket:
                text = await socket.recv()
                await socket.wait_closed()
                return text, socket.close_code, socket.close_reason

        expected = '{"status":"error","detail":"Disconnected: Unauthrized ACCESS-TOKEN","reason":"missing_access_token"}'
        self.assertEqual(run(told()), (expected, 1008, ""))


class Origins(BrowserTest):
    """Pages of three origins: they differ in their ports."""

    def test_only_own_pages_and_those_of_the_list_open_sockets(self):
        with serving(allowed_origins=[self.server.url]) as guarded, serving() as unlisted:
            token = guarded.new("page")["access_token"]
            own, other = self.open_page(guarded.url), self.open_page(unlisted.url)
            for path, protocols in [("/access/ws", ["fastauth", token]), ("/ws", [])]:
                at = [guarded.websocket(path), protocols]
                for page in [self.page, own]:
                    self.assertEqual(self.run_script(OPEN, at, page=page)["messages"], ["hello"], path)
                found = self.run_script(OPEN, at, page=other)
                self.assertEqual((found["opened"], found["code"]), (False, 1006), path)


class TwoProcesses(unittest.TestCase):
    def test_fifty_sockets_close_within_a_second(self):
        with tempfile.TemporaryDirectory() as directory:
            store = {"database_api_url": f"sqlite:{directory}/tokens.db"}
            with serving(**store) as one, serving(**store) as two:
                took = run(self.revoke_with_fifty_sockets(one, two))
        self.assertLess(took, 1)

    async def revoke_with_fifty_sockets(self, one, two):
        token = one.new("everywhere")["access_token"]
        async with contextlib.AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(
                    websockets.connect(
                        server.websocket("/access/ws"), additional_headers={"ACCESS-TOKEN": token}
                    )
                )
                for server in [one, two]
                for _ in range(25)
            ]
            began = time.monotonic()
            await asyncio.to_thread(one.revoke, client_id="everywhere")
            for socket in sockets:
                await asyncio.wait_for(socket.wait_closed(), 5)
                self.assertEqual(socket.close_code, 1008)
            return time.monotonic() - began


if __name__ == "__main__":
    unittest.main()
