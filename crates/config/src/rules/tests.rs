use serde_json::{Map, Value, json};

use super::{MEMBERS, as_object};
use crate::{
    code_parts::CodeParts,
    draft::Draft,
    keys::rules::RULES,
    settings::Settings,
    testing::{check_faults, report},
    values::Values,
};

/// Checks the one fault of each value of a member, in a rule that is right otherwise.
fn check_member(name: &str, values: &[(Value, &str)]) {
    for (value, expected) in values {
        let mut rule = json!({ "path": "/api", "level": "access", "name": "orders" });
        rule[name] = value.clone();
        let label = if name == "name" { "/api" } else { "orders" };
        check_faults(&[("rules", json!([rule]), &format!("`rules[0].{name}` ({label}): {expected}"))]);
    }
}

#[test]
fn value_of_a_member_is_checked() {
    let levels = "write \"public\" or \"optional\" or \"access\" or \"master\" or \"both\" or \"deny\"";
    check_member(
        "level",
        &[
            (json!("acces"), &format!("\"acces\" is not one of its values; {levels}")),
            (json!("Access"), &format!("\"Access\" is not one of its values; {levels}")),
            (json!(null), "found null; give it a value, or remove it"),
            (json!(true), &format!("found true or false; {levels}")),
        ],
    );
    check_member(
        "match",
        &[
            (json!("regex"), "\"regex\" is not one of its values; write \"prefix\" or \"exact\""),
            (json!(["exact"]), "found a list; write \"prefix\" or \"exact\""),
        ],
    );
    check_member(
        "principal",
        &[
            (json!("robot"), "\"robot\" is not one of its values; write \"any\" or \"user\" or \"service\""),
            (
                json!("user"),
                "the key `service-claim`, which tells services from users, is not set; set it, such as {\"principal\": \"service\"}, or leave this out",
            ),
        ],
    );
    check_member(
        "issuers",
        &[
            (
                json!(["own", "https://id.example"]),
                "there is no issuer \"https://id.example\"; write [\"own\"], which is this application, or leave this out",
            ),
            (json!([]), "it is empty; write a list of texts, such as [\"own\"]"),
        ],
    );
    check_member("ends-on", &[(json!("logout"), "\"logout\" is not one of its values; write \"token\" or \"revoke\"")]);
    check_member(
        "methods",
        &[
            (json!("GET"), "found a text; write a list of texts, such as [\"GET\"]"),
            (json!(["GET", null]), "found null in the list; write a list of texts, such as [\"GET\"]"),
            (json!([]), "it is empty; write a list of texts, such as [\"GET\"]"),
        ],
    );
    check_member(
        "roles-any",
        &[
            (json!("admin"), "found a text; write a list of texts, such as [\"admin\"]"),
            (json!([1]), "found a number in the list; write a list of texts, such as [\"admin\"]"),
            (json!(null), "found null; give it a value, or remove it"),
            (json!([]), "it is empty; write a list of texts, such as [\"admin\"]"),
        ],
    );
    check_member(
        "claim-equals",
        &[
            (
                json!({}),
                "it is empty; write an object of texts, numbers, true and false, such as {\"tenant\": \"acme\"}",
            ),
            (
                json!({ "tenant": null }),
                "found null as the value of \"tenant\"; write an object of texts, numbers, true and false",
            ),
            (json!({ "tenant": ["acme"] }), "found a list as the value of \"tenant\"; write an object of texts"),
            (json!([["tenant", "acme"]]), "found a list; write an object of texts, numbers, true and false"),
        ],
    );
    check_member(
        "max-age",
        &[
            (json!("soon"), "\"soon\" is not a time; write a time from \"1s\" to \"36500d\", such as \"5m\""),
            (json!("0s"), "\"0s\" is out of range; write a time from \"1s\" to \"36500d\", such as \"5m\""),
            (json!("1500ms"), "\"1500ms\" is not a whole number of seconds; write a time"),
            (json!("5M"), "\"5M\" means months, by its capital M; write \"5m\" for minutes"),
            (json!(300), "found a number; write a time from \"1s\" to \"36500d\", such as \"5m\""),
        ],
    );
    check_member("report-only", &[(json!("yes"), "found a text; write true or false")]);
    check_member("name", &[(json!(1), "found a number; write a text in quotes, such as \"admin\"")]);
    check_member(
        "audience",
        &[(json!(["a"]), "found a list; write a text in quotes, such as \"https://api.example\"")],
    );
    check_member("rolls-any", &[(json!(["admin"]), "it is not a known member; did you mean `roles-any`?")]);
    check_member("Level", &[(json!("access"), "it is not a known member; did you mean `level`?")]);
}

#[test]
fn entry_and_list_are_checked() {
    check_faults(&[
        (
            "rules",
            json!({ "path": "/api" }),
            "`rules`: found an object; write a list of objects, such as [{\"path\": \"/api\", \"level\": \"access\"}]",
        ),
        ("rules", json!("[]"), "`rules`: found a text; write a list of objects"),
        ("rules", json!(null), "`rules`: found null; give it a value, or remove the key"),
        (
            "rules",
            json!(["/api"]),
            "`rules[0]`: found a text; write an object, such as {\"path\": \"/api\", \"level\": \"access\"}",
        ),
        ("rules", json!([{ "path": "/api" }]), "`rules[0]` (/api): `level` is missing; write \"public\" or"),
        (
            "rules",
            json!([{ "level": "access" }]),
            "`rules[0]`: `path` is missing; write a text in quotes, such as \"/api\"",
        ),
        (
            "rules",
            json!([{ "path": 1, "level": "access" }]),
            "`rules[0].path`: found a number; write a text in quotes, such as \"/api\"",
        ),
        (
            "rules",
            json!([{ "path": "/api", "level": "access", "max-age": "5m", "max_age": "6m" }]),
            "`rules[0].max-age` (/api): `max-age` and `max_age` are the same member, with different values; keep one of them",
        ),
        ("default-level", json!("open"), "\"open\" is not one of its values; write \"public\" or \"optional\""),
        ("default-level", json!(null), "found null"),
        ("service-claim", json!({}), "it is empty; write an object of claims, such as {\"principal\": \"service\"}"),
        ("service-claim", json!({ "a": [1] }), "found a list as the value of \"a\"; write an object of claims"),
        ("service-claim", json!("service"), "found a text; write an object of claims"),
    ]);
}

#[test]
fn every_fault_of_every_rule_is_reported_at_once() {
    let rules = json!([
        { "path": "/a", "level": "none", "rolls-any": ["x"], "max-age": "never" },
        { "path": "/b", "level": "access" },
        7,
        { "path": "/c", "name": "third", "level": "access", "scopes": [] },
    ]);
    let report = report(&[("rules", rules), ("access-ttl", json!("soon"))]);
    let places: Vec<_> = report.faults().iter().map(|fault| fault.place().or(fault.key()).unwrap()).collect();
    let expected =
        ["rules[0].rolls-any", "rules[0].level", "rules[0].max-age", "rules[2]", "rules[3].scopes", "access-ttl"];
    assert_eq!(places, expected);
}

/// The members in both spellings, and what they set.
#[test]
fn every_member_is_read_and_shown_as_it_is_written() {
    let full = json!({
        "path": "/api/{id:uuid}", "match": "exact", "methods": ["GET", "PUT"], "level": "both",
        "roles-any": ["a"], "roles-all": ["b"], "scopes": ["c"], "scopes-any": ["d"],
        "claim-equals": { "tenant": "acme", "n": 1, "ok": true }, "max-age": "5m", "principal": "service",
        "issuers": ["own"], "audience": "e", "name": "f", "report-only": true, "ends-on": "revoke",
    });
    let Value::Object(members) = &full else { panic!() };
    assert_eq!(members.len(), MEMBERS.len());
    let snake: Value =
        members.iter().map(|(name, value)| (name.replace('-', "_"), value.clone())).collect::<Map<_, _>>().into();
    for rule in [&full, &snake] {
        let report = report(&[("rules", json!([rule])), ("service-claim", json!({ "kind": "service" }))]);
        assert_eq!(report.faults(), []);
        let values = Values::default();
        let parts = CodeParts::default();
        let mut draft = Draft::new(&values, &parts);
        let rules = draft.read_rules(&RULES, vec![rule.clone()]);
        assert_eq!(as_object(&rules[0].rule), full);
    }
}

#[test]
fn variable_holds_rules_and_claims_as_json() {
    let load =
        |name: &str, text: &str| Settings::builder().environment([(name, text)]).config_file("/dev/null").report();
    for (name, text, expected) in [
        (
            "FASTAUTH_RULES",
            "/api",
            "environment variable FASTAUTH_RULES: it is not usable JSON: expected value at line 1 column 1; write a list of objects",
        ),
        ("FASTAUTH_RULES", r#"[{"path": "/a", "path": "/b"}]"#, "it is not usable JSON: `path` appears more than once"),
        (
            "FASTAUTH_RULES",
            r#"[{"path": "/a", "level": "no"}]"#,
            "environment variable FASTAUTH_RULES, `rules[0].level` (/a): \"no\" is not",
        ),
        ("FASTAUTH_RULES", "[] []", "it is not usable JSON: trailing characters"),
        (
            "FASTAUTH_SERVICE_CLAIM",
            r#"{"a": null}"#,
            "environment variable FASTAUTH_SERVICE_CLAIM: found null as the value of \"a\"",
        ),
    ] {
        let faults: Vec<_> = load(name, text).faults().iter().map(ToString::to_string).collect();
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{text}: {faults:?}");
    }
    let report = load("FASTAUTH_RULES", r#"[{"path": "/a", "level": "deny"}]"#);
    let rules = report.entries().iter().find(|entry| entry.key == "rules").unwrap();
    assert_eq!((rules.value.as_str(), &rules.json), ("1 rule", &json!([{ "path": "/a", "level": "deny" }])));
}
