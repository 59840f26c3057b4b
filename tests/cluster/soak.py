"""Everything at once, for minutes: users, rotations, revocations and faults in turn, with the model of model.py.

`tests/cluster/run --soak MINUTES` runs it. It stops at the first violation, and shows the logs.
"""

import pathlib
import random
import signal
import sys
import tempfile
import time

from model import LOST, Model, User, figures
from processes import MASTER, Caller, Cluster, Postgres, Threads, wait_until

USERS = 12


class Soak:
    def __init__(self, cluster, seed):
        self.cluster, self.random = cluster, random.Random(seed)
        self.model, self.caller, self.recoveries = Model(cluster.ports), Caller(), []

    def writes(self, port):
        try:
            reply = self.caller.ask(port, "POST", "/auth/token/new", {"MASTER-TOKEN": MASTER}, "client_id=recovery")
            return reply.status == 200
        except LOST:
            return False

    def killed_store_server(self):
        number = self.random.randrange(2)
        yield True
        self.cluster.stores[number].kill()
        yield
        self.cluster.start_store(number)

    def stopped_store_server(self):
        store = self.cluster.stores[self.random.randrange(2)]
        yield True
        store.signal(signal.SIGSTOP)
        yield
        store.signal(signal.SIGCONT)

    def cut_network(self):
        networks = self.random.sample(self.cluster.networks, self.random.choice([1, 2]))
        yield len(networks) == 1
        for network in networks:
            network.cut()
        yield
        for network in networks:
            network.mend()

    def killed_primary(self):
        yield False
        self.cluster.postgres.primary.kill()
        time.sleep(self.random.random() * 3)
        self.cluster.postgres.promote()
        yield
        self.cluster.postgres.add_standby()

    def stopped_primary(self):
        yield False
        self.cluster.postgres.primary.signal_all(signal.SIGSTOP)
        yield
        self.cluster.postgres.primary.signal_all(signal.SIGCONT)

    def break_one(self):
        """Breaks a part, mends it after some seconds, and waits until all nodes write and hear the feed."""
        fault = self.random.choice([self.killed_store_server, self.stopped_store_server, self.cut_network,
                                    self.killed_primary, self.stopped_primary])
        steps = fault()
        self.model.outages.begin(spares_cached=next(steps))
        next(steps)
        time.sleep(self.random.uniform(0.2, 12))
        next(steps, None)
        started = time.monotonic()
        for port in self.cluster.ports:
            wait_until(lambda: self.writes(port), 60, "a node writes again")
        wait_until(self.cluster.feeds_live, 30, "the nodes hear the feed again")
        self.model.outages.end()
        took = time.monotonic() - started
        self.recoveries.append(took)
        print(f"  {fault.__name__}: all as before {took:.2f} s after it was mended", flush=True)

    def run(self, minutes):
        wait_until(self.cluster.feeds_live, 30, "the nodes hear the feed")
        threads = Threads()
        users = [User(self.model, f"user-{number}") for number in range(USERS)]
        for user in users:
            threads.start(user.live)
        ends = time.monotonic() + minutes * 60
        while time.monotonic() < ends:
            time.sleep(self.random.uniform(1, 5))
            self.break_one()
            self.model.verify()
        time.sleep(2)
        self.model.stops.set()
        threads.join()
        self.model.print(f"{minutes:g} minutes with {USERS} users and {len(self.recoveries)} faults")
        figures("all as before", self.recoveries)
        self.model.verify()


def main():
    minutes = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    print(f"soak: {minutes:g} minutes, seed {seed}", flush=True)
    if not Postgres.programs():
        sys.exit("soak: initdb is not in /usr/lib/postgresql/*/bin")
    with tempfile.TemporaryDirectory(prefix="fastauth-soak-") as directory:
        place = pathlib.Path(directory)
        place.chmod(0o755)
        cluster = Cluster(place)
        try:
            cluster.start()
            Soak(cluster, seed).run(minutes)
        except BaseException:
            print(cluster.logs())
            raise
        finally:
            cluster.end()


main()
