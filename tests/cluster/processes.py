"""The processes of a cluster: PostgreSQL with a standby, store servers, nodes, and networks that can be cut."""

import contextlib
import glob
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import http.client

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
PROGRAMS = pathlib.Path(os.environ.get("FASTAUTH_CLUSTER_PROGRAMS", TARGET))
MASTER = "cluster-master-token-of-32-bytes-or-more"
BEARER = "cluster-store-bearer-19"
# Set where PostgreSQL must be there, as `.ci/run` does: without it the tests fail.
REQUIRED = "FASTAUTH_TESTS_NEED_POSTGRES"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds, what):
    """Returns the seconds until the condition held."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)
    return time.monotonic() - started


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def reason(self):
        with contextlib.suppress(ValueError, AttributeError):
            return json.loads(self.body).get("reason")
        return None

    def __repr__(self):
        return f"{self.status} {self.reason} {dict(self.headers)}"


class Caller:
    """A client with a kept connection to each server that it calls. It belongs to one thread."""

    def __init__(self, timeout=15):
        self.connections, self.timeout = {}, timeout

    def ask(self, port, method, path, headers=None, body=None):
        connection = self.connections.get(port)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=self.timeout)
            self.connections[port] = connection
        try:
            headers = dict(headers or {})
            if isinstance(body, str):
                headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException):
            self.connections.pop(port).close()
            raise

    def close(self):
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()


def is_ok(port, path):
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(Caller(5)) as caller:
        return caller.ask(port, "GET", path).status == 200
    return False


class Process:
    """A process that is started, stopped and started again with one command, and its log."""

    def __init__(self, name, command, place, environment=None):
        self.name, self.command, self.log = name, [str(part) for part in command], place / f"{name}.log"
        kept = {key: value for key, value in os.environ.items() if "FASTAUTH" not in key and not key.startswith("PG")}
        self.environment = {**kept, **(environment or {})}
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment, start_new_session=True)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """Ends it as a loss of power does, with all of its children."""
        if self.process is None:
            return
        # Stopped first, so that it starts no more children.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGSTOP)
        for pid in [*children(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def signal_all(self, number):
        for pid in [self.process.pid, *children(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def memory(self):
        """Returns the resident memory in MiB."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


def children(parent):
    found = []
    for status in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = pathlib.Path(status).read_text()
            if int(text.rpartition(")")[2].split()[1]) == parent:
                found.append(int(text.split()[0]))
    return found


class Postgres:
    """A primary and standbys, in directories below one place. The standby has everything that was acknowledged."""

    def __init__(self, place):
        self.place = place / "postgres"
        self.place.mkdir()
        self.user = self.unprivileged()
        if self.user:
            os.chown(self.place, self.user.pw_uid, self.user.pw_gid)
        self.number = 0
        self.ports = [free_port(), free_port()]
        self.primary = self.standby = None

    @staticmethod
    def programs():
        """Returns where the programs of the newest version are, or None."""
        found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
        newest = max(found, key=lambda path: int(path.split("/")[4]), default=None)
        return pathlib.Path(newest).parent if newest else None

    @staticmethod
    def unprivileged():
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        return None

    def as_user(self, program, *arguments):
        command = [self.programs() / program, *arguments]
        if self.user:
            identity = [f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups"]
            command = ["setpriv", *identity, *command]
        return [str(part) for part in command]

    def run(self, program, *arguments):
        done = subprocess.run(self.as_user(program, *arguments), cwd=self.place, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"{program}: {done.stderr}")
        return done.stdout

    def server(self, data, port):
        """A server, whose postmaster is the process: setpriv becomes it."""
        settings = ["max_connections=200", "shared_buffers=32MB", "wal_keep_size=256MB", "hot_standby=on",
                    "wal_receiver_status_interval=1s", "wal_retrieve_retry_interval=200ms"]
        command = self.as_user("postgres", "-D", data, "-k", self.place, "-p", port, "-h", "127.0.0.1",
                               *(part for setting in settings for part in ("-c", setting)))
        process = Process(data.name, command, self.place)
        process.data, process.port = data, port
        return process

    def start(self):
        data = self.place / "server-0"
        self.run("initdb", "--auth=trust", "--username=fastauth", "--encoding=UTF8", "--locale=C", "-D", data)
        self.primary = self.server(data, self.ports[0])
        self.primary.start()
        wait_until(lambda: self.answers(self.primary), 60, "the primary answers")
        self.add_standby()

    def add_standby(self):
        """Copies the primary, and has it wait for the copy from then on."""
        self.number += 1
        data = self.place / f"server-{self.number}"
        port = next(port for port in self.ports if port != self.primary.port)
        self.run("pg_basebackup", "-h", "127.0.0.1", "-p", str(self.primary.port), "-U", "fastauth", "-D", data,
                 "-X", "stream", "-R", "-c", "fast")
        self.standby = self.server(data, port)
        self.standby.start()
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.sql("SELECT pg_reload_conf()")
        state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'"
        wait_until(lambda: self.sql(state) == "1", 60, "the standby follows")

    def promote(self):
        """Makes the standby the primary. It waits for nobody: it was copied before its primary was told to wait."""
        dead, self.primary, self.standby = self.primary, self.standby, None
        self.run("pg_ctl", "promote", "-w", "-D", self.primary.data)
        shutil.rmtree(dead.data)

    def sql(self, statement, server=None):
        port = str((server or self.primary).port)
        return self.run("psql", "-qXAt", "-h", "127.0.0.1", "-p", port, "-U", "fastauth", "-d", "postgres",
                        "-c", statement).strip()

    def answers(self, server):
        with contextlib.suppress(AssertionError):
            return self.sql("SELECT 1", server) == "1"
        return False

    def url(self):
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"postgres://fastauth@{hosts}/postgres"

    def end(self):
        for server in (self.primary, self.standby):
            if server:
                server.kill()


class Network:
    """A way to a server that can be cut: nothing passes then, and nothing says so. It is a process of its own (`proxy.py`)."""

    def __init__(self, name, target, place):
        self.port = free_port()
        self.process = Process(name, [sys.executable, "-B", ROOT / "tests/cluster/proxy.py", self.port, target], place)
        self.process.start()

    def cut(self):
        self.process.signal(signal.SIGUSR1)

    def mend(self):
        self.process.signal(signal.SIGUSR2)


class Cluster:
    """Three nodes on two store servers. The last node reaches them through networks that can be cut."""

    def __init__(self, place):
        self.place = place
        self.postgres = Postgres(place)
        self.stores, self.store_ports, self.networks, self.nodes, self.ports = [], [], [], [], []

    def start(self):
        self.postgres.start()
        for number in range(2):
            port = free_port()
            command = [PROGRAMS / "fastauth", "store", "serve", "--listen", f"127.0.0.1:{port}"]
            environment = {"FASTAUTH_STORE_DATABASE": self.postgres.url(), "FASTAUTH_STORE_TOKEN": BEARER}
            store = Process(f"store-{number}", command, self.place, environment)
            self.stores.append(store)
            self.store_ports.append(port)
            self.start_store(number)
        for number, port in enumerate(self.store_ports):
            self.networks.append(Network(f"network-{number}", port, self.place))
        for number in range(3):
            ways = self.store_ports if number < 2 else [network.port for network in self.networks]
            self.add_node(number, ways)

    def start_store(self, number):
        self.stores[number].start()
        wait_until(lambda: self.is_ready(number), 30, f"store server {number} is ready")

    def is_ready(self, number):
        return is_ok(self.store_ports[number], "/readyz")

    def add_node(self, number, ways):
        port = free_port()
        config = self.place / f"node-{number}.json"
        config.write_text(json.dumps({
            "app-name": "cluster", "access-token-paths": ["/access"], "master-token": MASTER,
            "cryptography-key": "cluster-key-of-at-least-thirty-two-bytes", "allow-get": False,
            "database-api-url": [f"http://127.0.0.1:{way}" for way in ways],
            "headers": {"Authorization": f"Bearer {BEARER}"}}))
        config.chmod(0o600)
        environment = {"FASTAUTH_CONFIG": str(config), "RUST_LOG": "warn"}
        node = Process(f"node-{number}", [PROGRAMS / "example-observability", f"127.0.0.1:{port}"], self.place, environment)
        node.start()
        self.nodes.append(node)
        self.ports.append(port)
        wait_until(lambda: is_ok(port, "/auth/healthz?deep"), 30, f"node {number} answers")

    def metric(self, node, name):
        """Returns the sum of a metric of a node."""
        with contextlib.closing(Caller()) as caller:
            text = caller.ask(self.ports[node], "GET", "/metrics").body.decode()
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def feeds_live(self):
        return all(self.metric(node, "fastauth_feed_up") == 1 for node in range(len(self.nodes)))

    def end(self):
        for process in [*self.nodes, *self.stores, *(network.process for network in self.networks)]:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        self.postgres.end()

    def logs(self):
        paths = [*self.place.glob("*.log"), *self.postgres.place.glob("*.log")]
        return "\n".join(f"--- {path.name}\n" + path.read_text(errors="replace")[-3000:] for path in paths)


class Threads:
    """Runs work in threads, and raises what went wrong in one of them."""

    def __init__(self):
        self.threads, self.errors = [], []

    def start(self, work, *arguments):
        def run():
            try:
                work(*arguments)
            except BaseException as error:  # Raised where they are joined.
                self.errors.append(error)
        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self):
        for thread in self.threads:
            thread.join(60)
        if self.errors:
            raise self.errors[0]
