"""The page of examples/login.rs: users log in and out, in one tab and in two."""

import contextlib
import subprocess
import unittest

from playwright.sync_api import expect, sync_playwright
from support import TARGET, launch


class LogIn(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        command = [str(TARGET / "debug" / "examples" / "login"), "127.0.0.1:0"]
        cls.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        cls.addClassCleanup(cls.stop)
        # Open http://127.0.0.1:PORT and log in as …
        cls.url = cls.process.stdout.readline().split()[1]
        playwright = cls.enterClassContext(sync_playwright())
        browser = launch(playwright.chromium)
        cls.browser = cls.enterClassContext(contextlib.closing(browser))

    @classmethod
    def stop(cls):
        cls.process.terminate()
        cls.process.wait(15)
        cls.process.stdout.close()

    def setUp(self):
        self.context = self.enterContext(contextlib.closing(self.browser.new_context()))
        self.problems = []
        self.refreshes = []
        self.context.on("weberror", lambda error: self.problems.append(str(error.error)))
        self.context.on("request", self.count)
        self.addCleanup(lambda: self.assertEqual(self.problems, []))

    def count(self, request):
        if request.url.endswith("/auth/token/refresh"):
            self.refreshes.append(request.url)

    def open_tab(self):
        tab = self.context.new_page()
        tab.goto(self.url)
        return tab

    def log_in(self, tab, user="alice", password="wonderland"):
        tab.get_by_label("User").fill(user)
        tab.get_by_label("Password").fill(password)
        tab.get_by_label("Password").press("Enter")

    def assert_logged_in(self, tab, user="alice"):
        expect(tab.get_by_role("heading", name=f"Hello, {user}")).to_be_visible()

    def assert_logged_out(self, tab):
        expect(tab.get_by_role("heading", name="Log in")).to_be_visible()
        expect(tab.get_by_role("heading", name="Hello")).to_be_hidden()

    def ask(self, tab):
        with tab.expect_response(lambda response: response.url.endswith("/api/me") and response.ok):
            tab.get_by_role("button", name="Who am I?").click()
        expect(tab.locator("#answer")).to_contain_text("GET /api/me: 200")

    def log_out(self, tab):
        with tab.expect_response(lambda response: response.url.endswith("/auth/token/revoke") and response.ok):
            tab.get_by_role("button", name="Log out").click()

    def test_user_logs_in_and_out(self):
        tab = self.open_tab()
        self.assert_logged_out(tab)
        self.log_in(tab, password="guess")
        expect(tab.get_by_role("alert")).to_have_text("wrong user or password")
        self.log_in(tab)
        self.assert_logged_in(tab)
        expect(tab.get_by_role("alert")).to_be_empty()
        expect(tab.locator("#roles")).to_have_text("editor, reader")
        self.log_out(tab)
        self.assert_logged_out(tab)
        self.assertEqual(self.context.cookies(), [])
        tab.reload()
        self.assert_logged_out(tab)

    def test_session_survives_a_reload_and_hides_its_refresh_token(self):
        tab = self.open_tab()
        self.log_in(tab)
        self.assert_logged_in(tab)
        [cookie] = self.context.cookies()
        self.assertTrue(cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Strict", cookie)
        self.assertNotIn(cookie["name"], tab.evaluate("document.cookie"))
        self.assertEqual(tab.evaluate("localStorage.length + sessionStorage.length"), 0)
        tab.reload()
        self.assert_logged_in(tab)

    def test_two_tabs_share_a_session(self):
        first = self.open_tab()
        self.log_in(first)
        self.assert_logged_in(first)
        second = self.open_tab()
        self.assert_logged_in(second)
        before = len(self.refreshes)
        for _ in range(5):
            self.ask(first)
            self.ask(second)
        self.assertEqual(len(self.refreshes), before, "the tabs share the access token")
        self.log_out(second)
        self.assert_logged_out(second)
        self.assert_logged_out(first)
        self.log_in(first, "bob", "builder")
        self.assert_logged_in(first, "bob")
        self.assert_logged_in(second, "bob")

    def test_access_token_that_was_replaced_is_refreshed(self):
        first = self.open_tab()
        self.log_in(first)
        self.assert_logged_in(first)
        # As a page that knows nothing of this one's tabs.
        self.assertEqual(first.evaluate("fetch('/auth/token/refresh', { method: 'POST' }).then((r) => r.status)"), 200)
        self.ask(first)
        self.assert_logged_in(first)


if __name__ == "__main__":
    unittest.main()
