//! The record of a pair that arrives as two tokens.

use fastauth_core::{
    json,
    secret::Secret,
    store::{TokenDigest, TokenEntry, TokenRecord},
    token::Parts,
};
use serde_json::{Map, Value};

/// The highest generation that a token can name: no session has more refreshes.
const MAX_GENERATION: u64 = u32::MAX as u64;

/// Creates a record from what the tokens of a pair say. Nothing is verified: a caller that may write to a store is trusted.
pub(crate) fn unverified_record(client_id: String, access: Secret, refresh: Secret) -> TokenRecord {
    let claims = unverified_claims(&refresh);
    let generation = claims.get("gen").and_then(Value::as_u64).filter(|number| *number <= MAX_GENERATION);
    let kid = Parts::split(refresh.expose().as_bytes()).and_then(|parts| parts.kid());
    TokenRecord {
        client_id,
        session: claims.get("sid").and_then(Value::as_str).unwrap_or_default().to_owned(),
        generation: generation.unwrap_or_default(),
        kid: kid.ok().flatten().unwrap_or_default(),
        access: unverified_entry(access),
        refresh: unverified_entry(refresh),
    }
}

fn unverified_entry(token: Secret) -> TokenEntry {
    let expires_at = unverified_claims(&token).get("exp").and_then(Value::as_f64);
    TokenEntry {
        digest: TokenDigest::of(token.expose()),
        expires_at: expires_at.map_or(0, |seconds| seconds as u64),
        text: token,
    }
}

/// Returns the claims of a token, or none if it is not a token.
fn unverified_claims(token: &Secret) -> Map<String, Value> {
    let payload = Parts::split(token.expose().as_bytes()).and_then(|parts| parts.payload());
    payload.ok().and_then(|payload| json::object(&payload).ok()).unwrap_or_default()
}
