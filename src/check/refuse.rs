//! What the client sees: the one table from a reason to a status, a challenge and a body.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, Entry, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde::Serialize;

use super::denial::Denial;
use crate::{DenialReason, credentials::TokenHeaders, rule::PathRefusal, token::TokenError};

pub(crate) const STORE_UNAVAILABLE: &str = "The token store is unavailable, try again later";

pub(crate) const TOO_MANY_GUESSES: &str = "Too many wrong master tokens, try again later";

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// In which form a refusal is written, by the kind of request.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    /// The content type of a gRPC request, which wants status 200 and the gRPC status in the headers ("Trailers-Only"
    /// in the gRPC over HTTP/2 protocol).
    grpc: Option<Box<HeaderValue>>,
    is_head: bool,
}

impl Form {
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        let content_type = if method == Method::POST { headers.get(CONTENT_TYPE) } else { None };
        let grpc = content_type.filter(|content_type| is_grpc(content_type));
        Self { grpc: grpc.cloned().map(Box::new), is_head: method == Method::HEAD }
    }
}

/// `application/grpc`, or that with a suffix or parameters. gRPC-Web is not meant: its clients read HTTP statuses.
fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// Writes the answers to refused requests.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// Names the protection space in challenges (RFC 9110 11.5).
    realm: String,
    /// The scheme of access tokens, which names where they are looked for.
    scheme: &'static str,
    /// Answers that were written before, by the [place](Self::place) of their reason. A flood of refusals is to cost little.
    written: [OnceLock<Response<Full<Bytes>>>; PLACES],
}

/// How many reasons are told in the same words every time.
const PLACES: usize = 9;

impl Refusals {
    pub(crate) fn new(realm: String, sources: TokenHeaders) -> Self {
        let scheme = if sources.authorization { "Bearer" } else { "AccessToken" };
        Self { realm, scheme, written: Default::default() }
    }

    pub(crate) fn realm(&self) -> &str {
        &self.realm
    }

    /// What is to be brought, and what is wrong with what was (RFC 9110 11.3).
    pub(crate) fn challenge(&self, challenge: Challenge, detail: &str) -> Option<HeaderValue> {
        let realm = quoted(&self.realm);
        let text = match challenge {
            Challenge::None => return None,
            Challenge::MasterToken => format!("MasterToken realm={realm}"),
            Challenge::AccessToken(None) => format!("{} realm={realm}", self.scheme),
            Challenge::AccessToken(Some(error)) => {
                let error = match error {
                    BearerError::InvalidRequest => "invalid_request",
                    BearerError::InvalidToken => "invalid_token",
                };
                let (scheme, detail) = (self.scheme, quoted(detail));
                format!("{scheme} realm={realm}, error=\"{error}\", error_description={detail}")
            }
        };
        HeaderValue::from_str(&text).ok()
    }

    /// The answer to a refused request.
    pub(crate) fn answer(&self, denial: Denial, form: Form) -> Response<Full<Bytes>> {
        let reason = denial.reason();
        let wait = if let DenialReason::TooManyGuesses(wait) = reason { Some(*wait) } else { None };
        let mut response = match (form.grpc, Self::place(reason)) {
            (Some(content_type), _) => Answer::to(reason).grpc(*content_type),
            (None, Some(place)) => self.written[place].get_or_init(|| self.write(reason)).clone(),
            (None, None) => self.write(reason),
        };
        if form.is_head {
            response = head_only(response);
        }
        response.extensions_mut().insert(denial);
        match (response.status(), wait) {
            (StatusCode::SERVICE_UNAVAILABLE, _) => try_later(response),
            (StatusCode::TOO_MANY_REQUESTS, Some(wait)) => after(response, wait),
            _ => response,
        }
    }

    fn write(&self, reason: &DenialReason) -> Response<Full<Bytes>> {
        let Answer { status, detail, challenge } = Answer::to(reason);
        let mut response = json_response(status, &Detail { detail: &detail });
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, PRIVATE);
        if let Some(challenge) = self.challenge(challenge, &detail) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    fn place(reason: &DenialReason) -> Option<usize> {
        use DenialReason as Reason;
        Some(match reason {
            Reason::MissingMasterToken => 0,
            Reason::WrongMasterToken => 1,
            Reason::MissingAccessToken => 2,
            Reason::UnknownClient => 3,
            Reason::NotCanonical => 4,
            Reason::InvalidAccessToken(TokenError::Malformed) => 5,
            Reason::InvalidAccessToken(TokenError::InvalidSignature) => 6,
            Reason::InvalidAccessToken(TokenError::Expired) => 7,
            Reason::StoreUnavailable(_) => 8,
            _ => return None,
        })
    }
}

/// The answer to HEAD: the headers that GET would get, and no body, which over HTTP/2 nobody else leaves out.
pub(crate) fn head_only(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.map(|_| Full::default())
}

/// What is said of a refusal, whatever its form.
struct Answer {
    status: StatusCode,
    detail: String,
    challenge: Challenge,
}

#[derive(Clone, Copy)]
pub(crate) enum Challenge {
    None,
    MasterToken,
    /// RFC 6750 3: without an error code where the request had no credentials.
    AccessToken(Option<BearerError>),
}

#[derive(Clone, Copy)]
pub(crate) enum BearerError {
    InvalidRequest,
    InvalidToken,
}

impl Answer {
    fn to(reason: &DenialReason) -> Self {
        use DenialReason as Reason;
        let new = |status, detail: &str, challenge| Self { status, detail: detail.to_owned(), challenge };
        let invalid_token = Challenge::AccessToken(Some(BearerError::InvalidToken));
        match reason {
            Reason::Path(refusal @ PathRefusal::TargetTooLong) => {
                new(StatusCode::URI_TOO_LONG, &refusal.to_string(), Challenge::None)
            }
            Reason::Path(refusal) => new(StatusCode::BAD_REQUEST, &refusal.to_string(), Challenge::None),
            Reason::ForeignOrigin => {
                new(StatusCode::FORBIDDEN, "A page of this origin may not open WebSockets", Challenge::None)
            }
            Reason::Credentials(error) => {
                let challenge = Challenge::AccessToken(Some(BearerError::InvalidRequest));
                new(StatusCode::BAD_REQUEST, &error.to_string(), challenge)
            }
            Reason::MissingMasterToken | Reason::WrongMasterToken => {
                new(StatusCode::UNAUTHORIZED, "Unauthorized Master Token", Challenge::MasterToken)
            }
            Reason::TooManyGuesses(_) => new(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_GUESSES, Challenge::None),
            Reason::MissingAccessToken => {
                let detail = "Invalid Access Token. Access Token is null";
                new(StatusCode::UNAUTHORIZED, detail, Challenge::AccessToken(None))
            }
            Reason::InvalidAccessToken(error) => {
                new(StatusCode::UNAUTHORIZED, &format!("Invalid Access Token. Error: {error}"), invalid_token)
            }
            Reason::InvalidTicket(error) => {
                new(StatusCode::UNAUTHORIZED, &format!("Invalid Ticket. Error: {error}"), invalid_token)
            }
            Reason::SpentTicket => new(StatusCode::UNAUTHORIZED, "Invalid Ticket. Error: used before", invalid_token),
            Reason::UnknownClient => new(StatusCode::UNAUTHORIZED, "Invalid Client ID", invalid_token),
            Reason::NotCanonical => new(StatusCode::UNAUTHORIZED, "Unauthorized Access Token", invalid_token),
            Reason::StoreUnavailable(_) => new(StatusCode::SERVICE_UNAVAILABLE, STORE_UNAVAILABLE, Challenge::None),
        }
    }

    /// The codes are those of the gRPC documentation's table for HTTP statuses, but for 400, which it calls INTERNAL.
    fn grpc(self, content_type: HeaderValue) -> Response<Full<Bytes>> {
        const STATUS: HeaderName = HeaderName::from_static("grpc-status");
        const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
        let code = match self.status {
            StatusCode::UNAUTHORIZED => 16,
            StatusCode::FORBIDDEN => 7,
            StatusCode::TOO_MANY_REQUESTS => 8,
            StatusCode::SERVICE_UNAVAILABLE => 14,
            _ => 3,
        };
        let mut response = Response::new(Full::default());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(STATUS, HeaderValue::from(code));
        headers.insert(CACHE_CONTROL, PRIVATE);
        // All our texts are printable ASCII without `%`, which is what grpc-message carries as it is.
        if let Ok(message) = HeaderValue::from_str(&self.detail) {
            headers.insert(MESSAGE, message);
        }
        response
    }
}

/// A quoted-string (RFC 9110 5.6.4) of the printable ASCII in `text`; what a header cannot carry becomes `?`. Quotes
/// and backslashes become `'` and `/`, since RFC 6750 3 does not let them into a description.
pub(crate) fn quoted(text: &str) -> String {
    let safe = text.chars().map(|c| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    });
    std::iter::once('"').chain(safe).chain(['"']).collect()
}

/// Says when to try again: in whole seconds, and not too early.
pub(crate) fn after(mut response: Response<Full<Bytes>>, wait: Duration) -> Response<Full<Bytes>> {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// In one to five seconds, so that the clients of a store that comes back do not all come at once.
pub(crate) fn try_later(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1 + nanos % 5));
    response
}

/// The body of FastAPI's errors.
#[derive(Serialize)]
pub(crate) struct Detail<T> {
    pub(crate) detail: T,
}

/// Of what was for the holder of a credential: HTTP keeps shared caches from answers to `Authorization` alone (RFC 9111 3.5).
pub(crate) const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");
/// As RFC 6749 5.1 has it.
pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Keeps an answer out of caches.
pub(crate) fn forbid_caching(headers: &mut HeaderMap) {
    headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
}

/// Keeps a guarded answer out of shared caches, unless the application says that they may have it.
#[inline(never)]
pub(crate) fn keep_private(headers: &mut HeaderMap) {
    // It fails where there are as many headers as there can be.
    match headers.try_entry(CACHE_CONTROL) {
        Ok(Entry::Vacant(entry)) => _ = entry.insert(PRIVATE),
        // What a time alone allows is allowed to shared caches, too, but for answers to `Authorization` (RFC 9111 3.5).
        Ok(Entry::Occupied(mut entry)) if !entry.iter().any(settles_sharing) => {
            // On one line, since not all caches read more of them.
            let lines: Vec<_> = entry.iter().map(HeaderValue::as_bytes).chain([b"private".as_slice()]).collect();
            let directives = HeaderValue::from_bytes(&lines.join(b", ".as_slice()));
            entry.insert(directives.unwrap_or(PRIVATE));
        }
        Ok(Entry::Occupied(_)) | Err(_) => {}
    }
}

/// Returns true if directives say whether a shared cache may hold the whole answer.
fn settles_sharing(directives: &HeaderValue) -> bool {
    directives.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|directive| {
        let is = |name: &[u8]| directive.eq_ignore_ascii_case(name);
        let is_shared_for_a_time = directive.get(..9).is_some_and(|name| name.eq_ignore_ascii_case(b"s-maxage="));
        is_shared_for_a_time || is(b"public") || is(b"private") || is(b"no-store")
    })
}

pub(crate) fn json_response(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    json_text_response(status, json_text(body))
}

fn json_text(body: &impl Serialize) -> Bytes {
    // Nothing that is written here can fail to be written: texts and numbers under textual names.
    Bytes::from(serde_json::to_vec(body).unwrap_or_default())
}

pub(crate) fn json_text_response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Full::new(body);
    response
}
