//! Protects tower applications (axum, hyper, tonic) by path, and issues the tokens for it.
//!
//! The [`FastAuthLayer`] requires a master token (a static API key, header `MASTER-TOKEN`) or an access token (header
//! `ACCESS-TOKEN`, or `Authorization: Bearer`) on every request whose path starts with a configured prefix, WebSocket upgrades
//! included. An access token is a JWT that must be its session's current token in the store, so that revoking works at once. Wire-
//! and storage-compatible with the Python package `fastauth-api`.
//!
//! # Quick start
//!
//! ```toml
//! [dependencies]
//! fastauth = { path = "../fastauth", features = ["axum"] } # a clone: it is not on crates.io yet
//! ```
//!
//! One line protects the application. Paths and secrets are in `fastauth.config.json` and `.env`, which `fastauth init` writes:
//!
//! ```json
//! { "app-name": "shop", "master-token-paths": ["/master"], "access-token-paths": ["/access"] }
//! ```
//!
//! ```no_run
//! # use axum::{Router, routing::get};
//! use fastauth::FastAuthLayer;
//!
//! let auth = FastAuthLayer::from_config();
//! let app: Router = Router::new()
//!     .route("/access/report", get(|| async { "for holders of a token" }))
//!     .nest_service("/auth", auth.router())
//!     .layer(auth); // last: a route that is added after the layer is not guarded
//! ```
//!
//! # Log-in
//!
//! A handler that checks a password returns the tokens that it issues, with claims of your own. Refreshing is done by the endpoints
//! below `/auth`. The router gets its state by `.with_state(auth.clone())`:
//!
//! ```
//! use axum::{Json, extract::State, http::StatusCode, response::Result};
//! use fastauth::{FastAuthLayer, IssueError, IssuedTokens, LoggedOut, Permit};
//! use serde_json::{Value, json};
//! # #[derive(serde::Deserialize)]
//! # struct LogIn { user: String, password: String }
//! # async fn is_right(_: &LogIn) -> bool { true }
//!
//! async fn log_in(State(auth): State<FastAuthLayer>, Json(form): Json<LogIn>) -> Result<IssuedTokens> {
//!     if !is_right(&form).await {
//!         return Err(StatusCode::UNAUTHORIZED.into());
//!     }
//!     Ok(auth.issuer().issue_with(&form.user, json!({ "roles": ["reader"] })).await?)
//! }
//!
//! async fn who_am_i(permit: Permit) -> Json<Value> {
//!     let roles: Vec<_> = permit.claims().into_iter().flat_map(|claims| claims.roles()).collect();
//!     Json(json!({ "user": permit.client_id(), "roles": roles }))
//! }
//!
//! async fn log_out(State(auth): State<FastAuthLayer>, permit: Permit) -> Result<LoggedOut, IssueError> {
//!     auth.issuer().log_out(&permit).await
//! }
//! ```
//!
//! # Settings in code, and tests
//!
//! [`Settings::builder`] has a method for each configuration key. Here, one request is refused and one passes; the feature
//! `test-util` makes that shorter ([guide](crate::guide::testing)).
//!
//! ```
//! use axum::{Router, body::Body, routing::get};
//! use fastauth::{FastAuthLayer, Permit, Secret, Settings, store::MemoryStore};
//! use http::{Request, StatusCode};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::builder()
//!     .cryptography_key(Secret::generate())
//!     .access_token_paths(["/access"])
//!     .store(MemoryStore::new())
//!     .build()?;
//! let auth = FastAuthLayer::new(settings)?;
//! let issued = auth.issuer().issue("alice").await?;
//!
//! let hello = |permit: Permit| async move { format!("hello, {}", permit.client_id().unwrap_or("anyone")) };
//! let app: Router = Router::new().route("/access/hello", get(hello)).layer(auth);
//!
//! let without = Request::get("/access/hello").body(Body::empty())?;
//! assert_eq!(app.clone().oneshot(without).await?.status(), StatusCode::UNAUTHORIZED);
//!
//! let with = Request::get("/access/hello")
//!     .header("ACCESS-TOKEN", issued.tokens.access_token.expose())
//!     .body(Body::empty())?;
//! assert_eq!(app.oneshot(with).await?.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! # Where to read on
//!
//! | | |
//! | --- | --- |
//! | [`FastAuthLayer`] | where the layer goes, and what each place leaves open |
//! | [`Permit`], [`extract::Claims`] | in handlers: the client, the claims, and when the token ends |
//! | [`Require`] | more demands on one route or router, as layers |
//! | [`AccessCheck`], [`Rejection`] | in code: a check after the rules, and the answer to a refused request |
//! | [`TokenIssuer`], [`IssuedTokens`] | issue, refresh and revoke in code |
//! | [`TokenRouter`] | the endpoints for tokens |
//! | [`Settings`], [`config`] | settings in code; enums that are named as the keys |
//! | [`Denial`], [`DenialReason`] | why a request was refused |
//! | [`store`] | the embedded store, one behind HTTP, one in memory, and your own |
//! | [`guide`] | tutorial, log-in pages, axum, hyper, tonic, deployment, every key, glossary |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `fernet` | yes | `store-format: "fernet"`, and tickets |
//! | `rest` | yes | [`store::RestStore`], for a store behind HTTP |
//! | `sqlite` | yes | [`store::SqliteStore`], the embedded store |
//! | `sighup` | yes | `reload: "sighup"`: the signal SIGHUP reads the configuration again |
//! | `axum` | | [`Permit`] and [`extract::Claims`] as extractors, [`FastAuthLayer::around`], [`TokenRouter`] for `Router::merge`, and the whole path if the layer is on a nested router, which only adds checks |
//! | `store-service` | | [`store::StoreService`], a REST store to serve |
//! | `websocket` | | `websocket-refusal: "close"`, and with `axum` `Permit::guard`, which closes a WebSocket when its token ends |
//! | `rate-limit` | | rate limits on issuing and refreshing: `rate-limit-per-minute` |
//! | `utoipa` | | [`OpenApiSecurity`]: an application's OpenAPI document says what its paths require |
//! | `test-util` | | `test_util`, for the tests of applications: tokens in one line, a clock to set, a store that fails; for `[dev-dependencies]` alone |
//! | `metrics` | | counters and timings for the recorder of the `metrics` crate: switch them on by `SettingsBuilder::metrics` |
//!
//! # The source
//!
//! `layer` and `compose` put the parts together; `guard` decides on a request, `tokens` issues, and both share `check` and do not know each
//! other; `observe` logs and counts. `docs/architecture.md` in the repository has the way of a request.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::print_stdout, clippy::print_stderr)]

/// Compiles the code in README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Nothing sets a clock but the feature `test-util`.
#[cfg(doctest)]
#[cfg_attr(feature = "test-util", doc = "```")]
#[cfg_attr(not(feature = "test-util"), doc = "```compile_fail")]
/// use fastauth::test_util::ManualClock;
/// ```
///
#[cfg_attr(feature = "test-util", doc = "```")]
#[cfg_attr(not(feature = "test-util"), doc = "```compile_fail")]
/// let set = fastauth::SettingsBuilder::clock;
/// ```
///
#[cfg_attr(feature = "test-util", doc = "```")]
#[cfg_attr(not(feature = "test-util"), doc = "```compile_fail")]
/// let set = fastauth::store::MemoryStore::with_clock;
/// ```
///
#[cfg_attr(all(feature = "test-util", feature = "sqlite"), doc = "```")]
#[cfg_attr(not(all(feature = "test-util", feature = "sqlite")), doc = "```compile_fail")]
/// let set = |path: &str, clock| fastauth::store::SqliteStore::open_with_clock(path, clock);
/// ```
struct OnlyTestsSetIt;

#[cfg(all(doc, not(doctest)))]
pub mod guide;

#[cfg(feature = "axum")]
mod axum;
mod check;
mod compose;
mod guard;
mod layer;
mod observe;
#[cfg(feature = "utoipa")]
mod openapi;
mod original_uri;
pub mod store;
#[cfg(feature = "test-util")]
pub mod test_util;
mod tokens;

pub(crate) use fastauth_core::{
    clock, credential, denial, issue, json, keys, origin, policy as rule, query, random, secret, settings, shown,
    token, trace,
};

/// The configuration: where it is read from, in which order, and what it has to be.
pub mod config {
    pub use fastauth_config::{
        ConfigError, ConfiguredKeys, EnvFile, EnvFileError, Fault, KeyInfo, KeyRole, Report, ReportEntry, Settings,
        SettingsBuilder, Source, exposure, json_schema, reference,
    };
    #[cfg(feature = "edit")]
    pub use fastauth_config::{KeyChange, KeyChangeError, KeySetting};
    pub use fastauth_core::{
        issue::TokensPerClient,
        keys::StoreFormat,
        policy::Ambiguous,
        settings::{
            CacheMode, CookieSameSite, ErrorShape, LogDetail, RefreshTransport, Reload, ResponseShape, WebSocketRefusal,
        },
    };
}

/// What a path asks for, and why.
pub mod path {
    pub use crate::rule::{
        Contender, ContenderKind, DecidingPrefix, DecidingRule, ExplainedContest, ExplainedReading, Explanation,
        PathDecision, PathList, PathRefusal, Standing, Step,
    };
    #[doc(hidden)]
    pub use crate::tokens::requirement::EndpointRequirement;
}

/// Extractors for axum that have names of their own here. [`Permit`] is one, too.
#[cfg(feature = "axum")]
pub mod extract {
    pub use crate::axum::{Claims, ClaimsRejection};
}

#[cfg(all(feature = "axum", feature = "websocket"))]
pub use self::axum::GuardedSocket;
#[cfg(feature = "axum")]
pub use self::axum::{GuardedFuture, GuardedRouter, PermitMissing};
#[cfg(feature = "utoipa")]
pub use openapi::OpenApiSecurity;
pub use {
    check::{
        denial::Denial,
        lifetime::EndReason,
        permit::{Ended, Permit},
    },
    config::{Settings, SettingsBuilder},
    fastauth_core::{
        credential::CredentialError,
        denial::DenialReason,
        hooks::{AccessCheck, AccessFuture, AccessQuestion, Refusal, Rejection},
        issue::{
            ClaimsFuture, ClaimsHook, ClaimsRefusal, ClientIdError, Grant, Introspection, IssueErrorKind,
            MAX_CLIENT_ID_LEN,
        },
        policy::{EndsOn, Level, Principal, Rule},
        secret::Secret,
        token::{Claims, TokenError, TokenType},
    },
    guard::{FastAuth, Require, Required, RequiredFuture, ResponseBody, ResponseFuture},
    layer::FastAuthLayer,
    observe::{PathCounts, TokenCounts},
    tokens::{
        TokenIssuer, TokenRouter,
        issued::{IssueError, IssuedTokens, LoggedOut},
    },
};
