"""The OpenAPI documents of examples/demo, and what it does.

The documents have to be valid, and the application has to do what they say, which schemathesis tries by requests that
they allow and requests that they do not: the endpoints for tokens in several configurations, and the paths of the
application itself.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import openapi_spec_validator

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[1] / "target")) / "debug"
SCHEMATHESIS = pathlib.Path(sys.executable).parent / "schemathesis"
MASTER = "openapi-master-token"
SETTINGS = {
    "app-name": "openapi",
    "master-token": MASTER,
    "cryptography-key": "openapi-key-of-at-least-thirty-two-bytes=",
    "master-token-paths": ["/master"],
    "access-token-paths": ["/access"],
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url, headers=None):
    """The JSON of a GET."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=15) as answer:
        return json.load(answer)


@contextlib.contextmanager
def serving(**settings):
    """The example with these settings beside the usual ones, until the end of the block."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "fastauth.config.json"
        settings = {name.replace("_", "-"): value for name, value in settings.items()}
        path.write_text(json.dumps({**SETTINGS, **settings}))
        address = f"127.0.0.1:{free_port()}"
        command = [str(TARGET / "example-demo"), "--config", str(path), "--listen", address]
        log = pathlib.Path(directory) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=directory, stdout=output, stderr=output)
        try:
            wait_for(f"http://{address}", process, log)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(15)


def wait_for(url, process, log):
    deadline = time.monotonic() + 30
    while True:
        try:
            return ask(f"{url}/health")
        except urllib.error.URLError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


# What is valid by its form, and refused with 400 for what it says: a refresh token that somebody made up, and two access
# tokens that differ, which are made up for an operation that takes one here or there.
RULES = """
[[operations]]
include-path-regex = "{refusing}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "422", "429", "5xx"]
"""


def methods(document):
    return {(path, method) for path, item in document["paths"].items() for method in item}


def check(name, document, base, *arguments, refusing="/(token|ticket)$"):
    """Whether the document is valid, and the server does what it says; some paths may refuse what the document allows."""
    openapi_spec_validator.validate(ask(document))
    print(f"== {name}: the document is valid", flush=True)
    command = [SCHEMATHESIS, "run", document, "--url", base]
    command += ["--checks", "all", "--mode", "all", "--max-examples", "20", "--generation-deterministic"]
    command += ["--no-color", "--header", f"MASTER-TOKEN: {MASTER}", *arguments]
    # It looks for its configuration, and keeps its notes, in the working directory.
    with tempfile.TemporaryDirectory() as directory:
        (pathlib.Path(directory) / "schemathesis.toml").write_text(RULES.format(refusing=refusing))
        result = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        sys.exit(f"{result.stdout}\n{name}: schemathesis ended with {result.returncode}")
    counted = [line.strip() for line in result.stdout.splitlines() if " generated, " in line]
    print(f"== {name}: {counted[-1]}", flush=True)


def check_tokens(name, refusing="/(token|ticket)$", **settings):
    with serving(**settings) as url:
        check(name, f"{url}/auth/openapi.json", f"{url}/auth", refusing=refusing)
        return ask(f"{url}/auth/openapi.json")


def check_application():
    with serving() as url:
        issued = ask(f"{url}/auth/token/new?client_id=openapi", {"MASTER-TOKEN": MASTER})
        own = ["--include-path-regex", "^/(health|access|master)"]
        token = issued["data"]["access_token"]
        # In both places: where one is left out, schemathesis puts a token of its own there, and two are refused.
        headers = ["--header", f"ACCESS-TOKEN: {token}", "--header", f"Authorization: Bearer {token}"]
        check("the application", f"{url}/openapi.json", url, *own, *headers)
        document = ask(f"{url}/openapi.json")
        tokens = {(f"/auth{path}", method) for path, method in methods(ask(f"{url}/auth/openapi.json"))}
        assert tokens <= methods(document), "the application's document has the endpoints for tokens"


def main():
    plain = check_tokens("as fastauth-api has it")
    # There, 400 is what a bad refresh token gets everywhere, and whoever sends neither a token nor the cookie.
    strict = {"refusing": "/(token(/refresh|/revoke)?|ticket)$", "allow_get": False, "response_shape": "oauth", "refresh_transport": "cookie"}
    others = check_tokens("OAuth, a cookie, no GET, a limit", **strict, rate_limit_per_minute=1, rate_limit_burst=1)
    gone = methods(plain) - methods(others)
    assert gone == {("/token/new", "get"), ("/token/refresh", "get")}, gone
    check_application()


if __name__ == "__main__":
    main()
