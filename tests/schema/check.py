"""Judges configurations by the JSON Schema and by the program, which have to agree.

First those in the repository: files, and the blocks of JSON in the documentation. Then a table of values of `rules`.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "debug" / "fastauth"
SCHEMA = json.loads((ROOT / "docs/fastauth.config.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

RIGHT = [
    [],
    [{"path": "/health", "match": "exact", "level": "public"}],
    [{"path": "/api", "level": "access", "methods": ["GET", "PUT"], "roles-any": ["admin"], "name": "api"}],
    [{"path": "/api/{id:uuid}", "level": "both", "claim-equals": {"tenant": "acme", "n": 1, "ok": True}}],
    [{"path": "/pay", "level": "access", "max-age": "5m", "scopes": ["pay"], "scopes_any": ["a", "b"], "issuers": ["own"]}],
    [{"path": "/pay", "level": "access", "max_age": "5m", "report_only": True, "ends_on": "revoke"}],
    [{"path": "/old", "level": "deny"}, {"path": "/new", "level": "optional"}, {"path": "/x", "level": "master"}],
    [{"path": "/", "level": "public", "principal": "any"}],
    [{"path": "/{tenant}/{n:int}/{*rest}", "level": "access"}],
    [{"path": "/.well-known/a.b/users%3Abatch/v1.2/%C3%A9-é~@!'&=,x", "level": "access"}],
    [{"path": "/pay", "level": "access", "max-age": "1h 30min"}],
]

RIGHT_VALUES = [
    ("credential-sources", ["access-token", "Authorization"]),
    ("log-details", ["path", "peer", "request-id"]),
    ("access-ttl", "1.5h"),
    ("session-ttl", "0s"),
    ("rate-limit-per-minute", 60),
]

WRONG_VALUES = [
    ("credential-sources", ["Cookie"]),
    ("log-details", ["query"]),
    ("access-ttl", "5M"),
    ("access-ttl", "5"),
    ("access-ttl", "0s"),
    ("access-ttl", "soon"),
    ("rate-limit-per-minute", 0),
]

WRONG = [
    {},
    "/api",
    None,
    ["/api"],
    [{}],
    [{"path": "/api"}],
    [{"level": "access"}],
    [{"path": "/api", "level": "acces"}],
    [{"path": "/api", "level": "Access"}],
    [{"path": "/api", "level": None}],
    [{"path": 1, "level": "access"}],
    [{"path": "api", "level": "access"}],
    [{"path": "/a/", "level": "access"}],
    [{"path": "/a/*", "level": "access"}],
    [{"path": "/:id", "level": "access"}],
    [{"path": "/v{n}", "level": "access"}],
    [{"path": "/a/../b", "level": "access"}],
    [{"path": "/a//b", "level": "access"}],
    [{"path": "/a?b", "level": "access"}],
    [{"path": "/api", "level": "access", "match": "regex"}],
    [{"path": "/api", "level": "access", "methods": "GET"}],
    [{"path": "/api", "level": "access", "methods": []}],
    [{"path": "/api", "level": "access", "methods": ["get"]}],
    [{"path": "/api", "level": "access", "methods": ["FETCH"]}],
    [{"path": "/api", "level": "access", "roles-any": "admin"}],
    [{"path": "/api", "level": "access", "roles-any": []}],
    [{"path": "/api", "level": "access", "roles-all": [1]}],
    [{"path": "/api", "level": "access", "rolls-any": ["admin"]}],
    [{"path": "/api", "level": "access", "claim-equals": {}}],
    [{"path": "/api", "level": "access", "claim-equals": {"tenant": None}}],
    [{"path": "/api", "level": "access", "claim-equals": {"tenant": ["acme"]}}],
    [{"path": "/api", "level": "access", "max-age": 300}],
    [{"path": "/api", "level": "access", "max-age": "5M"}],
    [{"path": "/api", "level": "access", "max-age": "0s"}],
    [{"path": "/api", "level": "access", "principal": "robot"}],
    [{"path": "/api", "level": "access", "issuers": ["https://id.example"]}],
    [{"path": "/api", "level": "access", "report-only": "yes"}],
    [{"path": "/api", "level": "access", "ends-on": "logout"}],
    [{"path": "/api", "level": "access", "name": 1}],
    [{"path": "/api", "level": "public", "roles-any": ["admin"]}],
    [{"path": "/api", "level": "master", "scopes_any": ["a"]}],
    [{"path": "/api", "level": "deny", "max-age": "5m"}],
    [{"path": "/api", "level": "public", "principal": "user"}],
    [{"path": "/api", "level": "optional", "audience": "shop"}],
]


def in_the_repository():
    """Every configuration, with where it stands."""
    names = subprocess.run(["git", "ls-files", "*.json", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in names.stdout.splitlines():
        text = (ROOT / name).read_text()
        if name.endswith("fastauth.config.json"):
            yield name, json.loads(text)
        for number, block in enumerate(re.findall(r"^```json\n(.*?)^```$", text, re.M | re.S), 1):
            try:
                value = json.loads(block)
            except ValueError:
                continue
            if isinstance(value, dict) and (not value or value.keys() & SCHEMA["properties"].keys()):
                yield f"{name}, block {number}", value


def problems(configuration):
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(configuration)]


def faults(configuration):
    """What the program says of a configuration."""
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "fastauth.config.json"
        file.write_text(json.dumps(configuration))
        environment = {"MASTER_TOKEN": "a-master-token-for-tests", "CRYPTOGRAPHY_KEY": "a-key-of-forty-characters-in-all-for-tests"}
        checked = subprocess.run([PROGRAM, "check", "--offline", "--json"], cwd=directory, env=environment, capture_output=True)
        return [fault["problem"] for fault in json.loads(checked.stdout)["faults"]]


def main():
    VALIDATOR.check_schema(SCHEMA)
    found = list(in_the_repository())
    wrong = [f"{where}: {problem}" for where, value in found for problem in problems(value)]
    if len(found) < 6:
        wrong.append(f"only {len(found)} configurations were found: {[where for where, _ in found]}")
    of_the_program = subprocess.run([PROGRAM, "schema"], check=True, capture_output=True).stdout
    if json.loads(of_the_program) != SCHEMA:
        wrong.append("`fastauth schema` prints another schema than that in docs")
    right = [("rules", rules) for rules in RIGHT] + RIGHT_VALUES
    wrong_ones = [("rules", rules) for rules in WRONG] + WRONG_VALUES
    for (key, value), is_right in [(member, True) for member in right] + [(member, False) for member in wrong_ones]:
        configuration = {"access-token-paths": [], key: value}
        for judge, told in [("the schema", problems(configuration)), ("the program", faults(configuration))]:
            if is_right != (not told):
                wrong.append(f"{key}: {json.dumps(value)}: {judge} says {told}")
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(1)
    print(f"schema: {len(found)} configurations of the repository, {len(right)} right ones and {len(wrong_ones)} wrong ones")


if __name__ == "__main__":
    main()
