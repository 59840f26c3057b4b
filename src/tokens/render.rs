//! Renders answers in the form that an endpoint has: the envelope of `fastauth-api`, or that of OAuth (RFC 6749 5).
//!
//! The texts of the original `fastauth-api` stay as they are, byte for byte.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{LOCATION, PRAGMA, SET_COOKIE},
};
use http_body_util::Full;
use serde::Serialize;

use crate::{check::respond::json_response, credential::REFRESH_COOKIE, issue::IssuedTokens, settings::Shape};

/// Renders a new pair. Its refresh token goes into a cookie of this age, if there is one.
pub(super) fn pair(issued: &IssuedTokens, shape: Shape, cookie_age: Option<Duration>) -> Response<Full<Bytes>> {
    let refresh_token = issued.tokens.refresh_token.expose();
    let in_body = cookie_age.is_none().then_some(refresh_token);
    let response = match shape {
        Shape::Envelope => envelope(issued, in_body),
        Shape::OAuth => bearer_token(issued, in_body),
    };
    match cookie_age {
        Some(age) => with_refresh_cookie(response, refresh_token, age),
        None => response,
    }
}

fn envelope(issued: &IssuedTokens, refresh_token: Option<&str>) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct SuccessEnvelope<'a> {
        status: &'static str,
        message: &'static str,
        code: u16,
        data: PairEnvelope<'a>,
    }
    #[derive(Serialize)]
    struct PairEnvelope<'a> {
        client_id: &'a str,
        access_token: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        refresh_token: Option<&'a str>,
    }
    let data =
        PairEnvelope { client_id: &issued.client_id, access_token: issued.tokens.access_token.expose(), refresh_token };
    json_response(StatusCode::OK, &SuccessEnvelope { status: "success", message: "Token generated", code: 200, data })
}

fn bearer_token(issued: &IssuedTokens, refresh_token: Option<&str>) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct BearerToken<'a> {
        access_token: &'a str,
        token_type: &'static str,
        expires_in: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        refresh_token: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<&'a str>,
    }
    oauth_ok(&BearerToken {
        access_token: issued.tokens.access_token.expose(),
        token_type: "Bearer",
        expires_in: issued.expires_in.as_secs(),
        refresh_token,
        scope: issued.scope.as_deref(),
    })
}

/// Sets the cookie of the refresh token. An age of zero removes it.
pub(super) fn with_refresh_cookie(
    mut response: Response<Full<Bytes>>,
    value: &str,
    age: Duration,
) -> Response<Full<Bytes>> {
    let age = age.as_secs();
    let cookie = format!("{REFRESH_COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={age}");
    // A token is text that a cookie can carry, unless the store holds another.
    if let Ok(mut cookie) = HeaderValue::try_from(cookie) {
        cookie.set_sensitive(true);
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Renders a result that all endpoints but the original's give in the form of OAuth, with what RFC 6749 5.1 asks for: the router
/// forbids caching anyway, and old caches know this header alone.
pub(super) fn oauth_ok(body: &impl Serialize) -> Response<Full<Bytes>> {
    let mut response = json_response(StatusCode::OK, body);
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// Redirects to the same path without the slash at its end, of which `segment` is the last. The target is relative, since only the
/// client knows the path before a proxy changed it.
pub(super) fn without_slash(segment: &str, query: Option<&str>) -> Response<Full<Bytes>> {
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    // A query is text that a header can carry.
    if let Ok(mut location) = HeaderValue::try_from(format!("../{segment}{query}")) {
        // There may be a token in it.
        location.set_sensitive(true);
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
