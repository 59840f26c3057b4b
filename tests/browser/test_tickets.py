"""What a page opens by a URL with a ticket: events, a picture and a file, as docs/guide/tickets.md has it."""

import unittest

from support import ROOT, BrowserTest

SCRIPT = ROOT / "clients" / "js" / "fastauth.js"

# A ticket for the holder of a token.
TICKET = """async ([token, bound]) => {
    const answer = await fetch("/auth/ticket", {
        method: "POST",
        headers: { "ACCESS-TOKEN": token, "Content-Type": "application/json" },
        body: JSON.stringify(bound),
    });
    return (await answer.json()).ticket;
}"""

FETCH = """async ([path, headers]) => {
    const answer = await fetch(path, { headers });
    const text = await answer.text();
    const reason = answer.ok ? null : JSON.parse(text).reason;
    return { status: answer.status, range: answer.headers.get("Content-Range"), reason, text };
}"""

# The events of a stream until there are so many, or until the browser gives up.
EVENTS = """([url, most]) => new Promise((resolve) => {
    const source = new EventSource(url);
    const found = { opened: 0, events: [] };
    const end = (gaveUp) => {
        source.close();
        resolve({ ...found, gaveUp });
    };
    source.onopen = () => found.opened++;
    source.onmessage = ({ data }) => found.events.push(data) === most && end(false);
    source.onerror = () => source.readyState === EventSource.CLOSED && end(true);
})"""

# Opens a stream, and leaves it open.
HOLD = """(url) => new Promise((resolve) => {
    const source = new EventSource(url);
    window.gaveUp = new Promise((resolve) => {
        source.onerror = () => source.readyState === EventSource.CLOSED && resolve(true);
    });
    source.onmessage = resolve;
})"""

# The width of a picture, or null.
PICTURE = """(url) => new Promise((resolve) => {
    const image = document.body.appendChild(new Image());
    image.onload = () => resolve(image.naturalWidth);
    image.onerror = () => resolve(null);
    image.src = url;
})"""

DOWNLOAD = """(url) => {
    const link = document.body.appendChild(document.createElement("a"));
    link.href = url;
    link.click();
}"""


class Tickets(BrowserTest):
    def setUp(self):
        super().setUp()
        self.client = self.id()
        self.token = self.server.new(self.client)["access_token"]

    def url(self, path, bound=None, **terms):
        """A URL of the path with a ticket for it, or for another path; some events have a query of their own."""
        terms["path"] = bound or path.split("?")[0]
        ticket = self.run_script(TICKET, [self.token, terms])
        return f"{path}{'&' if '?' in path else '?'}ticket={ticket}"

    def fetch(self, url, **headers):
        return self.run_script(FETCH, [url, headers])

    def assert_refused(self, url, reason):
        answer = self.fetch(url)
        self.assertEqual((answer["status"], answer["reason"]), (401, reason))

    def test_a_page_gets_events(self):
        found = self.run_script(EVENTS, [self.url("/access/events"), 2])
        self.assertEqual(found, {"opened": 1, "events": ["0 /access/events", "1 /access/events"], "gaveUp": False})

    def test_seconds_let_a_browser_connect_again(self):
        url = self.url("/access/events?count=1", expires_in=300)
        found = self.run_script(EVENTS, [url, 3])
        # The handler sees its own parameter, and no ticket.
        self.assertEqual(found, {"opened": 3, "events": ["0 /access/events?count=1"] * 3, "gaveUp": False})

    def test_a_ticket_for_one_use_does_not(self):
        url = self.url("/access/events?count=1")
        found = self.run_script(EVENTS, [url, 3])
        self.assertEqual(found, {"opened": 1, "events": ["0 /access/events?count=1"], "gaveUp": True})
        self.assert_refused(url, "spent_ticket")

    def test_a_stream_ends_with_its_token(self):
        url = self.url("/access/events", expires_in=300)
        self.run_script(HOLD, url)
        self.server.revoke(client_id=self.client)
        self.assertTrue(self.run_script("() => window.gaveUp"))
        self.assert_refused(url, "unknown_client")

    def test_a_refresh_ends_a_stream_and_the_next_ticket_opens_another(self):
        pair = self.server.new(self.client)
        self.token = pair["access_token"]
        url = self.url("/access/events", expires_in=300)
        self.run_script(HOLD, url)
        self.token = self.server.refresh(pair["refresh_token"])["access_token"]
        self.assertTrue(self.run_script("() => window.gaveUp"))
        self.assert_refused(url, "not_current")
        found = self.run_script(EVENTS, [self.url("/access/events"), 2])
        self.assertEqual((found["opened"], found["gaveUp"]), (1, False))

    def test_a_page_that_fetches_events_sees_a_clean_end(self):
        """A page that reads the body itself tells a clean end, after whole events, from a broken connection."""
        read = """async (token) => {
            const answer = await fetch("/access/events", { headers: { "ACCESS-TOKEN": token } });
            const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
            window.ended = (async () => {
                let text = "";
                for (;;) {
                    const { done, value } = await reader.read();
                    if (done) return text;
                    text += value;
                    window.begun?.();
                }
            })().catch(String);
            await new Promise((resolve) => (window.begun = resolve));
        }"""
        self.run_script(read, self.token)
        self.server.revoke(client_id=self.client)
        text = self.run_script("() => window.ended")
        self.assertRegex(text, r"\A(retry: 100\ndata: \d+ /access/events\n\n)+\Z")

    def test_a_page_shows_a_picture_once(self):
        url = self.url("/access/picture.svg")
        with self.page.expect_response("**/picture.svg*") as answer:
            self.assertGreater(self.run_script(PICTURE, url), 0)
        headers = answer.value.headers
        self.assertEqual(
            (headers["cache-control"], headers["referrer-policy"]), ("private, no-store", "no-referrer")
        )
        self.assertIsNone(self.run_script(PICTURE, "/access/picture.svg"))
        # In a page that does not have the picture in its memory.
        other = self.open_page(self.server.url)
        self.assertIsNone(self.run_script(PICTURE, url, page=other))
        self.assert_refused(url, "spent_ticket")

    def test_a_file_is_downloaded(self):
        url = self.url("/access/files/report.txt")
        with self.page.expect_download() as download:
            self.run_script(DOWNLOAD, url)
        self.assertEqual(download.value.suggested_filename, "report.txt")
        text = download.value.path().read_text()
        self.assertEqual((len(text), text.split("\n")[0]), (64 << 10, "/access/files/report.txt"))

    def test_a_file_is_fetched_by_ranges(self):
        url = self.url("/access/files/report.txt", bound="/access/files", expires_in=60)
        whole = self.fetch(url)
        self.assertEqual(whole["status"], 200)
        for asked, given, text in [
            ("bytes=0-99", "bytes 0-99/65536", whole["text"][:100]),
            ("bytes=100-", "bytes 100-65535/65536", whole["text"][100:]),
        ]:
            part = self.fetch(url, Range=asked)
            self.assertEqual((part["status"], part["range"], part["text"]), (206, given, text))

    def test_a_ticket_opens_its_own_path_only_and_is_not_used_up_by_another(self):
        files = self.url("/access/files/report.txt", bound="/access/files")
        ticket = files.split("?")[1]
        for path in ["/access/picture.svg", "/access/filesystem", "/access/events"]:
            self.assert_refused(f"{path}?{ticket}", "ticket_mismatch")
        self.assertEqual(self.fetch(files)["status"], 200)
        self.assert_refused(files, "spent_ticket")

    def test_a_revoked_token_opens_nothing(self):
        once, often = self.url("/access/picture.svg"), self.url("/access/picture.svg", expires_in=60)
        self.assertGreater(self.run_script(PICTURE, often), 0)
        self.server.revoke(client_id=self.client)
        for url in [once, often]:
            self.assert_refused(url, "unknown_client")
        other = self.open_page(self.server.url)
        self.assertIsNone(self.run_script(PICTURE, often, page=other))

    def test_the_script_makes_such_a_url(self):
        self.page.context.route(
            "**/fastauth.js", lambda route: route.fulfill(path=SCRIPT, content_type="text/javascript")
        )
        url = self.run_script(
            """async (pair) => {
                const { FastAuth } = await import("/fastauth.js");
                const auth = new FastAuth({ transport: "body" });
                await auth.start(pair);
                return auth.url("/access/events?count=1", { expiresIn: 300 });
            }""",
            self.server.new("script"),
        )
        self.assertTrue(url.startswith(f"{self.server.url}/access/events?count=1&ticket="), url)
        self.assertEqual(self.run_script(EVENTS, [url, 2])["opened"], 2)

    def test_no_ticket_is_logged(self):
        urls = [self.url("/access/picture.svg"), self.url("/access/files/report.txt", bound="/access/files")]
        for url in urls:
            self.assertEqual(self.fetch(url)["status"], 200)
            self.assert_refused(url, "spent_ticket")
            self.assertNotIn(url.split("ticket=")[1], self.server.logged())


if __name__ == "__main__":
    unittest.main()
