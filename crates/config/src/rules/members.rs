//! The table of the members of a rule.

use std::time::Duration;

use fastauth_core::policy::{EndsOn, Extent, Level, Principal, Rule};
use serde_json::{Map, Value};

use super::member::{Member, MemberKind, Word};
use crate::{key::TimeLimits, time};

/// Every member there is, in the order in which they are read, and in which the reference shows them.
pub(crate) static MEMBERS: [&Member; 16] = [
    &PATH,
    &MATCH,
    &METHODS,
    &LEVEL,
    &ROLES_ANY,
    &ROLES_ALL,
    &SCOPES,
    &SCOPES_ANY,
    &CLAIM_EQUALS,
    &MAX_AGE,
    &PRINCIPAL,
    &ISSUERS,
    &AUDIENCE,
    &NAME,
    &REPORT_ONLY,
    &ENDS_ON,
];

/// The methods that a rule can name.
pub(crate) const METHOD_NAMES: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

/// What every path matches that is not refused: segments, each a parameter or a text without the signs of globs and routers.
const PATH_PATTERN: &str = r"^/$|^(/(?!\.{1,2}(/|$))(\{[^/{}]+\}|[^/:{}*?#;\\\s][^/{}*?#;\\\s]*))+$";

pub(super) static PATH: Member = Member::new(
    "path",
    // The rule is begun with it.
    MemberKind::Text { example: "/api", pattern: PATH_PATTERN, set: |rule, _| rule },
    |rule| Some(rule.path().into()),
)
.required()
.doc(
    "The path, and all paths below it in whole segments: `/api` is for `/api/x`, and not for `/apis`. `{name}` stands for one segment, \
     `{id:uuid}` and `{n:int}` for one of that form, and `{*rest}` at the end for one or more.",
);

static MATCH: Member = Member::new(
    "match",
    MemberKind::Choice(&[
        Word {
            word: Extent::Prefix.as_str(),
            set: |rule| rule.matching(Extent::Prefix),
            doc: "The path and all below it",
        },
        Word { word: Extent::Exact.as_str(), set: |rule| rule.matching(Extent::Exact), doc: "The path alone" },
    ]),
    |rule| (rule.extent() != Extent::default()).then(|| rule.extent().as_str().into()),
)
.doc("With `exact`, the path alone.");

static METHODS: Member = Member::new(
    "methods",
    MemberKind::Texts { example: r#"["GET"]"#, words: &METHOD_NAMES, set: Rule::methods },
    |rule| Some(rule.for_methods()?.into()),
)
.doc("The methods that the rule is for. `GET` stands for `HEAD` as well. Without it, all are meant.");

pub(super) static LEVEL: Member = Member::new(
    "level",
    MemberKind::Choice(&[
        Word { word: Level::Public.as_str(), set: Rule::public, doc: "No credential. None is looked at." },
        Word { word: Level::Optional.as_str(), set: Rule::optional, doc: "No credential, but one that is sent must be valid." },
        Word { word: Level::Access.as_str(), set: Rule::access, doc: "An access token." },
        Word { word: Level::Master.as_str(), set: Rule::master, doc: "The master token." },
        Word { word: Level::Both.as_str(), set: Rule::both, doc: "The master token and an access token." },
        Word { word: Level::Deny.as_str(), set: Rule::deny, doc: "Every request is refused." },
    ]),
    |rule| Some(rule.level()?.as_str().into()),
)
.required()
.doc(
    "The credential that a request needs: none (`public`), none or a valid access token (`optional`), an access token (`access`), the \
     master token (`master`), or `both`. `deny` refuses every request. The members that ask something of the token need `access` or \
     `both`.",
);

static ROLES_ANY: Member =
    Member::new("roles-any", MemberKind::Texts { example: r#"["admin"]"#, words: &[], set: Rule::roles_any }, |rule| {
        Some(rule.demands().roles_any.clone()?.into())
    })
    .demand()
    .doc("One of these roles is in the claim `roles`.");

static ROLES_ALL: Member = Member::new(
    "roles-all",
    MemberKind::Texts { example: r#"["admin", "audit"]"#, words: &[], set: Rule::roles_all },
    |rule| Some(rule.demands().roles_all.clone()?.into()),
)
.demand()
.doc("All of these roles are in the claim `roles`.");

static SCOPES: Member =
    Member::new("scopes", MemberKind::Texts { example: r#"["orders:read"]"#, words: &[], set: Rule::scopes }, |rule| {
        Some(rule.demands().scopes.clone()?.into())
    })
    .demand()
    .doc("All of these scopes are in the claim `scope`.");

static SCOPES_ANY: Member = Member::new(
    "scopes-any",
    MemberKind::Texts { example: r#"["orders:read", "orders:write"]"#, words: &[], set: Rule::scopes_any },
    |rule| Some(rule.demands().scopes_any.clone()?.into()),
)
.demand()
.doc("One of these scopes is in the claim `scope`.");

static CLAIM_EQUALS: Member = Member::new("claim-equals", MemberKind::Claims { set: Rule::claim_equals }, |rule| {
    let claims = rule.demands().claim_equals.clone()?;
    Some(claims.into_iter().collect::<Map<_, _>>().into())
})
.demand()
.doc("The token has all of these claims with these values: texts, numbers, true or false.");

static MAX_AGE: Member = Member::new(
    "max-age",
    MemberKind::Time {
        limits: TimeLimits {
            default: Duration::from_secs(5 * 60),
            min: Duration::from_secs(1),
            max: Duration::from_secs(100 * 365 * 24 * 60 * 60),
            in_seconds: true,
        },
        set: Rule::max_age,
    },
    |rule| Some(time::show(rule.demands().max_age?).into()),
)
.demand()
.doc(
    "The user has logged in (claim `auth_time`, or else `iat`) within this time, in whole seconds. Otherwise, the answer says to log in \
     again (RFC 9470).",
);

pub(super) static PRINCIPAL: Member = Member::new(
    "principal",
    MemberKind::Choice(&[
        Word { word: Principal::Any.as_str(), set: |rule| rule.principal(Principal::Any), doc: "Users and services." },
        Word { word: Principal::User.as_str(), set: |rule| rule.principal(Principal::User), doc: "Users." },
        Word { word: Principal::Service.as_str(), set: |rule| rule.principal(Principal::Service), doc: "Services." },
    ]),
    |rule| {
        let principal = rule.demands().principal;
        (principal != Principal::default()).then(|| principal.as_str().into())
    },
)
.demand()
.doc("The token's holder is a `user`, or a `service` by the test of the key `service-claim`.");

pub(super) static ISSUERS: Member =
    Member::new("issuers", MemberKind::Texts { example: r#"["own"]"#, words: &["own"], set: Rule::issuers }, |rule| {
        Some(rule.demands().issuers.clone()?.into())
    })
    .demand()
    .doc("The issuers whose tokens are accepted. `own` is this application, and the only one that there is.");

static AUDIENCE: Member = Member::new(
    "audience",
    MemberKind::Text { example: "https://api.example", pattern: ".", set: Rule::audience },
    |rule| Some(rule.demands().audience.clone()?.into()),
)
.demand()
.doc("The token names this audience in its claim `aud`.");

static NAME: Member = Member::new(
    "name",
    MemberKind::Text { example: "admin", pattern: "\\S", set: Rule::name },
    |rule| Some(rule.given_name()?.into()),
)
.doc(
    "The name of the rule in logs, metrics and explanations. Without it, that is its path, with the methods in front.",
);

static REPORT_ONLY: Member = Member::new("report-only", MemberKind::Flag { set: Rule::report_only }, |rule| {
    rule.is_report_only().then_some(Value::Bool(true))
})
.doc("With `true`, whom the rule would refuse is only logged and counted, and the next less specific rule decides.");

static ENDS_ON: Member = Member::new(
    "ends-on",
    MemberKind::Choice(&[
        Word {
            word: EndsOn::Token.as_str(),
            set: |rule| rule.ends_on(EndsOn::Token),
            doc: "When its access token is replaced, revoked or expired.",
        },
        Word {
            word: EndsOn::Revoke.as_str(),
            set: |rule| rule.ends_on(EndsOn::Revoke),
            doc: "When the session is revoked, or its last access token has expired.",
        },
    ]),
    |rule| Some(rule.ending()?.as_str().into()),
)
.doc(
    "When a response or a WebSocket that goes on is ended: with its access token (`token`), or when the session is revoked or its last \
     access token has expired (`revoke`). Without it, WebSockets, event streams and gRPC streams end with their token, and other responses go on.",
);
