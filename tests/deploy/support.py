"""An application and its proxy, as the files below deploy/ set them up, on ports of their own."""

import base64
import contextlib
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "debug/fastauth"
APPLICATION = TARGET / "debug/examples/deployed"
MASTER = "deployed-master-token-of-32-bytes-or-more"
HOST = "app.example"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def header(self, name):
        return next((value for key, value in self.headers if key == name.lower()), None)


class Connection:
    """One connection of a client that sends exactly what it is given, paths above all."""

    def __init__(self, port, tls=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=HOST)
        self.host = f"{HOST}:{port}" if tls else f"127.0.0.1:{port}"
        self.stream = self.socket.makefile("rb")

    def send(self, method, path, headers=(), body=b""):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", *(f"{name}: {value}" for name, value in headers)]
        if body:
            lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def head(self):
        status = int(self.stream.readline().split()[1])
        headers = []
        while (line := self.stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers.append((name.lower(), value.strip()))
        return Reply(status, headers, b"")

    def chunk(self):
        size = int(self.stream.readline(), 16)
        data = self.stream.read(size)
        self.stream.readline()
        return data

    def reply(self):
        reply = self.head()
        if length := reply.header("content-length"):
            reply.body = self.stream.read(int(length))
        elif reply.header("transfer-encoding") == "chunked":
            while data := self.chunk():
                reply.body += data
        return reply

    def websocket(self, path, headers=()):
        key = base64.b64encode(os.urandom(16)).decode()
        self.send("GET", path, [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
                                ("Sec-WebSocket-Key", key), *headers])
        return self.head()

    def send_text(self, text):
        data, mask = text.encode(), os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        self.socket.sendall(bytes([0x81, 0x80 | len(data)]) + mask + masked)

    def frame(self):
        """The opcode and the payload of a short frame."""
        first, second = self.stream.read(2)
        return first & 0xF, self.stream.read(second & 0x7F)

    def close(self):
        self.stream.close()
        self.socket.close()


class Deployment(unittest.TestCase):
    """Starts what it needs in a directory of its own, and ends it."""

    @classmethod
    def setUpClass(cls):
        cls.place = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.place.chmod(0o755)
        secrets = {"master": MASTER, "key": "deployed-key-of-at-least-thirty-two-bytes\n"}
        for name, text in secrets.items():
            cls.write(name, text).chmod(0o400)

    @classmethod
    def write(cls, name, text):
        path = cls.place / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    @classmethod
    def configure(cls, **settings):
        settings = {"app-name": "shop", "master-token-paths": ["/master"], "access-token-paths": ["/access"],
                    "database-api-url": f"sqlite:{cls.place / 'tokens.db'}",
                    **{key.replace("_", "-"): value for key, value in settings.items()}}
        cls.write("fastauth.config.json", json.dumps(settings))

    @classmethod
    def environment(cls, **more):
        kept = {name: value for name, value in os.environ.items() if "FASTAUTH" not in name and "MASTER" not in name}
        return {**kept, "FASTAUTH_CONFIG": str(cls.place / "fastauth.config.json"),
                "MASTER_TOKEN_FILE": str(cls.place / "master"), "CRYPTOGRAPHY_KEY_FILE": str(cls.place / "key"), **more}

    @classmethod
    def start(cls, command, **environment):
        log = open(cls.place / f"{pathlib.Path(command[0]).name}.log", "ab")
        process = subprocess.Popen(command, stdout=log, stderr=log, env=cls.environment(**environment),
                                   start_new_session=True)
        log.close()
        cls.addClassCleanup(cls.end, process)
        return process

    @classmethod
    def end(cls, process):
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Nothing that it started is left behind: a process whose files are removed keeps their space.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    @classmethod
    def start_application(cls, port):
        process = cls.start([APPLICATION], LISTEN=f"127.0.0.1:{port}")
        cls.comes_up(port)
        return process

    @classmethod
    def comes_up(cls, port, tls=None, path="/auth/healthz"):
        for _ in range(300):
            with contextlib.suppress(OSError, IndexError):
                connection = Connection(port, tls)
                try:
                    connection.send("GET", path)
                    if connection.reply().status == 200:
                        return
                finally:
                    connection.close()
            time.sleep(0.05)
        logs = "\n".join(path.read_text(errors="replace") for path in cls.place.glob("*.log"))
        raise AssertionError(f"nothing answers on port {port}: {logs}")

    @classmethod
    def certificate(cls):
        """Makes a certificate for the host, and returns the context of a client that trusts it."""
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}",
                        "-keyout", cls.place / "privkey.pem", "-out", cls.place / "fullchain.pem"],
                       check=True, capture_output=True)
        return ssl.create_default_context(cafile=cls.place / "fullchain.pem")


def changed(text, changes):
    """The text with these replaced, each of which has to be in it."""
    for old, new in changes.items():
        if old not in text:
            raise AssertionError(f"{old!r} is not in the file")
        text = text.replace(old, str(new))
    return text
