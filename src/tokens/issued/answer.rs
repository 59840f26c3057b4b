//! The answer that carries a new pair, and the one that says that there is none any more.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::SET_COOKIE};
use http_body_util::Full;
use serde::{Serialize, Serializer};
use serde_json::json;

use super::IssuedTokens;
use crate::{
    check::respond::json_response,
    credential::REFRESH_COOKIE,
    settings::{CookieSameSite, ResponseShape},
    tokens::render::{oauth, oauth_ok},
};

/// Renders a new pair.
pub(crate) fn pair(issued: &IssuedTokens) -> Response<Full<Bytes>> {
    let response = match issued.delivery.shape {
        ResponseShape::Envelope => json_response(StatusCode::OK, issued),
        ResponseShape::OAuth => oauth(StatusCode::OK, issued),
    };
    with_cookie(response, issued.refresh_cookie())
}

/// Writes the body of the answer. The refresh token is in it unless it travels in a cookie.
pub(crate) fn pair_body<S: Serializer>(issued: &IssuedTokens, serializer: S) -> Result<S::Ok, S::Error> {
    let access_token = issued.tokens.access_token.expose();
    let expires_in = issued.expires_in.as_secs();
    let in_body = issued.delivery.cookie_age.is_none();
    let refresh_token = in_body.then_some(issued.tokens.refresh_token.expose());
    match issued.delivery.shape {
        ResponseShape::Envelope => {
            let data = PairEnvelope { client_id: &issued.client_id, access_token, refresh_token, expires_in };
            SuccessEnvelope { status: "success", message: "Token generated", code: 200, data }.serialize(serializer)
        }
        ResponseShape::OAuth => {
            let scope = issued.scope.as_deref();
            BearerToken { access_token, token_type: "Bearer", expires_in, refresh_token, scope }.serialize(serializer)
        }
    }
}

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
    expires_in: u64,
}

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

/// Renders that a token is revoked, or was not valid (RFC 7009 2.2). If there may be a cookie, it is of no use now.
pub(crate) fn logged_out(cookie: Option<CookieSameSite>) -> Response<Full<Bytes>> {
    with_cookie(oauth_ok(&json!({})), cookie.and_then(no_refresh_cookie))
}

/// Returns the header that sets the cookie of the refresh token.
pub(crate) fn refresh_cookie(value: &str, age: Duration, same_site: CookieSameSite) -> Option<HeaderValue> {
    let age = age.as_secs();
    let same_site = match same_site {
        CookieSameSite::Strict => "SameSite=Strict",
        // Browsers that refuse cookies of third parties keep one for each site that embeds this one.
        CookieSameSite::None => "SameSite=None; Partitioned",
    };
    let cookie = format!("{REFRESH_COOKIE}={value}; Path=/; Secure; HttpOnly; {same_site}; Max-Age={age}");
    // A token is text that a cookie can carry, unless the store holds another.
    let mut cookie = HeaderValue::try_from(cookie).ok()?;
    cookie.set_sensitive(true);
    Some(cookie)
}

/// Returns the header that removes the cookie of the refresh token.
pub(crate) fn no_refresh_cookie(same_site: CookieSameSite) -> Option<HeaderValue> {
    refresh_cookie("", Duration::ZERO, same_site)
}

fn with_cookie(mut response: Response<Full<Bytes>>, cookie: Option<HeaderValue>) -> Response<Full<Bytes>> {
    if let Some(cookie) = cookie {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}
