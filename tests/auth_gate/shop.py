"""The application of the guide, in both languages."""

import base64
import contextlib
import json
import pathlib
import tempfile
import unittest

from support import METHODS, ROOT, SHOP, UUID, blocks, configured, free_port, gate, run, send, server


@contextlib.contextmanager
def shop():
    """The one in Rust: its URL."""
    settings = json.loads(blocks("json")[0])
    with configured(settings) as directory:
        port = free_port()
        with server([SHOP, f"127.0.0.1:{port}"], directory, {}, port) as url:
            yield url


def log_in(url, user):
    """The header of a user that the guide's application knows."""
    answer = send(f"{url}/login", {"Content-Type": "application/json"}, "POST", json.dumps({"user": user}).encode())
    assert answer.status == 200, answer.body
    return {"Authorization": f"Bearer {answer.json['data']['access_token']}"}


CALLERS = {
    "alice": {"X-User-Roles": "editor", "X-User-Scopes": "orders:export"},
    "bob": {"X-User-Roles": "reader"},
    "carol": {"X-User-Roles": "admin"},
}

def claims(token):
    """The payload of the token in a header."""
    if not token:
        return None
    payload = token["Authorization"].split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


# Where the guide says that the answers differ: before and after.
DIFFERENCES = {("POST", "/products", "carol"): (200, 403)}


def behind_kong(caller):
    """What Kong says of a caller."""
    if caller is None:
        return {}
    if caller == "sync":
        return {"X-Token-Verified": "true", "X-Auth-Source": "service", "X-Service-Name": "sync", "X-Service-Authenticated": "true"}
    return {"X-Token-Verified": "true", "X-Auth-Source": "user", "X-User-ID": UUID, "X-Username": caller, **CALLERS[caller]}


class Shop(unittest.TestCase):
    def test_both_answer_alike(self):
        requests = [
            ("GET", "/health"), ("POST", f"/hooks/{UUID}"), ("POST", "/hooks/7"), ("GET", "/static/app.js"), ("GET", "/products"),
            ("POST", "/products"), ("GET", "/orders"), ("POST", "/orders/export"), ("POST", "/internal/sync"), ("GET", "/else"),
        ]
        answers, differences = set(), {}
        with tempfile.TemporaryDirectory() as directory:
            (pathlib.Path(directory) / "before.py").write_text(blocks("python")[0])
            with gate("0.8.5", directory=directory, app="before:app") as before, shop() as after:
                for caller in [None, "alice", "bob", "carol", "sync"]:
                    token = log_in(after, caller) if caller else {}
                    for method, path in requests:
                        of = (send(before + path, behind_kong(caller), method), send(after + path, token, method))
                        statuses = tuple(answer.status for answer in of)
                        answers.add(statuses)
                        if statuses[0] != statuses[1]:
                            differences[method, path, caller] = statuses
                        elif statuses == (200, 200) and path in ["/products", "/orders", "/orders/export", "/internal/sync"]:
                            # A service is not a user who has logged in, and is a caller here.
                            if (path, caller) != ("/products", "sync"):
                                self.assertEqual(of[0].json, of[1].json, (method, path, caller))
        self.assertEqual(differences, DIFFERENCES)
        self.assertEqual(answers, {(200, 200), (401, 401), (403, 403), (404, 404), (200, 403)})

    def test_explanations_are_the_answers(self):
        """`fastauth explain` foretells what the application answers over a socket."""
        targets = [
            "/health", f"/hooks/{UUID}", "/hooks/7", "/products", "/products/", "/products/7", "/orders", "/orders/export", "/internal/x",
            "/else", "/static/../orders", "//orders", "/%6frders", "/%zz", "/health%00", "/socket",
        ]
        settings = json.loads(blocks("json")[0])
        requests, answered = [], []
        with shop() as url:
            for caller in [None, *CALLERS, "sync"]:
                token = log_in(url, caller) if caller else {}
                for target in targets:
                    for method in METHODS:
                        answered.append(send(url + target, token, method))
                        requests.append({"method": method, "target": target, "claims": claims(token)})
        with configured(settings) as directory:
            done = run(["explain", "-"], directory, "".join(json.dumps(request) + "\n" for request in requests))
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [json.loads(line)["answer"] for line in done.stdout.splitlines()]
        self.assertEqual(len(lines), len(answered))
        refused = 0
        for request, foretold, answer in zip(requests, lines, answered):
            if foretold["passes"]:
                self.assertNotIn(answer.status, (401, 403), request)
                continue
            refused += 1
            self.assertEqual(answer.status, foretold["status"], request)
            if request["method"] != "HEAD":
                self.assertEqual(answer.reason, foretold["reason"], request)
        self.assertGreater(refused, 100)

    def test_configuration_covers_the_old_application(self):
        with tempfile.TemporaryDirectory() as directory:
            (pathlib.Path(directory) / "before.py").write_text(blocks("python")[0])
            with gate("0.8.5", directory=directory, app="before:app") as before:
                document = send(f"{before}/openapi.json", behind_kong("alice")).body.decode()
        with configured(json.loads(blocks("json")[0])) as directory:
            (directory / ".env").chmod(0o600)
            done = run(["check", "--offline", "--strict"], directory)
            self.assertEqual(done.returncode, 0, done.stdout)
            done = run(["routes", "--deny-uncovered", "-"], directory, document)
        self.assertEqual((done.returncode, done.stdout.count("fault: ")), (1, 1), done.stdout)
        self.assertIn("fault: POST /hooks/{id}: no rule and no list is for some paths of it", done.stdout)
        self.assertIn("result: 8 operations, 1 not covered", done.stdout)

    def test_program_is_the_guides(self):
        program = (ROOT / "examples" / "shop.rs").read_text().split("\n\n", 1)[1]
        self.assertEqual(blocks("rust,no_run")[0], program)

