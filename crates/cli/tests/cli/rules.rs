//! `explain` and `routes`, by rules.

use serde_json::{Value, json};

use super::{Place, stderr, stdout};

fn shop() -> Place {
    Place::ready(&json!({
        "service-claim": { "principal": "service" },
        "public-paths": ["/open"],
        "rules": [
            { "path": "/health", "match": "exact", "level": "public" },
            { "path": "/items", "methods": ["GET"], "level": "optional" },
            { "name": "editing", "path": "/items", "level": "access", "roles-any": ["editor"] },
            { "path": "/items/{id:uuid}/lock", "level": "both", "scopes": ["lock"] },
            { "path": "/internal", "level": "access", "principal": "service" },
            { "path": "/payments", "level": "access", "max-age": "5m" },
            { "path": "/old", "level": "deny" },
            { "path": "/access/open", "level": "public" },
        ],
    }))
}

const UUID: &str = "7b5bcc8f-3d2e-4b1a-9c0d-1e2f3a4b5c6d";

fn answers(place: &Place, requests: &[Value]) -> Vec<Value> {
    let input: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let output = place.run_with_input(&["explain", "-"], input.as_bytes());
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn answer_is_that_to_the_credentials_of_the_line() {
    let place = shop();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let lock = format!("/items/{UUID}/lock");
    let none = json!({});
    for (request, claims, master, expected) in [
        ("GET /health", None, false, "passes"),
        ("GET /items", None, false, "passes"),
        ("GET /items", Some(json!({ "exp": 1 })), false, "401 expired_token"),
        ("GET /items", Some(json!({ "type": "refresh" })), false, "401 wrong_token_type"),
        ("POST /items", None, false, "401 missing_access_token"),
        ("POST /items", None, true, "401 missing_access_token"),
        ("POST /items", Some(none.clone()), false, "403 missing_role"),
        ("POST /items", Some(json!({ "roles": ["admin"] })), false, "403 missing_role"),
        ("POST /items", Some(json!({ "roles": ["editor"] })), false, "passes"),
        (&format!("GET {lock}"), Some(json!({ "scope": "lock" })), false, "401 missing_master_token"),
        (&format!("GET {lock}"), Some(json!({ "scope": "unlock" })), true, "403 insufficient_scope"),
        (&format!("GET {lock}"), Some(json!({ "scope": "a lock" })), true, "passes"),
        ("GET /internal/x", Some(none.clone()), false, "403 wrong_principal"),
        ("GET /internal/x", Some(json!({ "principal": "service" })), false, "passes"),
        ("GET /payments", Some(json!({ "iat": now })), false, "passes"),
        ("GET /payments", Some(json!({ "iat": now, "auth_time": now - 600 })), false, "401 stale_authentication"),
        ("GET /payments", Some(none.clone()), false, "401 stale_authentication"),
        ("GET /old/x", None, false, "403 denied"),
        ("GET /old/x", Some(none.clone()), true, "403 denied"),
        // What a list guards, no rule opens.
        ("GET /access/open", None, false, "401 missing_access_token"),
        ("GET /other", None, false, "401 missing_access_token"),
        ("GET /other", Some(none.clone()), false, "passes"),
        ("GET /health/../old", Some(none.clone()), false, "403 denied"),
        ("GET /%zz", None, false, "400 path_malformed_escape"),
    ] {
        let (method, target) = request.split_once(' ').unwrap();
        let line =
            &answers(&place, &[json!({ "method": method, "target": target, "claims": claims, "master": master })])[0];
        let answer = &line["answer"];
        let given = match answer["passes"].as_bool().unwrap() {
            true => "passes".to_owned(),
            false => format!("{} {}", answer["status"], answer["reason"].as_str().unwrap()),
        };
        assert_eq!(given, expected, "{request} {claims:?}: {line}");
        assert_eq!(answer["passes"] == true, answer["status"].is_null() && answer["reason"].is_null());
    }
}

#[test]
fn rule_that_decides_is_named_with_its_place() {
    let place = shop();
    let lines = answers(
        &place,
        &[
            json!({ "method": "PUT", "target": "/items/7" }),
            json!({ "method": "HEAD", "target": "/items/7" }),
            json!({ "method": "GET", "target": "/health/" }),
            json!({ "method": "GET", "target": "/other" }),
            json!({ "method": "GET", "target": "/open/x" }),
        ],
    );
    let rule = |place, name: &str, path: &str, level: &str| json!({ "place": place, "name": name, "path": path, "level": level });
    let mut editing = rule(2, "editing", "/items", "access");
    editing["demands"] = json!({ "roles-any": ["editor"] });
    assert_eq!(lines[0]["rule"], editing);
    assert_eq!(lines[0]["rules"], json!([lines[0]["rule"]]));
    assert_eq!(lines[1]["rule"], rule(1, "GET /items", "/items", "optional"));
    assert_eq!((&lines[1]["decision"], &lines[2]["decision"]), (&json!("optional"), &json!("access")));
    // With the slash at its end, no rule is for it.
    assert_eq!((&lines[2]["rule"], &lines[2]["default_level"]), (&json!(null), &json!("access")));
    assert_eq!((&lines[3]["rule"], &lines[3]["default_level"]), (&json!(null), &json!("access")));
    assert_eq!((&lines[4]["rule"], &lines[4]["decision"]), (&json!(null), &json!("public")));
}

#[test]
fn text_names_the_winner_and_the_runners_up() {
    let place = shop();
    let text = place.done(&["explain", "GET", "/items/7"]);
    for part in [
        "GET /items/7: requires no credential, but a valid access token if there is one\n",
        "because rules[1] \"GET /items\" matches \"/items/7\" (as sent), and wins over rules[2] \"editing\" and default-level\n",
        "answer without credentials: that of the application\n",
        "wins    rules[1] \"GET /items\": optional (with methods)\n",
        "loses   rules[2] \"editing\": access\n",
        "loses   default-level: access\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = place.done(&["explain", "POST", "/items/7"]);
    assert!(text.contains("rules[2] demands one of the roles editor\n"), "{text}");
    assert!(text.contains("answer without credentials: 401 missing_access_token ("), "{text}");
    let text = place.done(&["explain", "GET", "/other"]);
    assert!(text.contains("because no rule matches \"/other\" (as sent), and the default level is access\n"), "{text}");
}

#[test]
fn claims_come_from_a_file_or_from_standard_input() {
    let place = shop();
    std::fs::write(place.path().join("claims.json"), r#"{"roles":"editor"}"#).unwrap();
    let text = place.done(&["explain", "POST", "/items", "--as", "claims.json"]);
    assert!(text.contains("answer with these claims: that of the application\n"), "{text}");
    let output = place.run_with_input(&["explain", "POST", "/items", "--as", "-", "--master"], b"{}");
    assert!(
        stdout(&output).contains("answer with the master token and these claims: 403 missing_role ("),
        "{output:?}"
    );
    for (input, problem) in [("[]", "has to be the payload of a token"), ("{", "has to be the payload of a token")] {
        std::fs::write(place.path().join("claims.json"), input).unwrap();
        let refusal = place.fails(&["explain", "POST", "/items", "--as", "claims.json"], 1);
        assert!(refusal.contains(problem), "{refusal}");
    }
    assert!(
        place.fails(&["explain", "POST", "/items", "--as", "missing.json"], 1).contains("missing.json cannot be read")
    );
    assert!(place.fails(&["explain", "-", "--master"], 2).contains("leave --as and --master out"));
    for line in [
        r#"{"method":"GET"}"#,
        r#"{"method":"GET","target":"/","claim":{}}"#,
        r#"{"method":"GET","target":"/","claims":[]}"#,
    ] {
        let output = place.run_with_input(&["explain", "-"], format!("GET /\n{line}\n").as_bytes());
        assert_eq!((output.status.code(), stdout(&output).lines().count()), (Some(1), 1));
        assert!(stderr(&output).contains("line 2 of standard input is not a request"), "{}", stderr(&output));
    }
}

/// The application with fifty routes.
fn fifty(words: &[&str]) -> (i32, String) {
    let place = Place::ready(&json!({}));
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let document = format!("{fixtures}/fifty.openapi.json");
    let config = format!("{fixtures}/fifty.config.json");
    let output = place.run(&[&["routes", "--config", &config, &document], words].concat());
    (output.status.code().unwrap(), stdout(&output))
}

#[test]
fn fifty_routes_are_told_with_their_rules() {
    let (code, text) = fifty(&["--json"]);
    assert_eq!(code, 0, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let routes = report["operations"].as_array().unwrap();
    assert_eq!(routes.len(), 50);
    let uncovered: Vec<_> =
        routes.iter().filter(|route| route["covered"] == false).map(|route| route["path"].as_str().unwrap()).collect();
    assert_eq!(uncovered, ["/v1/events", "/v1/openapi.json"]);
    let guards = |method: &str, path: &str| {
        let route = routes.iter().find(|route| route["method"] == method && route["path"] == path).unwrap();
        let guards = route["guards"].as_array().unwrap().iter();
        let guards =
            guards.map(|guard| format!("{} {}", guard["requires"].as_str().unwrap(), guard["rules"][0]["place"]));
        guards.collect::<Vec<_>>()
    };
    assert_eq!(guards("GET", "/v1/products"), ["optional 5"]);
    assert_eq!(guards("PUT", "/v1/products/{id:uuid}"), ["access 6"]);
    assert_eq!(guards("POST", "/v1/products/{id:uuid}/reviews"), ["access 9"]);
    assert_eq!(guards("POST", "/v1/orders/export"), ["access 11"]);
    assert_eq!(guards("GET", "/v1/old/export"), ["deny 20"]);
    assert_eq!(guards("POST", "/v1/hooks/{id:uuid}"), ["public 4"]);
    // One of the reports has a rule of its own.
    assert_eq!(guards("GET", "/v1/admin/reports/{slug}"), ["access 17", "access 18"]);
    assert_eq!(report["grpc"], json!([]), "no operation of it is one of gRPC");
}

#[test]
fn uncovered_routes_are_faults_if_asked() {
    let (code, text) = fifty(&[]);
    assert_eq!(code, 0);
    for part in [
        "warning: 2 operations are left to the default level; with --deny-uncovered, they are faults\n",
        "note: GET /v1/openapi.json: the document says that it needs no credential, but it needs one here\n",
        "rules[5] \"catalogue\"\n",
        "rules[17] \"/v1/admin\" (one of the roles admin), such as /v1/admin/reports/…\n",
        "rules[18] \"/v1/admin/reports/daily\", such as /v1/admin/reports/daily\n",
        "result: 50 operations, 2 not covered\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("gRPC") && text.matches("warning: ").count() == 1, "{text}");
    let (code, text) = fifty(&["--deny-uncovered"]);
    assert_eq!(code, 1);
    assert!(
        text.contains("fault: GET /v1/events: no rule and no list is for it: the default level is access\n"),
        "{text}"
    );
    assert_eq!(text.matches("fault: ").count(), 2, "{text}");
    // Without the path of its server, nothing but the default level is for any of them.
    let (code, text) = fifty(&["--deny-uncovered", "--base", "/"]);
    assert_eq!((code, text.matches("fault: ").count()), (1, 50), "{text}");
}

#[test]
fn lists_and_the_token_router_cover_as_well() {
    let place = shop();
    let list =
        "GET /access/x\nGET /open/x\nPOST /auth/token/refresh\nGET /nowhere\nPOST /grpc.health.v1.Health/Check\n";
    let output = place.run_with_input(&["routes", "--deny-uncovered", "-"], list.as_bytes());
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "\"/access\" of access-token-paths",
        "\"/open\" of public-paths",
        "the token router: the token sent",
        "fault: GET /nowhere: ",
        "fault: POST /grpc.health.v1.Health/Check: ",
        "POST  /grpc.reflection.v1.ServerReflection/ServerReflectionInfo       access  default-level\n",
        "result: 5 operations, 2 not covered\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let open = Place::ready(&json!({}));
    let document = json!({ "openapi": "3.0.0", "security": [{ "Key": [] }], "paths": { "/a": { "get": {}, "post": { "security": [] } } } });
    let output = open.run_with_input(&["routes", "--deny-uncovered", "-"], document.to_string().as_bytes());
    let text = stdout(&output);
    assert!(
        text.contains("fault: GET /a: it needs no credential here, and the document says that it does\n"),
        "{text}"
    );
    assert_eq!(text.matches("no rule and no list is for it: the default level is public").count(), 2, "{text}");
    let output = open.run_with_input(&["routes", "-"], b"openapi: 3.0.0");
    assert!(stderr(&output).contains("give an OpenAPI document in JSON"), "{}", stderr(&output));
}

/// What opens a WebSocket over HTTP/2 is a GET. Of any other CONNECT, the text and the answer say the same.
#[test]
fn connect_is_explained_as_one_that_opens_no_websocket() {
    let place = Place::ready(&json!({ "rules": [
        { "path": "/", "methods": ["GET"], "level": "public" },
        { "path": "/", "methods": ["CONNECT"], "level": "deny" },
        { "path": "/c", "methods": ["CONNECT"], "level": "public" },
        { "path": "/w", "methods": ["CONNECT"], "level": "access" },
    ]}));
    for (target, decision, status) in
        [("/health", "deny", json!(403)), ("/c", "public", Value::Null), ("/w", "access", json!(401))]
    {
        let line = &answers(&place, &[json!({ "method": "CONNECT", "target": target })])[0];
        assert_eq!(line["decision"], decision, "{line}");
        assert_eq!(
            (&line["answer"]["status"], &line["answer"]["passes"]),
            (&status, &json!(status.is_null())),
            "{line}"
        );
    }
}

/// An application of OpenAPI that failed to say what it has must not pass.
#[test]
fn a_document_without_operations_does_not_pass() {
    let place = shop();
    for input in ["", "# nothing\n", r#"{"openapi":"3.1.0"}"#, r#"{"openapi":"3.1.0","paths":{}}"#] {
        let output = place.run_with_input(&["routes", "--deny-uncovered", "-"], input.as_bytes());
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(1), "{input}: {text}");
        assert!(text.contains("fault: there is no operation in standard input, so nothing was checked"), "{text}");
        let output = place.run_with_input(&["routes", "-"], input.as_bytes());
        assert!(output.status.success() && stdout(&output).contains("warning: there is no operation"), "{output:?}");
    }
    assert!(place.fails(&["routes"], 2).contains("<OPENAPI.json>"));
}

#[test]
fn what_is_open_though_documented_as_guarded_is_a_fault_in_any_case() {
    let place = shop();
    let document = json!({
        "openapi": "3.1.0", "security": [{ "Key": [] }],
        "paths": { "/health": { "get": {} }, "/nowhere": { "get": {} }, "/payments": { "get": {} }, "/items": { "post": {} } },
    });
    let output = place.run_with_input(&["routes", "-"], document.to_string().as_bytes());
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "fault: GET /health: it needs no credential here, and the document says that it does\n",
        "warning: 1 operation is left to the default level; with --deny-uncovered, it is a fault\n",
        "result: 4 operations, 1 not covered, 1 open that the document guards\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let output = place.run_with_input(&["routes", "--json", "--deny-uncovered", "-"], document.to_string().as_bytes());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["result"], json!({ "operations": 4, "uncovered": 1, "open": 1, "passes": false }));
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["path"] == "/health").unwrap();
    assert_eq!((&finding["severity"], &finding["method"]), (&json!("fault"), &json!("GET")));
    assert!(finding["message"].as_str().unwrap().starts_with("it needs no credential here"), "{finding}");
    let demands = |path: &str| {
        let mut routes = report["operations"].as_array().unwrap().iter();
        routes.find(|route| route["path"] == path).unwrap()["guards"][0]["rules"][0]["demands"].clone()
    };
    assert_eq!(demands("/items"), json!({ "roles-any": ["editor"] }));
    assert_eq!(demands("/payments"), json!({ "max-age": "5m" }));
}

/// As OpenAPI has it: `/users/me` is never a value of `/users/{id}`.
#[test]
fn paths_that_the_document_names_are_no_values_of_others() {
    let place = Place::ready(&json!({
        "rules": [
            { "path": "/users", "level": "access", "roles-any": ["admin"] },
            { "path": "/users/me", "level": "access" },
        ],
    }));
    let with_me = "GET /users/me\nGET /users/{id}\n";
    let output = place.run_with_input(&["routes", "-"], with_me.as_bytes());
    assert!(!stdout(&output).contains("such as"), "{}", stdout(&output));
    let output = place.run_with_input(&["routes", "-"], b"GET /users/{id}\n");
    assert!(stdout(&output).contains("such as /users/me"), "{}", stdout(&output));
}

#[test]
fn lists_are_read_as_people_write_them() {
    let place = shop();
    let list = "\u{feff}# the items\nGET  /items\n\tPOST\t/items\n";
    let output = place.run_with_input(&["routes", "-"], list.as_bytes());
    assert!(stdout(&output).contains("result: 2 operations, 0 not covered\n"), "{output:?}");
    let document = "\u{feff}{\"openapi\":\"3.1.0\",\"paths\":{\"/items\":{\"get\":{}}}}";
    let output = place.run_with_input(&["routes", "-"], document.as_bytes());
    assert!(stdout(&output).contains("result: 1 operation, 0 not covered\n"), "{output:?}");
    let output = place.run_with_input(&["routes", "-"], &b"<html>".repeat(2000));
    let refusal = stderr(&output);
    assert!(refusal.len() < 1000 && refusal.contains("line 1 "), "{}", refusal.len());
}

#[test]
fn the_path_before_those_of_the_document_begins_with_a_slash() {
    let place = shop();
    let refusal = place.fails(&["routes", "--base", "x", "none.json"], 2);
    assert!(refusal.contains("begin with `/`"), "{refusal}");
    // No request has such a path.
    let output = place.run_with_input(&["routes", "--deny-uncovered", "-"], b"GET /%zz\n");
    let text = stdout(&output);
    assert!(text.contains("fault: GET /%zz: no request has such a path: it is answered 400\n"), "{text}");
}

#[test]
fn line_without_a_target_is_no_request() {
    for line in ["GET", "GET ", "GET /x\nPOST"] {
        let output = shop().run_with_input(&["explain", "-"], line.as_bytes());
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(
            stderr(&output).contains("of standard input has no target; write METHOD TARGET"),
            "{}",
            stderr(&output)
        );
    }
}
