"""clients/js in Chromium, with a server of examples/demo: eight tabs that send calls side by side."""

import collections
import contextlib
import http.server
import math
import os
import pathlib
import sys
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "browser"))

from support import MASTER, BrowserTest, serving  # noqa: E402, F401

SCRIPT = HERE.parents[1] / "clients" / "js" / "fastauth.js"
TABS = 8
LIFE = 5
SECONDS = float(os.environ.get("CLIENT_SECONDS", "15"))

START = """async (master) => {
    const form = new URLSearchParams({ client_id: "ann" });
    const init = { method: "POST", headers: { "MASTER-TOKEN": master }, body: form };
    return window.auth.start(() => fetch("/auth/token/new", init));
}"""


class Browser:
    """One user's browser: tabs that share cookies, and what the server answered them."""

    def __init__(self, test, server):
        self.server = server
        self.context = test.enterContext(contextlib.closing(test.browser.new_context()))
        self.context.route("**/tab.js", lambda route: route.fulfill(path=HERE / "tab.js", content_type="text/javascript"))
        self.context.route("**/fastauth.js", lambda route: route.fulfill(path=SCRIPT, content_type="text/javascript"))
        self.answers = collections.Counter()
        self.context.on("response", self.note)

    def note(self, response):
        path = response.url.removeprefix(self.server.url).split("?")[0]
        self.answers[path, response.status] += 1

    def tab(self):
        page = self.context.new_page()
        # A page of the server: Chromium does not let pages from elsewhere open sockets to this machine.
        page.goto(f"{self.server.url}/health")
        self.add_script(page)
        return page

    def add_script(self, page):
        page.add_script_tag(url="/tab.js", type="module")
        page.wait_for_function("window.isReady")

    def log_in(self, page):
        return page.evaluate(START, MASTER)

    def renewals(self):
        return self.answers["/auth/token/refresh", 200]


def side_by_side(pages, script, argument=None):
    """Runs a script in all pages at once; what it gives in each."""
    for page in pages:
        page.evaluate("([script, argument]) => void (window.running = eval(script)(argument))", [script, argument])
    return [page.evaluate("() => window.running") for page in pages]


def total(counters):
    return dict(sum((collections.Counter(counter) for counter in counters), collections.Counter()))


class EightTabs(BrowserTest):
    settings = {"refresh_transport": "cookie", "access_ttl": f"{LIFE}s"}

    def open_page(self, origin):
        return None

    def test_eight_tabs_renew_no_more_than_needed(self):
        browser = Browser(self, self.server)
        pages = [browser.tab() for _ in range(TABS)]
        self.assertEqual(browser.log_in(pages[0])["clientId"], "ann")
        for page in pages:
            page.wait_for_function("window.sessions.at(-1) === 'ann'")
            page.evaluate("() => window.openSocket()")
        before = browser.renewals()
        began = time.monotonic()
        answers = total(side_by_side(pages, "(seconds) => window.work(window.byScript, seconds, 4, 50)", SECONDS))
        took = time.monotonic() - began
        renewals = browser.renewals() - before
        sockets = [page.evaluate("() => window.socketCounts") for page in pages]
        print(
            f"\n{TABS} tabs, {took:.0f} s, access-ttl {LIFE} s: {renewals} renewals, calls {answers}, retried after 401: "
            f"{browser.answers['/access/health', 401]}, tickets {browser.answers['/auth/ticket', 200]}, sockets {sockets}",
            flush=True,
        )
        self.assertEqual(set(answers), {"200"})
        # One a life of a token at most, which is renewed after three to four fifths of its life.
        self.assertLessEqual(renewals, math.ceil(took / (LIFE * 0.6)) + 1)
        self.assertGreaterEqual(renewals, math.floor(took / LIFE) - 1)
        refused = {key: number for key, number in browser.answers.items() if key[0] == "/auth/token/refresh" and key[1] not in (200, 401)}
        self.assertEqual(refused, {})
        for socket in sockets:
            self.assertGreaterEqual(socket["opened"], renewals)
            self.assertEqual(set(socket["closed"]), {"1008"})
            self.assertGreater(socket["echoes"], took)

        pages[3].evaluate("() => window.auth.logout()")
        for page in pages:
            page.wait_for_function("window.sessions.at(-1) === null && window.socketCounts.closed.finally === 1")
        before = browser.answers.copy()
        answers = total(side_by_side(pages, "() => window.work(window.byScript, 0.3, 2, 50)"))
        self.assertEqual(set(answers), {"401"})
        self.assertEqual(browser.renewals(), before["/auth/token/refresh", 200])
        # The cookie is gone, and the session as well.
        page = browser.tab()
        self.assertIsNone(page.evaluate("() => window.auth.session()"))

    def test_reload_takes_the_token_of_another_tab(self):
        browser = Browser(self, self.server)
        one, other = browser.tab(), browser.tab()
        browser.log_in(one)
        before = browser.renewals()
        other.reload()
        browser.add_script(other)
        self.assertEqual(other.evaluate("async () => (await window.auth.session()).clientId"), "ann")
        self.assertEqual(browser.renewals(), before)
        # Without another tab, the cookie restores it.
        other.close()
        one.reload()
        browser.add_script(one)
        self.assertEqual(one.evaluate("async () => (await window.auth.session()).clientId"), "ann")
        self.assertEqual(browser.renewals(), before + 1)

    def test_frozen_tab_wakes_without_a_renewal(self):
        browser = Browser(self, self.server)
        one, frozen = browser.tab(), browser.tab()
        browser.log_in(one)
        frozen.wait_for_function("window.sessions.at(-1) === 'ann'")
        session = browser.context.new_cdp_session(frozen)
        before = browser.renewals()
        session.send("Page.setWebLifecycleState", {"state": "frozen"})
        one.wait_for_function("window.sessions.length >= 4")
        session.send("Page.setWebLifecycleState", {"state": "active"})
        renewed = browser.renewals()
        self.assertGreaterEqual(renewed, before + 2)
        self.assertEqual(frozen.evaluate("() => window.work(window.byScript, 0.1, 4, 50)").keys(), {"200"})
        self.assertEqual(browser.renewals(), renewed)

    def test_redirect_to_another_origin_takes_no_token_along(self):
        found = []

        class Elsewhere(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                found.append(dict(self.headers))
                self.send_response(200)
                self.send_header("Access-Control-Allow-Origin", "*")
                self.end_headers()

            def do_OPTIONS(self):
                self.send_response(200)
                self.send_header("Access-Control-Allow-Origin", "*")
                self.send_header("Access-Control-Allow-Headers", "*, X-Other, Authorization")
                self.end_headers()

            def log_message(self, *_):
                pass

        elsewhere = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
        threading.Thread(target=elsewhere.serve_forever).start()
        self.addCleanup(elsewhere.server_close)
        self.addCleanup(elsewhere.shutdown)
        browser = Browser(self, self.server)
        location = f"http://127.0.0.1:{elsewhere.server_port}/"
        browser.context.route("**/moved", lambda route: route.fulfill(status=302, headers={"Location": location}))
        page = browser.tab()
        browser.log_in(page)
        send = "async () => (await window.auth.fetch('/moved', { headers: { 'X-Other': 'kept' } })).status"
        self.assertEqual(page.evaluate(send), 200)
        headers = {name.lower() for name in found[0]}
        self.assertIn("x-other", headers)
        self.assertNotIn("authorization", headers)


if __name__ == "__main__":
    unittest.main()
