"""The page of docs/guide/browsers.md in two tabs. Its handlers are those of examples/demo."""

import json
import re
import unittest

from playwright.sync_api import expect

from test_tabs import HERE, MASTER, Browser, BrowserTest

GUIDE = (HERE.parents[1] / "docs" / "guide" / "browsers.md").read_text()
PAGE = re.search(r"```html\n(.*?)```", GUIDE, re.DOTALL)[1]


class Guide(BrowserTest):
    settings = {"refresh_transport": "cookie", "access_ttl": "15m"}

    def open_page(self, origin):
        return None

    def setUp(self):
        self.user = Browser(self, self.server)
        self.user.context.route(f"{self.server.url}/", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        self.user.context.route("**/access/hello", lambda route: route.continue_(url=f"{self.server.url}/access/health"))
        self.user.context.route("**/login", self.log_in)

    def log_in(self, route):
        form = route.request.post_data_json
        if form["password"] != "open sesame":
            return route.fulfill(status=401)
        headers = {**route.request.headers, "MASTER-TOKEN": MASTER}
        data = json.dumps({"client_id": form["name"]})
        return route.continue_(url=f"{self.server.url}/auth/token/new", headers=headers, post_data=data)

    def open(self):
        page = self.user.context.new_page()
        page.on("pageerror", lambda error: self.fail(error))
        page.goto(self.server.url)
        return page

    def test_page_of_the_guide_works_in_two_tabs(self):
        one, other = self.open(), self.open()
        for page in [one, other]:
            expect(page.get_by_role("button", name="Log in")).to_be_visible()
        one.get_by_placeholder("Name").fill("ann")
        one.get_by_placeholder("Password").fill("wrong")
        one.get_by_role("button", name="Log in").click()
        expect(one.locator("output")).to_have_text("Wrong name or password")
        one.get_by_placeholder("Password").fill("open sesame")
        one.get_by_role("button", name="Log in").click()
        for page in [one, other]:
            expect(page.locator("section p")).to_contain_text("ann, until ")
            page.get_by_role("button", name="Hello").click()
            expect(page.locator("output")).to_contain_text("healthy")
        other.reload()
        expect(other.locator("section p")).to_contain_text("ann, until ")
        self.assertEqual(self.user.renewals(), 0)
        other.get_by_role("button", name="Log out").click()
        for page in [one, other]:
            expect(page.locator("form")).to_be_visible()
            expect(page.locator("section")).to_be_hidden()


if __name__ == "__main__":
    unittest.main()
