"""The page that examples/demo serves at /, worked as its user would."""

import unittest

from playwright.sync_api import expect

from support import MASTER, BrowserTest


class Demonstration(BrowserTest):
    def setUp(self):
        super().setUp()
        self.requests = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(self.server.url)

    def click(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def expect_last(self, text):
        """What the page wrote last; it is waited for."""
        expect(self.page.locator("#log li").first).to_contain_text(text)

    def issue(self, client):
        self.page.get_by_label("Master token").fill(MASTER)
        self.page.get_by_label("Client").fill(client)
        self.click("Issue a token")
        self.expect_last("POST /auth/token/new: 200")

    def test_a_token_opens_the_paths(self):
        self.click("/health")
        self.expect_last("GET /health: 200")
        self.click("/access/health")
        self.expect_last("GET /access/health: 401")
        self.issue("paths")
        for path in ["/access/health", "/master/health"]:
            self.click(path)
            self.expect_last(f"GET {path}: 200")
        self.page.get_by_label("with the tokens").uncheck()
        self.click("/access/health")
        self.expect_last("GET /access/health: 401")
        self.assertTrue(all(url.startswith(self.server.url) for url in self.requests), self.requests)

    def test_a_socket_closes_when_its_token_is_revoked(self):
        for button in ["Open one with the token", "Open one with a ticket"]:
            with self.subTest(button):
                self.issue("socket")
                self.click(button)
                self.expect_last("socket: open")
                self.click("Say hello")
                self.expect_last("socket: hello")
                self.click("Revoke the client's tokens")
                closed = self.page.locator("#log li", has_text="socket: closed, 1008 the access token was revoked")
                expect(closed.first).to_be_visible()
                self.page.locator("#log").evaluate("log => log.replaceChildren()")

    def test_a_socket_closes_when_its_token_is_renewed(self):
        self.issue("renewed")
        self.click("Open one with the token")
        self.expect_last("socket: open")
        self.click("Renew it")
        expect(self.page.locator("#log li", has_text="socket: closed, 1008").first).to_be_visible()
        self.click("/access/health")
        self.expect_last("GET /access/health: 200")

    def test_no_token_opens_no_socket(self):
        self.click("Open one with the token")
        self.expect_last("socket: closed, 1006")
        self.click("Open one with a ticket")
        self.expect_last("POST /auth/ticket: 401")


if __name__ == "__main__":
    unittest.main()
