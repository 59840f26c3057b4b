"""What the tests beside auth-gate share: the rules that the guide puts in its place, both programs, and servers."""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
FASTAUTH = pathlib.Path(os.environ.get("FASTAUTH", TARGET / "fastauth"))
SHOP = pathlib.Path(os.environ.get("SHOP", TARGET / "examples" / "shop"))
GATES = {
    version: pathlib.Path(os.environ.get("AUTH_GATE", ROOT / "target" / "auth-gate")) / version / "bin" / "python"
    for version in ["0.2.0", "0.8.5"]
}
GUIDE = ROOT / "docs" / "guide" / "from-auth-gate.md"

KEY = "auth-gate-key-of-at-least-thirty-two-bytes"
MASTER = "auth-gate-master-token"
METHODS = ["GET", "HEAD", "POST", "PUT"]
UUID = "7b5bcc8f-3d2e-4b1a-9c0d-1e2f3a4b5c6d"
EVIL = UUID + "-evil"

# The settings of the environment would count here, too.
ENVIRONMENT = {name: os.environ[name] for name in ["PATH", "HOME"] if name in os.environ}


def rules_of(middleware):
    """The rules in place of a middleware, by the table of the guide."""
    rules = []
    excluded = middleware.get("excluded_paths", {})
    for path, methods in excluded.items():
        rules.append(rule(path, methods, match="exact", level="public"))
    for path, methods in middleware.get("excluded_prefixes", {}).items():
        rules.append(rule(path, methods, level="public"))
    for path, methods in middleware.get("optional_auth_paths", {}).items():
        # What is excluded is not optional.
        if path in excluded and excluded[path] is None:
            continue
        if path in excluded and methods is not None:
            methods = [method for method in methods if method not in excluded[path]]
            if not methods:
                continue
        rules.append(rule(path, methods, match="exact", level="optional"))
    return rules


def rule(path, methods, **rest):
    return {"path": path, **rest} if methods is None else {"path": path, "methods": methods, **rest}


def decisions(version, cases):
    """What auth-gate decides: decide.py."""
    done = subprocess.run(
        [GATES[version], HERE / "decide.py"], input=json.dumps(cases), capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextlib.contextmanager
def configured(settings):
    """A directory with a configuration and both secrets."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory)
        (path / "fastauth.config.json").write_text(json.dumps({"app-name": "auth-gate", **settings}))
        (path / ".env").write_text(f"CRYPTOGRAPHY_KEY={KEY}\nMASTER_TOKEN={MASTER}\n")
        yield path


def run(command, directory, text=""):
    return subprocess.run([FASTAUTH, *command], cwd=directory, input=text, capture_output=True, text=True, env=ENVIRONMENT)


def explain(rules, requests, **settings):
    """What `fastauth explain -` says of requests: a method and a target, or an object with both and more."""
    lines = [json.dumps(r) if isinstance(r, dict) else json.dumps({"method": r[0], "target": r[1]}) for r in requests]
    with configured({"default-level": "access", "rules": rules, **settings}) as directory:
        done = run(["explain", "-"], directory, "\n".join(lines) + "\n")
    assert done.returncode == 0, (rules, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


class Explained:
    """A line of `fastauth explain -`, by the fields that its help names."""

    def __init__(self, line):
        self.level = line["decision"]
        self.rule = line["rule"]
        answer = line["answer"]
        self.answer = (answer["status"], answer["reason"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def reason(self):
        return self.json.get("reason")


def send(url, headers=None, method="GET", body=None):
    request = urllib.request.Request(url, headers=headers or {}, method=method, data=body)
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


@contextlib.contextmanager
def server(command, directory, environment, port):
    """A server, from when it listens until the end of the block: its URL."""
    log = tempfile.TemporaryFile()
    process = subprocess.Popen(
        command, cwd=directory, env={**ENVIRONMENT, **environment}, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                log.seek(0)
                assert process.poll() is None and time.monotonic() < deadline, log.read().decode()
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(15)
        log.close()


def gate(version, environment=None, directory=HERE, app="app:app"):
    """auth-gate's application, on a port of its own."""
    port = free_port()
    command = [GATES[version], "-m", "uvicorn", app, "--port", str(port), "--log-level", "error"]
    return server(command, directory, {"PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}, port)


def blocks(language):
    """The blocks of code in the guide."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
