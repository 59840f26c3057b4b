//! The decision: a pure function from the head of a request to what has to be checked, in one order of steps.

use http::HeaderMap;

use crate::{
    DenialReason,
    check::terms::Judge,
    credential::{Credentials, Proof, TokenHeaders},
    observe::Case,
    origin::Origins,
    rule::{EndsOn, Level, RequestLine, Requirement, Rule, RuleId, Rules, Unmet},
    token::Claims,
};

/// The settings that a decision depends on.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) rules: Rules,
    pub(crate) origins: Origins,
    pub(crate) sources: TokenHeaders,
}

/// What has to be done about a request that is not refused at once.
pub(crate) enum Decision<'a> {
    /// No check applies.
    Pass,
    /// An access token is optional, and no credential is presented.
    Anonymous,
    /// The credentials have to be checked: first the master token, if it is needed, and then the rest.
    Check { master: Option<&'a [u8]>, then: Then<'a> },
}

/// What comes after the master token.
pub(crate) enum Then<'a> {
    /// Nothing: the request is permitted.
    Permit,
    /// The access token has to be confirmed, or the ticket redeemed.
    Confirm(Proof<'a>),
    /// The request is refused: it presents no credential that could be checked.
    Refuse(DenialReason),
}

impl Decision<'_> {
    /// Refuses a request whose path asks for a credential.
    fn refuse(reason: DenialReason) -> Self {
        Self::Check { master: None, then: Then::Refuse(reason) }
    }
}

/// Decides on a request: by its path, by its origin, and then by its credentials, the master token before the access token. What their
/// claims must say comes after that: see [`judge`].
pub(crate) fn decide<'a>(
    policy: &Policy,
    line: &RequestLine<'_>,
    headers: &'a HeaderMap,
    credentials: &'a Credentials,
    case: &mut Case,
) -> Result<Decision<'a>, DenialReason> {
    let requirement = policy.rules.requirement(line).map_err(DenialReason::Path)?;
    case.requirement = Some(requirement);
    if credentials.are_of_handshake() && !policy.origins.admit_handshake(line.uri, headers) {
        return Err(DenialReason::ForeignOrigin);
    }
    if requirement.is_public() {
        return Ok(Decision::Pass);
    }
    if requirement.is_only_denied() {
        return Ok(Decision::refuse(DenialReason::Denied));
    }
    let presented = credentials.read(headers, policy.sources);
    let mut master = None;
    if requirement.needs_master() {
        match presented.master_token() {
            Ok(Some(token)) => master = Some(token),
            Ok(None) => return Ok(Decision::refuse(DenialReason::MissingMasterToken)),
            Err(error) => return Ok(Decision::refuse(DenialReason::Credentials(error))),
        }
    }
    let is_optional = requirement.is_optional();
    if !requirement.needs_access() && !is_optional {
        return Ok(Decision::Check { master, then: Then::Permit });
    }
    let then = match presented.proof() {
        Ok(Some(proof)) => Then::Confirm(proof),
        Ok(None) if is_optional => return Ok(Decision::Anonymous),
        Ok(None) => Then::Refuse(DenialReason::MissingAccessToken),
        Err(error) => Then::Refuse(DenialReason::Credentials(error)),
    };
    Ok(Decision::Check { master, then })
}

/// What a request with good credentials does not satisfy.
#[derive(Debug)]
pub(crate) struct Unsatisfied {
    /// The rule that asks for it.
    pub(crate) rule: Option<RuleId>,
    pub(crate) reason: DenialReason,
}

/// Decides on a request whose credentials are good: by the demands of all rules that won, and then by whether one of them denies it. Of the
/// demands that are not met, the first in their order is the answer.
pub(crate) fn judge(
    rules: &Rules,
    requirement: Requirement,
    claims: Option<&Claims>,
    judge: &Judge,
) -> Result<(), Unsatisfied> {
    if !requirement.has_winners() && !requirement.is_denied() {
        return Ok(());
    }
    let mut first_unmet: Option<(Unmet, RuleId)> = None;
    for (id, rule) in rules.winners(requirement) {
        if let Err(unmet) = judge.check(rule.demands(), claims)
            && first_unmet.as_ref().is_none_or(|(first, _)| unmet < *first)
        {
            first_unmet = Some((unmet, id));
        }
    }
    if let Some((unmet, id)) = first_unmet {
        return Err(Unsatisfied { rule: Some(id), reason: unmet.into() });
    }
    if requirement.is_denied() {
        let denies = |rule: &Rule| rule.level() == Some(Level::Deny);
        let rule = rules.winners(requirement).find(|(_, rule)| denies(rule)).map(|(id, _)| id);
        return Err(Unsatisfied { rule, reason: DenialReason::Denied });
    }
    Ok(())
}

/// Returns what the rules that won say of responses that go on: the stricter of what they say.
#[inline]
pub(crate) fn ends_on(rules: &Rules, requirement: Requirement) -> Option<EndsOn> {
    if !requirement.has_winners() {
        return None;
    }
    let mut all_on_revoke = true;
    let mut is_said = false;
    for (_, rule) in rules.winners(requirement) {
        is_said |= rule.ending().is_some();
        all_on_revoke &= rule.ending() == Some(EndsOn::Revoke);
    }
    is_said.then_some(if all_on_revoke { EndsOn::Revoke } else { EndsOn::Token })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, Request};

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        Secret, Settings,
        keys::KeyRing,
        rule::{Prefix, RuleSources, ServiceTest},
        store::MemoryStore,
        token::{Expected, NewToken, TokenType},
    };

    const HANDSHAKE: (&str, &str) = ("upgrade", "websocket");
    const FOREIGN: (&str, &str) = ("origin", "https://elsewhere.example");
    const MASTER: (&str, &str) = ("master-token", "m");
    const TOKEN: (&str, &str) = ("access-token", "t");
    const OTHER_TOKEN: (&str, &str) = ("authorization", "Bearer u");

    fn policy() -> Policy {
        let settings = Settings::builder()
            .cryptography_key(Secret::generate())
            .master_token(Secret::generate())
            .master_token_paths(["/master", "/both"])
            .access_token_paths(["/access", "/both"])
            .allowed_origins(["https://app.example"])
            .store(MemoryStore::new());
        let deployment = settings.build().unwrap().deployment().clone();
        Policy { rules: deployment.rules, origins: deployment.allowed_origins, sources: deployment.credential_sources }
    }

    /// Decides, and says in words what comes of it.
    fn outcome(policy: &Policy, uri: &str, lines: &[(&'static str, &'static str)]) -> String {
        let mut request = Request::get(uri).body(()).unwrap();
        for (name, value) in lines {
            request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let credentials = Credentials::take(&mut request);
        let line = RequestLine::new(request.method(), request.uri());
        match decide(policy, &line, request.headers(), &credentials, &mut Case::default()) {
            Err(reason) => reason.code().to_owned(),
            Ok(Decision::Pass) => "pass".to_owned(),
            Ok(Decision::Anonymous) => "anonymous".to_owned(),
            Ok(Decision::Check { master, then }) => {
                let then = match then {
                    Then::Permit => "permit".to_owned(),
                    Then::Confirm(Proof::Token(token)) => format!("token {}", token.escape_ascii()),
                    Then::Confirm(Proof::Ticket(ticket)) => format!("ticket {}", ticket.expose()),
                    Then::Refuse(reason) => reason.code().to_owned(),
                };
                master.map_or(then.clone(), |master| format!("master {}, then {then}", master.escape_ascii()))
            }
        }
    }

    #[test]
    fn steps_are_taken_in_order() {
        let policy = policy();
        for (name, uri, lines, expected) in [
            ("open path", "/", &[][..], "pass"),
            ("open path with credentials", "/", &[MASTER, TOKEN, OTHER_TOKEN], "pass"),
            ("path first", "/%zz", &[HANDSHAKE, FOREIGN, MASTER, MASTER], "path_malformed_escape"),
            ("origin before an open path", "/", &[HANDSHAKE, FOREIGN], "foreign_origin"),
            ("origin before credentials", "/both", &[HANDSHAKE, FOREIGN, MASTER, MASTER], "foreign_origin"),
            ("origin of no handshake", "/", &[FOREIGN], "pass"),
            ("handshake without an origin", "/", &[HANDSHAKE], "pass"),
            ("missing master token first", "/both", &[TOKEN, OTHER_TOKEN], "missing_master_token"),
            ("repeated master token first", "/both", &[MASTER, MASTER, TOKEN, OTHER_TOKEN], "repeated_credentials"),
            ("master token before a missing access token", "/both", &[MASTER], "master m, then missing_access_token"),
            (
                "master token before conflicting access tokens",
                "/both",
                &[MASTER, TOKEN, OTHER_TOKEN],
                "master m, then conflicting_credentials",
            ),
            ("both", "/both", &[MASTER, TOKEN], "master m, then token t"),
            ("master token alone", "/master", &[MASTER, TOKEN, OTHER_TOKEN], "master m, then permit"),
            ("access token alone", "/access", &[MASTER, MASTER, TOKEN], "token t"),
            ("no access token", "/access", &[], "missing_access_token"),
            ("token before ticket", "/access?ticket=a", &[HANDSHAKE, TOKEN], "token t"),
            ("ticket", "/access?ticket=a", &[HANDSHAKE], "ticket a"),
            ("repeated ticket", "/access?ticket=a&ticket=b", &[HANDSHAKE], "repeated_credentials"),
            ("ticket of no handshake", "/access?ticket=a", &[], "ticket a"),
            ("token before ticket of no handshake", "/access?ticket=a", &[TOKEN], "token t"),
            ("repeated ticket of no handshake", "/access?ticket=a&ticket=b", &[], "repeated_credentials"),
            ("another parameter", "/access?tickets=a", &[], "missing_access_token"),
            ("ticket on an open path", "/?ticket=a", &[], "pass"),
            ("ticket where the master token is asked", "/master?ticket=a", &[MASTER], "master m, then permit"),
            (
                "token among the protocols before ticket",
                "/access?ticket=a",
                &[HANDSHAKE, ("sec-websocket-protocol", "fastauth, p")],
                "token p",
            ),
            (
                "token among the protocols against the header",
                "/access",
                &[HANDSHAKE, TOKEN, ("sec-websocket-protocol", "fastauth, p")],
                "conflicting_credentials",
            ),
        ] {
            assert_eq!(outcome(&policy, uri, lines), expected, "{name}");
        }
    }

    fn ruled() -> Policy {
        let admin = Rule::prefix("/admin").access().roles_any(["admin"]);
        let sources = RuleSources {
            access: vec![Prefix::parse("/listed").unwrap()],
            rules: vec![
                Rule::prefix("/open").public(),
                Rule::prefix("/open/maybe").optional(),
                Rule::prefix("/listed").public(),
                Rule::prefix("/master").master(),
                Rule::prefix("/both").both(),
                Rule::prefix("/old").deny(),
                Rule::prefix("/old/listed").access(),
                admin.clone(),
                admin.scopes(["write"]).claim_equals([("tenant", "acme")]).name("writers"),
                Rule::exact("/admin/reports").access().scopes(["read"]),
                Rule::prefix("/admin/reports/old").deny(),
            ]
            .into_iter()
            .map(|rule| if rule.given_name().is_some() { rule.methods(["POST"]) } else { rule })
            .collect(),
            ..RuleSources::default()
        };
        Policy { rules: Rules::build(sources).unwrap(), ..policy() }
    }

    #[test]
    fn levels_are_taken_in_order() {
        let policy = ruled();
        for (name, uri, lines, expected) in [
            ("public", "/open/x", &[TOKEN, OTHER_TOKEN][..], "pass"),
            ("optional without a credential", "/open/maybe", &[MASTER], "anonymous"),
            ("optional with a token", "/open/maybe", &[TOKEN], "token t"),
            ("optional with a ticket", "/open/maybe?ticket=a", &[], "ticket a"),
            ("optional with two tokens", "/open/maybe", &[TOKEN, OTHER_TOKEN], "conflicting_credentials"),
            (
                "optional beside a stronger reading",
                "/open/maybe/%2e%2e/%2e%2e/master",
                &[TOKEN],
                "missing_master_token",
            ),
            ("a list on top of a public rule", "/listed", &[], "missing_access_token"),
            ("no rule", "/elsewhere", &[], "missing_access_token"),
            ("master", "/master", &[MASTER, TOKEN, OTHER_TOKEN], "master m, then permit"),
            ("both, the master token first", "/both", &[TOKEN, OTHER_TOKEN], "missing_master_token"),
            ("both", "/both", &[MASTER, TOKEN], "master m, then token t"),
            ("denied at once", "/old", &[MASTER, TOKEN, OTHER_TOKEN], "denied"),
            ("denied by one reading and guarded by another", "/old/listed/%2e%2e", &[], "missing_access_token"),
            ("origin before denial", "/old", &[HANDSHAKE, FOREIGN], "foreign_origin"),
            ("path before denial", "/old/%zz", &[], "path_malformed_escape"),
        ] {
            assert_eq!(outcome(&policy, uri, lines), expected, "{name}");
        }
    }

    fn claims(payload: &Value) -> Claims {
        let keys = KeyRing::new(&Secret::generate(), 0, &[]).unwrap();
        let now = Judge::default().clock.unix_now();
        let claims = payload.as_object().unwrap();
        let new = NewToken { claims, ..NewToken::new("c", TokenType::Access, now, std::time::Duration::from_secs(60)) };
        let (token, _) = keys.sign_token(&new).unwrap();
        keys.verify(token.expose().as_bytes(), &Expected::new(TokenType::Access, now)).unwrap()
    }

    #[test]
    fn all_rules_that_won_are_judged_and_the_first_demand_in_order_is_the_answer() {
        let policy = ruled();
        let judge = Judge { service: ServiceTest::default(), ..Judge::default() };
        let admin = json!({ "roles": ["admin"] });
        for (method, path, payload, expected) in [
            ("GET", "/admin", json!({}), "missing_role by /admin"),
            ("GET", "/admin", admin.clone(), "ok"),
            ("POST", "/admin", json!({}), "insufficient_scope by writers"),
            ("POST", "/admin", json!({ "scope": "write" }), "missing_role by writers"),
            ("POST", "/admin", json!({ "scope": "write", "roles": "admin" }), "claim_mismatch by writers"),
            ("POST", "/admin", json!({ "scope": "write", "roles": "admin", "tenant": "acme" }), "ok"),
            ("GET", "/admin/reports", admin.clone(), "insufficient_scope by /admin/reports"),
            ("GET", "/admin/reports", json!({ "scope": "read" }), "ok"),
            // The other reading is /admin/x, whose rule asks for a role.
            ("GET", "/admin/reports/%2e%2e/x", json!({}), "missing_role by /admin"),
            ("GET", "/admin/reports/old/%2e%2e/%2e%2e/x", json!({}), "missing_role by /admin"),
            ("GET", "/admin/reports/old/%2e%2e/%2e%2e/x", admin.clone(), "denied by /admin/reports/old"),
            ("GET", "/listed", json!({}), "ok"),
        ] {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            let line = RequestLine::new(request.method(), request.uri());
            let requirement = policy.rules.requirement(&line).unwrap();
            let outcome = match super::judge(&policy.rules, requirement, Some(&claims(&payload)), &judge) {
                Ok(()) => "ok".to_owned(),
                Err(Unsatisfied { rule, reason }) => {
                    format!("{} by {}", reason.code(), rule.map_or("none", |id| policy.rules.name(id)))
                }
            };
            assert_eq!(outcome, expected, "{method} {path}");
        }
        let uri = "/admin".parse().unwrap();
        let requirement = policy.rules.requirement(&RequestLine::new(&http::Method::GET, &uri)).unwrap();
        assert!(super::judge(&policy.rules, requirement, None, &judge).is_err(), "without claims, no demand is met");
    }

    #[test]
    fn rules_that_disagree_end_a_response_with_its_token() {
        let ruled = vec![
            Rule::prefix("/a").access().ends_on(EndsOn::Revoke),
            Rule::prefix("/a/token").access().ends_on(EndsOn::Token),
            Rule::prefix("/a/unsaid").access(),
            Rule::prefix("/b").access(),
        ];
        let rules = Rules::build(RuleSources { rules: ruled, ..RuleSources::default() }).unwrap();
        for (target, expected) in [
            ("/a/x", Some(EndsOn::Revoke)),
            ("/a/token", Some(EndsOn::Token)),
            ("/a/unsaid", None),
            ("/b", None),
            ("/elsewhere", None),
            // Two readings, and a rule for each.
            ("/a//token", Some(EndsOn::Token)),
            ("/a//unsaid", Some(EndsOn::Token)),
            ("/b/../a/x", Some(EndsOn::Token)),
            ("/a/./x", Some(EndsOn::Revoke)),
        ] {
            let (method, uri) = (http::Method::GET, target.parse().unwrap());
            let requirement = rules.requirement(&RequestLine::new(&method, &uri)).unwrap();
            assert_eq!(ends_on(&rules, requirement), expected, "{target}");
        }
    }
}
