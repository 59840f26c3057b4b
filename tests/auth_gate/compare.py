"""FastAuth beside auth-gate, the Python package whose users the guide moves over: docs/guide/from-auth-gate.md.

What auth-gate's middleware decides on paths, and what the rules decide that the guide puts in its place, on a table and on random
paths. Where they differ, the difference has a name and a direction.
"""

import random
import re
import unittest
import urllib.parse

from support import EVIL, GATES, METHODS, UUID, Explained, decisions, explain, rules_of

STRICTNESS = ["public", "optional", "access", "reject"]

# auth-gate's middleware, a request, and the decisions: of 0.2.0, of 0.8.5, and here.
TABLE = [
    ({"excluded_paths": {"/health": None}}, [
        ("GET", "/health", "public", "public", "public"),
        ("DELETE", "/health", "public", "public", "public"),
        ("GET", "/health/", "access", "access", "access"),
        ("GET", "/health/x", "access", "access", "access"),
        ("GET", "/healthy", "access", "access", "access"),
        ("GET", "/HEALTH", "access", "access", "access"),
        ("GET", "/", "access", "access", "access"),
    ]),
    ({"excluded_paths": {"/hooks/{id:uuid}": ["POST"]}}, [
        ("POST", f"/hooks/{UUID}", "access", "public", "public"),
        ("POST", f"/hooks/{UUID.upper()}", "access", "public", "public"),
        ("GET", f"/hooks/{UUID}", "access", "access", "access"),
        ("POST", "/hooks/7", "access", "access", "access"),
        ("POST", f"/hooks/{UUID}/x", "access", "access", "access"),
        ("POST", f"/hooks/{EVIL}", "access", "access", "access"),
        # The literal parts of a pattern count in any case there, and its end lets a line break through.
        ("POST", f"/HOOKS/{UUID}", "access", "public", "access"),
        ("POST", f"/hooks/{UUID}%0A", "access", "public", "reject"),
    ]),
    ({"excluded_prefixes": {"/static": None, "/docs/{version:uuid}": None}}, [
        ("GET", "/static", "public", "public", "public"),
        ("GET", "/static/", "public", "public", "public"),
        ("GET", "/static/a/b.js", "public", "public", "public"),
        # The prefix is a text in 0.2.0, and a pattern is one in 0.8.5.
        ("GET", "/staticfoo", "public", "access", "access"),
        ("GET", "/static.json", "public", "access", "access"),
        ("GET", f"/docs/{UUID}", "access", "public", "public"),
        ("GET", f"/docs/{UUID}/a", "access", "public", "public"),
        ("GET", f"/docs/{EVIL}/secret", "access", "public", "access"),
        # It looks at one reading of a path.
        ("GET", "/static/../admin", "public", "public", "access"),
        ("GET", "/static/..%2fadmin", "public", "public", "access"),
        ("GET", "/%73tatic/a.js", "public", "public", "access"),
    ]),
    ({"optional_auth_paths": {"/products": ["GET"], "/shops/{id:uuid}": None}}, [
        ("GET", "/products", "optional", "optional", "optional"),
        ("POST", "/products", "access", "access", "access"),
        ("GET", "/products/1", "access", "access", "access"),
        ("PUT", f"/shops/{UUID}", "access", "optional", "optional"),
        ("PUT", f"/shops/{UUID}/x", "access", "access", "access"),
        # HEAD goes with GET.
        ("HEAD", "/products", "access", "access", "optional"),
    ]),
    # What is not given is given by defaults there, and here nothing is.
    ({}, [
        ("GET", "/health", "public", "public", "access"),
        ("GET", "/metrics", "public", "public", "access"),
        ("GET", "/openapi.json", "public", "public", "access"),
        ("GET", "/static/x", "public", "public", "access"),
    ]),
    ({"excluded_paths": {}, "excluded_prefixes": {}}, [
        ("GET", "/metrics", "public", "public", "access"),
        ("GET", "/api/docs", "public", "public", "access"),
    ]),
]

# Names that are open in every case, so that the defaults stay out of what is compared.
NO_DEFAULTS = {"excluded_paths": {"/-": None}, "excluded_prefixes": {"/--": None}}


def weaker(theirs, ours):
    return STRICTNESS.index(ours) < STRICTNESS.index(theirs)


def ends_within(prefix, path):
    """Whether a pattern ends within a segment of a path."""
    pattern = re.escape(prefix).replace(re.escape("{id:uuid}"), "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    found = re.match(pattern, path, re.IGNORECASE)
    return found and path[found.end() :][:1] not in ("", "/")


def difference(middleware, method, raw, theirs, ours):
    """The name of a difference that the guide names, or None."""
    path = urllib.parse.unquote(raw)
    excluded, prefixes = middleware["excluded_paths"], middleware["excluded_prefixes"]
    if method == "HEAD" and weaker(theirs, ours):
        return "HEAD goes with GET"
    if weaker(theirs, ours):
        return None
    if path != raw or any(segment in ("", ".", "..") for segment in raw[1:].rstrip("/").split("/")):
        return "another reading asks for more"
    if any("{" in prefix and ends_within(prefix, path) for prefix in prefixes):
        return "a pattern ends at a segment"
    patterns = [known for known in [*excluded, *prefixes, *middleware["optional_auth_paths"]] if "{" in known]
    if patterns and any(text != text.lower() for text in [path, *patterns]):
        return "a literal is read in its case"
    if (theirs, ours) == ("public", "optional"):
        return "an optional path below an excluded prefix stays optional"
    return None


DIFFERENCES = {
    "HEAD goes with GET",
    "another reading asks for more",
    "a pattern ends at a segment",
    "a literal is read in its case",
    "an optional path below an excluded prefix stays optional",
}


def random_paths(generator):
    segments = ["a", "b", "ab", "A", UUID, EVIL, "{id:uuid}"]
    return "".join("/" + generator.choice(segments) for _ in range(generator.randint(1, 3)))


def random_middleware(generator):
    def some(most):
        methods = lambda: generator.choice([None, None, ["GET"], ["POST"], ["GET", "PUT"]])
        return {random_paths(generator): methods() for _ in range(generator.randint(0, most))}

    return {
        "excluded_paths": {**NO_DEFAULTS["excluded_paths"], **some(3)},
        "excluded_prefixes": {**NO_DEFAULTS["excluded_prefixes"], **some(2)},
        "optional_auth_paths": some(3),
    }


def random_request(generator, middleware):
    """A request for a path that the middleware names, or nearly, or any."""
    named = [path for paths in middleware.values() for path in paths]
    path = generator.choice([generator.choice(named), random_paths(generator)]).replace("{id:uuid}", UUID)
    ends = ["", "", "", "", "/", "/a", "-evil", "b", "//a", "/../a", "/%61"]
    path += generator.choice(ends)
    return generator.choice(METHODS), generator.choice([path] * 8 + ["/" + path, path.upper(), path.replace("a", "%61", 1)])


class Paths(unittest.TestCase):
    def test_table(self):
        cases = [{"middleware": middleware, "requests": [
            (method, urllib.parse.unquote(path)) for method, path, *_ in rows
        ]} for middleware, rows in TABLE]
        old, new = (decisions(version, cases) for version in GATES)
        for (middleware, rows), of_old, of_new in zip(TABLE, old, new):
            ours = explain(rules_of(middleware), [(method, path) for method, path, *_ in rows])
            for row, theirs_old, theirs_new, line in zip(rows, of_old["decisions"], of_new["decisions"], ours):
                method, path, *expected = row
                self.assertEqual([theirs_old, theirs_new, Explained(line).level], expected, (middleware, method, path))

    def test_random_paths(self):
        generator = random.Random(20261130)
        cases = []
        while len(cases) < 60:
            middleware = random_middleware(generator)
            requests = [random_request(generator, middleware) for _ in range(150)]
            cases.append((middleware, requests))
        given = [{"middleware": middleware, "requests": [
            (method, urllib.parse.unquote(path)) for method, path in requests
        ]} for middleware, requests in cases]
        seen, equal, levels = set(), 0, set()
        for (middleware, requests), theirs in zip(cases, decisions("0.8.5", given)):
            for (method, path), their, line in zip(requests, theirs["decisions"], explain(rules_of(middleware), requests)):
                ours = Explained(line).level
                levels.add(ours)
                if their == ours:
                    equal += 1
                    continue
                name = difference(middleware, method, path, their, ours)
                self.assertIsNotNone(name, (middleware, method, path, their, ours))
                seen.add(name)
        self.assertEqual(seen, DIFFERENCES)
        self.assertGreater(equal, 6000)
        self.assertEqual(levels, {"public", "optional", "access"})

    def test_pattern_without_type(self):
        cases = [{"middleware": {"excluded_paths": {path: None}}, "requests": []} for path in ["/a/{id}", "/a/{n:int}"]]
        self.assertTrue(all("error" in answer for answer in decisions("0.8.5", cases)))
        # An untyped segment and a number can be said here.
        ours = explain(
            [{"path": "/a/{id}", "match": "exact", "level": "public"}], [("GET", "/a/x"), ("GET", "/a/"), ("GET", "/a/x/y")]
        )
        self.assertEqual([Explained(line).level for line in ours], ["public", "access", "access"])
        ours = explain([{"path": "/a/{n:int}", "level": "public"}], [("GET", "/a/-7/x"), ("GET", "/a/7x")])
        self.assertEqual([Explained(line).level for line in ours], ["public", "access"])

