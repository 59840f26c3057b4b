"""What must be true of a cluster, by what it acknowledged: a model that users and their requests are checked against.

Each user is one thread with a client id of its own, so that it knows what was acknowledged to it:

- A token that is current opens every node, or is answered 503 with Retry-After during an outage. It is never answered 401.
- A token that was replaced or revoked opens no node once the bound has passed since that was acknowledged.
- A node that answered a token before an outage goes on to accept it for as long as a cached answer counts.
"""

import json
import random
import threading
import time

import http.client

from processes import MASTER, Caller

# The longest time for which a node that hears nothing accepts what another one revoked (docs/guide/sessions.md).
BOUND = 8.0
# What a cached answer counts for at least, from when a node hears nothing.
FRESH = 5.0
# Between the end of a time of the cluster and the start of one here.
SLACK = 0.5
# The feed tells of a new token, too, and it is looked up again then. By now it has.
TOLD = 0.5
# A call that took as long may have been sent again: nodes wait for as long at least for the first answer.
REPEATED = 0.2
# For how long a call whose answer was lost may still be done: a store server goes on to try a revocation for a minute.
HAUNTING = 75.0
# Answers that were lost: what became of the call is not known.
LOST = (OSError, http.client.HTTPException)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def figures(name, seconds):
    """Prints the median and the 99th percentile of times."""
    p50, p99 = percentile(seconds, 0.5) * 1000, percentile(seconds, 0.99) * 1000
    print(f"    {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {max(seconds, default=0) * 1000:.1f} ms ({len(seconds)})", flush=True)


class Outages:
    """When what is broken, so that a 503 is judged by it."""

    def __init__(self):
        self.began, self.ended, self.spares_cached = None, None, True

    def begin(self, spares_cached):
        """A fault begins. If it `spares_cached`, tokens that a node knows are accepted for all of it."""
        self.began, self.ended, self.spares_cached = time.monotonic(), None, spares_cached

    def end(self):
        self.ended = time.monotonic()

    def excuses(self, started, is_cached):
        """Returns true if a request that started then may be answered 503."""
        if self.began is None or (self.ended and started > self.ended):
            return False
        return not is_cached or (not self.spares_cached and time.monotonic() > self.began + FRESH - SLACK)


class Model:
    """What all users saw."""

    def __init__(self, ports):
        self.ports, self.outages = ports, Outages()
        self.lock = threading.Lock()
        self.stops = threading.Event()
        self.violations, self.counts = [], {}
        self.checks, self.stale, self.rotations = [], [], []

    def violated(self, what):
        with self.lock:
            self.violations.append(f"{time.strftime('%X')} {what}")

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def verify(self):
        if self.violations:
            raise AssertionError(f"{len(self.violations)} violations: " + "\n".join(self.violations[:10]))

    def print(self, name):
        counts = ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))
        print(f"  {name}: {counts}")
        figures("checks of a current token", self.checks)
        figures("rotations", self.rotations)
        figures("superseded tokens were accepted after their rotation for", self.stale)


class User:
    """A client of its own, whose every answer is checked."""

    def __init__(self, model, name):
        self.model, self.name = model, name
        self.random = random.Random(name)
        self.caller = Caller()
        self.access = self.refresh = None
        # Tokens that must not be accepted, with the time of the acknowledgement.
        self.ended = []
        self.issued = 0.0
        # When each node accepted the current token last.
        self.knowing = {}
        # The call to repeat, since it is not known what became of it.
        self.pending = None
        # When a log-in or revocation was lost: it may be done late, and end what was issued since.
        self.haunted = None

    def post(self, path, body, port, headers=None):
        """Returns the answer, or None if it was 503 or lost."""
        started = time.monotonic()
        try:
            reply = self.caller.ask(port or self.port(), "POST", path, headers, body)
        except LOST as error:
            self.model.violated(f"{self.name}: a node did not answer {path}: {error!r}")
            return None
        if reply.status >= 500:
            self.model.count(f"{reply.status} of writes")
            self.judge_failure(reply, path, started, is_cached=False)
            return None
        return reply

    def judge_failure(self, reply, what, started, is_cached):
        if reply.status != 503 or not reply.headers.get("Retry-After"):
            self.model.violated(f"{self.name}: {what} was answered {reply}")
        elif not self.model.outages.excuses(started, is_cached):
            took = time.monotonic() - started
            self.model.violated(f"{self.name}: {what} was answered {reply} after {took:.2f} s, cached={is_cached}")

    def port(self):
        return self.random.choice(self.model.ports)

    def log_in(self, port=None):
        """Begins a session, which replaces the one before. Returns true if that was acknowledged."""
        started = time.monotonic()
        reply = self.post("/auth/token/new", f"client_id={self.name}", port, {"MASTER-TOKEN": MASTER})
        self.may_be_repeated(started)
        return self.takes(reply, self.log_in)

    def rotate(self, port=None):
        """Refreshes. Returns true if that was acknowledged."""
        started = time.monotonic()
        reply = self.post("/auth/token/refresh", f"refresh_token={self.refresh}", port)
        if reply is not None and reply.status == 401 and self.is_haunted():
            self.pending = self.log_in
            return False
        is_done = self.takes(reply, self.rotate)
        if is_done:
            self.model.rotations.append(time.monotonic() - started)
        return is_done

    def takes(self, reply, call):
        what = call.__name__
        if reply is None:
            self.lost(call)
            return False
        if reply.status != 200:
            self.model.violated(f"{self.name}: {what} was answered {reply}")
            self.pending = self.log_in
            return False
        self.model.count(what)
        self.end_tokens()
        data = json.loads(reply.body)["data"]
        self.access, self.refresh = data["access_token"], data["refresh_token"]
        self.pending = None
        self.issued = time.monotonic()
        return True

    def revoke(self, port=None):
        """Revokes all of the client. Returns true if that was acknowledged."""
        started = time.monotonic()
        reply = self.post("/auth/token/revoke", f"client_id={self.name}", port, {"MASTER-TOKEN": MASTER})
        self.may_be_repeated(started)
        if reply is None:
            self.lost(self.revoke)
            return False
        if reply.status != 200:
            self.model.violated(f"{self.name}: a revocation was answered {reply}")
            return False
        self.model.count("revoke")
        self.end_tokens()
        self.pending = None
        return True

    def may_be_repeated(self, started):
        """Notes that a node may have sent a call to both store servers. One that was stopped does it once it goes on."""
        if self.model.outages.excuses(started, is_cached=False) and time.monotonic() - started > REPEATED:
            self.haunted = time.monotonic()

    def lost(self, call):
        self.pending = call
        if call != self.rotate:
            self.haunted = time.monotonic()

    def is_haunted(self):
        return self.haunted is not None and time.monotonic() < self.haunted + HAUNTING

    def end_tokens(self):
        if self.access:
            self.ended = [*self.ended[-8:], (self.access, time.monotonic())]
        self.access = self.refresh = None
        self.knowing = {}

    def check(self, port=None):
        """Sends the current token to a node."""
        port = port or self.port()
        started = time.monotonic()
        reply = self.opens(port, self.access)
        if reply is None:
            return
        if reply.status == 200:
            self.knowing[port] = started
            self.model.checks.append(time.monotonic() - started)
            self.model.count("check")
        elif reply.status == 401:
            if self.is_haunted():
                self.model.count("tokens ended by a call that was lost")
                self.pending = self.log_in
            elif self.pending is None:
                self.model.violated(f"{self.name}: the current token was answered {reply}")
                self.pending = self.log_in
        else:
            began = self.model.outages.began
            knew = self.knowing.get(port, 0)
            is_cached = began is not None and self.issued + TOLD < knew < began
            self.model.count(f"{reply.status} of checks")
            self.judge_failure(reply, "a check", started, is_cached)

    def check_ended(self, port=None):
        """Sends a token that was replaced or revoked to a node."""
        if not self.ended:
            return
        token, since = self.random.choice(self.ended)
        started = time.monotonic()
        reply = self.opens(port or self.port(), token)
        if reply is None:
            return
        if reply.status == 200:
            self.model.stale.append(started - since)
            if started - since > BOUND + SLACK:
                self.model.violated(f"{self.name}: a token was accepted {started - since:.3f} s after its end was acknowledged")
        elif reply.status == 401:
            self.model.count("ended tokens refused")
        else:
            self.model.count(f"{reply.status} of checks")
            self.judge_failure(reply, "an ended token", started, is_cached=False)

    def opens(self, port, token):
        try:
            return self.caller.ask(port, "GET", "/access/hello", {"ACCESS-TOKEN": token})
        except LOST as error:
            self.model.violated(f"{self.name}: a node did not answer a check: {error!r}")
            return None

    def go_on(self):
        """Repeats what was lost, or logs in. Returns true if that was acknowledged, or nothing was to do."""
        if self.pending:
            return self.pending()
        return bool(self.access) or self.log_in()

    def live(self):
        """What a user does until the model stops it."""
        while not self.model.stops.is_set():
            chance = self.random.random()
            if self.pending or not self.access:
                if not self.go_on():
                    self.model.stops.wait(0.1)
            elif chance < 0.03:
                self.rotate()
            elif chance < 0.04:
                self.revoke()
            elif chance < 0.3:
                self.check_ended()
            else:
                self.check()
            self.model.stops.wait(0.004)
