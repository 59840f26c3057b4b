//! The key ring: the key that signs, the keys that verify, and encryption at rest.

use std::sync::{Arc, PoisonError, RwLock};

pub use crate::seal::CAN_ENCRYPT;
use crate::{
    seal::Sealer,
    secret::{Secret, TokenDigest},
    token::{Claims, Expected, InvalidKey, NewToken, Parts, TokenError, TokenKey},
};

/// The beginning of every Fernet token: its version, 0x80, and the first bytes of a time before the year 2106. No JWT begins so.
const SEALED: &str = "gAAAAA";

/// The message from which the key of tickets is derived. It has no `.`, so it is not the signed part of a token.
const TICKETS: &[u8] = b"fastauth tickets";

/// The form in which tokens are stored: `store-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreFormat {
    /// As they are, which `fastauth-api` can read.
    #[default]
    Plain,
    /// Encrypted by the key that signs.
    Fernet,
}

impl StoreFormat {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Fernet => "fernet",
        }
    }
}

/// The key that signs, and keys that only verify: earlier ones, and one that is going to sign.
#[derive(Debug)]
pub struct KeyRing {
    /// The newest first.
    keys: Vec<RingKey>,
    /// The time from which the newest key signs, since the Unix epoch. Until then the second one does.
    signs_from: u64,
}

/// The ring of the moment, for what goes on through a change of keys.
#[derive(Debug)]
pub struct CurrentKeys(RwLock<Arc<KeyRing>>);

impl CurrentKeys {
    /// Creates it with its first ring.
    #[must_use]
    pub fn new(keys: Arc<KeyRing>) -> Self {
        Self(RwLock::new(keys))
    }

    /// Returns the ring.
    pub fn get(&self) -> Arc<KeyRing> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the ring.
    pub fn set(&self, keys: Arc<KeyRing>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }
}

struct RingKey {
    token: TokenKey,
    /// Encrypts stored tokens, if the key is a Fernet key.
    tokens: Option<Sealer>,
    /// Encrypts tickets, by a key that is derived from this one, so that no ticket can pass for a stored token.
    tickets: Option<Sealer>,
}

impl KeyRing {
    /// Creates a ring of the newest key, the time from which it signs, and the keys before it, the latest first.
    ///
    /// # Errors
    ///
    /// If a key is empty.
    pub fn new(newest: &Secret, signs_from: u64, previous: &[Secret]) -> Result<Self, InvalidKey> {
        let keys = std::iter::once(newest).chain(previous).map(RingKey::new).collect::<Result<_, _>>()?;
        Ok(Self { keys, signs_from })
    }

    /// Returns the key that signs at `now`. Until the newest one does, all nodes have time to get it.
    fn signing(&self, now: u64) -> &RingKey {
        let second = self.keys.get(1).filter(|_| now < self.signs_from);
        second.unwrap_or(&self.keys[0])
    }

    /// Returns the ids of the keys, the newest first.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.token.kid())
    }

    /// Creates a token, and returns it with the id of the key that signed it; `None` if its end is not a number of 64 bits.
    pub fn sign_token(&self, token: &NewToken<'_>) -> Option<(Secret, &str)> {
        let key = &self.signing(token.issued_at).token;
        Some((key.sign_token(token)?, key.kid()))
    }

    /// Creates a ticket with this content; `None` if this build cannot encrypt.
    pub fn seal_ticket(&self, content: &[u8], now: u64) -> Option<Secret> {
        self.signing(now).tickets.as_ref().map(|tickets| tickets.seal(content))
    }

    /// Returns the content of a ticket; `None` if none of the keys opens it.
    pub fn open_ticket(&self, ticket: &str) -> Option<Vec<u8>> {
        self.keys.iter().find_map(|key| key.tickets.as_ref()?.open(ticket))
    }

    /// Verifies a token, and returns its claims if one of the keys signed it and it is as `expected`.
    ///
    /// A token that names one of the keys must be signed by that one. Tokens of `fastauth-api` name none.
    ///
    /// # Errors
    ///
    /// If the token is refused.
    pub fn verify(&self, token: &[u8], expected: &Expected<'_>) -> Result<Claims, TokenError> {
        let (parts, signer) = self.signer(token)?;
        signer.token.verify(&parts, expected)
    }

    /// Splits a token, and returns its parts with the key that its header names, else with the key that signed it.
    fn signer<'a>(&self, token: &'a [u8]) -> Result<(Parts<'a>, &RingKey), TokenError> {
        let written = self.keys.iter().find_map(|key| Some((key.token.split(token)?, key)));
        if let Some((parts, key)) = written {
            return Ok((parts?, key));
        }
        let parts = Parts::split(token)?;
        let kid = parts.kid()?;
        let named = kid.and_then(|kid| self.keys.iter().find(|key| key.token.kid() == kid));
        let signer = named.or_else(|| self.keys.iter().find(|key| key.token.has_signed(&parts)));
        Ok((parts, signer.ok_or(TokenError::InvalidSignature)?))
    }

    /// Encrypts a token; `None` if the key that signs is not a Fernet key.
    pub fn seal(&self, token: &Secret, now: u64) -> Option<Secret> {
        self.signing(now).tokens.as_ref().map(|tokens| tokens.seal(token.expose().as_bytes()))
    }

    /// Decides what replaces the stored form of a token: the token itself, or the token encrypted by the key that signs now.
    pub fn reform(&self, kept: &Secret, format: StoreFormat, now: u64) -> Reform {
        let is_right = match format {
            StoreFormat::Plain => !is_sealed(kept),
            StoreFormat::Fernet => is_sealed(kept) && self.signing(now).open(kept).is_some(),
        };
        if is_right {
            return Reform::Keep;
        }
        let Some(token) = self.open(kept) else { return Reform::Unopened };
        let digest = TokenDigest::of(token.expose());
        let text = match format {
            StoreFormat::Plain => Some(token),
            StoreFormat::Fernet => self.seal(&token, now),
        };
        text.map_or(Reform::Unopened, |text| Reform::Replace(text, digest))
    }

    /// Returns false if the key of this id did not sign the stored token, and true if it did or if this cannot be known.
    pub fn may_have_signed(&self, kid: &str, kept: &Secret) -> bool {
        let (Some(token), Some(key)) = (self.open(kept), self.keys.iter().find(|key| key.token.kid() == kid)) else {
            return true;
        };
        Parts::split(token.expose().as_bytes()).is_ok_and(|parts| key.token.has_signed(&parts))
    }

    /// Returns the token of a stored form, encrypted or not; `None` if no key opens it.
    pub fn open(&self, kept: &Secret) -> Option<Secret> {
        if !is_sealed(kept) {
            return Some(kept.clone());
        }
        self.keys.iter().find_map(|key| key.open(kept))
    }
}

/// A decision on the stored form of tokens, for stores that convert them.
pub trait Reforming: Sync {
    /// Returns true if the key that signs now can encrypt.
    fn can_encrypt(&self) -> bool;

    /// Decides what replaces the stored form of a token.
    fn reform(&self, kept: &Secret, format: StoreFormat) -> Reform;
}

/// The fate of the stored form of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reform {
    /// It has the right form.
    Keep,
    /// This text replaces it. The digest is that of the token itself.
    Replace(Secret, TokenDigest),
    /// No key opens it.
    Unopened,
}

/// Returns true if a key can encrypt: it is a Fernet key, and this build can encrypt.
#[must_use]
pub fn is_fernet_key(key: &Secret) -> bool {
    Sealer::new(key).is_some()
}

/// Returns true if the stored form of a token is encrypted.
fn is_sealed(kept: &Secret) -> bool {
    kept.expose().starts_with(SEALED)
}

impl RingKey {
    fn new(key: &Secret) -> Result<Self, InvalidKey> {
        let token = TokenKey::new(key)?;
        let tickets = Sealer::new(&token.derive(TICKETS));
        Ok(Self { token, tokens: Sealer::new(key), tickets })
    }

    fn open(&self, kept: &Secret) -> Option<Secret> {
        let token = self.tokens.as_ref()?.open(kept.expose())?;
        String::from_utf8(token).ok().map(Secret::from)
    }
}

impl std::fmt::Debug for RingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RingKey").field(&self.token.kid()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::token::TokenType;

    const NOW: u64 = 1_800_000_000;
    const EXPECTED: Expected<'static> = Expected::new(TokenType::Access, NOW);

    fn new_token(issued_at: u64) -> NewToken<'static> {
        NewToken::new("c", TokenType::Access, issued_at, Duration::from_secs(600))
    }

    fn ring(signs_from: u64, previous: &[Secret]) -> (KeyRing, Secret) {
        let key = Secret::generate();
        (KeyRing::new(&key, signs_from, previous).unwrap(), key)
    }

    #[test]
    fn previous_keys_only_verify() {
        let (before, old) = ring(0, &[]);
        let (after, new) = ring(0, &[old]);
        let (token, kid) = before.sign_token(&new_token(NOW)).unwrap();
        assert_eq!(after.verify(token.expose().as_bytes(), &EXPECTED).unwrap().client_id(), "c");
        let (renewed, new_kid) = after.sign_token(&new_token(NOW)).unwrap();
        assert_ne!(kid, new_kid);
        assert_eq!(before.verify(renewed.expose().as_bytes(), &EXPECTED), Err(TokenError::InvalidSignature));
        let alone = KeyRing::new(&new, 0, &[]).unwrap();
        assert!(alone.verify(renewed.expose().as_bytes(), &EXPECTED).is_ok());
    }

    #[test]
    fn newest_key_signs_from_its_time_on() {
        let (before, old) = ring(0, &[]);
        let (after, _) = ring(NOW, &[old]);
        let kid = |ring: &KeyRing, now| ring.sign_token(&new_token(now)).unwrap().1.to_owned();
        assert_eq!(kid(&after, NOW - 1), kid(&before, NOW - 1));
        assert_ne!(kid(&after, NOW), kid(&before, NOW));
    }

    #[test]
    fn token_that_names_a_key_must_be_signed_by_it() {
        let (one, key) = ring(0, &[]);
        let (two, _) = ring(0, &[key]);
        let (token, kid) = one.sign_token(&new_token(NOW)).unwrap();
        let named = two.keys[0].token.kid();
        // The header of the other key before what this one signed would be another message; so sign that one.
        let forged = two.keys[1].token.sign_under(named, &new_token(NOW)).unwrap();
        assert_eq!(two.verify(forged.expose().as_bytes(), &EXPECTED), Err(TokenError::InvalidSignature));
        assert!(two.verify(token.expose().as_bytes(), &EXPECTED).is_ok(), "{kid}");
    }

    #[cfg(feature = "fernet")]
    #[test]
    fn sealed_token_is_opened_by_later_rings() {
        let (before, old) = ring(0, &[]);
        let (after, _) = ring(0, &[old]);
        let token = Secret::from("a.b.c");
        let sealed = before.seal(&token, NOW).unwrap();
        assert!(is_sealed(&sealed) && !is_sealed(&token));
        assert_eq!(after.open(&sealed), Some(token.clone()));
        assert_eq!(after.open(&token), Some(token));
        assert_eq!(ring(0, &[]).0.open(&sealed), None);
    }

    #[cfg(feature = "fernet")]
    #[test]
    fn stored_token_takes_the_wanted_form() {
        let (before, old) = ring(0, &[]);
        let (after, _) = ring(0, std::slice::from_ref(&old));
        let (token, digest) = (Secret::from("a.b.c"), TokenDigest::of("a.b.c"));
        let (by_old, by_new) = (before.seal(&token, NOW).unwrap(), after.seal(&token, NOW).unwrap());
        let fernet = |kept: &Secret| after.reform(kept, StoreFormat::Fernet, NOW);
        assert_eq!(fernet(&by_new), Reform::Keep);
        for kept in [&token, &by_old] {
            let Reform::Replace(text, found) = fernet(kept) else { panic!("not replaced") };
            assert!(found == digest && before.open(&text).is_none() && after.open(&text) == Some(token.clone()));
        }
        let plain = |kept: &Secret| after.reform(kept, StoreFormat::Plain, NOW);
        assert_eq!(plain(&token), Reform::Keep);
        for kept in [&by_old, &by_new] {
            assert_eq!(plain(kept), Reform::Replace(token.clone(), digest));
        }
        let (foreign, _) = ring(0, &[]);
        assert_eq!(foreign.reform(&by_new, StoreFormat::Fernet, NOW), Reform::Unopened);
        assert_eq!(foreign.reform(&by_new, StoreFormat::Plain, NOW), Reform::Unopened);
        // While the new key waits for its time, the old one seals: every node has it.
        let (waiting, _) = ring(NOW + 1, &[old]);
        assert_eq!(waiting.reform(&by_old, StoreFormat::Fernet, NOW), Reform::Keep);
    }

    #[cfg(feature = "fernet")]
    #[test]
    fn signer_is_known_if_the_token_can_be_opened() {
        let (before, old) = ring(0, &[]);
        let (after, _) = ring(0, &[old]);
        let kids: Vec<_> = after.kids().map(str::to_owned).collect();
        let (token, _) = before.sign_token(&new_token(NOW)).unwrap();
        for kept in [token.clone(), before.seal(&token, NOW).unwrap(), after.seal(&token, NOW).unwrap()] {
            assert_eq!([0, 1].map(|number| after.may_have_signed(&kids[number], &kept)), [false, true]);
        }
        let foreign = ring(0, &[]).0.seal(&token, NOW).unwrap();
        assert!(kids.iter().all(|kid| after.may_have_signed(kid, &foreign)), "it cannot be known");
        assert!(!after.may_have_signed(&kids[1], &"no token".into()));
    }

    #[test]
    fn key_of_another_form_seals_nothing() {
        let ring = KeyRing::new(&Secret::from("a key of at least thirty-two bytes"), 0, &[]).unwrap();
        assert_eq!(ring.seal(&Secret::from("a.b.c"), NOW), None);
    }

    #[cfg(not(feature = "fernet"))]
    #[test]
    fn nothing_is_sealed_without_the_feature() {
        let (ring, _) = ring(0, &[]);
        assert_eq!(ring.seal(&Secret::from("a.b.c"), NOW), None);
        assert_eq!(ring.seal_ticket(b"content", NOW), None);
        assert_eq!(ring.open_ticket("gAAAAAcontent"), None);
    }
}
