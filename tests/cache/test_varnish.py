"""What a shared cache gives to strangers: nothing that a credential was asked for."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MASTER = "cache-master-token-of-more-than-thirty-two-bytes"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url, headers=None, form=None, method=None):
    """The status, the headers and the text of an answer."""
    data = None if form is None else urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=15)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, answer.read().decode()


def comes_up(url):
    for _ in range(300):
        with contextlib.suppress(OSError):
            if ask(url)[0] == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing answers at {url}")


class Varnish(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        place = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        files = place / "files"
        for name in ["open", "access", "master"]:
            (files / name).mkdir(parents=True)
            (files / name / "plan.txt").write_text(f"the {name} plan")
        config = place / "fastauth.config.json"
        settings = {
            "master-token": MASTER,
            "cryptography-key": "cache-key-of-at-least-thirty-two-bytes",
            "database-api-url": f"sqlite:{place / 'tokens.db'}",
            "access-token-paths": ["/access"],
            "master-token-paths": ["/master"],
        }
        config.write_text(json.dumps(settings))
        config.chmod(0o600)
        server, cache = free_port(), free_port()
        cls.server, cls.cache = f"http://127.0.0.1:{server}", f"http://127.0.0.1:{cache}"
        example = TARGET / "debug/example-static-files"
        cls.start([example, files, "--config", config, "--listen", f"127.0.0.1:{server}"])
        comes_up(f"{cls.server}/open/plan.txt")
        state = place / "varnish"
        state.mkdir()
        cls.start(["varnishd", "-F", "-a", f"127.0.0.1:{cache}", "-b", f"127.0.0.1:{server}", "-n", state,
                   "-s", "default,16m"])
        comes_up(f"{cls.cache}/open/plan.txt")

    @classmethod
    def start(cls, command):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.terminate)

    def token(self, client_id):
        form = {"client_id": client_id}
        status, _, text = ask(f"{self.server}/auth/token/new", {"MASTER-TOKEN": MASTER}, form)
        self.assertEqual(status, 200, text)
        return json.loads(text)["data"]["access_token"]

    def was_kept(self, path, headers=None):
        """Whether the second of two answers was the cache's own: it then names two transactions."""
        ask(self.cache + path, headers)
        _, answer, _ = ask(self.cache + path, headers)
        return len(answer["X-Varnish"].split()) == 2

    def test_what_is_open_is_kept(self):
        self.assertTrue(self.was_kept("/open/plan.txt"), "or this tests nothing")

    def test_what_a_token_opened_is_for_nobody_else(self):
        access = {"ACCESS-TOKEN": self.token("alice")}
        bearer = {"Authorization": f"Bearer {self.token('bob')}"}
        for path, headers in [("/access/plan.txt", access), ("/access/plan.txt", bearer),
                              ("//access/plan.txt", access), ("/%61ccess/plan.txt", access),
                              ("/master/plan.txt", {"MASTER-TOKEN": MASTER})]:
            with self.subTest(path=path, headers=list(headers)):
                for _ in range(2):
                    status, _, text = ask(self.cache + path, headers)
                    self.assertEqual((status, text.split()[-1]), (200, "plan"))
                    self.assertEqual(ask(self.cache + path)[0], 401)
                self.assertFalse(self.was_kept(path, headers))

    def test_what_is_not_there_behind_the_guard_is_for_nobody_else(self):
        headers = {"ACCESS-TOKEN": self.token("carol")}
        self.assertEqual(ask(f"{self.cache}/access/none.txt", headers)[0], 404)
        self.assertEqual(ask(f"{self.cache}/access/none.txt")[0], 401)

    def test_a_revoked_token_opens_nothing(self):
        headers = {"ACCESS-TOKEN": self.token("dave")}
        self.assertEqual(ask(f"{self.cache}/access/plan.txt", headers)[0], 200)
        form = {"token": headers["ACCESS-TOKEN"]}
        self.assertEqual(ask(f"{self.server}/auth/token/revoke", form=form)[0], 200)
        self.assertEqual(ask(f"{self.cache}/access/plan.txt", headers)[0], 401)

    def test_refusals_are_not_kept(self):
        self.assertEqual(ask(f"{self.cache}/access/plan.txt")[0], 401)
        headers = {"ACCESS-TOKEN": self.token("erin")}
        self.assertEqual(ask(f"{self.cache}/access/plan.txt", headers)[0], 200)
        # A status that caches keep, if nothing is said.
        self.assertFalse(self.was_kept("/" + "x" * 7000 + "/%zz" * 400))

    def test_nothing_about_tokens_is_kept(self):
        for path in ["/auth/token/new?client_id=frank", "/auth/none", "/auth/openapi.json", "/auth/healthz"]:
            with self.subTest(path=path):
                self.assertFalse(self.was_kept(path, {"MASTER-TOKEN": MASTER}))


if __name__ == "__main__":
    unittest.main()
