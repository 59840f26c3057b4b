//! The parts of a token, before anything of it is verified.

use std::fmt;

use serde_json::Value;

use super::TokenError;
use crate::{
    base64url,
    json::{self, Member},
};

/// The longest token that is read. Client ids of 256 characters, written as python-jose writes them, stay well below.
pub(super) const MAX_TOKEN_LEN: usize = 16 * 1024;

/// The longest encoded header that is read.
const MAX_HEADER_LEN: usize = 2 * 1024;

/// The length of an encoded signature of HS256.
const SIGNATURE_LEN: usize = 43;

/// The parts of a token. None of them has been verified.
pub struct Parts<'a> {
    pub(super) token: &'a [u8],
    header: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) signature: &'a [u8],
    /// The header, a dot and the payload.
    pub(super) signed: &'a [u8],
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl<'a> Parts<'a> {
    /// Splits a token at its dots.
    ///
    /// # Errors
    ///
    /// If the token is too long or does not have three parts.
    pub fn split(token: &'a [u8]) -> Result<Self, TokenError> {
        let header_len = token.iter().position(|byte| *byte == b'.').ok_or(TokenError::Malformed)?;
        Self::behind_header(token, header_len)
    }

    /// Splits a token whose header is known to end there, with a dot behind it.
    pub(super) fn behind_header(token: &'a [u8], header_len: usize) -> Result<Self, TokenError> {
        let (header, rest) = token.split_at(header_len);
        if token.len() > MAX_TOKEN_LEN || rest.chunks(128).map(dots).sum::<usize>() != 2 {
            return Err(TokenError::Malformed);
        }
        // The place of the other dot, if the signature has the usual length.
        let usual = token.len().checked_sub(SIGNATURE_LEN + 1).filter(|at| *at > header_len && token[*at] == b'.');
        let signed_len = usual.or_else(|| token.iter().rposition(|byte| *byte == b'.')).ok_or(TokenError::Malformed)?;
        let signed = &token[..signed_len];
        let signature = &token[signed_len + 1..];
        Ok(Self { token, header, payload: &signed[header_len + 1..], signature, signed })
    }

    /// Decodes the payload.
    ///
    /// # Errors
    ///
    /// If it is not base64url.
    pub fn payload(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.payload)
    }

    /// Checks the header, and returns the id of the key that it names.
    ///
    /// # Errors
    ///
    /// If the header is refused.
    pub fn kid(&self) -> Result<Option<String>, TokenError> {
        // Anyone may have written it, and headers of FastAuth have some sixty characters.
        if self.header.len() > MAX_HEADER_LEN {
            return Err(TokenError::Malformed);
        }
        let header = decode(self.header)?;
        let members = json::members(&header).map_err(|_| TokenError::Malformed)?;
        if members.text("alg") != Some("HS256") {
            return Err(TokenError::UnsupportedAlgorithm);
        }
        // `b64` changes what is signed (RFC 7797) and is only legal with a `crit` that names it.
        if members.get("crit").is_some() || members.get("b64").is_some() {
            return Err(TokenError::UnsupportedExtension);
        }
        if !members.iter().all(|(name, value)| is_parameter(name, value)) {
            return Err(TokenError::Malformed);
        }
        Ok(members.text("kid").map(str::to_owned))
    }
}

/// Returns true if a parameter of a header has the type that it is defined to have, whether or not it is used here: RFC 7515 4.1,
/// RFC 7516 4.1, RFC 7519 5.3 and RFC 8555 6.
fn is_parameter(name: &str, value: &Member<'_>) -> bool {
    let is_text = value.as_str().is_some();
    let texts = match value {
        Member::Other(Value::Array(items)) if items.iter().all(Value::is_string) => Some(items.len()),
        _ => None,
    };
    match name {
        "typ" | "cty" | "kid" | "jku" | "x5u" | "x5t" | "x5t#S256" | "enc" | "zip" | "url" | "nonce" | "iss"
        | "sub" => is_text,
        "aud" => is_text || texts.is_some(),
        "x5c" => texts.is_some_and(|count| count > 0),
        "jwk" => matches!(value, Member::Other(Value::Object(_))),
        _ => true,
    }
}

/// Counts the dots in at most 255 bytes. It compiles to a few vector instructions.
#[inline(never)]
fn dots(bytes: &[u8]) -> usize {
    usize::from(bytes.iter().fold(0, |dots: u8, byte| dots.wrapping_add(u8::from(*byte == b'.'))))
}

pub(super) fn decode(part: &[u8]) -> Result<Vec<u8>, TokenError> {
    base64url::decode(part).map_err(|_| TokenError::Malformed)
}
