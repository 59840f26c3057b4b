"""What a page gets by fetch()."""

import unittest

from support import BrowserTest

FETCH = """async ([path, headers]) => {
    const answer = await fetch(path, { headers });
    return [answer.status, await answer.json()];
}"""


class Requests(BrowserTest):
    def test_a_guarded_path_opens_by_its_token(self):
        status, answer = self.run_script(FETCH, ["/access/health", {}])
        self.assertEqual((status, answer["reason"]), (401, "missing_access_token"))
        self.assertEqual(answer["detail"], "Invalid Access Token. Access Token is null")
        tokens = self.server.new("page")
        for headers in [
            {"ACCESS-TOKEN": tokens["access_token"]},
            {"Authorization": f"Bearer {tokens['access_token']}"},
        ]:
            status, answer = self.run_script(FETCH, ["/access/health", headers])
            self.assertEqual((status, answer["service"]), (200, "access"))
        self.server.revoke(client_id="page")
        status, _ = self.run_script(FETCH, ["/access/health", headers])
        self.assertEqual(status, 401)


if __name__ == "__main__":
    unittest.main()
