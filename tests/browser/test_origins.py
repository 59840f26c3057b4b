"""Pages of other origins and other sites that log in and refresh by the cookie, as docs/guide/origins.md has it."""

import contextlib
import http.server
import json
import pathlib
import shutil
import tempfile
import threading
import time
import unittest

from support import CHROMIUM, ROOT, BrowserTest, ask, serving

SCRIPT = ROOT / "clients" / "js" / "fastauth.js"
# In the server's log.
REFUSED = "refused: a page of another origin asked"
MALFORMED = "malformed_token"

LOGIN = """async ([api, code]) => {
    const answer = await fetch(`${api}/demo/login`, {
        method: "POST",
        credentials: "include",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ code }),
    });
    return (await answer.json()).data.access_token;
}"""

# The status and the reason, or that the browser lets the page read nothing.
REFRESH = """async (api) => {
    try {
        const answer = await fetch(`${api}/auth/token/refresh`, { method: "POST", credentials: "include" });
        const { reason = null } = await answer.json();
        return [answer.status, reason];
    } catch (error) {
        return [0, error.name];
    }
}"""

GET = """async ([api, headers]) => {
    try {
        const answer = await fetch(`${api}/access/health`, { headers });
        const challenge = answer.headers.get("WWW-Authenticate");
        return [answer.status, (await answer.json()).reason ?? null, challenge !== null];
    } catch (error) {
        return [0, error.name, false];
    }
}"""

# The same refresh in a frame whose origin is `null`.
SANDBOXED = """([refresh, api]) => new Promise((resolve) => {
    window.onmessage = ({ data, origin }) => resolve([origin, ...data]);
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.srcdoc = `<script>(${refresh})("${api}").then((found) => parent.postMessage(found, "*"))</script>`;
    document.body.append(frame);
})"""

# Has another site set a cookie.
PLAIN = """async (url) => void (await fetch(url, { mode: "no-cors", credentials: "include" }))"""

# The first event of a stream, or null.
EVENT = """(url) => new Promise((resolve) => {
    const source = new EventSource(url);
    source.onmessage = ({ data }) => resolve(data);
    source.onerror = () => resolve(null);
})"""

PICTURE = """(url) => new Promise((resolve) => {
    const image = document.body.appendChild(new Image());
    image.onload = () => resolve(true);
    image.onerror = () => resolve(false);
    image.src = url;
})"""

TICKET = """async ([api, token, path]) => {
    const answer = await fetch(`${api}/auth/ticket`, {
        method: "POST",
        headers: { "ACCESS-TOKEN": token, "Content-Type": "application/json" },
        body: JSON.stringify({ path, expires_in: 60 }),
    });
    return (await answer.json()).ticket;
}"""


class Page(http.server.BaseHTTPRequestHandler):
    """An empty page at every path, one with a cookie that is not partitioned, and the script."""

    def do_GET(self):
        is_script = self.path == "/fastauth.js"
        body = SCRIPT.read_bytes() if is_script else b"<!DOCTYPE html><title>page</title><body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if is_script else "text/html")
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/plain":
            self.send_header("Set-Cookie", "plain=1; SameSite=None; Secure")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def pages():
    """The port of a server of pages, on 127.0.0.1, which is `localhost` as well."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class Origins(BrowserTest):
    """The API is at `localhost`. A page at another port of it is of the same site, and one at 127.0.0.1 of another."""

    same_site = "strict"

    @classmethod
    def serve(cls):
        listed, unlisted = cls.enterClassContext(pages()), cls.enterClassContext(pages())
        cls.sister, cls.stranger = f"http://localhost:{listed}", f"http://127.0.0.1:{listed}"
        cls.unlisted, cls.foreign = f"http://localhost:{unlisted}", f"http://127.0.0.1:{unlisted}"
        return serving(
            refresh_transport="cookie",
            allowed_origins=[cls.sister, cls.stranger],
            cookie_same_site=cls.same_site,
            tokens_per_client="many",
        )

    def setUp(self):
        self.api = self.server.url.replace("127.0.0.1", "localhost")
        self.context = self.enterContext(contextlib.closing(self.browser.new_context()))

    def open(self, origin, context=None):
        """A page of this origin, with the cookies of the others of this test."""
        page = (context or self.context).new_page()
        page.goto(f"{origin}/health")
        return page

    def log_in(self, page):
        ask(f"{self.server.url}/demo/link", form={})
        return self.run_script(LOGIN, [self.api, self.server.link().split("#code=")[1]], page=page)

    def refresh(self, page):
        status, reason = self.run_script(REFRESH, self.api, page=page)
        return status, reason

    @contextlib.contextmanager
    def assert_refused(self):
        """The server refuses one request. Playwright shows no answer that the page may not read."""
        before = self.server.logged().count(REFUSED)
        yield
        self.assertEqual(self.server.logged().count(REFUSED), before + 1)

    def sent_by(self, page):
        """Notes the headers of the next `fetch` of a page. Playwright tells the cookie only of one that succeeds."""
        found = []

        def note(event):
            # Not those of the page's icon, which the browser loads when it likes.
            if event["headers"].get("Sec-Fetch-Mode") == "cors":
                found.append(event["headers"])

        session = self.context.new_cdp_session(page)
        session.on("Network.requestWillBeSentExtraInfo", note)
        session.send("Network.enable")

        def headers():
            deadline = time.monotonic() + 15
            while not found and time.monotonic() < deadline:
                page.evaluate("0")
            return found[0]

        return headers


class SameSite(Origins):
    def test_a_page_of_the_list_logs_in_and_refreshes(self):
        page = self.open(self.sister)
        self.log_in(page)
        [cookie] = self.context.cookies()
        self.assertEqual((cookie["sameSite"], cookie["secure"], cookie["httpOnly"]), ("Strict", True, True))
        self.assertEqual(self.refresh(page), (200, None))
        # Another page of the site has the same log-in.
        self.assertEqual(self.refresh(self.open(self.api)), (200, None))

    def test_a_page_that_is_not_listed_is_refused_with_the_cookie(self):
        page = self.open(self.sister)
        self.log_in(page)
        unlisted = self.open(self.unlisted)
        sent = self.sent_by(unlisted)
        with self.assert_refused():
            self.assertEqual(self.refresh(unlisted), (0, "TypeError"))
        # The browser sends it, since the site is the same: the list keeps the page out.
        self.assertIn("Cookie", sent())
        self.assertEqual(self.refresh(page), (200, None))

    def test_a_page_of_no_origin_is_refused(self):
        page = self.open(self.sister)
        self.log_in(page)
        with self.assert_refused():
            found = self.run_script(SANDBOXED, [REFRESH, self.api], page=page)
        self.assertEqual(found, ["null", 0, "TypeError"])
        self.assertEqual(self.refresh(page), (200, None))

    def test_a_page_of_another_site_has_no_cookie(self):
        page = self.open(self.stranger)
        self.log_in(page)
        self.assertEqual(self.context.cookies(), [])
        self.assertEqual(self.refresh(page), (401, "not_logged_in"))

    def test_preflights_are_answered_and_refusals_can_be_read(self):
        page = self.open(self.sister)
        token = self.log_in(page)
        for headers in [{"Authorization": f"Bearer {token}"}, {"ACCESS-TOKEN": token}]:
            self.assertEqual(self.run_script(GET, [self.api, headers], page=page), [200, None, False])
        bad = {"Authorization": "Bearer x.y.z"}
        self.assertEqual(self.run_script(GET, [self.api, bad], page=page), [401, "malformed_token", True])
        self.assertEqual(self.run_script(GET, [self.api, {}], page=page), [401, "missing_access_token", True])
        # The browser does not send the request after a preflight that does not name the origin.
        unlisted = self.open(self.unlisted)
        before = self.server.logged().count(MALFORMED)
        self.assertEqual(self.run_script(GET, [self.api, bad], page=unlisted), [0, "TypeError", False])
        self.assertEqual(self.server.logged().count(MALFORMED), before)

    def test_the_script_keeps_the_session_over_a_reload(self):
        page = self.open(self.sister)
        self.log_in(page)
        for _ in range(2):
            page.reload()
            status = self.run_script(
                """async (api) => {
                    const { FastAuth } = await import("/fastauth.js");
                    const auth = new FastAuth({ baseUrl: `${api}/auth` });
                    return (await auth.fetch("/access/health")).status;
                }""",
                self.api,
                page=page,
            )
            self.assertEqual(status, 200)

    def test_a_ticket_works_where_the_answer_may_be_used(self):
        page = self.open(self.sister)
        token = self.log_in(page)
        for path, script, good, bad in [
            ("/access/events", EVENT, "0 /access/events", None),
            ("/access/picture.svg", PICTURE, True, True),
        ]:
            ticket = self.run_script(TICKET, [self.api, token, path], page=page)
            url = f"{self.api}{path}?ticket={ticket}"
            self.assertEqual(self.run_script(script, url, page=page), good)
            # Events are read by CORS, and a picture is not.
            self.assertEqual(self.run_script(script, url, page=self.open(self.foreign)), bad)


class OtherSite(Origins):
    same_site = "none"

    def test_a_page_of_another_site_logs_in_and_refreshes(self):
        page = self.open(self.stranger)
        self.log_in(page)
        [cookie] = self.context.cookies()
        self.assertEqual((cookie["sameSite"], cookie["secure"]), ("None", True))
        self.assertEqual(cookie["partitionKey"], "http://127.0.0.1")
        self.assertEqual(self.refresh(page), (200, None))
        # It is a log-in of that site alone.
        own = self.open(self.api)
        self.assertEqual(self.refresh(own), (401, "not_logged_in"))
        self.log_in(own)
        self.assertEqual(len(self.context.cookies()), 2)
        self.assertEqual(self.refresh(self.open(self.sister)), (200, None))
        self.assertEqual(self.refresh(page), (200, None))

    def test_the_list_keeps_others_of_that_site_out(self):
        page = self.open(self.stranger)
        self.log_in(page)
        foreign = self.open(self.foreign)
        sent = self.sent_by(foreign)
        with self.assert_refused():
            self.assertEqual(self.refresh(foreign), (0, "TypeError"))
        self.assertIn("Cookie", sent())
        self.assertEqual(self.refresh(page), (200, None))

    def test_it_works_whether_cookies_of_third_parties_are_blocked_or_not(self):
        for blocked in [False, True]:
            with self.subTest(blocked=blocked):
                context = self.open_profile(cookie_controls_mode=int(blocked))
                page = self.open(self.stranger, context)
                self.run_script(PLAIN, f"{self.sister}/plain", page=page)
                names = [cookie["name"] for cookie in context.cookies()]
                self.assertEqual(names, [] if blocked else ["plain"])
                self.log_in(page)
                self.assertEqual(self.refresh(page), (200, None))

    def open_profile(self, **preferences):
        """A usual window with these preferences; the contexts of other tests are as private ones."""
        directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (directory / "Default").mkdir()
        (directory / "Default" / "Preferences").write_text(json.dumps({"profile": preferences}))
        launch = self.browser.browser_type.launch_persistent_context
        context = launch(directory, executable_path=shutil.which("chromium"), args=CHROMIUM)
        return self.enterContext(contextlib.closing(context))


if __name__ == "__main__":
    unittest.main()
