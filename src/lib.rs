//! FastAuth guards any tower application (axum, hyper, tonic) by path.
//!
//! The [`FastAuthLayer`] requires a master token (a static API key, header `MASTER-TOKEN`) or an access token (header
//! `ACCESS-TOKEN`, or `Authorization: Bearer`) on every request whose path starts with a configured prefix, WebSocket upgrades
//! included. An access token is a JWT that must be the one that the token store holds for its client. The [`TokenRouter`] issues,
//! refreshes and revokes those tokens. Wire- and store-compatible with the Python package `fastauth-api`.
//!
//! In an application, one line does it, with the rest in `fastauth.config.json`:
//!
//! ```no_run
//! # use axum::{Router, routing::get};
//! use fastauth::FastAuthLayer;
//!
//! let auth = FastAuthLayer::from_config();
//! let app: Router = Router::new()
//!     .route("/access/report", get(|| async { "for holders of a token" }))
//!     .nest_service("/auth", auth.router())
//!     .layer(auth);
//! ```
//!
//! The same with everything in code, and one request that is refused and one that passes:
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
//! # The way of a request
//!
//! ```text
//!  request ─► layer ─► guard::service   credentials are taken out of the request and hidden from logs
//!                        guard::decide    path, origin, credentials: a pure function ─► Decision
//!                        check::master    the master token, and the limit on wrong ones
//!                        check::confirm   the access token: cache, or signature and store ─► Access
//!             Permit ◄────┴────► Denial
//!               │                  └──► check::refuse ─► response (HTTP, gRPC, WebSocket close)
//!        inner service ─► response
//!
//!  Permit::ended ─► check::lifetime ─► store
//!  /auth/* ─► tokens (TokenRouter, TokenIssuer) ─► check::master, check::confirm, store
//! ```
//!
//! [`Settings`] become running parts in `compose`, which is the only file that knows all of them. `guard` and `tokens` share `check`,
//! and do not know each other. Rules, credentials, tokens, keys and the contract of stores are in the crate `fastauth-core`.
//! `observe` logs and counts every decision, issued pair and store call. No other module depends on its outcome.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `fernet` | yes | `store-format: "fernet"`, and tickets for WebSockets |
//! | `rest` | yes | [`store::RestStore`], for a store behind HTTP |
//! | `sqlite` | yes | [`store::SqliteStore`], the embedded store |
//! | `axum` | | [`Permit`] as an extractor, [`FastAuthLayer::around`], [`TokenRouter`] for `Router::merge`, and the whole path if the layer is on a nested router, which only adds checks |
//! | `store-service` | | [`store::StoreService`], a REST store to serve |
//! | `websocket` | | `websocket-refusal: "close"`, and with `axum` `Permit::guard`, which closes a WebSocket when the right to it ends |
//! | `rate-limit` | | rate limits on issuing and refreshing: `rate-limit-per-minute` |
//! | `utoipa` | | [`OpenApiSecurity`]: an application's OpenAPI document says what the guard asks for |
//! | `test-util` | | `test_util`, for the tests of applications: tokens, a clock to set, a store that fails; for `[dev-dependencies]` alone |
//! | `metrics` | | counts and times for the recorder of the `metrics` crate: switch them on by `SettingsBuilder::metrics` |

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
    clock, credential, denial, issue, json, keys, origin, policy as rule, query, random, secret, settings, shown, token,
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
        settings::{LogDetail, RefreshTransport, ResponseShape, WebSocketRefusal},
    };
}

/// What a path asks for, and why.
pub mod path {
    pub use crate::rule::{DecidingPrefix, ExplainedReading, Explanation, PathDecision, PathList, PathRefusal, Step};
    #[doc(hidden)]
    pub use crate::tokens::requirement::EndpointRequirement;
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
        issue::{
            ClaimsFuture, ClaimsHook, ClaimsRefusal, ClientIdError, Grant, Introspection, IssueErrorKind,
            MAX_CLIENT_ID_LEN,
        },
        secret::Secret,
        token::{Claims, TokenError, TokenType},
    },
    guard::{FastAuth, ResponseBody, ResponseFuture},
    layer::FastAuthLayer,
    observe::{PathCounts, TokenCounts},
    tokens::{
        TokenRouter,
        issued::{IssueError, IssuedTokens, LoggedOut},
        issuer::TokenIssuer,
    },
};
