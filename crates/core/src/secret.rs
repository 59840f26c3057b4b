//! Secrets: keys, tokens and their digests.

use std::{
    fmt,
    hash::{Hash, Hasher},
    mem,
    str::FromStr,
};

use base64::{Engine, prelude::BASE64_URL_SAFE};
use constant_time_eq::constant_time_eq;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::random::random_bytes;

/// A secret text: a master token, a key or a token.
///
/// Its [`Debug`](fmt::Debug) form is `Secret(..)`, it has no `Display`, it compares in constant time, and its memory is
/// overwritten on drop. Only [`expose`](Self::expose) returns the text, so every place that shows a secret can be searched for.
///
/// ```
/// # mod fastauth { pub use fastauth_core::secret::Secret; }
/// use fastauth::Secret;
///
/// let secret = Secret::from("correct horse battery staple");
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// assert!(secret.matches(b"correct horse battery staple"));
/// ```
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Creates a random secret: 32 random bytes as URL-safe base64, which is the form of a Fernet key. `fastauth-api` uses this form
    /// for both of its secrets.
    ///
    /// # Panics
    ///
    /// If the operating system gives no random bytes.
    #[must_use]
    pub fn generate() -> Self {
        let key = Zeroizing::new(random_bytes::<32>());
        Self(BASE64_URL_SAFE.encode(*key))
    }

    /// Returns the text. Keep it out of logs, errors and answers.
    #[must_use]
    #[inline]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns true if `candidate` is this text. The time that it takes shows neither where they differ nor how long the secret is.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        SecretDigest::of(self.expose().as_bytes()).matches(candidate)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = mem::take(&mut self.0).into_bytes();
        bytes.resize(bytes.capacity(), 0);
        overwrite(&mut bytes);
    }
}

/// Compares two texts of one length in a time that does not depend on where they differ.
#[inline]
#[must_use]
pub fn eq_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    constant_time_eq(a, b)
}

/// Overwrites all bytes at once. `Zeroizing` writes byte by byte, and a token has hundreds.
fn overwrite(bytes: &mut [u8]) {
    bytes.fill(0);
    zeroize::optimization_barrier(bytes);
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.expose().as_bytes())
    }
}

impl Eq for Secret {}

/// The SHA-256 of a secret that only has to be recognised. Comparing digests hides the length of the secret.
#[derive(Clone)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// Computes the digest of a secret.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Returns true if `candidate` is the secret. It compares in constant time.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        *self == Self::of(candidate)
    }
}

impl Drop for SecretDigest {
    fn drop(&mut self) {
        overwrite(&mut self.0);
    }
}

impl PartialEq for SecretDigest {
    /// Compares in constant time.
    fn eq(&self, other: &Self) -> bool {
        eq_in_constant_time(&self.0, &other.0)
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(..)")
    }
}

/// The SHA-256 of a token, by which a store recognises it. The token cannot be found out from it.
///
/// ```
/// # mod fastauth { pub use fastauth_core::store; }
/// use fastauth::store::TokenDigest;
///
/// let digest = TokenDigest::of("a.b.c");
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// ```
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Computes the digest of a token.
    #[must_use]
    pub fn of(token: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Creates a digest from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenDigest {
    /// Compares in constant time.
    fn eq(&self, other: &Self) -> bool {
        eq_in_constant_time(&self.0, &other.0)
    }
}

impl Eq for TokenDigest {}

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for TokenDigest {
    /// Writes the digest in hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // `{:02x}` takes five thousand instructions for these, and every pair has two digests.
        let mut hex = [0; 64];
        for (digits, byte) in hex.as_chunks_mut().0.iter_mut().zip(self.0) {
            *digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]];
        }
        f.write_str(std::str::from_utf8(&hex).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// An error of parsing a [`TokenDigest`].
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest must have 64 hex digits")]
pub struct TokenDigestError;

impl FromStr for TokenDigest {
    type Err = TokenDigestError;

    fn from_str(hex: &str) -> Result<Self, TokenDigestError> {
        let mut bytes = [0; 32];
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(TokenDigestError);
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| TokenDigestError)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_text_does_not_match() {
        let secret = Secret::from("abc");
        assert!(secret.matches(b"abc"));
        for other in ["", "ab", "abd", "abcd", "ABC", "abc\0"] {
            assert!(!secret.matches(other.as_bytes()), "{other:?}");
            assert_ne!(secret, Secret::from(other));
        }
    }

    #[test]
    fn debug_hides_the_text() {
        assert_eq!(format!("{:?}", Secret::from("hush")), "Secret(..)");
        assert_eq!(format!("{:?}", SecretDigest::of(b"hush")), "SecretDigest(..)");
    }

    #[test]
    fn generated_secrets_are_fernet_keys_and_differ() {
        let (a, b) = (Secret::generate(), Secret::generate());
        assert!(fernet::Fernet::new(a.expose()).is_some());
        assert_ne!(a, b);
    }
}
