"""The page of documentation of examples/demo, and what is tried out on it."""

import contextlib
import json
import unittest
import urllib.parse
import urllib.request

from looks import FAINT, WIDTH
from support import MASTER, BrowserTest


class Documentation(BrowserTest):
    def setUp(self):
        self.asked = []
        self.said = []
        self.page = self.open_docs(self.server.url)

    def open_docs(self, origin, **options):
        """The page of this origin, which need not be the server's: what it asks of that origin, the server answers."""
        context = self.enterContext(contextlib.closing(self.browser.new_context(**options)))
        context.on("request", lambda request: self.asked.append(request.url))
        if origin != self.server.url:
            url = lambda request: self.server.url + request.url.removeprefix(origin)
            context.route(f"{origin}/**", lambda route: route.fulfill(response=route.fetch(url=url(route.request))))
        page = context.new_page()
        # A violation of the page's policy is an error in the console, too.
        page.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        page.goto(f"{origin}/docs/")
        page.wait_for_selector(".opblock")
        return page

    def authorize(self, scheme, value):
        self.page.click("button.authorize")
        form = self.page.locator(".auth-container").filter(has=self.page.get_by_role("heading", name=scheme))
        form.locator("input").fill(value)
        form.get_by_role("button", name="Apply credentials").click()
        self.page.get_by_role("button", name="Close").last.click()

    def try_out(self, method, path, **values):
        """The status and the JSON of an operation, with these values in its form."""
        operation = self.page.locator(f".opblock-{method}").filter(has=self.page.locator(f'[data-path="{path}"]'))
        if "is-open" not in operation.get_attribute("class"):
            operation.locator(".opblock-summary-control").click()
            operation.get_by_role("button", name="Try it out").click()
        if values:
            operation.get_by_label("Request content type").select_option("application/x-www-form-urlencoded")
        for name, value in values.items():
            operation.locator(f'tr[data-property-name="{name}"] input[type=text]').fill(value)
        with self.page.expect_response(lambda response: urllib.parse.urlsplit(response.url).path == path) as answer:
            operation.locator("button.execute").click()
        shown = operation.locator(".live-responses-table .response-col_status").last
        shown.wait_for()
        self.assertIn(str(answer.value.status), shown.inner_text())
        return answer.value.status, json.loads(answer.value.body())

    def test_what_is_guarded_opens_by_what_is_entered(self):
        self.assertEqual(self.try_out("get", "/health")[0], 200)
        self.assertEqual(self.try_out("get", "/access/health")[0], 401)
        self.assertEqual(self.try_out("get", "/master/health")[0], 401)
        token = self.server.new("docs")["access_token"]
        self.authorize("AccessTokenHeader", token)
        self.assertEqual(self.try_out("get", "/access/health"), (200, {"status": "healthy", "service": "access"}))
        self.assertEqual(self.try_out("get", "/master/health")[0], 401)

    def test_the_token_opens_as_a_bearer_token_too(self):
        self.authorize("Bearer", self.server.new("bearer")["access_token"])
        self.assertEqual(self.try_out("get", "/access/health")[0], 200)

    def test_tokens_are_issued_and_renewed_on_the_page(self):
        self.authorize("MasterTokenHeader", MASTER)
        self.assertEqual(self.try_out("get", "/master/health")[0], 200)
        status, issued = self.try_out("post", "/auth/token/new", client_id="page")
        self.assertEqual((status, issued["data"]["client_id"]), (200, "page"))
        status, renewed = self.try_out("post", "/auth/token/refresh", refresh_token=issued["data"]["refresh_token"])
        self.assertEqual((status, renewed["data"]["client_id"]), (200, "page"))
        self.authorize("AccessTokenHeader", renewed["data"]["access_token"])
        self.assertEqual(self.try_out("get", "/access/health")[0], 200)

    def test_nothing_leaves_for_another_host(self):
        # Some of it would only from a page that is not at 127.0.0.1.
        self.page = self.open_docs("http://docs.example")
        self.assertEqual(self.try_out("get", "/access/health")[0], 401)

    def test_it_fits_and_can_be_read(self):
        for scheme in ["light", "dark"]:
            for width in [360, 1280]:
                with self.subTest(scheme, width=width):
                    viewport = {"width": width, "height": 800}
                    self.page = self.open_docs(self.server.url, color_scheme=scheme, viewport=viewport)
                    self.try_out("post", "/auth/token/refresh", refresh_token="x")
                    self.page.locator('[data-path="/demo/explain"]').first.click()
                    self.page.locator('[data-path="/auth/token/revoke"]').first.click()
                    self.page.wait_for_selector(".opblock.is-open >> nth=2")
                    self.page.wait_for_timeout(300)
                    self.assertEqual(self.page.evaluate(WIDTH), [width, []])
                    found = self.page.evaluate(FAINT)
                    self.assertGreater(found["looked"], 100)
                    self.assertEqual(found["faint"], [])

    def test_every_operation_has_a_title_and_every_answer_a_description(self):
        for path, item in self.document()["paths"].items():
            for method, operation in item.items():
                with self.subTest(path, method=method):
                    self.assertRegex(operation["summary"], r"^[A-Z].{5,60}[^.]$")
                    for status, answer in operation["responses"].items():
                        self.assertTrue(answer.get("description") or answer.get("$ref"), status)

    def document(self):
        return json.loads(urllib.request.urlopen(f"{self.server.url}/openapi.json").read())

    def tearDown(self):
        self.assertEqual([text for text in self.said if "Failed to load resource" not in text], [])
        hosts = {urllib.parse.urlsplit(url).netloc for url in self.asked if not url.startswith(("data:", "blob:"))}
        self.assertGreater(len(self.asked), 3)
        self.assertLessEqual(hosts, {urllib.parse.urlsplit(self.server.url).netloc, "docs.example"})


if __name__ == "__main__":
    unittest.main()
