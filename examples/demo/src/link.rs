//! Links that log one browser in, once.
//!
//! The code stands behind `#`: browsers send that part of an address to no server. So it gets into no log and no `Referer`, and a program that
//! fetches links for a preview does not use it up. The page sends it in a body.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use fastauth::{Secret, TokenIssuer};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::task;
use utoipa::ToSchema;

use crate::{problem::Problem, support::say};

/// How long a link works.
const LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How often a page may have a link printed.
const PAUSE: Duration = Duration::from_secs(2);
/// The client that a link logs in, and its scope, by which `sessions` goes.
const CLIENT: &str = "demo";
pub(crate) const ADMIN: &str = "admin";

/// The links of one server. One at a time works.
#[derive(Clone)]
pub(crate) struct Links {
    url: Arc<str>,
    current: Arc<Mutex<Option<Link>>>,
    issuer: TokenIssuer,
}

struct Link {
    code: Secret,
    made: Instant,
    printed: Instant,
}

impl Links {
    pub(crate) fn new(url: &str, issuer: TokenIssuer) -> Self {
        Self { url: url.into(), current: Arc::default(), issuer }
    }

    /// Prints a link for the first time.
    pub(crate) fn print_first(&self) {
        if let Some(line) = self.line(Instant::now()) {
            say(&format!(
                "Open the demo in a browser (the link logs in, works once, and for ten minutes):\n  {line}\n"
            ));
        }
    }

    /// Returns the link that works, which is a new one if the last was used or has expired. `None` if it was printed a moment ago.
    fn line(&self, now: Instant) -> Option<String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = current.as_ref().is_none_or(|link| !link.works(now));
        let link = match &mut *current {
            Some(link) if !is_new => link,
            other => other.insert(Link::new(now)),
        };
        if !is_new && now.duration_since(link.printed) < PAUSE {
            return None;
        }
        link.printed = now;
        Some(format!("{}/#code={}", self.url, link.code.expose()))
    }

    /// Returns true for the code of the link that works, and uses it up.
    fn redeem(&self, code: &str, now: Instant) -> bool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // `matches` takes as long for any code.
        current.take_if(|link| link.works(now) && link.code.matches(code.as_bytes())).is_some()
    }
}

impl Link {
    fn new(now: Instant) -> Self {
        // A terminal that makes links clickable may leave `=` out at the end.
        let code = Secret::from(Secret::generate().expose().trim_end_matches('='));
        Self { code, made: now, printed: now }
    }

    fn works(&self, now: Instant) -> bool {
        now.duration_since(self.made) < LIFETIME
    }
}

pub(crate) fn router<S>(links: Links) -> Router<S> {
    Router::new().route("/demo/link", post(print)).route("/demo/login", post(log_in)).with_state(links)
}

/// Print a link
///
/// Prints a link that logs one browser in, in the terminal of the server: whoever reads that may log in. A link that was not used yet
/// is printed again.
#[utoipa::path(post, path = "/demo/link", tag = "demo", responses(
    (status = 204, description = "A link was printed"),
    (status = 429, description = "A link was printed a moment ago", body = Problem),
))]
pub(crate) async fn print(State(links): State<Links>) -> Response {
    let Some(line) = links.line(Instant::now()) else {
        let message = "a link was printed a moment ago: look into the terminal";
        return Problem::new(StatusCode::TOO_MANY_REQUESTS, "printed_just_now", message).into_response();
    };
    // A terminal may be slow, or stopped.
    let printed = task::spawn_blocking(move || say(&format!("A link that logs one browser in:\n  {line}\n"))).await;
    if printed.is_ok() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct LogIn {
    /// What stands behind `#code=` in the link
    code: String,
}

/// Log in by a link
///
/// Exchanges the code of a link for a pair of tokens. The client is `demo`, with the scope `admin`.
#[utoipa::path(post, path = "/demo/login", tag = "demo", request_body = LogIn, responses(
    (status = 200, description = "The pair, in the form of `/auth/token/new`"),
    (status = 401, description = "The link was used before, has expired, or never was one", body = Problem),
    (status = 503, description = "The token store is unavailable"),
))]
pub(crate) async fn log_in(State(links): State<Links>, Json(login): Json<LogIn>) -> Response {
    if !links.redeem(&login.code, Instant::now()) {
        let message = "the link was used before or has expired: print a new one in the terminal";
        return Problem::new(StatusCode::UNAUTHORIZED, "link_not_valid", message).into_response();
    }
    let claims = Map::from_iter([("scope".to_owned(), Value::from(ADMIN))]);
    links.issuer.issue_with(CLIENT, claims).await.into_response()
}

#[cfg(test)]
mod tests {
    use fastauth::{FastAuthLayer, Settings, store::MemoryStore};

    use super::*;

    fn links() -> Links {
        let settings = Settings::builder().cryptography_key(Secret::generate()).store(MemoryStore::new());
        let auth = FastAuthLayer::new(settings.build().unwrap()).unwrap();
        Links::new("http://127.0.0.1:8000", auth.issuer())
    }

    fn code(line: &str) -> &str {
        line.split_once("/#code=").unwrap().1
    }

    #[tokio::test]
    async fn link_works_once() {
        let links = links();
        let now = Instant::now();
        let line = links.line(now).unwrap();
        assert!(!links.redeem("", now));
        assert!(!links.redeem(&code(&line)[1..], now));
        assert!(links.redeem(code(&line), now));
        assert!(!links.redeem(code(&line), now));
        assert_ne!(links.line(now).unwrap(), line);
    }

    #[tokio::test]
    async fn link_expires() {
        let links = links();
        let now = Instant::now();
        let line = links.line(now).unwrap();
        assert!(!links.redeem(code(&line), now + LIFETIME));
        let next = links.line(now + LIFETIME).unwrap();
        assert!(links.redeem(code(&next), now + LIFETIME));
    }

    #[tokio::test]
    async fn unused_link_is_printed_again_after_a_pause() {
        let links = links();
        let now = Instant::now();
        let line = links.line(now).unwrap();
        assert_eq!(links.line(now), None);
        assert_eq!(links.line(now + PAUSE).unwrap(), line);
    }
}
