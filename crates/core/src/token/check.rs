//! The checks of a payload whose signature is valid.

use serde_json::Value;

use super::{Expected, TokenError, claims::Checked};
use crate::json::{Member, Members};

/// Checks a payload, and returns the claims that guards need.
pub(super) fn check_claims<'a>(claims: &'a Members<'_>, expected: &Expected<'_>) -> Result<Checked<'a>, TokenError> {
    let now = expected.now as f64;
    let expires_at = seconds(claims, "exp")?.ok_or(TokenError::InvalidClaim("exp"))?.floor();
    if expires_at < now {
        return Err(TokenError::Expired);
    }
    if seconds(claims, "nbf")?.is_some_and(|not_before| not_before > now) {
        return Err(TokenError::NotYetValid);
    }
    seconds(claims, "iat")?;
    for name in ["jti", "sub", "iss"] {
        if claims.get(name).is_some_and(|claim| claim.as_str().is_none()) {
            return Err(TokenError::InvalidClaim(name));
        }
    }
    // python-jose refuses it as well.
    if claims.get("at_hash").is_some() {
        return Err(TokenError::InvalidClaim("at_hash"));
    }
    if expected.issuer.is_some() && claims.text("iss") != expected.issuer {
        return Err(TokenError::InvalidClaim("iss"));
    }
    if !is_audience(claims.get("aud"), expected.audience) {
        return Err(TokenError::InvalidClaim("aud"));
    }
    let client_id = match claims.get("client_id") {
        None => return Err(TokenError::MissingClientId),
        Some(Member::Text(id)) if id.is_empty() => return Err(TokenError::MissingClientId),
        Some(Member::Text(id)) => &**id,
        Some(_) => return Err(TokenError::InvalidClaim("client_id")),
    };
    if claims.text("type") != Some(expected.token_type.as_str()) {
        return Err(TokenError::WrongType);
    }
    let family = claims.text("fam").zip(claims.get("gen").and_then(Member::as_u64));
    Ok(Checked { client_id, family, expires_at: expires_at as u64, token_type: expected.token_type })
}

/// Returns true if the token is meant for `expected`: one text, or a list of them (RFC 7519 4.1.3).
fn is_audience(audience: Option<&Member<'_>>, expected: Option<&str>) -> bool {
    match (audience, expected) {
        (None, None) => true,
        (Some(Member::Text(audience)), Some(expected)) => audience == expected,
        (Some(Member::Other(Value::Array(audiences))), Some(expected)) => audiences.iter().any(|one| one == expected),
        _ => false,
    }
}

/// Reads a NumericDate, which may be a fraction (RFC 7519 2).
fn seconds(claims: &Members<'_>, name: &'static str) -> Result<Option<f64>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(claim) => claim.as_f64().map(Some).ok_or(TokenError::InvalidClaim(name)),
    }
}
