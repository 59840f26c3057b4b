//! The keys: which one signs, which ones verify, and encrypting what is kept in a store.

use crate::{
    secret::{Secret, TokenDigest},
    token::{Claims, Expected, NewToken, Parts, SelfTestError, TokenError, TokenKey},
};

/// In which form tokens are stored: `store-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFormat {
    /// As they are, which `fastauth-api` can read.
    Plain,
    /// Encrypted by the key that signs.
    Fernet,
}

/// How every Fernet token begins: its version, 0x80, and the first bytes of a time before the year 2106. No JWT does.
const SEALED: &str = "gAAAAA";

/// What the key of tickets is derived by. It has no `.` in it, so it is no text that is signed as a token.
const TICKETS: &[u8] = b"fastauth tickets";

/// One key that signs, and others that only verify: earlier ones, and one that is to sign soon.
#[derive(Debug)]
pub struct KeyRing {
    /// The newest first.
    keys: Vec<RingKey>,
    /// When the newest begins to sign, since the Unix epoch. Until then the next one does.
    signs_from: u64,
}

struct RingKey {
    token: TokenKey,
    /// Only where the key is one of Fernet's.
    fernet: Option<fernet::Fernet>,
    /// By a key that is derived from this one, whatever kind it is, so that no ticket is taken for something else.
    tickets: fernet::Fernet,
}

impl KeyRing {
    /// Takes the newest key, when it begins to sign, and the keys before it, the latest first.
    pub fn new(newest: &Secret, signs_from: u64, previous: &[Secret]) -> Result<Self, SelfTestError> {
        let keys = std::iter::once(newest).chain(previous).map(RingKey::new).collect::<Result<_, _>>()?;
        Ok(Self { keys, signs_from })
    }

    /// The key that signs at `now`. Nodes that were not told of it yet have until then to be.
    fn signing(&self, now: u64) -> &RingKey {
        let second = self.keys.get(1).filter(|_| now < self.signs_from);
        second.unwrap_or(&self.keys[0])
    }

    /// The ids of the keys, the newest first.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.token.kid())
    }

    /// A new token, and the id of the key that signed it.
    pub fn mint(&self, token: &NewToken<'_>) -> Option<(Secret, &str)> {
        let key = &self.signing(token.issued_at).token;
        Some((key.mint(token)?, key.kid()))
    }

    /// A ticket of this content.
    pub fn seal_ticket(&self, content: &[u8], now: u64) -> Secret {
        Secret::from(self.signing(now).tickets.encrypt(content))
    }

    /// The content of a ticket; `None` where none of the keys has made it.
    pub fn open_ticket(&self, ticket: &str) -> Option<Vec<u8>> {
        self.keys.iter().find_map(|key| key.tickets.decrypt(ticket).ok())
    }

    /// The claims of a token, if one of the keys signed it and it is as `expected`.
    ///
    /// A token that names one of the keys is held to it. Others, such as those of `fastauth-api`, name none.
    pub fn verify(&self, token: &[u8], expected: &Expected<'_>) -> Result<Claims, TokenError> {
        let (parts, signer) = self.signer(token)?;
        signer.token.verify(&parts, expected)
    }

    /// The key that a token names, by a header that this key writes or by another one, else the one that has signed it.
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

    /// The token encrypted; `None` where the key is none of Fernet's.
    pub fn seal(&self, token: &Secret, now: u64) -> Option<Secret> {
        let fernet = self.signing(now).fernet.as_ref()?;
        Some(Secret::from(fernet.encrypt(token.expose().as_bytes())))
    }

    /// What is to be kept of a token in place of what is: encrypted by the key that signs now, or not encrypted.
    pub fn reform(&self, kept: &Secret, format: StoreFormat, now: u64) -> Reform {
        let is_current = || self.signing(now).open(kept).is_some();
        let is_right = match format {
            StoreFormat::Plain => !is_sealed(kept),
            StoreFormat::Fernet => is_sealed(kept) && is_current(),
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

    /// Whether the key of this id may have signed what is kept as a token.
    pub fn may_have_signed(&self, kid: &str, kept: &Secret) -> bool {
        let (Some(token), Some(key)) = (self.open(kept), self.keys.iter().find(|key| key.token.kid() == kid)) else {
            return true;
        };
        Parts::split(token.expose().as_bytes()).is_ok_and(|parts| key.token.has_signed(&parts))
    }

    /// The token by what is kept of it, encrypted or not; `None` where none of the keys opens it.
    pub fn open(&self, kept: &Secret) -> Option<Secret> {
        if !is_sealed(kept) {
            return Some(kept.clone());
        }
        self.keys.iter().find_map(|key| key.open(kept))
    }
}

/// Says what is to be kept of a token in place of what is.
pub trait Reforming: Sync {
    /// Returns true if the key that signs now can encrypt.
    fn can_encrypt(&self) -> bool;

    /// Returns what becomes of what is kept of a token.
    fn reform(&self, kept: &Secret, format: StoreFormat) -> Reform;
}

/// What becomes of what is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reform {
    /// It is right as it is.
    Keep,
    /// This takes its place; the digest is that of the token itself.
    Replace(Secret, TokenDigest),
    /// No key opens it.
    Unopened,
}

/// Whether what is kept of a token is encrypted.
pub fn is_sealed(kept: &Secret) -> bool {
    kept.expose().starts_with(SEALED)
}

impl RingKey {
    fn new(key: &Secret) -> Result<Self, SelfTestError> {
        let token = TokenKey::new(key)?;
        let tickets = fernet::Fernet::new(token.derive(TICKETS)?.expose()).ok_or(SelfTestError)?;
        Ok(Self { token, fernet: fernet::Fernet::new(key.expose()), tickets })
    }

    fn open(&self, kept: &Secret) -> Option<Secret> {
        let token = self.fernet.as_ref()?.decrypt(kept.expose()).ok()?;
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
    const EXPECTED: Expected<'static> = Expected::of(TokenType::Access, NOW);

    fn new_token(issued_at: u64) -> NewToken<'static> {
        NewToken::plain("c", TokenType::Access, issued_at, Duration::from_secs(600))
    }

    fn ring(signs_from: u64, previous: &[Secret]) -> (KeyRing, Secret) {
        let key = Secret::generate();
        (KeyRing::new(&key, signs_from, previous).unwrap(), key)
    }

    #[test]
    fn previous_keys_verify_and_do_not_sign() {
        let (before, old) = ring(0, &[]);
        let (after, new) = ring(0, &[old]);
        let (token, kid) = before.mint(&new_token(NOW)).unwrap();
        assert_eq!(after.verify(token.expose().as_bytes(), &EXPECTED).unwrap().client_id(), "c");
        let (renewed, new_kid) = after.mint(&new_token(NOW)).unwrap();
        assert_ne!(kid, new_kid);
        assert_eq!(before.verify(renewed.expose().as_bytes(), &EXPECTED), Err(TokenError::InvalidSignature));
        let alone = KeyRing::new(&new, 0, &[]).unwrap();
        assert!(alone.verify(renewed.expose().as_bytes(), &EXPECTED).is_ok());
    }

    #[test]
    fn a_key_signs_from_its_time_on() {
        let (before, old) = ring(0, &[]);
        let (after, _) = ring(NOW, &[old]);
        let kid = |ring: &KeyRing, now| ring.mint(&new_token(now)).unwrap().1.to_owned();
        assert_eq!(kid(&after, NOW - 1), kid(&before, NOW - 1));
        assert_ne!(kid(&after, NOW), kid(&before, NOW));
    }

    #[test]
    fn a_token_that_names_a_key_is_held_to_it() {
        let (one, key) = ring(0, &[]);
        let (two, _) = ring(0, &[key]);
        let (token, kid) = one.mint(&new_token(NOW)).unwrap();
        let named = two.keys[0].token.kid();
        // The header of the other key before what this one signed would be another message; so sign that one.
        let forged = two.keys[1].token.sign_under(named, &new_token(NOW)).unwrap();
        assert_eq!(two.verify(forged.expose().as_bytes(), &EXPECTED), Err(TokenError::InvalidSignature));
        assert!(two.verify(token.expose().as_bytes(), &EXPECTED).is_ok(), "{kid}");
    }

    #[test]
    fn what_is_sealed_is_opened_by_every_key() {
        let (before, old) = ring(0, &[]);
        let (after, _) = ring(0, &[old]);
        let token = Secret::from("a.b.c");
        let sealed = before.seal(&token, NOW).unwrap();
        assert!(is_sealed(&sealed) && !is_sealed(&token));
        assert_eq!(after.open(&sealed), Some(token.clone()));
        assert_eq!(after.open(&token), Some(token));
        assert_eq!(ring(0, &[]).0.open(&sealed), None);
    }

    #[test]
    fn what_is_kept_takes_the_form_that_is_wanted() {
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

    #[test]
    fn who_signed_is_known_of_what_can_be_opened() {
        let (before, old) = ring(0, &[]);
        let (after, _) = ring(0, &[old]);
        let kids: Vec<_> = after.kids().map(str::to_owned).collect();
        let (token, _) = before.mint(&new_token(NOW)).unwrap();
        for kept in [token.clone(), before.seal(&token, NOW).unwrap(), after.seal(&token, NOW).unwrap()] {
            assert_eq!([0, 1].map(|number| after.may_have_signed(&kids[number], &kept)), [false, true]);
        }
        let foreign = ring(0, &[]).0.seal(&token, NOW).unwrap();
        assert!(kids.iter().all(|kid| after.may_have_signed(kid, &foreign)), "nobody knows");
        assert!(!after.may_have_signed(&kids[1], &"no token".into()));
    }

    #[test]
    fn a_key_that_is_not_fernets_seals_nothing() {
        let ring = KeyRing::new(&Secret::from("a key of at least thirty-two bytes"), 0, &[]).unwrap();
        assert_eq!(ring.seal(&Secret::from("a.b.c"), NOW), None);
    }
}
