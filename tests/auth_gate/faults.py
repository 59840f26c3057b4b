"""What auth-gate does and nobody wants, seen in its releases, and what is done here instead.

Most are answers to requests over sockets: of app.py there, and of the guide's application here.
"""

import contextlib
import hashlib
import hmac
import http.server
import json
import threading
import time
import unittest
import urllib.parse

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from shop import log_in, shop
from support import GATES, UUID, Explained, configured, explain, gate, run, send

KONG = {"X-Token-Verified": "true", "X-Auth-Source": "user", "X-User-ID": UUID}

# An answer of the application.
PASSES = (None, None)

# What the stand-in for Keycloak says of a token that is one of these names.
TOKENS = {
    "user": {"sub": "u", "preferred_username": "alice", "client_id": "web", "scope": "openid"},
    "few-claims": {"sub": "u", "client_id": "web"},
    "service-account": {"sub": "s", "preferred_username": "service-account-sync", "client_id": "sync"},
    "user-with-a-role": {"sub": "u", "preferred_username": "bob", "client_id": "web", "realm_access": {"roles": ["service"]}},
    "no-scope": {"sub": "u", "preferred_username": "alice", "client_id": "web"},
}


class Introspection(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        claims = TOKENS.get(form["token"][0])
        body = json.dumps({"active": claims is not None, **(claims or {})}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def keycloak():
    """A stand-in for Keycloak's introspection, and the settings that make auth-gate ask it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Introspection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/realms/main"
        yield {"AUTH_MODE": "direct_keycloak", "KEYCLOAK_REALM_URL": url}
        server.shutdown()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def signature(key, headers):
    """auth-gate's second form: of the headers that it asks, most are empty here."""
    now = str(int(time.time()))
    values = [headers.get(name, "") for name in ["X-Auth-Source", "X-Token-Verified", "X-User-ID", "X-User-Roles"]]
    text = "\n".join(["v2", *values, *[""] * 9, now])
    digest = hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
    return {**headers, "X-Authz-Ts": now, "X-Authz-Signature": f"v2:{digest}"}


class Middleware(unittest.TestCase):
    """Both releases behind a gateway, and beside Keycloak."""

    def both(self, environment=None):
        for version in GATES:
            with self.subTest(version), gate(version, environment) as url:
                yield version, url

    def test_empty_set_brings_the_defaults_back(self):
        for _, url in self.both({"MIDDLEWARE": json.dumps({"excluded_paths": []})}):
            self.assertEqual(send(f"{url}/metrics").status, 200)
        ours = explain([], [("GET", "/metrics")])
        self.assertEqual(Explained(ours[0]).answer, (401, "missing_access_token"))

    def test_admin_passes_every_role_gate(self):
        for _, url in self.both():
            self.assertEqual(send(f"{url}/editors", {**KONG, "X-User-Roles": "reader"}).status, 403)
            self.assertEqual(send(f"{url}/editors", {**KONG, "X-User-Roles": "admin"}).status, 200)
            service = {"X-Token-Verified": "true", "X-Auth-Source": "service", "X-Service-Name": "s",
                       "X-Service-Authenticated": "true", "X-Service-Roles": "admin"}
            self.assertEqual(send(f"{url}/editors", service).status, 200)
        with shop() as url:
            answer = send(f"{url}/products", log_in(url, "carol"), "POST")
            self.assertEqual((answer.status, answer.reason), (403, "missing_role"))
            self.assertEqual(send(f"{url}/products", log_in(url, "alice"), "POST").status, 200)

    def test_sockets_pass_unexamined(self):
        for _, url in self.both():
            self.assertEqual(send(f"{url}/socket").status, 401)
            with connect(url.replace("http", "ws") + "/socket") as socket:
                self.assertEqual(socket.recv(), "hello")
        with shop() as url:
            socket = url.replace("http", "ws") + "/socket"
            with self.assertRaises(InvalidStatus) as refused:
                connect(socket)
            self.assertEqual(refused.exception.response.status_code, 401)
            with connect(socket, additional_headers=log_in(url, "alice")) as opened:
                self.assertEqual(opened.recv(), "hello, alice")

    def test_unknown_mode_is_off(self):
        forged = {**KONG, "X-User-Roles": "platform_admin"}
        with gate("0.8.5", {"VERIFY_HMAC": "enforce", "INTERNAL_HMAC_KEY": "k"}) as url:
            self.assertEqual(send(f"{url}/user", forged).status, 401)
        with gate("0.8.5", {"VERIFY_HMAC": "Enforced", "INTERNAL_HMAC_KEY": "k"}) as url:
            self.assertEqual(send(f"{url}/user", forged).status, 200)
        # A mistyped mode is found by the first request.
        for _, url in self.both({"AUTH_MODE": "kong"}):
            self.assertEqual(send(f"{url}/health").status, 500)
        for faulty in [
            {"default-level": "acces"},
            {"rules": [{"path": "/a", "level": "Access"}]},
            {"rules": [{"path": "/a", "level": "access", "match": "begins"}]},
            {"rules": [{"path": "/a", "level": "access", "methods": ["get"]}]},
            {"rules": [{"path": "/a", "level": "access", "roles_any": ["editor"], "role": ["editor"]}]},
            {"rules": [{"path": "/a"}]},
        ]:
            with configured(faulty) as directory:
                done = run(["check", "--offline"], directory)
            self.assertEqual((done.returncode, "fault" in done.stdout), (1, True), (faulty, done.stdout))

    def test_enforced_without_a_key(self):
        forged = signature("", {**KONG, "X-User-Roles": "platform_admin"})
        with gate("0.8.5", {"VERIFY_HMAC": "enforce"}) as url:
            self.assertEqual(send(f"{url}/user", forged).json["roles"], ["platform_admin"])
        with configured({"rules": [{"path": "/", "level": "access"}]}) as directory:
            (directory / ".env").write_text("")
            done = run(["check", "--offline"], directory)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cryptography-key", done.stdout)

    def test_headers_are_believed_on_excluded_paths(self):
        forged = {**KONG, "X-User-Roles": "platform_admin"}
        environment = {"VERIFY_HMAC": "enforce", "INTERNAL_HMAC_KEY": "k"}
        with gate("0.8.5", {**environment, "MIDDLEWARE": json.dumps({"excluded_paths": ["/user"]})}) as url:
            self.assertEqual(send(f"{url}/user", forged).json["roles"], ["platform_admin"])
        # Here a handler of an open path is given no caller, whatever the request says.
        with shop() as url:
            for headers in [{}, forged, log_in(url, "alice"), bearer("x")]:
                self.assertEqual(send(f"{url}/health", headers).json, {"status": "healthy", "caller": None})

    def test_bad_credential_is_anonymous(self):
        with keycloak() as environment:
            environment["MIDDLEWARE"] = json.dumps({"excluded_paths": ["/greeting"]})
            answers = {}
            for version, url in self.both(environment):
                answers[version] = send(f"{url}/greeting", bearer("revoked")).status
        self.assertEqual(answers, {"0.2.0": 200, "0.8.5": 401})
        # What the gateway did not verify is anonymous in both.
        for _, url in self.both({"MIDDLEWARE": json.dumps({"optional_auth_paths": ["/anything"]})}):
            self.assertEqual(send(f"{url}/anything", {"X-Token-Verified": "false", **bearer("revoked")}).status, 200)
        with shop() as url:
            self.assertEqual(send(f"{url}/products").json, {"caller": None})
            self.assertEqual(send(f"{url}/products", log_in(url, "alice")).json, {"caller": "alice"})
            self.assertEqual(send(f"{url}/products", bearer("revoked")).status, 401)

    def test_no_credential_is_an_error_of_the_server(self):
        with keycloak() as environment:
            environment["MIDDLEWARE"] = json.dumps({"optional_auth_paths": ["/anything"]})
            for _, url in self.both(environment):
                self.assertEqual(send(f"{url}/user").status, 500)
                self.assertEqual(send(f"{url}/anything").status, 500)
        with shop() as url:
            answer = send(f"{url}/orders")
            self.assertEqual((answer.status, answer.reason), (401, "missing_access_token"))
            self.assertIn("Bearer", answer.headers["WWW-Authenticate"])

    def test_service_is_guessed(self):
        guessed = {"user": "user", "few-claims": "service", "service-account": "user", "user-with-a-role": "service"}
        with keycloak() as environment:
            for _, url in self.both(environment):
                for token, kind in guessed.items():
                    statuses = [send(f"{url}/{of}", bearer(token)).status for of in ["user", "service"]]
                    self.assertEqual(statuses, [200, 403] if kind == "user" else [403, 200], token)
        # A service is what the configuration says, by a claim that the application issues.
        rules = [{"path": "/user", "level": "access", "principal": "user"},
                 {"path": "/service", "level": "access", "principal": "service"}]
        told = {**{token: "user" for token in TOKENS}, "sync": "service"}
        claims = {**TOKENS, "sync": {"client_id": "sync", "principal": "service"}}
        requests = [{"method": "GET", "target": f"/{of}", "claims": claims[token]} for token in told for of in ["user", "service"]]
        ours = iter(explain(rules, requests, **{"service-claim": {"principal": "service"}}))
        for token, kind in told.items():
            answers = [Explained(next(ours)).answer for _ in range(2)]
            refused = (403, "wrong_principal")
            self.assertEqual(answers, [PASSES, refused] if kind == "user" else [refused, PASSES], token)
        with configured({"rules": rules}) as directory:
            done = run(["check", "--offline"], directory)
        self.assertEqual((done.returncode, "service-claim" in done.stdout), (1, True), done.stdout)

    def test_no_scope_is_the_empty_scope(self):
        with keycloak() as environment:
            for _, url in self.both(environment):
                self.assertEqual(send(f"{url}/no-scope", bearer("no-scope")).json, {"scopes": [""]})
        for scopes in [[], [""]]:
            with configured({"rules": [{"path": "/a", "level": "access", "scopes": scopes}]}) as directory:
                done = run(["check", "--offline"], directory)
            self.assertEqual((done.returncode, "scopes" in done.stdout), (1, True), (scopes, done.stdout))
        ours = explain([{"path": "/a", "level": "access", "scopes": ["a"]}], [
            {"method": "GET", "target": "/a", "claims": claims} for claims in [{}, {"scope": ""}, {"scope": " "}, {"scope": 1}]
        ])
        self.assertEqual({Explained(line).answer for line in ours}, {(403, "insufficient_scope")})

