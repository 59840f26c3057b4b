"""Says what the installed auth-gate decides on paths: a JSON object on standard input, one on standard output."""

import json
import sys

from auth_gate import AuthMiddleware


def paths(given):
    """JSON has no sets: a list stands for one."""
    if isinstance(given, dict):
        return {path: None if methods is None else set(methods) for path, methods in given.items()}
    return set(given)


def decide(middleware, method, path):
    if middleware.is_excluded(path, method):
        return "public"
    return "optional" if middleware.is_optional_auth(path, method) else "access"


def answer(case):
    try:
        middleware = AuthMiddleware(None, **{name: paths(given) for name, given in case["middleware"].items()})
    except ValueError as error:
        return {"error": str(error)}
    return {"decisions": [decide(middleware, method, path) for method, path in case["requests"]]}


json.dump([answer(case) for case in json.load(sys.stdin)], sys.stdout)
