"""FastAuth beside the Python package that it re-implements, on one store and one key.

A store (`fastauth store serve`), an application of ours (examples/axum.rs) and one of fastauth-api run as three
processes. Tokens of each have to be good at the other, refreshing included; and python-jose has to read what we sign,
and we what it signs. Of hostile tokens it must not refuse what we accept, and what it accepts and we refuse has a reason. A client library for OAuth, Authlib, has to get along with an application of ours.
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
import urllib.parse
import urllib.request

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from jose import jwt

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
KEY = "interop-key-of-at-least-thirty-two-bytes="
MASTER = "interop-master-token"

FIXTURES = ROOT / "tests" / "fixtures"
FIXTURE_KEY = "bsdW01Xfx6YAPxfpvz5Yp5MVBI9JUedbJxu_PkGR7mA="

# Why we refuse tokens that python-jose accepts, by what we say of them. fastauth-api itself looks at `client_id` and `type`.
STRICTER = {
    "not a token": "it reads the last of two members of one name, NaN and numbers beyond floats, halves of surrogate"
    " pairs, any depth and length, and base64url with padding, loose bits or other characters in between",
    "the signature does not match": "it reads such base64url in the signature, too",
    "the token asks for an extension that is not known": "it does not look at `crit` and `b64`",
    "the claim `exp` is missing or not usable": "a token need not end, and may say when as a text",
    "the claim `nbf` is missing or not usable": "it may be a text",
    "the claim `iat` is missing or not usable": "it may be a text or a truth value",
    "the claim `iss` is missing or not usable": "unless one is asked for, it may be anything",
    "the claim `client_id` is missing or not usable": "it knows no `client_id`",
    "the token names no client": "it knows no `client_id`",
    "the token is of another type": "it knows no `type`",
}

PYTHON_APP = """
from fastapi import FastAPI
from fastauth import Fastauth
app = FastAPI()
Fastauth(settings=SETTINGS).set_auth(app)
@app.get("/access/health")
async def health():
    return {"status": "healthy"}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url, headers=None):
    """The status and the JSON of a GET."""
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@contextlib.contextmanager
def running(command, directory, url):
    """A server, from when it answers until the end of the block."""
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                ask(url)
                break
            except urllib.error.URLError:
                assert process.poll() is None and time.monotonic() < deadline, f"{command[0]} did not start"
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(15)


def new(base, client_id):
    query = urllib.parse.urlencode({"client_id": client_id})
    status, answer = ask(f"{base}/auth/token/new?{query}", {"MASTER-TOKEN": MASTER})
    assert status == 200, answer
    return answer["data"]


def refresh(base, token):
    status, answer = ask(f"{base}/auth/token/refresh?{urllib.parse.urlencode({'refresh_token': token})}")
    assert status == 200, answer
    return answer["data"]


def opens(base, token):
    return ask(f"{base}/access/health", {"ACCESS-TOKEN": token})[0] == 200


def check_sharing(issuer, other):
    """What one side issues is good at both, and what the other side makes of it too."""
    for client_id in ["plain", "with space", "élève-😀", "a.b_c~d-1"]:
        first = new(issuer, client_id)
        assert first["client_id"] == client_id
        assert opens(issuer, first["access_token"]) and opens(other, first["access_token"]), client_id
        # fastauth-api's tokens of one second are the same bytes.
        time.sleep(1.1)
        second = refresh(other, first["refresh_token"])
        assert opens(issuer, second["access_token"]) and opens(other, second["access_token"]), client_id
        assert not opens(issuer, first["access_token"]) and not opens(other, first["access_token"]), client_id


def check_tokens(ours):
    """python-jose reads our tokens as it reads its own."""
    tokens = new(ours, "jose")
    for name, kind, days in [("access_token", "access", 30), ("refresh_token", "refresh", 365)]:
        claims = jwt.decode(tokens[name], KEY, algorithms=["HS256"])
        assert (claims["client_id"], claims["type"]) == ("jose", kind)
        assert claims["exp"] - claims["iat"] == days * 24 * 60 * 60
        header = jwt.get_unverified_header(tokens[name])
        assert header.pop("kid") and header == {"alg": "HS256", "typ": "JWT"}


def check_decoding(directory):
    """What python-jose signs is read, and what it would refuse is refused."""
    now = int(time.time())
    good = {"client_id": "c", "type": "access", "iat": now, "exp": now + 600}
    cases = [
        (good, True),
        ({**good, "exp": now + 600.5}, True),
        ({**good, "nbf": now - 1, "sub": "s", "jti": "j", "roles": ["a"]}, True),
        ({**good, "exp": now - 1}, False),
        ({**good, "nbf": now + 600}, False),
        ({**good, "aud": "x"}, False),
    ]
    for claims, expected in cases:
        token = jwt.encode(claims, KEY, algorithm="HS256")
        try:
            jwt.decode(token, KEY, algorithms=["HS256"])
            theirs = True
        except Exception:
            theirs = False
        command = [TARGET / "fastauth", "token", "decode", token]
        ours = subprocess.run(command, cwd=directory, capture_output=True).returncode == 0
        assert ours == theirs == expected, (claims, ours, theirs)
    for token in [jwt.encode(good, KEY, algorithm="HS512"), jwt.encode(good, KEY + "x", algorithm="HS256")]:
        command = [TARGET / "fastauth", "token", "decode", token]
        assert subprocess.run(command, cwd=directory, capture_output=True).returncode == 1


def accepts(token):
    """Whether python-jose accepts a token of the fixture."""
    try:
        jwt.decode(token, FIXTURE_KEY, algorithms=["HS256"])
        return True
    # Some of its errors are not JWTError.
    except Exception:
        return False


def check_hostile_tokens():
    """tests/fixtures/tokens.tsv, which the Rust tests hold to what we say."""
    rows = [line.split("\t") for line in (FIXTURES / "tokens.tsv").read_text().splitlines() if line[0] != "#"]
    assert len(rows) > 300
    stricter, looser = set(), set()
    for name, said, token in rows:
        ours, theirs = said == "accepted", accepts(json.loads(token))
        if theirs and not ours:
            stricter.add(said)
        if ours and not theirs:
            looser.add(name)
    assert stricter == set(STRICTER), stricter ^ set(STRICTER)
    # It knows one key alone.
    assert looser == {"key Previous"}, looser


def check_oauth_client(ours):
    """Authlib renews a token and gives it up, as a client without a secret."""
    tokens = new(ours, "authlib")
    with OAuth2Session("authlib", token_endpoint_auth_method="none") as client:
        renewed = client.refresh_token(f"{ours}/auth/token", refresh_token=tokens["refresh_token"])
        assert renewed["token_type"] == "Bearer" and renewed["expires_in"] == 30 * 24 * 60 * 60
        assert opens(ours, renewed["access_token"]) and not opens(ours, tokens["access_token"])
        answer = client.revoke_token(
            f"{ours}/auth/token/revoke", token=renewed["refresh_token"], token_type_hint="refresh_token"
        )
        assert answer.status_code == 200 and not opens(ours, renewed["access_token"])
        try:
            client.refresh_token(f"{ours}/auth/token", refresh_token=renewed["refresh_token"])
            raise AssertionError("a token that was given up refreshes")
        except OAuthError as error:
            assert error.error == "invalid_grant", error


def main():
    store_port, ours_port, theirs_port, alone_port = (free_port() for _ in range(4))
    store, ours, theirs, alone = (
        f"http://127.0.0.1:{port}" for port in (store_port, ours_port, theirs_port, alone_port)
    )
    settings = {
        "app_name": "interop",
        "database_api_path": store,
        "master_token": MASTER,
        "cryptography_key": KEY,
        "headers": {},
        "master_token_paths": ["/master"],
        "access_token_paths": ["/access"],
    }
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory)
        (path / "fastauth.config.json").write_text(json.dumps(settings))
        embedded = {key: value for key, value in settings.items() if key != "database_api_path"}
        (path / "alone.config.json").write_text(json.dumps(embedded))
        (path / "original.py").write_text(PYTHON_APP.replace("SETTINGS", repr(settings)))
        listen = ["--listen", f"127.0.0.1:{store_port}", "--database", "sqlite:shared.db"]
        python = [sys.executable, "-m", "uvicorn", "original:app", "--port", str(theirs_port)]
        axum = [TARGET / "examples" / "axum", "--config", "fastauth.config.json", "--listen", f"127.0.0.1:{ours_port}"]
        # With the embedded store.
        lone = [TARGET / "examples" / "axum", "--config", "alone.config.json", "--listen", f"127.0.0.1:{alone_port}"]
        with (
            running([TARGET / "fastauth", "store", "serve", *listen], path, f"{store}/token?client_id=x"),
            running(axum, path, f"{ours}/health"),
            running(lone, path, f"{alone}/health"),
            running(python, path, f"{theirs}/openapi.json"),
        ):
            check_sharing(ours, theirs)
            check_sharing(theirs, ours)
            check_tokens(ours)
            check_decoding(path)
            check_hostile_tokens()
            check_oauth_client(alone)
    print("interop: 6 passed, 0 failed")


main()
