//! Renders refusals by the table of [`DenialReason::spec`], and keeps answers out of caches.

use std::{
    fmt::Write,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, Entry, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;

use super::{
    denial::Denial,
    problem::{ErrorForm, Problem},
    respond::head_only,
};
use crate::{
    DenialReason,
    credential::TokenHeaders,
    denial::{Challenge, Spec},
};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// More than there are codes that determine their responses.
const MOST_RENDERED: usize = 40;

/// The form of a refusal, by the kind of request.
#[derive(Clone, Debug)]
pub(crate) struct RefusalForm {
    /// The content type of a gRPC request, which wants status 200 and the gRPC status in the headers ("Trailers-Only"
    /// in the gRPC over HTTP/2 protocol).
    grpc: Option<Box<HeaderValue>>,
    is_head: bool,
}

impl RefusalForm {
    pub(crate) fn new(method: &Method, headers: &HeaderMap) -> Self {
        let content_type = if method == Method::POST { headers.get(CONTENT_TYPE) } else { None };
        let grpc = content_type.filter(|content_type| is_grpc(content_type));
        Self { grpc: grpc.cloned().map(Box::new), is_head: method == Method::HEAD }
    }

    /// Returns the same with a body, whatever the method of the request.
    pub(crate) fn with_body(self) -> Self {
        Self { is_head: false, ..self }
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.grpc.is_some()
    }
}

/// Returns true for `application/grpc`, with or without a suffix or parameters. gRPC-Web clients read HTTP statuses.
pub(crate) fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// Renders denials: over HTTP, or over gRPC.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// The protection space of challenges (RFC 9110 11.5).
    realm: String,
    /// The authentication scheme of challenges for an access token.
    scheme: &'static str,
    /// The form of the bodies of the guard.
    errors: ErrorForm,
    /// Those of the guard, the first needed first, so that a flood of refusals costs little.
    rendered: [OnceLock<Rendered>; MOST_RENDERED],
}

#[derive(Debug)]
struct Rendered {
    code: &'static str,
    response: Response<Full<Bytes>>,
}

impl Refusals {
    pub(crate) fn new(realm: String, sources: TokenHeaders, errors: ErrorForm) -> Self {
        Self { realm, scheme: sources.challenge(), errors, rendered: [const { OnceLock::new() }; MOST_RENDERED] }
    }

    pub(crate) fn realm(&self) -> &str {
        &self.realm
    }

    /// Returns what to present, and what is wrong with what was presented (RFC 9110 11.3).
    pub(crate) fn challenge(&self, challenge: Challenge<'_>, text: &str) -> Option<HeaderValue> {
        let challenge = match challenge {
            Challenge::None => return None,
            Challenge::MasterToken => format!("MasterToken realm={}", quoted(&self.realm)),
            Challenge::AccessToken(None) => format!("{} realm={}", self.scheme, quoted(&self.realm)),
            Challenge::AccessToken(Some(error)) => self.failed(error, text),
            Challenge::InsufficientScope(None) => self.failed("insufficient_scope", text),
            Challenge::InsufficientScope(Some(scope)) => {
                format!("{}, scope={}", self.failed("insufficient_scope", text), quoted(scope))
            }
            Challenge::FreshLogIn(max_age) => {
                let failed = self.failed("insufficient_user_authentication", text);
                format!("{failed}, max_age=\"{}\"", max_age.as_secs())
            }
        };
        HeaderValue::from_str(&challenge).ok()
    }

    fn failed(&self, error: &str, text: &str) -> String {
        let realm = quoted(&self.realm);
        format!("{} realm={realm}, error=\"{error}\", error_description={}", self.scheme, quoted(text))
    }

    /// Returns the form of the bodies of the guard.
    pub(crate) fn errors(&self) -> ErrorForm {
        self.errors
    }

    /// Renders a denial of the guard.
    pub(crate) fn answer(&self, denial: Denial, form: RefusalForm) -> Response<Full<Bytes>> {
        self.answer_in(self.errors, denial, form)
    }

    /// Renders a denial with a body in the form of an endpoint.
    pub(crate) fn answer_in(&self, errors: ErrorForm, denial: Denial, form: RefusalForm) -> Response<Full<Bytes>> {
        let reason = denial.reason();
        let wait = if let DenialReason::TooManyGuesses(wait) = reason { Some(*wait) } else { None };
        let spec = reason.spec();
        let mut response = match form.grpc {
            Some(content_type) => render_grpc(&spec, *content_type),
            None if spec.varies || errors != self.errors => self.render(&spec, errors),
            None => self.rendered(&spec),
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

    /// Returns the response for a code that determines it.
    fn rendered(&self, spec: &Spec<'_>) -> Response<Full<Bytes>> {
        for place in &self.rendered {
            let rendered = place.get_or_init(|| Rendered { code: spec.code, response: self.render(spec, self.errors) });
            if rendered.code == spec.code {
                return rendered.response.clone();
            }
        }
        self.render(spec, self.errors)
    }

    fn render(&self, spec: &Spec<'_>, errors: ErrorForm) -> Response<Full<Bytes>> {
        let problem = Problem::of_denial(spec);
        let mut response = problem.response(errors);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, PRIVATE);
        if let Some(challenge) = self.challenge(spec.challenge, &problem.message) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn render_grpc(spec: &Spec<'_>, content_type: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(spec.grpc)));
    headers.insert(CACHE_CONTROL, PRIVATE);
    if let Ok(message) = HeaderValue::try_from(percent_encoded(&spec.text.to_string())) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

/// Encodes what is not printable ASCII, and `%`, as `grpc-message` carries it.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'%' | ..b' ' | 0x7f.. => _ = write!(encoded, "%{byte:02X}"),
            byte => encoded.push(char::from(byte)),
        }
        encoded
    })
}

/// Returns a quoted-string (RFC 9110 5.6.4) of the printable ASCII in a text; other characters become `?`. Quotes
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

/// Adds when to try again: in whole seconds, and not too early.
pub(crate) fn after(mut response: Response<Full<Bytes>>, wait: Duration) -> Response<Full<Bytes>> {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// Adds that the client may try again in one to five seconds, so that not all clients come at once when the store is back.
pub(crate) fn try_later(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1 + nanos % 5));
    response
}

/// For responses to the holder of a credential: HTTP only keeps shared caches from those to `Authorization` (RFC 9111 3.5).
pub(crate) const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");
/// For responses that carry tokens (RFC 6749 5.1).
pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Keeps a response out of caches.
pub(crate) fn forbid_caching(headers: &mut HeaderMap) {
    headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
}

/// Keeps a guarded response out of shared caches, unless the application allows them to store it.
#[inline(never)]
pub(crate) fn keep_private(headers: &mut HeaderMap) {
    // It fails if there are as many headers as there can be.
    match headers.try_entry(CACHE_CONTROL) {
        Ok(Entry::Vacant(entry)) => _ = entry.insert(PRIVATE),
        // A time alone allows shared caches, too, except for responses to `Authorization` (RFC 9111 3.5).
        Ok(Entry::Occupied(mut entry)) if !entry.iter().any(settles_sharing) => {
            // On one line, since not all caches read more of them.
            let lines: Vec<_> = entry.iter().map(HeaderValue::as_bytes).chain([b"private".as_slice()]).collect();
            let directives = HeaderValue::from_bytes(&lines.join(b", ".as_slice()));
            entry.insert(directives.unwrap_or(PRIVATE));
        }
        Ok(Entry::Occupied(_)) | Err(_) => {}
    }
}

/// Returns true if directives settle whether a shared cache may store the whole response.
fn settles_sharing(directives: &HeaderValue) -> bool {
    directives.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|directive| {
        let is = |name: &[u8]| directive.eq_ignore_ascii_case(name);
        let is_shared_for_a_time = directive.get(..9).is_some_and(|name| name.eq_ignore_ascii_case(b"s-maxage="));
        is_shared_for_a_time || is(b"public") || is(b"private") || is(b"no-store")
    })
}
