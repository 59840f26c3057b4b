"""The page that examples/demo serves at /, worked as its user would."""

import json
import os
import re
import subprocess
import unittest

from playwright.sync_api import expect

from looks import FAINT, FOCUS, WIDTH
from support import MASTER, BrowserTest, ask, shipped

# A refused call is an error for the console.
EXPECTED = re.compile("Failed to load resource|WebSocket connection to")


class DemoTest(BrowserTest):
    def setUp(self):
        self.requests = []
        self.problems = []
        self.context = self.browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        self.addCleanup(self.context.close)
        self.page = self.new_tab()

    def new_tab(self, context=None):
        page = (context or self.context).new_page()
        page.set_default_timeout(15_000)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self.note)
        page.goto(self.server.url)
        return page

    def note(self, message):
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            self.problems.append(message.text)

    def tearDown(self):
        # A violation of the page's policy is an error in the console, too.
        self.assertEqual(self.problems, [])
        origins = (self.server.url, self.server.websocket(""))
        self.assertTrue(all(url.startswith(origins) for url in self.requests), self.requests)

    def click(self, name, page=None):
        (page or self.page).get_by_role("button", name=name, exact=True).first.click()

    def expect_result(self, part, text, page=None):
        """What stands beside the buttons; it is waited for."""
        expect((page or self.page).locator(f"#{part}-result")).to_contain_text(text, timeout=15_000)

    def log_in(self, page=None):
        ask(f"{self.server.url}/demo/link", form={})
        page = page or self.page
        page.goto(self.server.link())
        self.expect_result("session", "200: the link logged this browser in", page)
        # The link is spent, and so would a line for curl be.
        expect(page.locator("#session-result .curl")).to_have_count(0)

    def issue(self, client):
        self.page.get_by_text("Use the master token instead").click()
        self.page.locator("#issue").get_by_label("Master token").fill(MASTER)
        self.page.get_by_label("Client").fill(client)
        self.click("Issue a token pair")
        self.expect_result("session", "200: a pair was issued")


class Links(DemoTest):
    def test_a_link_logs_in_one_browser_once(self):
        self.log_in()
        link = self.server.link()
        expect(self.page.locator("#who")).to_contain_text("demo, for")
        self.assertNotIn("#", self.page.url)
        self.click("/access/health")
        self.expect_result("request", "200: the request passed")

        context = self.browser.new_context()
        self.addCleanup(context.close)
        other = self.new_tab(context)
        other.goto(link)
        self.expect_result("session", "401: the link was used before or has expired", other)
        self.expect_result("session", "(link_not_valid)", other)
        # It says what to do, and that works.
        self.click("Print a link in the terminal", other)
        self.expect_result("session", "204: look into the terminal", other)
        self.assertNotEqual(self.server.link(), link)
        other.goto(self.server.link())
        expect(other.locator("#client")).to_have_text("demo")

    def test_codes_are_neither_guessed_nor_logged(self):
        self.log_in()
        code = self.server.link().split("#code=")[1]
        self.assertEqual(len(code), 43)
        log = re.sub(r"http\S+/#code=\S+", "", self.server.logged())
        self.assertNotIn(code, log)
        self.assertNotIn("\x1b", log)
        self.assertFalse([url for url in self.requests if code in url.split("#")[0]])
        for guess in ["", code[:-1], code + "=", "x" * 43]:
            headers = {"Content-Type": "application/json"}
            self.assertEqual(self.server.send("POST", "/demo/login", json.dumps({"code": guess}), headers)[0], 401)
        # A page of another origin cannot send it as JSON without being asked about first.
        self.assertEqual(self.server.send("POST", "/demo/login", json.dumps({"code": code}))[0], 415)

    def test_a_reload_keeps_the_session(self):
        self.log_in()
        self.page.reload()
        expect(self.page.locator("#client")).to_have_text("demo")
        self.click("Log out")
        self.expect_result("session", "200: this session is revoked")
        self.page.reload()
        expect(self.page.locator("#who")).to_have_text("Not logged in")


class Calls(DemoTest):
    def test_a_token_opens_the_paths(self):
        self.click("/health")
        self.expect_result("request", "200: the request passed")
        self.click("/access/health")
        self.expect_result("request", "401: this path requires an access token, and none was sent")
        self.issue("paths")
        self.click("/access/health")
        self.expect_result("request", "200: the request passed")
        self.click("/master/health")
        self.expect_result("request", "401: this path requires the master token, and none was sent")
        self.page.get_by_label("master token", exact=True).check()
        self.click("/master/health")
        self.expect_result("request", "200: the request passed")
        self.page.locator("#request-master input").fill("")
        self.click("/master/health")
        self.expect_result("request", "401: enter the master token first")
        expect(self.page.locator("#request-result .curl code")).to_contain_text('-H "MASTER-TOKEN: $MASTER_TOKEN"')
        self.page.get_by_label("nothing").check()
        self.click("/access/health")
        self.expect_result("request", "401")
        self.click("/nothing")
        self.assertNotIn(MASTER, self.page.content())

    def click(self, name, page=None):
        if name != "/nothing":
            return super().click(name, page)
        self.page.get_by_label("Path").first.fill(name)
        self.page.get_by_label("Path").first.press("Enter")
        self.expect_result("request", "404: there is nothing at /nothing")

    def test_a_server_that_does_not_answer_is_said_in_words(self):
        self.context.route("**/health", lambda route: route.abort())
        self.click("/access/health")
        self.expect_result("request", "no answer: the server at")

    def test_both_tokens_are_copied_and_decoded(self):
        self.log_in()
        claims = self.page.locator(".token").first
        expect(claims).to_contain_text("Access token")
        expect(claims.get_by_role("row", name="client_id")).to_contain_text("demo")
        expect(claims.get_by_role("row", name="scope")).to_contain_text("admin")
        for name, token_type in [("access", "access"), ("refresh", "refresh")]:
            self.page.get_by_role("button", name=f"Copy the {name} token").click()
            expect(self.page.locator("#announcement")).to_have_text("Copied")
            copied = self.page.evaluate("navigator.clipboard.readText()")
            status, _, answer = ask(
                f"{self.server.url}/auth/token/introspect", headers={"MASTER-TOKEN": MASTER}, form={"token": copied}
            )
            self.assertEqual((status, answer["active"], answer["type"]), (200, True, token_type))

    def test_every_curl_line_works_in_a_shell(self):
        client = "it's a&b+c"
        self.issue(client)
        pair = self.page.evaluate("JSON.parse(sessionStorage['fastauth-demo'])")
        environment = {**os.environ, "MASTER_TOKEN": MASTER, "ACCESS_TOKEN": pair["access_token"], "REFRESH_TOKEN": pair["refresh_token"]}
        self.click("/access/health")
        self.expect_result("request", "200")
        self.click("List sessions")
        self.expect_result("sessions", "200")
        self.click("Open with ticket")
        expect(self.page.locator("#socket-state")).to_have_text("open")
        self.click("Refresh")
        self.expect_result("session", "200: a new pair")
        lines = self.page.evaluate("[...document.querySelectorAll('#log .curl code')].map((code) => code.textContent).reverse()")
        self.assertEqual(len(lines), 5, lines)
        for line in lines:
            self.assertNotIn(MASTER, line)
            self.assertNotIn(pair["access_token"][:20], line)
            done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=30)
            self.assertRegex(done.stdout, r"^HTTP/1.1 200", line)
            issued = re.search(r'"access_token":"([^"]+)"', done.stdout)
            if issued:
                self.assertIn(json.dumps(client), done.stdout)
                environment["ACCESS_TOKEN"] = issued[1]
                environment["REFRESH_TOKEN"] = re.search(r'"refresh_token":"([^"]+)"', done.stdout)[1]


class Sockets(DemoTest):
    settings = {"tokens_per_client": "many"}

    def test_a_socket_closes_when_its_token_is_revoked(self):
        for button in ["Open with token", "Open with ticket"]:
            with self.subTest(button):
                self.log_in()
                self.click(button)
                expect(self.page.locator("#socket-state")).to_have_text("open")
                self.click("Send message")
                expect(self.page.locator("#frames")).to_contain_text("← hello")
                self.click("List sessions")
                mine = self.page.locator(".sessions li", has_text="this page")
                mine.get_by_role("button").click()
                self.expect_result("socket", "1008: the access token was revoked")
                expect(self.page.locator("#who")).to_have_text("demo, revoked or replaced")
                self.click("/access/health")
                self.expect_result("request", "401: the access token was replaced by a newer one, or its session was revoked")
                self.click("Log out")

    def test_a_socket_closes_when_its_token_is_refreshed(self):
        self.log_in()
        self.click("Open with token")
        expect(self.page.locator("#socket-state")).to_have_text("open")
        self.click("Refresh")
        self.expect_result("socket", "1008: the access token was replaced")
        self.click("/access/health")
        self.expect_result("request", "200")

    def test_no_token_opens_no_socket(self):
        self.click("Open with token")
        self.expect_result("socket", "1006: the server refused it")
        self.click("Open with ticket")
        self.expect_result("socket", "401")

    def test_tabs_share_the_session(self):
        self.log_in()
        other = self.new_tab()
        expect(other.locator("#client")).to_have_text("demo")
        for page in [self.page, other]:
            expect(page.locator("#tabs")).to_contain_text("Open in 2 tabs")
        self.click("Open with token", other)
        expect(other.locator("#socket-state")).to_have_text("open")
        self.click("Refresh")
        self.expect_result("session", "200: a new pair")
        self.expect_result("session", "Another tab has logged in or refreshed", other)
        self.expect_result("socket", "1008: the access token was replaced", other)
        self.click("/access/health", other)
        self.expect_result("request", "200", other)
        self.click("Log out everywhere", other)
        expect(self.page.locator("#who")).to_have_text("Not logged in")
        self.expect_result("session", "Another tab has logged out.")
        other.close()
        expect(self.page.locator("#tabs")).to_contain_text("Open in this tab")

    def test_an_administrator_revokes_the_sessions_of_others(self):
        alice = self.server.new("alice")
        self.log_in()
        self.click("List sessions")
        self.page.locator(".sessions li", has_text="alice").get_by_role("button").click()
        self.expect_result("sessions", "200: the live sessions")
        expect(self.page.locator(".sessions")).not_to_contain_text("alice")
        url = f"{self.server.url}/access/health"
        self.assertEqual(ask(url, headers={"ACCESS-TOKEN": alice["access_token"]})[0], 401)

    def test_others_see_and_revoke_their_own_only(self):
        self.server.new("alice")
        self.issue("bob")
        self.click("List sessions")
        expect(self.page.locator(".sessions li")).to_have_count(1)
        expect(self.page.locator(".sessions")).to_contain_text("bob")
        token = self.page.evaluate("JSON.parse(sessionStorage['fastauth-demo']).access_token")
        headers = {"ACCESS-TOKEN": token, "Content-Type": "application/json"}
        body = json.dumps({"client_id": "alice", "session": "x"})
        self.assertEqual(self.server.send("POST", "/access/sessions/revoke", body, headers)[0], 403)


class Ends(DemoTest):
    settings = {"access_ttl": "3s"}

    def test_a_token_expires_before_the_eyes_of_its_user(self):
        self.log_in()
        self.click("Open with token")
        self.expect_result("socket", "101: the socket is open")
        self.expect_result("socket", "1008: the access token has expired")
        expect(self.page.locator("#who")).to_have_text("demo, expired")
        expect(self.page.locator(".token.over .left")).to_have_text("expired")
        self.click("/access/health")
        self.expect_result("request", "401")
        self.expect_result("request", "expired")
        self.click("Refresh")
        expect(self.page.locator("#who")).to_contain_text("demo, for 0:0")

    def test_a_token_is_refreshed_by_itself_until_that_is_refused(self):
        self.log_in()
        automatic = self.page.get_by_label("refresh before the end")
        automatic.check()
        self.expect_result("session", "200: a new pair")
        self.server.revoke(client_id="demo")
        self.expect_result("session", "401: Invalid refresh token: used or revoked (revoked)")
        expect(automatic).not_to_be_checked()
        asked = len(self.requests)
        expect(self.page.locator("#who")).to_contain_text("demo, expired")
        self.assertEqual(len(self.requests), asked)


class Cookies(DemoTest):
    settings = {"refresh_transport": "cookie", "response_shape": "oauth"}

    def test_the_refresh_token_stays_in_its_cookie(self):
        self.log_in()
        expect(self.page.locator(".token").last).to_contain_text("in a cookie that scripts cannot read")
        self.assertNotIn("refresh_token", self.page.evaluate("sessionStorage['fastauth-demo']"))
        self.click("Refresh")
        self.expect_result("session", "200: a new pair")
        line = self.page.locator("#session-result .curl code").inner_text()
        cookie = self.context.cookies()[0]
        environment = {**os.environ, "REFRESH_TOKEN": cookie["value"]}
        done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=30)
        self.assertRegex(done.stdout, r"^HTTP/1.1 200", line)
        self.click("Log out")
        self.expect_result("session", "200: this session is revoked")
        self.assertEqual(self.context.cookies(), [])


class Readings(DemoTest):
    def test_the_tree_shows_the_rule_that_decided(self):
        self.page.get_by_label("Path").last.fill("/x/../%61ccess/report")
        self.page.get_by_label("Path").last.press("Enter")
        expect(self.page.locator(".verdict")).to_contain_text("an access token is required")
        expect(self.page.locator(".verdict")).to_contain_text('"/access" of access-token-paths decides')
        decided = self.page.locator(".tree .reading.decided")
        expect(decided).to_have_count(1)
        expect(decided.locator("code")).to_have_text("/access/report")
        # It was made in two steps from the path as it was sent.
        path = decided.evaluate("""(reading) => {
            const path = [];
            for (let item = reading.closest("li"); item; item = item.parentElement.closest("li")) {
                path.push(item.querySelector("code").textContent);
            }
            return path;
        }""")
        self.assertEqual(path, ["/access/report", "/x/../access/report", "/x/../%61ccess/report"])

    def test_the_examples_say_what_the_server_does(self):
        examples = self.page.locator("#examples button").all_inner_texts()
        self.assertGreater(len(examples), 6)
        seen = set()
        for example in examples:
            self.page.locator("#examples").get_by_role("button", name=example, exact=True).click()
            verdict = self.page.locator(".verdict")
            expect(verdict).to_contain_text(f"GET {example}:")
            title = verdict.locator("strong").inner_text()
            status, _, body = self.server.send("GET", example)
            seen.add(title)
            if title == "Public":
                self.assertIn(status, [200, 404], example)
            elif title == "Rejected":
                self.assertEqual(status, 400, example)
            else:
                self.assertEqual(status, 401, example)
                self.assertIn("Access Token is null" if title == "Access token" else "Master Token", body)
        self.assertGreaterEqual(seen, {"Public", "Rejected", "Access token", "Master token"})

    def test_code_in_a_refusal_is_shown_as_code(self):
        self.click("/access/%zz")
        verdict = self.page.locator(".verdict p")
        expect(verdict).to_contain_text("The path has a %")
        expect(verdict.locator("code")).to_have_text("%")
        self.assertNotIn("`", self.page.locator("main").inner_text())

    def test_a_path_that_is_too_long_is_refused_in_words(self):
        status, _, answer = ask(f"{self.server.url}/demo/explain?method=GET&target=/{'x' * 600}")
        self.assertEqual((status, answer["reason"]), (400, "target"))


class Looks(DemoTest):
    def use(self, page):
        """Shows all that the page can show."""
        self.log_in(page)
        self.click("/master/health", page)
        self.click("Open with token", page)
        expect(page.locator("#socket-state")).to_have_text("open")
        self.click("Send message", page)
        self.click("List sessions", page)
        self.click("/master/..%2faccess", page)
        expect(page.locator(".tree")).to_be_visible()
        for details in page.locator("details:not([open]) > summary").all():
            if details.is_visible():
                details.click()

    def test_it_fits_and_can_be_read(self):
        for scheme in ["light", "dark"]:
            for width in [360, 1280]:
                with self.subTest(scheme, width=width):
                    context = self.browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
                    page = self.new_tab(context)
                    for _ in range(2):
                        self.assertEqual(page.evaluate(WIDTH), [width, []])
                        found = page.evaluate(FAINT)
                        self.assertGreater(found["looked"], 40)
                        self.assertEqual(found["faint"], [])
                        if page.locator("#logged-in").is_hidden():
                            self.use(page)
                    context.close()

    def test_a_result_is_scrolled_into_view_and_not_cut(self):
        self.page.set_viewport_size({"width": 360, "height": 500})
        self.page.get_by_text("Use the master token instead").click()
        self.page.locator("#issue").get_by_label("Master token").fill(MASTER)
        self.page.evaluate("scrollTo(0, document.querySelector('#issue button').getBoundingClientRect().bottom - innerHeight)")
        self.click("Issue a token pair")
        self.expect_result("session", "200: a pair was issued")
        expect(self.page.locator("#session-result .words")).to_be_in_viewport()
        answer = self.page.locator("#session-result pre")
        self.assertLessEqual(*answer.evaluate("(box) => [box.scrollHeight, box.clientHeight]"))

    def test_the_keyboard_is_enough(self):
        keyboard = self.page.keyboard
        stops = []
        for _ in range(60):
            keyboard.press("Tab")
            stop = self.page.evaluate(FOCUS)
            if stop[0] == "BODY":
                break
            stops.append(stop)
            self.assertTrue(stop[2] != "none" and stop[3] >= 2, f"the focus is not seen: {stop}")
        names = [name for _, name, _, _ in stops]
        self.assertGreater(len(names), 20)
        self.tab_to("Use the master token instead")
        keyboard.press("Enter")
        self.tab_to("master")
        keyboard.type(MASTER)
        self.tab_to("client")
        keyboard.press("Control+A")
        keyboard.type("keys")
        keyboard.press("Enter")
        self.expect_result("session", "200: a pair was issued")
        self.tab_to("path")
        keyboard.press("Control+A")
        keyboard.type("/access/health")
        keyboard.press("Enter")
        self.expect_result("request", "200: the request passed")
        self.tab_to("open-token")
        keyboard.press("Space")
        expect(self.page.locator("#socket-state")).to_have_text("open")
        self.tab_to("message")
        keyboard.type(", keys")
        keyboard.press("Enter")
        expect(self.page.locator("#frames")).to_contain_text("← ")
        self.tab_to("target")
        keyboard.press("Enter")
        expect(self.page.locator(".verdict")).to_be_visible()
        self.tab_to("log-out")
        keyboard.press("Enter")
        expect(self.page.locator("#who")).to_have_text("Not logged in")
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "session")

    def tab_to(self, name):
        for _ in range(120):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(FOCUS)[1] == name:
                return
        self.fail(f"no tab stop is {name}")

    def test_everything_has_a_name(self):
        self.log_in()
        nameless = self.page.evaluate("""() => [...document.querySelectorAll("button, input, select, a, summary")]
            .filter((it) => it.checkVisibility() && !it.textContent.trim() && !it.ariaLabel && !it.labels?.length)
            .map((it) => it.outerHTML)""")
        self.assertEqual(nameless, [])
        live = self.page.evaluate("[...document.querySelectorAll('.result')].map((it) => it.ariaLive)")
        self.assertEqual(live, ["polite"] * 5)


class AsShipped(DemoTest):
    @classmethod
    def serve(cls):
        return shipped()

    def test_a_first_start_prints_lines_that_work_and_a_link(self):
        log = self.server.logged()
        lines = log[log.index("# a public path") : log.index("Open the demo")]
        done = subprocess.run(["bash", "-e", "-c", lines], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("HTTP/1.1 200"), 3, done.stdout)
        self.assertIn('"client_id":"me"', done.stdout)
        self.page.goto(self.server.link())
        self.expect_result("session", "200: the link logged this browser in")
        # Its tokens are short enough to watch one expire.
        expect(self.page.locator("#who")).to_contain_text(re.compile(r"demo, for (2:00|1:\d\d)"))

    def test_the_policy_lets_no_other_server_in(self):
        for path in ["/", "/demo/main.js"]:
            _, headers, _ = self.server.send("GET", path)
            policy = headers["Content-Security-Policy"]
            self.assertIn("default-src 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertNotIn("http", policy)
        blocked = self.page.evaluate("""async () => {
            const violations = [];
            document.addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));
            document.body.append(Object.assign(document.createElement("script"), { textContent: "window.injected = true" }));
            await fetch("http://example.invalid/").catch(() => {});
            await new Promise((resolve) => setTimeout(resolve));
            return [window.injected, violations];
        }""")
        self.assertEqual(blocked, [None, ["script-src-elem", "connect-src"]])
        self.problems.clear()


if __name__ == "__main__":
    unittest.main()
