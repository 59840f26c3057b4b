"""An application behind nginx and behind Caddy, as deploy/ configures them."""

import json
import shutil
import unittest
import urllib.parse

from support import HOST, MASTER, ROOT, Connection, Deployment, changed, free_port


class Proxy:
    """What holds behind each of them."""

    log = None
    page_block = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.configure(refresh_transport="cookie")
        cls.port, cls.plain_port, cls.application_port = free_port(), free_port(), free_port()
        cls.application = cls.start_application(cls.application_port)
        cls.tls = cls.certificate()
        cls.start_proxy(cls.application_port)
        cls.comes_up(cls.port, cls.tls)

    def connect(self):
        connection = Connection(self.port, self.tls)
        self.addCleanup(connection.close)
        return connection

    def ask(self, method, path, headers=(), body=b""):
        connection = self.connect()
        connection.send(method, path, headers, body)
        return connection.reply()

    def log_in(self, client_id):
        """The access token, and the cookie with the refresh token."""
        reply = self.ask("POST", "/auth/token/new", [("MASTER-TOKEN", MASTER)], f"client_id={client_id}".encode())
        self.assertEqual(reply.status, 200, reply.body)
        cookie = reply.header("set-cookie")
        self.assertTrue(cookie.startswith("__Host-fastauth-refresh=") and "Secure" in cookie, cookie)
        return reply.json()["data"]["access_token"], cookie.split(";")[0]

    def test_protected_path_needs_a_token(self):
        self.assertEqual(self.ask("GET", "/access/hello").status, 401)
        token, _ = self.log_in("alice")
        for header in [("ACCESS-TOKEN", token), ("Authorization", f"Bearer {token}")]:
            self.assertEqual(self.ask("GET", "/access/hello", [header]).status, 200)
        self.assertEqual(self.ask("GET", "/master/x").status, 401)
        self.assertEqual(self.ask("GET", "/master/x", [("MASTER-TOKEN", MASTER)]).status, 200)

    def test_hostile_paths_are_refused(self):
        for path in ["//access/hello", "/%61ccess/hello", "/x/../access/hello", "/x/%2e%2e/access/hello", "/access;x/hello",
                     "/%2561ccess/hello", "/./access/hello", "/x//../access/hello", "/access%2fhello", "/ACCESS/../access/x",
                     "/%5caccess/hello", "/x/..%2faccess/hello"]:
            with self.subTest(path=path):
                reply = self.ask("GET", path)
                self.assertIn(reply.status, [400, 401], reply.body)

    def test_path_arrives_as_it_was_sent(self):
        for path in ["/a%2Fb/%7Ex//y?q=%20&r=a+b", "/a/./b/../c", "/trailing/"]:
            self.assertEqual(self.ask("GET", path).json()["path"], path)

    def test_application_sees_host_and_address(self):
        port = f"{HOST}:{self.port}"
        seen = self.ask("GET", "/seen", [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "gopher")]).json()
        self.assertEqual((seen["host"], seen["address"], seen["scheme"]), (port, "127.0.0.1", "https"))
        self.assertGreaterEqual(len(seen["request"]), 32)

    def test_cookie_refreshes_its_own_origin_only(self):
        _, cookie = self.log_in("bob")
        origin = f"https://{HOST}:{self.port}"
        for other in ["https://evil.example", f"https://{HOST}", f"http://{HOST}:{self.port}"]:
            reply = self.ask("POST", "/auth/token/refresh", [("Cookie", cookie), ("Origin", other)])
            self.assertEqual(reply.status, 403, other)
        reply = self.ask("POST", "/auth/token/refresh", [("Cookie", cookie), ("Origin", origin)])
        self.assertEqual(reply.status, 200, reply.body)
        token = reply.json()["data"]["access_token"]
        self.assertEqual(self.ask("GET", "/access/hello", [("ACCESS-TOKEN", token)]).status, 200)
        self.assertNotEqual(reply.header("set-cookie").split(";")[0], cookie)

    def test_websocket_ends_with_its_token(self):
        self.assertEqual(self.connect().websocket("/access/ws").status, 401)
        token, cookie = self.log_in("carol")
        socket = self.connect()
        reply = socket.websocket("/access/ws", [("Sec-WebSocket-Protocol", f"fastauth, {token}")])
        self.assertEqual((reply.status, reply.header("sec-websocket-protocol")), (101, "fastauth"))
        socket.send_text("hello")
        self.assertEqual(socket.frame(), (1, b"hello"))
        origin = f"https://{HOST}:{self.port}"
        self.assertEqual(self.ask("POST", "/auth/token/revoke", [("Cookie", cookie), ("Origin", origin)]).status, 200)
        code, payload = socket.frame()
        self.assertEqual((code, int.from_bytes(payload[:2])), (8, 1008))

    def test_event_arrives_at_once(self):
        token, _ = self.log_in("dave")
        connection = self.connect()
        connection.send("GET", "/access/events", [("ACCESS-TOKEN", token)])
        reply = connection.head()
        self.assertEqual((reply.status, reply.header("content-type")), (200, "text/event-stream"))
        # The response has no end, so that a proxy which waits for it never sends this.
        self.assertIn(b"data: at once", connection.chunk())

    def test_trailing_slash_is_redirected_to_the_outside(self):
        reply = self.ask("POST", "/auth/token/refresh/", [("Origin", f"https://{HOST}:{self.port}")])
        self.assertEqual(reply.status, 307)
        # It names no host, which would be the application's own.
        self.assertEqual(urllib.parse.urljoin("/auth/token/refresh/", reply.header("location")), "/auth/token/refresh")
        self.assertNotIn(":", reply.header("location"))

    def test_query_of_a_redirect_is_not_logged(self):
        reply = self.ask("GET", "/auth/token/refresh/?refresh_token=slash-refresh")
        self.assertEqual(reply.status, 307)
        self.ask("GET", "/last-after-slash")
        self.wait_for_log("/last-after-slash")
        self.assert_not_logged("slash-refresh")

    def test_health(self):
        self.assertEqual(self.ask("GET", "/auth/healthz").status, 200)
        self.assertEqual(self.ask("GET", "/auth/healthz?deep").status, 200)

    def test_log_holds_no_secret(self):
        token, cookie = self.log_in("erin")
        self.ask("GET", "/access/in-the-log?ticket=a-ticket", [("ACCESS-TOKEN", token), ("Cookie", cookie)])
        socket = self.connect()
        socket.websocket("/access/ws", [("Sec-WebSocket-Protocol", f"fastauth, {token}")])
        socket.close()
        self.ask("GET", "/access/last-in-the-log", [("Authorization", f"Bearer {token}"), ("MASTER-TOKEN", MASTER)])
        # A proxy logs a socket when it ends.
        self.wait_for_log("/access/in-the-log", "/access/ws", "/access/last-in-the-log")
        self.assert_not_logged(token, cookie.partition("=")[2], MASTER, "a-ticket")

    def test_log_holds_no_secret_while_the_application_is_down(self):
        self.end(self.application)
        self.addCleanup(self.restart_application)
        headers = [("ACCESS-TOKEN", "down-access"), ("MASTER-TOKEN", "down-master"), ("Cookie", "c=down-cookie"),
                   ("Authorization", "Bearer down-bearer"), ("Sec-WebSocket-Protocol", "fastauth, down-subprotocol")]
        reply = self.ask("GET", "/auth/token/refresh?refresh_token=down-refresh", headers)
        self.assertEqual(reply.status, 502, reply.body)
        socket = self.connect()
        self.assertEqual(socket.websocket("/access/ws?ticket=down-ticket", headers).status, 502)
        self.ask("GET", "/access/last-while-down")
        self.wait_for_log("/auth/token/refresh", "/access/last-while-down")
        self.assert_not_logged("down-access", "down-master", "down-cookie", "down-bearer", "down-subprotocol",
                               "down-refresh", "down-ticket")

    def test_redirect_to_https_logs_no_secret(self):
        connection = Connection(self.plain_port)
        self.addCleanup(connection.close)
        connection.host = HOST
        connection.send("GET", "/auth/token/refresh?refresh_token=plain-refresh", [("ACCESS-TOKEN", "plain-access")])
        reply = connection.head()
        self.assertEqual(reply.status, 308)
        self.assertTrue(reply.header("location").startswith(f"https://{HOST}"), reply.header("location"))
        self.ask("GET", "/last-after-plain")
        self.wait_for_log("/last-after-plain")
        self.assert_not_logged("plain-refresh", "plain-access")

    def test_page_shows_the_file(self):
        page = (ROOT / "docs/guide/deploy-proxies.md").read_text()
        language, file = self.page_block
        # Tabs do not fit a page.
        text = (ROOT / "deploy" / file).read_text().replace("\t", "    ")
        self.assertIn(f"```{language}\n{text}```\n", page)

    def restart_application(self):
        type(self).application = self.start_application(self.application_port)

    def wait_for_log(self, *paths):
        for _ in range(300):
            text = self.log.read_text()
            if all(path in text for path in paths):
                return
            self.ask("GET", "/logged-yet")
        self.fail(f"not everything was logged: {text}")

    def assert_not_logged(self, *secrets):
        """Looks into every log, those of errors and what the proxy prints, too."""
        for log in self.place.glob("*.log"):
            text = log.read_text(errors="replace")
            for secret in secrets:
                self.assertNotIn(secret, text, log.name)


@unittest.skipUnless(shutil.which("nginx"), "nginx is not to be had here")
class Nginx(Proxy, Deployment):
    page_block = "nginx", "nginx/shop.conf"

    @classmethod
    def start_proxy(cls, application):
        cls.log = cls.place / "shop.log"
        text = (ROOT / "deploy/nginx/shop.conf").read_text()
        cls.write("shop.conf", changed(text, {
            "listen 443": f"listen 127.0.0.1:{cls.port}", "listen 80;": f"listen 127.0.0.1:{cls.plain_port};",
            "127.0.0.1:8000": f"127.0.0.1:{application}", "/etc/ssl/shop": cls.place,
            "/var/log/nginx": cls.place}))
        temporary = "".join(f"{name}_temp_path {cls.place}/{name};"
                            for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        # As the packages set it up: what shop.conf does not say is logged in full.
        cls.write("nginx.conf", f"pid {cls.place}/pid; error_log {cls.place}/error.log; worker_processes 1;"
                  f"events {{}} http {{ {temporary} access_log {cls.place}/access.log; include {cls.place}/shop.conf; }}")
        cls.start(["nginx", "-e", cls.place / "error.log", "-c", cls.place / "nginx.conf", "-g", "daemon off;"])

    def test_log_holds_no_query_of_what_is_too_large(self):
        reply = self.ask("POST", "/auth/token/refresh?refresh_token=large-refresh", [("ACCESS-TOKEN", "large-access")],
                         b"x" * 1_100_000)
        self.assertEqual(reply.status, 413, reply.body)
        self.ask("GET", "/last-after-large")
        self.wait_for_log("/last-after-large")
        self.assert_not_logged("large-refresh", "large-access")


@unittest.skipUnless(shutil.which("caddy"), "Caddy is not to be had here")
class Caddy(Proxy, Deployment):
    page_block = "text", "caddy/Caddyfile"

    @classmethod
    def start_proxy(cls, application):
        cls.log = cls.place / "shop.log"
        text = (ROOT / "deploy/caddy/Caddyfile").read_text()
        cls.write("Caddyfile", changed(text, {
            "\n{\n": f"\n{{\nadmin off\nhttp_port {cls.plain_port}\nhttps_port {cls.port}\n",
            "app.example {": f"https://{HOST}:{cls.port} {{\ntls {cls.place}/fullchain.pem {cls.place}/privkey.pem",
            "127.0.0.1:8000": f"127.0.0.1:{application}", "/var/log/caddy/shop.log": cls.log}))
        cls.start(["caddy", "run", "--config", cls.place / "Caddyfile", "--adapter", "caddyfile"],
                  XDG_DATA_HOME=str(cls.place), XDG_CONFIG_HOME=str(cls.place), HOME=str(cls.place))

    def test_each_line_of_the_log_is_json(self):
        self.ask("GET", "/auth/healthz")
        for line in self.log.read_text().splitlines():
            json.loads(line)


if __name__ == "__main__":
    unittest.main()
