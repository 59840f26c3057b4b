"""Measures what happens to pages that refresh after a 401 and try again, without clients/js."""

import os
import unittest

from test_tabs import LIFE, TABS, Browser, BrowserTest, serving, side_by_side, total

GRACES = os.environ.get("CLIENT_GRACES", "0s 10s").split()


class Naive(BrowserTest):
    settings = {"refresh_transport": "cookie"}

    def open_page(self, origin):
        return None

    def measure(self, grace, tabs, seconds, parallel):
        settings = {} if grace == "0s" else {"access_grace": grace}
        with serving(refresh_transport="cookie", access_ttl=f"{LIFE}s", **settings) as server:
            browser = Browser(self, server)
            pages = [browser.tab() for _ in range(tabs)]
            browser.log_in(pages[0])
            for page in pages:
                page.evaluate("() => window.auth.close()")
            before = browser.renewals()
            answers = total(side_by_side(pages, f"(seconds) => window.work(window.naively, seconds, {parallel}, 50)", seconds))
            renewals = browser.renewals() - before
        print(f"access-grace {grace}, {tabs} tabs with {parallel} calls at once, {seconds} s: {renewals} renewals, calls {answers}", flush=True)

    def test_measure(self):
        for grace in GRACES:
            self.measure(grace, 1, 20, 8)
            self.measure(grace, 2, 20, 1)
            self.measure(grace, TABS, 20, 4)


if __name__ == "__main__":
    unittest.main()
