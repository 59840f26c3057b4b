//! A key: it signs and verifies tokens.

use base64::{Engine, prelude::BASE64_URL_SAFE};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{
    Algorithm, EncodingKey,
    crypto::JwtSigner,
    signature::{self, Signer, Verifier},
};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::Sha256;

use super::{
    Claims, Expected, NewToken, TokenError,
    check::check_claims,
    parts::{Parts, decode},
};
use crate::{base64url, json, random::unique_name, secret::Secret};

/// The message whose signature is the id of a key. It has no dot, so it is not the signed part of a token.
const KID_MESSAGE: &[u8] = b"fastauth key id";
/// The length of a signature in bytes.
const SIGNATURE_LEN: usize = 32;
/// How many bytes of that signature are the id. Two keys do not share them by chance.
const KID_LEN: usize = 9;

/// How many bytes of a payload are decoded without an allocation: twice as many as most have.
const USUAL_PAYLOAD: usize = 384;

/// A key that signs and verifies. It is the UTF-8 bytes of the configured text, which is never decoded.
pub(crate) struct TokenKey {
    hs256: Hs256,
    kid: String,
    /// The encoded header of the tokens that this key signs.
    header: String,
}

/// An error of a key that cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key is empty")]
pub struct InvalidKey;

impl TokenKey {
    /// Takes a key.
    ///
    /// # Errors
    ///
    /// If the key is empty.
    pub(crate) fn new(key: &Secret) -> Result<Self, InvalidKey> {
        let key = EncodingKey::from_secret(key.expose().as_bytes()).map_err(|_| InvalidKey)?;
        let hs256 = Hs256::new(&key)?;
        // Letters and digits only: on a command line, an id must not look like an option.
        let kid = base64url::encode(&hs256.sign(KID_MESSAGE)[..KID_LEN]).replace(['-', '_'], "0");
        let header = encoded_header(&kid);
        Ok(Self { hs256, kid, header })
    }

    /// Returns the id of the key. It gives away no more of the key than a token does.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// Splits a token if its header is exactly the one that this key writes.
    pub(crate) fn split<'a>(&self, token: &'a [u8]) -> Option<Result<Parts<'a>, TokenError>> {
        let rest = token.strip_prefix(self.header.as_bytes())?;
        rest.starts_with(b".").then(|| Parts::behind_header(token, self.header.len()))
    }

    /// Derives another key, in the form of a Fernet key, from which this one cannot be found out.
    pub(crate) fn derive(&self, purpose: &[u8]) -> Secret {
        Secret::from(BASE64_URL_SAFE.encode(self.hs256.sign(purpose)))
    }

    /// Signs a token; `None` if its end is not a number of 64 bits. `jti` makes two tokens of the same second differ.
    pub(crate) fn sign_token(&self, token: &NewToken<'_>) -> Option<Secret> {
        self.sign_token_under(&self.header, token)
    }

    fn sign_token_under(&self, header: &str, new: &NewToken<'_>) -> Option<Secret> {
        let payload = serde_json::to_vec(&Payload {
            client_id: new.client_id,
            r#type: new.token_type.as_str(),
            exp: new.issued_at.checked_add(new.lifetime.as_secs())?,
            iat: new.issued_at,
            jti: &unique_name(),
            sid: new.session,
            gen_: new.generation,
            auth_time: new.logged_in_at,
            iss: new.issuer,
            aud: new.audience,
            claims: new.claims,
        })
        .ok()?;
        Some(self.sign_under_header(header, &payload))
    }

    fn sign_under_header(&self, header: &str, payload: &[u8]) -> Secret {
        let mut token = String::with_capacity(header.len() + payload.len() * 4 / 3 + 48);
        token.push_str(header);
        token.push('.');
        base64url::encode_onto(payload, &mut token);
        let signature = self.hs256.sign(token.as_bytes());
        token.push('.');
        base64url::encode_onto(signature, &mut token);
        Secret::from(token)
    }

    /// Verifies a token, and returns its claims if this key signed it and it is as `expected`.
    ///
    /// Nothing of the payload is read before the signature was found good.
    ///
    /// # Errors
    ///
    /// If the token is refused.
    pub(crate) fn verify(&self, parts: &Parts<'_>, expected: &Expected<'_>) -> Result<Claims, TokenError> {
        self.check_signature(parts)?;
        let mut stack = [0; USUAL_PAYLOAD];
        let heap;
        let payload = match base64url::decode_into(parts.payload, &mut stack) {
            Some(payload) => payload,
            None => {
                heap = parts.payload()?;
                &heap
            }
        };
        let claims = json::members(payload).map_err(|_| TokenError::Malformed)?;
        let checked = check_claims(&claims, expected)?;
        // Last, since it looks at every byte, which a forged token is not worth.
        let token = std::str::from_utf8(parts.token).map_err(|_| TokenError::Malformed)?;
        Ok(checked.into_claims(token))
    }

    /// Returns true if this key signed the token.
    pub(crate) fn has_signed(&self, parts: &Parts<'_>) -> bool {
        self.check_signature(parts).is_ok()
    }

    fn check_signature(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        let Some(signature) = base64url::decode_exactly(parts.signature) else {
            // A text that is not base64url makes no token; any other is just not a signature by HS256.
            return decode(parts.signature).and(Err(TokenError::InvalidSignature));
        };
        self.hs256.verify(parts.signed, &signature).map_err(|_| TokenError::InvalidSignature)
    }
}

/// HMAC with SHA-256 for jsonwebtoken. It holds the state after the key, which `hmac` overwrites on drop.
struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(key: &EncodingKey) -> Result<Self, InvalidKey> {
        Hmac::new_from_slice(key.as_bytes()).map(Self).map_err(|_| InvalidKey)
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.0.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl Verifier<[u8; SIGNATURE_LEN]> for Hs256 {
    fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Result<(), signature::Error> {
        self.0.clone().chain_update(message).verify_slice(signature).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

fn encoded_header(kid: &str) -> String {
    base64url::encode(format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{kid}"}}"#))
}

/// The claims in the order in which `fastauth-api` writes them, and then those of FastAuth alone.
#[derive(Serialize)]
struct Payload<'a> {
    client_id: &'a str,
    r#type: &'static str,
    exp: u64,
    iat: u64,
    jti: &'a str,
    sid: &'a str,
    #[serde(rename = "gen")]
    gen_: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(flatten)]
    claims: &'a Map<String, Value>,
}

#[cfg(test)]
impl TokenKey {
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.hs256.sign(message)
    }

    /// Signs a token that names another key.
    pub(crate) fn sign_under(&self, kid: &str, token: &NewToken<'_>) -> Option<Secret> {
        self.sign_token_under(&encoded_header(kid), token)
    }
}
