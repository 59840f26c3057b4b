//! `check` and `explain`.

use serde_json::{Value, json};

use super::{Place, stderr, stdout};

/// What is not set may stand in the file that cannot be read.
#[test]
fn unreadable_env_file_is_the_only_fault() {
    let place = Place::ready(&json!({}));
    let file = place.path().join(".env");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let report: Value = serde_json::from_slice(&place.run(&["check", "--json"]).stdout).unwrap();
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.len() == 1 && faults[0]["problem"].as_str().unwrap().contains("cannot be read"), "{faults:?}");
}

#[test]
fn faults_come_before_warnings_and_notes_and_the_summary() {
    let place = Place::ready(&json!({ "store-format": "plain", "public-paths": ["/access/open"], "shadow": true }));
    let text = place.done(&["check"]);
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
    let order = [at("warning: "), at("suggestion: "), at("note: "), at("paths:  "), at("store:  "), at("keys:   ")];
    assert!(order.is_sorted(), "{text}");
    assert!(!text.contains("credential-sources"), "only --verbose shows every key: {text}");
    assert!(place.done(&["check", "--verbose"]).contains("credential-sources"));

    let broken = Place::ready(&json!({ "access-ttl": "soon", "shadow": true }));
    let text = stdout(&broken.run(&["check"]));
    assert!(text.starts_with("fault: ") && text.find("fault: ") < text.find("warning: "), "{text}");
    assert!(text.ends_with("result: 1 fault, 1 warning, no suggestions\n"), "{text}");
}

/// A place with these rules and this default level alone.
fn ruled(rules: &Value, default: &str) -> Place {
    Place::ready(&json!({
        "access-token-paths": [], "master-token-paths": [], "store-format": "fernet", "rules": rules, "default-level": default,
    }))
}

#[test]
fn rules_are_shown_each_on_a_line() {
    let rules = json!([
        { "path": "/auth", "level": "public" },
        { "path": "/admin", "methods": ["GET"], "level": "access", "roles-any": ["admin"], "max-age": "5m" },
    ]);
    let place = ruled(&rules, "access");
    let text = place.done(&["check", "--offline", "--strict"]);
    let expected = "rule:   /auth: public\n\
                    rule:   GET /admin: access, roles-any [\"admin\"], max-age \"5m\"\n\
                    rule:   all other paths: access\nstore:  ";
    assert!(text.starts_with(expected), "{text}");
    let report: Value = serde_json::from_str(&place.done(&["check", "--json", "--offline"])).unwrap();
    let entry = report["settings"].as_array().unwrap().iter().find(|entry| entry["key"] == "rules").unwrap();
    assert_eq!(entry["value"], rules);
    assert!(place.done(&["check", "--verbose", "--offline"]).contains("2 rules"));
}

#[test]
fn faults_of_rules_have_their_places() {
    let rules = json!([
        { "path": "/auth", "level": "public" },
        { "path": "/a", "level": "acces", "rolls-any": ["admin"] },
        { "path": "/auth", "level": "deny", "name": "second" },
    ]);
    let place = ruled(&rules, "access");
    let text = stdout(&place.run(&["check", "--offline"]));
    for expected in [
        "fault: fastauth.config.json, `rules[1].rolls-any` (/a): it is not a known member; did you mean `roles-any`?\n",
        "fault: fastauth.config.json, `rules[1].level` (/a): \"acces\" is not one of its values; write \"public\" or",
        "fault: fastauth.config.json, `rules[2].path` (second): is as specific as rules[0] (\"/auth\"), and some requests match both",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.ends_with("result: 3 faults, no warnings, no suggestions\n"), "{text}");
    let report: Value = serde_json::from_slice(&place.run(&["check", "--json", "--offline"]).stdout).unwrap();
    let places: Vec<_> = report["faults"].as_array().unwrap().iter().map(|fault| fault["place"].clone()).collect();
    assert_eq!(places, ["rules[1].rolls-any", "rules[1].level", "rules[2].path"]);
}

#[test]
fn rules_without_effect_are_warnings_which_strict_fails_on() {
    let rules = json!([
        { "path": "/auth", "level": "public" },
        { "path": "/a/b", "level": "deny" },
        { "path": "/a/{b}", "level": "access" },
    ]);
    let place = ruled(&rules, "access");
    let told = place.run(&["check", "--offline", "--strict"]);
    assert_eq!(told.status.code(), Some(1));
    let expected = "warning: rules[1] \"/a/b\" has no effect: rules[2] \"/a/{b}\" wins all of its requests\n";
    assert!(stdout(&told).contains(expected), "{}", stdout(&told));
}

#[test]
fn schema_of_another_version_is_a_suggestion() {
    let place = ruled(&json!([{ "path": "/auth", "level": "public" }]), "access");
    let schema = place.done(&["schema"]);
    let suggested = || place.done(&["check", "--offline", "--strict"]);
    assert!(!suggested().contains("suggestion: "));
    std::fs::write(place.path().join("fastauth.config.schema.json"), schema.replace("\"enum\"", "\"examples\""))
        .unwrap();
    let expected = "suggestion: replace fastauth.config.schema.json, by which editors check the configuration: it is of another version. \
                    `fastauth schema > fastauth.config.schema.json` writes that of this one\n";
    assert!(suggested().contains(expected), "{}", suggested());
    assert!(suggested().ends_with("result: no faults, no warnings, 1 suggestion\n"));
    let report: Value = serde_json::from_str(&place.done(&["check", "--json", "--offline"])).unwrap();
    assert_eq!(report["suggestions"].as_array().unwrap().len(), 1);
    // As white space is of no matter.
    let compact = serde_json::from_str::<Value>(&schema).unwrap().to_string();
    std::fs::write(place.path().join("fastauth.config.schema.json"), compact).unwrap();
    assert!(!suggested().contains("suggestion: "));
}

#[test]
fn strict_fails_on_warnings() {
    let place = Place::ready(&json!({ "shadow": true }));
    assert_eq!(place.run(&["check"]).status.code(), Some(0));
    assert_eq!(place.run(&["check", "--strict"]).status.code(), Some(1));
    let report: Value = serde_json::from_slice(&place.run(&["check", "--strict", "--json"]).stdout).unwrap();
    assert_eq!(report["ok"], false);
    // A suggestion is no warning.
    let place = Place::ready(&json!({}));
    assert!(place.done(&["check", "--strict"]).contains("suggestion: "));
}

#[test]
fn values_in_json_have_their_types() {
    let place = Place::ready(
        &json!({ "allow-get": false, "access-ttl": "90s", "master-tokens": { "ops": "a-master-token-of-ops" } }),
    );
    let report: Value = serde_json::from_str(&place.done(&["check", "--json"])).unwrap();
    let value = |key: &str| {
        let entries = report["settings"].as_array().unwrap();
        entries.iter().find(|entry| entry["key"] == key).unwrap()["value"].clone()
    };
    for (key, expected) in [
        ("allow-get", json!(false)),
        ("cache-capacity", json!(65_536)),
        ("access-token-paths", json!(["/access"])),
        ("access-ttl", json!("1m 30s")),
        ("issuer", json!(null)),
        ("master-token", json!("set")),
        ("master-tokens", json!(["ops"])),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    assert!(!report.to_string().contains("a-master-token-of-ops"));
}

#[test]
fn router_is_explained_beside_the_layer() {
    let place = Place::ready(&json!({ "allow-get": false }));
    let text = place.done(&["explain", "GET", "/auth/token/new"]);
    let expected = "\
GET /auth/token/new: an endpoint of the token router
  layer:  requires no credential, because no configured prefix matches
  router: requires the master token (Issue a token pair); it takes POST, and refuses GET with 405
";
    assert!(text.starts_with(expected), "{text}");
    let text = place.done(&["explain", "POST", "/auth/token/refresh?x=1"]);
    assert!(text.contains("router: requires the token sent ("), "{text}");
    for other in ["/auth/token/other", "/tokens/token/new", "//auth/token/new", "/auth/token/new/"] {
        let text = place.done(&["explain", "POST", other]);
        assert!(!text.contains("router"), "{text}");
    }
    let text = place.done(&["explain", "POST", "/tokens/token/new", "--auth-prefix", "/tokens"]);
    assert!(text.contains("router: requires the master token"), "{text}");
    let line: Value = serde_json::from_str(&place.done(&["explain", "--json", "POST", "/auth/token/new"])).unwrap();
    assert_eq!(line["endpoint"]["requires"], "the master token");
    assert_eq!(line["endpoint"]["methods"], json!(["POST"]));
    assert_eq!(line["decision"], "public");
    let line: Value = serde_json::from_str(&place.done(&["explain", "--json", "POST", "/other"])).unwrap();
    assert_eq!(line.get("endpoint"), None);
    // The application's own configuration says which methods, also before there are secrets.
    std::fs::remove_file(place.path().join(".env")).unwrap();
    let text = place.done(&["explain", "GET", "/auth/token/new"]);
    assert!(text.contains("refuses GET with 405"), "{text}");
}

#[test]
fn table_of_sessions_fits_a_terminal() {
    let place = Place::ready(&json!({ "tokens-per-client": "many" }));
    let long = format!("{}@a-department.of.some.organisation.example", "x".repeat(60));
    place.done(&["token", "new", "--client-id", &long]);
    place.done(&["token", "new", "--client-id", "alice"]);
    let text = place.done(&["token", "list"]);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.contains("xxx…") && text.contains("in 30 d"), "{text}");
    assert!(text.contains("in 1 y") || text.contains("in 365 d"), "{text}");
    let wide = place.done(&["token", "list", "--wide"]);
    assert!(wide.contains(&long) && wide.contains("T") && wide.contains("KEY"), "{wide}");

    place.done(&["token", "revoke", "--client-id", "alice"]);
    let output = place.run(&["token", "list"]);
    assert!(!stdout(&output).contains("alice"), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("1 session ended or expired and not shown: --all shows all"),
        "{}",
        stderr(&output)
    );
    for words in
        [&["token", "list", "--all"][..], &["token", "list", "--status", "revoked"], &["token", "list", "--json"]]
    {
        assert!(place.done(words).contains("alice"), "{words:?}");
    }
}

#[test]
fn issuing_says_how_many_sessions_it_ended() {
    let place = Place::ready(&json!({ "access-ttl": "15m" }));
    let first = place.run(&["token", "new", "--client-id", "alice"]);
    assert_eq!(stderr(&first), "The access token expires in 15 m, the refresh token in 1 y\n");
    let issued: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!((&issued["expires_in"], issued["session"].is_string()), (&json!(900), true));
    let second = place.run(&["token", "new", "--client-id", "alice"]);
    assert!(
        stderr(&second).contains("Ended 1 session of alice: `tokens-per-client` is \"one\""),
        "{}",
        stderr(&second)
    );

    let many = Place::ready(&json!({ "tokens-per-client": "many", "max-tokens-per-client": 2 }));
    for _ in 0..2 {
        let output = many.run(&["token", "new", "--client-id", "alice"]);
        assert!(!stderr(&output).contains("Ended"), "{}", stderr(&output));
    }
    let third = many.run(&["token", "new", "--client-id", "alice"]);
    let expected = "Ended 1 session of alice: it had as many as `max-tokens-per-client` allows";
    assert!(stderr(&third).contains(expected), "{}", stderr(&third));
}

/// Built alone, as its users install it: the features of the tests' own crate must not be what takes a key.
#[cfg(unix)]
#[test]
fn keys_that_only_an_application_acts_on_are_taken() {
    let place = Place::ready(&json!({
        "reload": "sighup", "websocket-refusal": "close", "rate-limit-per-minute": 60, "store-format": "fernet",
    }));
    let text = place.done(&["check"]);
    assert!(!text.contains("fault: "), "{text}");
    place.done(&["token", "new", "--client-id", "someone"]);
    place.done(&["token", "list"]);
    place.done(&["token", "revoke", "--all", "--yes"]);
}
