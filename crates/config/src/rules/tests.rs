use fastauth_core::{policy::Rule, secret::Secret, store::MemoryStore};
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
        &[(json!("robot"), "\"robot\" is not one of its values; write \"any\" or \"user\" or \"service\"")],
    );
    check_member("issuers", &[(json!([]), "it is empty; write a list of texts, such as [\"own\"]")]);
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
        ("rules", json!([{ "path": "/api" }]), "`rules[0].level` (/api): is missing; write \"public\" or"),
        (
            "rules",
            json!([{ "level": "access" }]),
            "`rules[0].path`: is missing; write a text in quotes, such as \"/api\"",
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
        let report = report(&[
            ("rules", json!([rule])),
            ("service-claim", json!({ "kind": "service" })),
            ("audience", json!("e")),
        ]);
        assert_eq!(report.faults(), []);
        let values = Values::default();
        let parts = CodeParts::default();
        let mut draft = Draft::new(&values, &parts);
        let rules = draft.read_rules(&RULES, std::slice::from_ref(rule));
        assert_eq!(as_object(&rules[0]), full);
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

/// What is wrong with a rule as a whole, or beside the others.
#[test]
fn rules_are_checked_with_each_other() {
    let rule = |path: &str, member: &str, value: Value| {
        let mut rule = json!({ "path": path, "level": "access" });
        rule[member] = value;
        json!([{ "path": "/first", "level": "deny" }, rule])
    };
    let access = json!("access");
    check_faults(&[
        (
            "rules",
            rule("/first", "level", json!("public")),
            "`rules[1].path` (/first): is as specific as rules[0] (\"/first\"), and some requests match both; merge the two",
        ),
        ("rules", rule("api", "level", access.clone()), "`rules[1].path` (api): must begin with `/`; write \"/api\""),
        ("rules", rule("/b/", "level", access.clone()), "`rules[1].path` (/b/): has a slash at its end; write \"/b\""),
        (
            "rules",
            rule("/l//x", "level", access.clone()),
            "`rules[1].path` (/l//x): has a doubled slash; write \"/l/x\"",
        ),
        (
            "rules",
            rule("/v{n}", "level", access),
            "a parameter as a part of a segment; make the parameter a whole segment",
        ),
        (
            "rules",
            rule("/c", "methods", json!(["get"])),
            "`rules[1].methods` (/c): \"get\" is not how the method is written; write GET",
        ),
        ("rules", rule("/c", "methods", json!(["FETCH"])), "\"FETCH\" is not a known method; write one of GET"),
        ("rules", rule("/p", "principal", json!("user")), "nothing tells users from services; set `service-claim`"),
        ("rules", rule("/i", "issuers", json!(["x"])), "`rules[1].issuers` (/i): has \"x\", and only \"own\" is known"),
        ("rules", rule("/n", "name", json!(" ")), "`rules[1].name` (/n): is empty; write a name, or leave it out"),
        (
            "rules",
            json!([{ "path": "/e", "level": "public", "roles-any": ["x"] }]),
            "`rules[0].level` (/e): is \"public\", which asks for no access token that could meet `roles-any`; write the level \"access\"",
        ),
    ]);
}

#[test]
fn rules_of_code_are_checked_as_those_of_a_file() {
    let faults = |rules: Vec<Rule>| {
        let builder = Settings::builder().store(MemoryStore::new()).master_token(Secret::generate());
        let error =
            builder.cryptography_key(Secret::generate()).rules(rules).rule(Rule::exact("/last").public()).build();
        error.map(drop).map_err(|error| error.faults().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(faults(vec![Rule::prefix("/auth").public()]), Ok(()));
    for (rule, expected) in [
        (Rule::prefix("/a"), "code, `rules[0].level` (/a): is missing; write one of \"public\""),
        (
            Rule::prefix("/a").access().roles_any(["x"; 0]),
            "code, `rules[0].roles-any` (/a): is empty; name at least one",
        ),
        (Rule::exact("/last").deny(), "code, `rules[1].path` (/last): is as specific as rules[0] (\"/last\")"),
    ] {
        let text = faults(vec![rule]).unwrap_err();
        assert!(text.starts_with(expected) && !text.contains('\n'), "{text}");
    }
}

/// The time of the log-in is in every token if any rule asks for it.
#[test]
fn max_age_of_any_rule_has_tokens_name_their_log_in() {
    for (member, expected) in [("max-age", true), ("audience", false)] {
        let mut rule = json!({ "path": "/a", "level": "access", "report-only": true });
        rule[member] = json!("5m");
        let settings = report(&[("rules", json!([rule])), ("audience", json!("5m"))]).into_settings().unwrap();
        assert_eq!(settings.deployment().issuing.auth_time, expected, "{member}");
    }
}

/// No token of this application could ever pass.
#[test]
fn audience_that_no_token_has_is_a_fault() {
    let rules = json!([{ "path": "/a", "level": "access", "audience": "shop" }]);
    let faults = |own: Option<Value>| {
        let mut members = vec![("rules", rules.clone())];
        members.extend(own.map(|own| ("audience", own)));
        report(&members).faults().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(faults(Some(json!("shop"))), "");
    let other = faults(Some(json!("store")));
    let expected = "`rules[0].audience` (/a): no token can have \"shop\", for every token has \"store\" of `audience`; leave it out";
    assert!(other.contains(expected), "{other}");
    let none = faults(None);
    assert!(none.contains("for no token has an audience, since `audience` is not set; leave"), "{none}");
    let unread = faults(Some(json!("")));
    assert!(unread.contains("`audience`: it is empty") && !unread.contains("rules[0]"), "{unread}");
}

#[test]
fn level_that_needs_a_master_token_needs_one_to_be_set() {
    let faults = |rules: Value, default_level: &str| {
        let mut config = json!({ "cryptography-key": "a-key-of-forty-characters-in-all-hush-01" });
        config["rules"] = rules;
        config["default-level"] = default_level.into();
        let place = tempfile::TempDir::new().unwrap();
        std::fs::write(place.path().join("fastauth.config.json"), config.to_string()).unwrap();
        let settings = Settings::builder().directory(place.path()).environment::<String, String>([]);
        let report = settings.store(MemoryStore::new()).report();
        report.faults().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let rule = |level: &str| json!([{ "path": "/a", "level": "access" }, { "path": "/m", "level": level }]);
    for (rules, default_level, what) in [
        (rule("master"), "access", "`rules[1]` (/m)"),
        (rule("both"), "access", "`rules[1]` (/m)"),
        (rule("access"), "master", "`default-level`"),
        (rule("access"), "both", "`default-level`"),
    ] {
        let text = faults(rules, default_level);
        let expected = format!("`master-token`: it is not set, but {what} requires it; set `master-token`");
        assert!(text.starts_with(&expected) && !text.contains('\n'), "{text}");
    }
    assert_eq!(faults(rule("access"), "access"), "");
}

/// A tie is told by the places in the file, also behind an entry that cannot be read.
#[test]
fn places_are_those_of_the_file() {
    let rules = json!([7, { "path": "/a", "level": "access" }, { "path": "/a", "level": "deny" }]);
    let faults: Vec<_> = report(&[("rules", rules)]).faults().iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[1].contains("`rules[2].path` (/a): is as specific as rules[1] (\"/a\")"), "{faults:?}");
}

#[test]
fn what_is_odd_is_a_warning_or_a_note() {
    let auth = json!({ "path": "/auth", "level": "public" });
    let told = |rules: Value, default: Option<&str>| {
        let mut members = vec![("rules", rules)];
        members.extend(default.map(|level| ("default-level", json!(level))));
        let report = report(&members);
        assert_eq!(report.faults(), []);
        (report.warnings().join("\n"), report.notes().join("\n"))
    };
    let by_itself = "`default-level` is not set, so requests that no rule matches require an access token";
    assert_eq!(told(json!([auth]), None), (String::new(), by_itself.to_owned()));
    assert_eq!(told(json!([auth]), Some("access")), (String::new(), String::new()));
    assert_eq!(told(json!([]), None), (String::new(), String::new()));
    for (rules, default, expected) in [
        (
            json!([]),
            "access",
            "`default-level` also guards /auth/token/refresh, so that a client whose access token has expired cannot refresh; add \
             {\"path\": \"/auth\", \"level\": \"public\"}, whose endpoints check requests themselves, and one for your log-in to `rules`",
        ),
        (
            json!([{ "path": "/auth", "level": "deny" }]),
            "public",
            "`rules`: \"/auth\" also guards /auth/token/refresh, so that",
        ),
        (json!([{ "path": "/auth", "level": "access", "name": "own" }]), "public", "`rules`: \"own\" also guards"),
        (
            json!([{ "path": "/access/x", "level": "public" }]),
            "public",
            "rules[0] \"/access/x\" is public, but \"/access\" of `access-token-paths` guards its paths all the same",
        ),
        (
            json!([{ "path": "/a/b", "level": "deny" }, { "path": "/a/{b}", "level": "public" }]),
            "public",
            "rules[0] \"/a/b\" has no effect: rules[1] \"/a/{b}\" wins all of its requests",
        ),
        (
            json!([{ "path": "/api/admin", "level": "deny" }, { "path": "/api/{t}", "level": "public", "methods": ["GET"] }]),
            "public",
            "rules[0] \"/api/admin\" does not decide on all of its requests: rules[1] \"GET /api/{t}\" wins \"/api/admin\" and asks \
             less; add \"/api/admin\" with `\"match\": \"exact\"`, and \"/api/admin/{*rest}\"",
        ),
        (
            json!([
                { "path": "/admin", "level": "access", "roles-any": ["admin"] },
                { "path": "/{t}/secret", "level": "public" },
            ]),
            "public",
            "rules[0] \"/admin\" does not decide on all of its requests: rules[1] \"/{t}/secret\" wins \"/admin/secret\" and asks \
             less; add \"/admin/secret\" with `\"match\": \"exact\"`, and \"/admin/secret/{*rest}\"",
        ),
        (
            json!([
                { "path": "/api/admin", "level": "deny" },
                { "path": "/api/{t}/{n:int}/x", "level": "access", "match": "exact" },
            ]),
            "public",
            "rules[0] \"/api/admin\" does not decide on all of its requests: rules[1] \"/api/{t}/{n:int}/x\" wins \
             \"/api/admin/{n:int}/x\" and asks less; add \"/api/admin/{n:int}/x\" with `\"match\": \"exact\"`",
        ),
        (
            json!([{ "path": "/files/private/index.html", "level": "access" }]),
            "public",
            "rules[0] \"/files/private/index.html\" leaves \"/files/private/\" open, which file servers answer with that file: add \
             \"/files/private\" with `\"match\": \"exact\"`",
        ),
        (
            json!([
                { "path": "/x/index.html", "level": "access", "roles-any": ["a"] },
                { "path": "/x", "level": "access" },
            ]),
            "public",
            "rules[0] \"/x/index.html\" leaves \"/x/\" without this check, which",
        ),
        (
            json!([{ "path": "/v1/users:batch", "level": "access" }]),
            "public",
            "rules[0] \"/v1/users:batch\" is for exactly this text: if what follows the colon is a parameter, write {name} for a \
             whole segment; if not, write `/v1/users%3Abatch`",
        ),
        (
            json!([{ "path": "/r", "level": "public", "report-only": true }]),
            "public",
            "rules[0] \"/r\" only reports, and",
        ),
        (
            json!([{ "path": "/e", "level": "public", "ends-on": "revoke" }]),
            "public",
            "rules[0] \"/e\" is public, so no token is looked at that could end: its `ends-on` has no effect",
        ),
        (
            json!([{ "path": "/e", "level": "deny", "ends-on": "token" }]),
            "public",
            "rules[0] \"/e\" refuses every request: its `ends-on` has no effect",
        ),
        (
            json!([{ "path": "/e", "level": "access", "report-only": true, "ends-on": "token" }]),
            "public",
            "rules[0] \"/e\" only reports: its `ends-on` has no effect",
        ),
    ] {
        let warnings = told(rules, Some(default)).0;
        assert!(warnings.starts_with(expected) && !warnings.contains('\n'), "{warnings}");
    }
    for level in ["optional", "access", "master", "both"] {
        let rule = json!([{ "path": "/e", "level": level, "ends-on": "revoke" }]);
        assert_eq!(told(rule, Some("public")).0, "", "{level}");
    }
    let open = report(&[
        ("rules", json!([{ "path": "/a", "level": "optional" }])),
        ("default-level", json!("public")),
        ("access-token-paths", json!([])),
        ("master-token-paths", json!([])),
    ]);
    assert_eq!(open.warnings(), ["every rule opens its paths: no path is guarded"]);
}

#[test]
fn what_is_as_it_should_be_draws_no_warning() {
    for rules in [
        json!([{ "path": "/api", "level": "access" }, { "path": "/api/hooks/{id:uuid}", "level": "public" }]),
        json!([{ "path": "/admin", "level": "access" }, { "path": "/{t}/secret", "level": "both", "roles-any": ["a"] }]),
        json!([
            { "path": "/admin", "level": "access", "roles-any": ["a", "b"] },
            { "path": "/{t}/secret", "level": "access", "roles-any": ["a"] },
        ]),
        json!([
            { "path": "/admin", "level": "access" },
            { "path": "/{t}/secret", "level": "public" },
            { "path": "/admin/secret", "match": "exact", "level": "access" },
            { "path": "/admin/secret/{*rest}", "level": "access" },
        ]),
        json!([{ "path": "/x", "level": "access" }, { "path": "/x/index.html", "level": "access" }]),
        json!([{ "path": "/x/index.html", "level": "public" }, { "path": "/v1/users%3Abatch", "level": "access" }]),
    ] {
        let report = report(&[("rules", rules), ("default-level", json!("public"))]);
        assert_eq!(report.warnings(), [""; 0]);
    }
    let report =
        report(&[("rules", json!([{ "path": "/café", "level": "access" }])), ("default-level", json!("public"))]);
    assert!(report.notes()[0].starts_with("rules[0] \"/café\" is guarded as it is written"), "{:?}", report.notes());
}

#[test]
fn what_no_rule_has_is_a_fault_or_a_warning() {
    let long = format!("/{}", "x".repeat(8 * 1024));
    let rule = |member: &str, value: Value| {
        let mut rule = json!({ "path": "/a", "level": "access" });
        rule[member] = value;
        json!([rule])
    };
    for (rules, expected) in [
        (rule("name", json!("a\nb")), "`rules[0].name` (a\\nb): has a control character; write it without"),
        (
            rule("name", json!("\u{1b}[31mred")),
            "`rules[0].name` (\\u{1b}[31mred): has a control character; write it without",
        ),
        (rule("name", json!(" ")), "`rules[0].name` (/a): is empty; write a name, or leave it out"),
        (rule("scopes", json!(["a\"b"])), "`rules[0].scopes` (/a): has \"a\\\"b\", and scopes are of printable ASCII"),
        (rule("scopes-any", json!(["é"])), "`rules[0].scopes-any` (/a): has \"é\", and scopes are of printable ASCII"),
        (rule("path", json!(long)), &format!("`rules[0].path` (/{}…): is longer than 8 KiB", "x".repeat(255))),
        (rule("path", json!("/{{x}}")), "`rules[0].path`: the value of \"path\": it contains the placeholder"),
    ] {
        let faults: Vec<_> = report(&[("rules", rules)]).faults().iter().map(ToString::to_string).collect();
        assert!(faults.len() == 1 && faults[0].contains(expected), "{expected}: {faults:?}");
    }
    for (rules, expected) in [
        (rule("methods", json!(["GET", "GET"])), "rules[0] \"GET,GET /a\" has \"GET\" twice in `methods`"),
        (rule("roles-any", json!(["a", "b", "a"])), "rules[0] \"/a\" has \"a\" twice in `roles-any`"),
        (
            rule("roles-all", json!([" admin"])),
            "rules[0] \"/a\" has \" admin\" in `roles-all`: the white space around it counts, so that few tokens can have it",
        ),
        (
            rule("claim-equals", json!({ "type": "refresh" })),
            "rules[0] \"/a\" asks for the claim `type` to be \"refresh\", which no access token has: it refuses every request",
        ),
        (
            json!([
                { "path": "/a", "level": "access", "name": "x" },
                { "path": "/b", "level": "access", "name": "x" },
            ]),
            "rules[1] \"x\" has the name of rules[0]: logs and metrics do not tell them apart",
        ),
    ] {
        let report = report(&[("rules", rules), ("default-level", json!("public"))]);
        assert_eq!((report.faults(), report.warnings()), (&[][..], &[expected.to_owned()][..]));
    }
    let fine = rule("claim-equals", json!({ "type": "access" }));
    assert_eq!(report(&[("rules", fine), ("default-level", json!("public"))]).warnings(), [""; 0]);
}

/// A person reads no thousand of them. A program gets them all.
#[test]
fn first_faults_are_told_and_the_number_of_the_others() {
    let rules: Vec<_> = (0..1000).map(|_| json!({ "path": "/a", "level": "access" })).collect();
    let report = report(&[("rules", json!(rules))]);
    assert_eq!(report.faults().len(), 999);
    let told: Vec<_> = report.told_faults().collect();
    assert_eq!((told.len(), &*told[20]), (21, "and 979 more"));
    let text = report.into_settings().unwrap_err().to_string();
    assert!(text.starts_with("FastAuth cannot start: 999 faults") && text.ends_with("\n  - and 979 more"), "{text}");
    assert!(text.len() < 10_000, "{}", text.len());
}

/// What opens one way alone, with the base path or without it, opens nothing.
#[test]
fn openings_are_told_that_lack_their_other_way() {
    let told = |rules: &[Value]| {
        let report = report(&[("rules", json!(rules)), ("base-path", json!("/api"))]);
        assert_eq!(report.faults(), []);
        report.warnings().to_vec()
    };
    let open = |path: &str| json!({ "path": path, "level": "public" });
    let opens_nothing = |path: &str, other: &str| {
        format!(
            "{path:?} opens nothing: with `base-path`, its paths count as {other:?} as well, which is guarded; open that, too"
        )
    };
    let auth = [open("/auth"), open("/api/auth")];
    assert_eq!(told(&auth), [""; 0]);
    assert_eq!(told(&[&auth[..], &[open("/health"), open("/api/health")]].concat()), [""; 0]);
    for (path, other) in [("/health", "/api/health"), ("/api/health", "/health"), ("/{n:int}/x", "/api/{n:int}/x")] {
        let warnings = told(&[&auth[..], &[open(path)]].concat());
        assert_eq!(warnings, [format!("rules[2] {}", opens_nothing(path, other))]);
    }
    let warnings = told(&auth[..1]);
    assert_eq!(warnings[0], format!("rules[0] {}", opens_nothing("/auth", "/api/auth")));
    assert!(
        warnings[1].contains("; add {\"path\": \"/api/auth\", \"level\": \"public\"}, whose endpoints"),
        "{warnings:?}"
    );
    let listed = report(&[
        ("access-token-paths", json!(["/"])),
        ("public-paths", json!(["/auth"])),
        ("base-path", json!("/api")),
    ]);
    assert!(listed.warnings().join("").contains("; add \"/api/auth\", whose endpoints"), "{:?}", listed.warnings());
}

#[test]
fn rule_is_shown_on_one_line() {
    let rules = json!([
        { "path": "/auth", "level": "public" },
        { "path": "/p/{id}", "methods": ["GET", "PUT"], "match": "exact", "level": "access", "roles-any": ["a"], "max-age": "90s", "name": "n" },
    ]);
    let lines = report(&[("rules", rules)]).rules();
    assert_eq!(
        lines,
        ["/auth: public", "GET, PUT /p/{id} (exact): access, roles-any [\"a\"], max-age \"1m 30s\", name \"n\""]
    );
}
