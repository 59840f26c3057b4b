use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::{base64url, policy::Rule, token::test_claims};

const NOW: u64 = 1_800_000_000;

fn claims(payload: &Value) -> Claims {
    let payload = base64url::encode(payload.to_string().as_bytes());
    test_claims("c", NOW + 1, &format!("e30.{payload}.x"))
}

fn service() -> ServiceTest {
    ServiceTest::new([("principal".to_owned(), json!("service"))])
}

fn rule() -> Rule {
    Rule::prefix("/").access()
}

fn check(rule: &Rule, payload: &Value) -> Result<(), Unmet> {
    rule.demands().check(&claims(payload), NOW, &service())
}

fn scope(scope: &str) -> Result<(), Unmet> {
    Err(Unmet::Scope(scope.to_owned()))
}

const ROLE: Result<(), Unmet> = Err(Unmet::Role);
const PRINCIPAL: Result<(), Unmet> = Err(Unmet::Principal);
const CLAIM: Result<(), Unmet> = Err(Unmet::Claim);
const STALE: Result<(), Unmet> = Err(Unmet::Stale(Duration::from_secs(300)));

#[test]
fn roles_are_a_list_of_texts_or_one_text() {
    let any = rule().roles_any(["admin", "owner"]);
    let all = rule().roles_all(["admin", "owner"]);
    for (payload, of_any, of_all) in [
        (json!({ "roles": ["reader", "owner"] }), Ok(()), ROLE),
        (json!({ "roles": ["owner", "x", "admin"] }), Ok(()), Ok(())),
        (json!({ "roles": "admin" }), Ok(()), ROLE),
        (json!({ "roles": "admin owner" }), ROLE, ROLE),
        (json!({ "roles": [] }), ROLE, ROLE),
        (json!({ "roles": null }), ROLE, ROLE),
        (json!({ "roles": [["admin"], { "admin": true }, null, 1] }), ROLE, ROLE),
        (json!({ "roles": { "admin": "admin" } }), ROLE, ROLE),
        (json!({ "roles": "Admin" }), ROLE, ROLE),
        (json!({ "role": "admin", "scope": "admin owner" }), ROLE, ROLE),
        (json!({}), ROLE, ROLE),
    ] {
        assert_eq!(check(&any, &payload), of_any, "{payload}");
        assert_eq!(check(&all, &payload), of_all, "{payload}");
    }
}

#[test]
fn scopes_are_a_text_that_spaces_separate_or_a_list_of_texts() {
    let all = rule().scopes(["read", "write"]);
    let any = rule().scopes_any(["read", "write"]);
    for (payload, of_all, of_any) in [
        (json!({ "scope": "write read" }), Ok(()), Ok(())),
        (json!({ "scope": ["write", "read"] }), Ok(()), Ok(())),
        (json!({ "scope": "  write " }), scope("read write"), Ok(())),
        (json!({ "scope": "readwrite" }), scope("read write"), scope("read")),
        (json!({ "scope": "read\twrite" }), scope("read write"), scope("read")),
        (json!({ "scope": ["read write"] }), scope("read write"), scope("read")),
        (json!({ "scope": 1 }), scope("read write"), scope("read")),
        (json!({ "scp": "read write", "roles": ["read", "write"] }), scope("read write"), scope("read")),
    ] {
        assert_eq!(check(&all, &payload), of_all, "{payload}");
        assert_eq!(check(&any, &payload), of_any, "{payload}");
    }
    let both = rule().scopes(["a", "b"]);
    assert_eq!(check(&both.clone().scopes_any(["c", "d"]), &json!({})), scope("a b c"));
    assert_eq!(check(&both.scopes_any(["c", "b"]), &json!({})), scope("a b"));
}

#[test]
fn service_is_told_by_its_claims_and_everyone_else_is_a_user() {
    let users = rule().principal(Principal::User);
    let services = rule().principal(Principal::Service);
    for (payload, of_users, of_services) in [
        (json!({ "principal": "service" }), PRINCIPAL, Ok(())),
        (json!({ "principal": "user" }), Ok(()), PRINCIPAL),
        (json!({ "principal": ["service"] }), Ok(()), PRINCIPAL),
        (json!({}), Ok(()), PRINCIPAL),
    ] {
        assert_eq!(check(&users, &payload), of_users, "{payload}");
        assert_eq!(check(&services, &payload), of_services, "{payload}");
        assert_eq!(check(&rule().principal(Principal::Any), &payload), Ok(()));
    }
    let several = ServiceTest::new([("kind".to_owned(), json!("machine")), ("level".to_owned(), json!(2))]);
    assert!(several.passes(&claims(&json!({ "kind": "machine", "level": 2.0 }))));
    assert!(!several.passes(&claims(&json!({ "kind": "machine" }))));
    assert!(!ServiceTest::default().passes(&claims(&json!({}))), "without a test, no token is that of a service");
}

#[test]
fn claims_are_compared_as_scalars() {
    for (expected, claim, result) in [
        (json!("acme"), json!("acme"), Ok(())),
        (json!("acme"), json!("Acme"), CLAIM),
        (json!("acme"), json!(["acme"]), CLAIM),
        (json!(1), json!(1.0), Ok(())),
        (json!(1), json!("1"), CLAIM),
        (json!(1), json!(true), CLAIM),
        (json!(true), json!(true), Ok(())),
        (json!(false), json!(null), CLAIM),
        (json!(null), json!(null), CLAIM),
        (json!([]), json!([]), CLAIM),
        (json!({}), json!({}), CLAIM),
        (json!(u64::MAX), json!(u64::MAX - 1), CLAIM),
    ] {
        let rule = rule().claim_equals([("tenant", expected)]);
        assert_eq!(check(&rule, &json!({ "tenant": claim })), result, "{rule:?} {claim}");
        assert_eq!(check(&rule, &json!({})), CLAIM);
        assert_eq!(check(&rule, &json!({ "app": { "tenant": claim } })), CLAIM, "top-level members alone");
    }
    let two = rule().claim_equals([("a", 1), ("b", 2)]);
    assert_eq!(check(&two, &json!({ "a": 1, "b": 2 })), Ok(()));
    assert_eq!(check(&two, &json!({ "a": 1, "b": 3 })), CLAIM);
}

#[test]
fn token_is_of_the_own_issuer_and_for_the_audience() {
    assert_eq!(check(&rule().issuers(["own"]), &json!({})), Ok(()));
    assert_eq!(check(&rule().issuers(["elsewhere"]), &json!({})), CLAIM);
    let audience = rule().audience("shop");
    for (payload, result) in [
        (json!({ "aud": "shop" }), Ok(())),
        (json!({ "aud": ["x", "shop"] }), Ok(())),
        (json!({ "aud": "shops" }), CLAIM),
        (json!({ "aud": [["shop"]] }), CLAIM),
        (json!({}), CLAIM),
    ] {
        assert_eq!(check(&audience, &payload), result, "{payload}");
    }
}

#[test]
fn age_is_that_of_the_log_in() {
    let rule = rule().max_age(Duration::from_secs(300));
    for (payload, result) in [
        (json!({ "iat": NOW }), Ok(())),
        (json!({ "iat": NOW - 300 }), Ok(())),
        (json!({ "iat": NOW - 301 }), STALE),
        (json!({ "iat": NOW as f64 - 300.5 }), STALE),
        (json!({ "iat": NOW, "auth_time": NOW - 301 }), STALE),
        (json!({ "iat": NOW - 301, "auth_time": NOW }), Ok(())),
        (json!({ "iat": NOW, "auth_time": "now" }), STALE),
        (json!({ "iat": NOW, "auth_time": null }), STALE),
        (json!({ "iat": NOW + 1 }), STALE),
        (json!({ "iat": -1e300 }), STALE),
        (json!({}), STALE),
    ] {
        assert_eq!(check(&rule, &payload), result, "{payload}");
    }
}

#[test]
fn demands_are_answered_in_order() {
    let rule = rule()
        .scopes(["read"])
        .roles_any(["admin"])
        .principal(Principal::Service)
        .claim_equals([("tenant", "acme")])
        .max_age(Duration::from_secs(300));
    let mut payload = json!({});
    for (name, value, unmet) in [
        ("scope", json!("read"), scope("read")),
        ("roles", json!(["admin"]), ROLE),
        ("principal", json!("service"), PRINCIPAL),
        ("tenant", json!("acme"), CLAIM),
        ("iat", json!(NOW), STALE),
    ] {
        assert_eq!(check(&rule, &payload), unmet);
        payload[name] = value;
    }
    assert_eq!(check(&rule, &payload), Ok(()));
    assert!(Unmet::Scope(String::new()) < Unmet::Role && Unmet::Role < Unmet::Principal);
    assert!(Unmet::Principal < Unmet::Claim && Unmet::Claim < Unmet::Stale(Duration::ZERO));
}

#[test]
fn empty_lists_are_met_by_no_token() {
    let none: [String; 0] = [];
    let payload = json!({ "roles": ["a"], "scope": "a", "iat": NOW });
    let claims: [(String, Value); 0] = [];
    for rule in [
        rule().roles_any(none.clone()),
        rule().roles_all(none.clone()),
        rule().scopes(none.clone()),
        rule().scopes_any(none.clone()),
        rule().issuers(none),
        rule().claim_equals(claims),
    ] {
        assert!(check(&rule, &payload).is_err(), "{rule:?}");
    }
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-c]", 0..3)
}

fn payload() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        "[a-c]( [a-c])?".prop_map(Value::from),
        names().prop_map(Value::from),
        (NOW - 4..NOW + 2).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    let name = prop::sample::select(&["roles", "scope", "iat", "auth_time", "aud", "principal", "a"][..]);
    prop::collection::vec((name.prop_map(str::to_owned), value), 0..6)
        .prop_map(|members| Value::Object(Map::from_iter(members)))
}

/// Adds one demand to a rule.
type Add = fn(Rule, Vec<String>) -> Rule;

/// Each kind of demand, once.
fn kinds() -> Vec<Add> {
    vec![
        |rule, names| rule.roles_any(names),
        |rule, names| rule.roles_all(names),
        |rule, names| rule.scopes(names),
        |rule, names| rule.scopes_any(names),
        |rule, names| rule.audience(names.concat()),
        |rule, names| rule.claim_equals(names.into_iter().map(|name| (name, "a"))),
        |rule, names| rule.max_age(Duration::from_secs(names.len() as u64)),
        |rule, names| rule.principal(if names.is_empty() { Principal::User } else { Principal::Service }),
        |rule, names| rule.issuers(names),
    ]
}

proptest! {
    #[test]
    fn one_more_demand_never_permits_more(
        payload in payload(),
        kinds in Just(kinds()).prop_shuffle(),
        names in prop::collection::vec(names(), 9),
    ) {
        let mut rule = rule();
        let mut is_refused = false;
        for (add, names) in kinds.into_iter().zip(names) {
            rule = add(rule, names);
            let is_met = check(&rule, &payload).is_ok();
            prop_assert!(!(is_refused && is_met), "{:?}", rule);
            is_refused = !is_met;
        }
    }

    #[test]
    fn token_without_claims_meets_no_demand(add in prop::sample::select(kinds()), names in names()) {
        let rule = add(rule(), names);
        // Everyone who is no service is a user.
        let is_for_users = rule.demands().principal == Principal::User;
        prop_assert_eq!(check(&rule, &json!({})).is_ok(), is_for_users);
    }

    #[test]
    fn several_spellings_of_a_list_are_one(scopes in names()) {
        let rule = rule().scopes_any(["a"]);
        let text = json!({ "scope": scopes.join(" ") });
        prop_assert_eq!(check(&rule, &text), check(&rule, &json!({ "scope": scopes })));
    }
}
