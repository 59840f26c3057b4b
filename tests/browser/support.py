"""What the tests in this directory share: a server of examples/demo, and pages in Chromium."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
KEY = "browser-key-of-at-least-thirty-two-bytes="
MASTER = "browser-master-token"

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url, headers=None, form=None):
    """The status, the headers and the JSON of a GET, or of a POST where there is a form."""
    data = None if form is None else urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(url, data=data, headers=headers or {})
    try:
        answer = urllib.request.urlopen(request, timeout=15)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        body = answer.read()
        return answer.status, answer.headers, json.loads(body) if body else None


class Server:
    """A process of examples/demo that guards /access and /master, on a port of its own. Without settings, it starts as it is shipped."""

    def __init__(self, directory, settings):
        self.directory = pathlib.Path(directory)
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [str(TARGET / "debug" / "example-demo"), "--listen", self.url.removeprefix("http://")]
        if settings is None:
            shutil.copy(ROOT / "fastauth.config.json", directory)
        else:
            command += ["--config", self.configure(settings)]
        self.log = self.directory / "log"
        with self.log.open("w") as log:
            environment = {**os.environ, "RUST_LOG": "trace"}
            self.process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + 30
        while True:
            try:
                ask(f"{self.url}/health")
                return
            except urllib.error.URLError:
                assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def configure(self, settings):
        """The path of a new configuration file."""
        config = {
            "app-name": "browser",
            "master-token": MASTER,
            "cryptography-key": KEY,
            "master-token-paths": ["/master"],
            "access-token-paths": ["/access"],
            **settings,
        }
        path = self.directory / "fastauth.config.json"
        path.write_text(json.dumps(config))
        return str(path)

    def send(self, method, path, body=None, headers=None):
        """The status, the headers and the text of the answer to a request whose path is sent as it is."""
        host = urllib.parse.urlsplit(self.url).netloc
        with contextlib.closing(http.client.HTTPConnection(host, timeout=15)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def websocket(self, path):
        return self.url.replace("http://", "ws://") + path

    def new(self, client_id):
        """A pair of tokens."""
        status, _, answer = ask(
            f"{self.url}/auth/token/new", headers={"MASTER-TOKEN": MASTER}, form={"client_id": client_id}
        )
        assert status == 200, answer
        return answer["data"]

    def refresh(self, refresh_token):
        """The pair that replaces another."""
        status, _, answer = ask(f"{self.url}/auth/token/refresh", form={"refresh_token": refresh_token})
        assert status == 200, answer
        return answer["data"]

    def revoke(self, **form):
        status, _, answer = ask(f"{self.url}/auth/token/revoke", headers={"MASTER-TOKEN": MASTER}, form=form)
        assert status == 200, answer
        return answer["revoked"]

    def logged(self):
        return self.log.read_text()

    def link(self):
        """The link that logs a browser in, as it was printed last."""
        return re.findall(r"http\S+/#code=\S+", self.logged())[-1]

    def stop(self):
        self.process.terminate()
        self.process.wait(15)


@contextlib.contextmanager
def running(settings):
    with tempfile.TemporaryDirectory() as directory:
        server = Server(directory, settings)
        try:
            yield server
        finally:
            server.stop()


def serving(**settings):
    """A server with these settings beside the usual ones, until the end of the block."""
    return running({name.replace("_", "-"): value for name, value in settings.items()})


def shipped():
    """A server with the configuration that is shipped, at its first start."""
    return running(None)


def launch(chromium):
    """Starts Chromium, which on a busy machine may crash before it has a window: then once again."""
    path = shutil.which("chromium")
    try:
        return chromium.launch(executable_path=path, args=CHROMIUM)
    except PlaywrightError:
        return chromium.launch(executable_path=path, args=CHROMIUM)


class BrowserTest(unittest.TestCase):
    """Tests of one server, each with a page of its own in one Chromium."""

    settings = {}

    @classmethod
    def serve(cls):
        return serving(**cls.settings)

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(cls.serve())
        playwright = cls.enterClassContext(sync_playwright())
        browser = launch(playwright.chromium)
        cls.browser = cls.enterClassContext(contextlib.closing(browser))

    def setUp(self):
        self.page = self.open_page(self.server.url)

    def open_page(self, origin):
        """A page of this origin, with cookies of its own."""
        context = self.enterContext(contextlib.closing(self.browser.new_context()))
        page = context.new_page()
        page.goto(f"{origin}/health")
        return page

    def run_script(self, script, argument=None, page=None):
        """What a script, a JavaScript function, gives for its argument; promises are waited for."""
        return (page or self.page).evaluate(script, argument)
