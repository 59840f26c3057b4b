"""Three nodes on two store servers on PostgreSQL with a synchronous standby, of which each is broken while users go on.

What must hold throughout is in model.py. The times are printed; what is asserted of them is what docs/guide/sessions.md states.
"""

import json
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

from model import BOUND, FRESH, LOST, SLACK, Model, User, figures
from processes import BEARER, MASTER, REQUIRED, Caller, Cluster, Postgres, Threads, wait_until

USERS = 6


def require_postgres():
    if Postgres.programs():
        return
    if os.environ.get(REQUIRED):
        raise AssertionError(f"{REQUIRED} is set, and PostgreSQL is not installed")
    print("\n*** SKIPPED: the cluster, for initdb is not in /usr/lib/postgresql/*/bin ***\n", file=sys.stderr)
    raise unittest.SkipTest("PostgreSQL is not installed")


class Scene(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        require_postgres()
        cls.place = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="fastauth-cluster-")))
        cls.place.chmod(0o755)
        cls.cluster = Cluster(cls.place)
        cls.addClassCleanup(cls.cluster.end)
        try:
            cls.cluster.start()
        except BaseException:
            print(cls.cluster.logs())
            raise

    def setUp(self):
        print(f"\n  == {self.id().rpartition('.')[2]}", flush=True)
        wait_until(self.cluster.feeds_live, 30, "the nodes hear the feed")
        self.model = Model(self.cluster.ports)
        self.caller = Caller()
        self.addCleanup(self.caller.close)
        self.threads = Threads()
        self.addCleanup(self.model.stops.set)

    def users(self, number=USERS):
        """Starts users, of which all nodes know the tokens."""
        prefix = self.id().rpartition(".")[2]
        users = [User(self.model, f"{prefix}-{place}") for place in range(number)]
        for user in users:
            user.log_in()
            for port in self.cluster.ports:
                user.check(port)
        for user in users:
            self.addCleanup(user.caller.close)
            self.threads.start(user.live)
        return users

    def fault(self, spares_cached=True):
        """A fault is about to begin."""
        self.model.outages.begin(spares_cached)
        return time.monotonic()

    def recover(self, seconds=30):
        """Waits until every node writes and hears the feed. Returns for how long that took."""
        started = time.monotonic()
        for place, port in enumerate(self.cluster.ports):
            wait_until(lambda: self.writes(port), seconds, f"node {place} writes again")
        wait_until(self.cluster.feeds_live, seconds, "the nodes hear the feed again")
        self.model.outages.end()
        return time.monotonic() - started

    def writes(self, port):
        try:
            return self.issue("recovery", port).status == 200
        except LOST:
            return False

    def issue(self, client, port):
        return self.caller.ask(port, "POST", "/auth/token/new", {"MASTER-TOKEN": MASTER}, f"client_id={client}")

    def pair(self, client, port=None):
        reply = self.issue(client, port or self.cluster.ports[0])
        self.assertEqual(reply.status, 200, reply)
        return json.loads(reply.body)["data"]

    def opens(self, port, token):
        return self.caller.ask(port, "GET", "/access/hello", {"ACCESS-TOKEN": token}).status

    def stored(self, client, store):
        """Returns the access token that a store server has of a client, or None."""
        query = urllib.parse.urlencode({"client_id": client})
        reply = self.caller.ask(self.cluster.store_ports[store], "GET", f"/token?{query}", {"Authorization": f"Bearer {BEARER}"})
        self.assertIn(reply.status, (200, 404), reply)
        return json.loads(reply.body)["data"]["access_token"] if reply.status == 200 else None

    def finish(self, users, seconds=1.5):
        """Lets the users go on for a while, and compares what they were told with what is there."""
        time.sleep(seconds)
        self.model.stops.set()
        self.threads.join()
        for user in users:
            if user.pending or user.is_haunted():
                continue
            for store in range(2):
                self.assertEqual(self.stored(user.name, store), user.access, f"{user.name} in store server {store}")
        for user in users:
            wait_until(user.go_on, 15, f"{user.name} is issued tokens")
        time.sleep(0.2)
        for user in users:
            for port in self.cluster.ports:
                user.check(port)
                for token, since in user.ended:
                    wait = BOUND + since - time.monotonic()
                    wait_until(lambda: self.opens(port, token) == 401, max(wait, 1), "an ended token is refused")
        self.model.print("users")
        self.model.verify()

    def refused_within(self, token, ports, seconds):
        """Returns how long after now the last of the nodes refuses a token."""
        started, left = time.monotonic(), list(ports)
        while left:
            left = [port for port in left if self.opens(port, token) != 401]
            if time.monotonic() - started > seconds + SLACK:
                raise AssertionError(f"a revoked token is accepted after {seconds} s by {len(left)} nodes")
        return time.monotonic() - started

    def revoke_soon(self, client, port, seconds=20):
        """Revokes until that is acknowledged. Returns for how long it took."""
        def is_revoked():
            body = f"client_id={client}"
            reply = self.caller.ask(port, "POST", "/auth/token/revoke", {"MASTER-TOKEN": MASTER}, body)
            self.assertIn(reply.status, (200, 503), reply)
            return reply.status == 200
        return wait_until(is_revoked, seconds, f"{client} is revoked")

    def known(self, client):
        """Issues a token that all nodes know, and returns it."""
        token = self.pair(client)["access_token"]
        self.know(token)
        return token

    def know(self, token):
        for port in self.cluster.ports:
            self.assertEqual(self.opens(port, token), 200)

    def test_1_revocation_reaches_all_nodes(self):
        after, whole = [], []
        for round in range(100):
            token = self.known(f"revoked-{round}")
            started = time.monotonic()
            self.revoke_soon(f"revoked-{round}", self.cluster.ports[round % 3])
            acknowledged = time.monotonic()
            after.append(self.refused_within(token, self.cluster.ports, 2))
            whole.append(time.monotonic() - started)
            self.assertLess(acknowledged - started, 3)
        figures("from the acknowledged revocation to the last node's refusal", after)
        figures("from the request to it", whole)

    def test_2_refresh_storm_issues_once(self):
        rounds, each = 10, 8
        times = []
        for round in range(rounds):
            pair = self.pair(f"storm-{round}")
            ports = self.cluster.ports * each
            barrier, answers, threads = threading.Barrier(len(ports)), [], Threads()

            def refresh(port):
                caller = Caller()
                barrier.wait()
                started = time.monotonic()
                reply = caller.ask(port, "POST", "/auth/token/refresh", {}, f"refresh_token={pair['refresh_token']}")
                times.append(time.monotonic() - started)
                answers.append(reply)
                caller.close()

            for port in ports:
                threads.start(refresh, port)
            threads.join()
            self.assertEqual([reply.status for reply in answers], [200] * len(ports), answers)
            issued = {json.loads(reply.body)["data"]["access_token"] for reply in answers}
            self.assertEqual(len(issued), 1, "one pair for all")
            for port in self.cluster.ports:
                self.assertEqual(self.opens(port, *issued), 200)
                wait_until(lambda: self.opens(port, pair["access_token"]) == 401, 1, "the old token is refused")
        figures(f"refreshes of one token, {3 * each} at once", times)

    def test_3_killed_store_server(self):
        users = self.users()
        token = self.known("killed")
        time.sleep(1)
        self.fault()
        self.cluster.stores[0].kill()
        acknowledged = self.revoke_soon("killed", self.cluster.ports[0])
        reached = self.refused_within(token, self.cluster.ports, BOUND)
        print(f"    acknowledged after {acknowledged * 1000:.0f} ms, refused by all {reached * 1000:.0f} ms later")
        print(f"    all as before after {self.recover() * 1000:.0f} ms, on one store server")
        time.sleep(2)
        self.fault()
        self.cluster.start_store(0)
        self.recover()
        self.finish(users)

    def test_4_stopped_store_server(self):
        users = self.users()
        for stopped in range(2):
            token = self.known("stopped")
            time.sleep(0.5)
            self.fault()
            self.cluster.stores[stopped].signal(signal.SIGSTOP)
            acknowledged = self.revoke_soon("stopped", self.cluster.ports[0])
            reached = self.refused_within(token, self.cluster.ports, BOUND)
            print(f"    acknowledged after {acknowledged * 1000:.0f} ms, refused by all {reached * 1000:.0f} ms later")
            print(f"    all as before after {self.recover() * 1000:.0f} ms, on one store server")
            time.sleep(1)
            self.fault()
            self.cluster.stores[stopped].signal(signal.SIGCONT)
            time.sleep(1)
            self.recover()
        self.finish(users)

    def test_5_cut_network(self):
        users = self.users()
        port = self.cluster.ports[2]
        token = self.known("cut")
        # Once the feed has told of it.
        time.sleep(1)
        self.know(token)
        began = self.fault(spares_cached=False)
        for network in self.cluster.networks:
            network.cut()
        self.revoke_soon("cut", self.cluster.ports[0])
        acknowledged = time.monotonic()
        self.assertLess(self.refused_within(token, self.cluster.ports[:2], 1), 1)
        # The node that is cut off accepts it for a while, and then says that it cannot tell.
        wait_until(lambda: self.opens(port, token) != 200, BOUND + SLACK, "the node that is cut off accepts it no more")
        print(f"    the node that is cut off accepted a revoked token for {time.monotonic() - acknowledged:.2f} s")
        self.assertEqual(self.opens(port, token), 503)
        self.assertLess(time.monotonic() - began, BOUND + 5)
        for network in self.cluster.networks:
            network.mend()
        mended = time.monotonic()
        wait_until(lambda: self.opens(port, token) == 401, 15, "the node knows of the revocation")
        print(f"    it refused it {time.monotonic() - mended:.2f} s after the network was mended")
        self.recover()
        self.finish(users)

    def test_6_slow_feed_readers(self):
        users = self.users()
        readers = []
        for _ in range(20):
            reader = socket.socket()
            self.addCleanup(reader.close)
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", self.cluster.store_ports[0]))
            reader.sendall(f"GET /v2/changes?detail=digest HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {BEARER}\r\n\r\n".encode())
            self.assertIn(b" 200 ", reader.recv(64))
            readers.append(reader)
        before = self.cluster.stores[0].memory()
        storm, done = threading.Event(), []

        def issue(number):
            caller = Caller()
            while not storm.is_set():
                body = json.dumps({"data": {"access_token": f"a{number}-{len(done)}", "refresh_token": f"r{number}-{len(done)}"}})
                headers = {"Authorization": f"Bearer {BEARER}", "Content-Type": "application/json"}
                reply = caller.ask(self.cluster.store_ports[0], "POST", f"/token?client_id=slow-{number}", headers, body)
                assert reply.status == 200, reply
                done.append(number)
            caller.close()

        self.addCleanup(storm.set)
        writers = Threads()
        for number in range(8):
            writers.start(issue, number)
        times = []
        ends = time.monotonic() + 8
        while time.monotonic() < ends:
            token = self.known(f"beside-{len(times)}")
            self.revoke_soon(f"beside-{len(times)}", self.cluster.ports[len(times) % 3])
            times.append(self.refused_within(token, self.cluster.ports, BOUND))
        storm.set()
        writers.join()
        grown = self.cluster.stores[0].memory() - before
        print(f"    {len(done)} changes, 20 readers that read nothing: {grown:.1f} MiB more in the store server")
        figures("revocations beside them", times)
        self.assertLess(grown, 200)
        self.finish(users)

    def test_7_stopped_standby(self):
        """Without its standby the primary acknowledges nothing that could be lost with it."""
        users = self.users()
        self.revoke_soon("nobody", self.cluster.ports[0])
        token = self.known("unsafe")
        time.sleep(1)
        self.fault(spares_cached=False)
        self.cluster.postgres.standby.signal_all(signal.SIGSTOP)
        body = "client_id=unsafe"
        reply = self.caller.ask(self.cluster.ports[0], "POST", "/auth/token/revoke", {"MASTER-TOKEN": MASTER}, body)
        print(f"    a revocation without the standby: {reply.status}")
        time.sleep(8)
        self.cluster.postgres.standby.signal_all(signal.SIGCONT)
        print(f"    all as before after {self.recover() * 1000:.0f} ms")
        self.assertEqual(reply.status, 503, "acknowledged, and on the primary alone")
        self.revoke_soon("unsafe", self.cluster.ports[0])
        self.refused_within(token, self.cluster.ports, BOUND)
        self.finish(users)

    def test_8_killed_primary(self):
        users = self.users()
        token = self.known("failed-over")
        time.sleep(2)
        self.revoke_soon("failed-over", self.cluster.ports[1])
        began = self.fault(spares_cached=False)
        self.cluster.postgres.primary.kill()
        self.cluster.postgres.promote()
        promoted = time.monotonic()
        for port in self.cluster.ports:
            wait_until(lambda: self.writes(port), 30, "a node writes to the standby")
        print(f"    promoted after {promoted - began:.2f} s; all nodes write after {time.monotonic() - began:.2f} s")
        self.recover()
        for port in self.cluster.ports:
            self.assertEqual(self.opens(port, token), 401)
        self.finish(users)
        self.cluster.postgres.add_standby()

    def test_9_outage_of_the_database(self):
        """With nothing to promote: what is cached is accepted for its time, and then 503."""
        users = self.users()
        token = self.known("outage")
        # Once the feed has told of it.
        time.sleep(1)
        self.know(token)
        began = self.fault(spares_cached=False)
        self.cluster.postgres.primary.signal_all(signal.SIGSTOP)
        for port in self.cluster.ports:
            wait_until(lambda: self.opens(port, token) == 503, BOUND + FRESH, "what is cached counts no more")
        print(f"    cached tokens were accepted for {time.monotonic() - began:.2f} s")
        self.assertGreater(time.monotonic() - began, FRESH)
        self.cluster.postgres.primary.signal_all(signal.SIGCONT)
        print(f"    all as before {self.recover() * 1000:.0f} ms after the database was")
        self.finish(users)


if __name__ == "__main__":
    unittest.main()
