//! The values that go into a token store and come out of it.

use std::time::Duration;

use crate::secret::{Secret, TokenDigest};

/// A pair as it was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// The token that opens the paths of `access-token-paths`.
    pub access_token: Secret,
    /// The token that is exchanged for a new pair.
    pub refresh_token: Secret,
}

/// A pair to be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// The client that the pair is issued to.
    pub client_id: String,
    /// The name of the session, unique within the client; empty if the tokens name none, as those of `fastauth-api`.
    pub session: String,
    /// The number of earlier pairs in the session.
    pub generation: u64,
    /// The id of the key that signed the pair; empty if it is not known.
    pub kid: String,
    /// The access token.
    pub access: TokenEntry,
    /// The refresh token.
    pub refresh: TokenEntry,
}

/// One token of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEntry {
    /// The stored form: the token or its encrypted form, by the `store-format`.
    pub text: Secret,
    /// The digest of the token itself, by which it is compared.
    pub digest: TokenDigest,
    /// The last second in which it is valid, since the Unix epoch; 0 if it is not known.
    pub expires_at: u64,
}

/// The options of [`TokenStore::save`](super::TokenStore::save).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// Keeps the client's other sessions. Otherwise they are replaced.
    pub keep_others: bool,
    /// The most live sessions that the client may have, including this one; 0 for any number. Beyond it, the sessions refreshed
    /// longest ago are revoked.
    pub max_sessions: usize,
    /// The condition of the write.
    pub condition: Condition,
}

/// A condition of a write (RFC 9110 13.1: `If-Match`, `If-None-Match: *`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// No condition.
    #[default]
    None,
    /// The pair issued to the client last has this version.
    Version(u64),
    /// The store has no such client.
    Absent,
}

impl Condition {
    /// Returns true if the condition is met; `version` is that of the pair issued last.
    #[must_use]
    pub fn is_met_by(self, version: Option<u64>) -> bool {
        match self {
            Self::None => true,
            Self::Absent => version.is_none(),
            Self::Version(expected) => version == Some(expected),
        }
    }
}

/// The result of [`TokenStore::save`](super::TokenStore::save).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The record is stored in this version.
    Saved(u64),
    /// Nothing changed: the condition was not met, or the session was revoked or refreshed before.
    ConditionFailed,
}

/// The tokens that count for a client or a session, as digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentTokens {
    /// The current access token. There is none after [`revoke_access`](super::TokenStore::revoke_access), and a store that others write
    /// to may lack it.
    pub access: Option<TokenDigest>,
    /// The only refresh token that can be exchanged.
    pub refresh: Option<TokenDigest>,
    /// The access token of the pair before, if a rotation has replaced it. It is `None` if the pair is the first of its session, and
    /// in a store without [`Promises::access_grace`](super::Promises::access_grace).
    pub previous_access: Option<ReplacedToken>,
    /// A number that grows with every write to the client, if the store counts. It also grows when the pair issued last is revoked
    /// and an older one takes its place.
    pub version: Option<u64>,
}

impl CurrentTokens {
    /// Returns the tokens as they are if the answer of the store is as old as this, at most.
    #[must_use]
    pub fn aged(self, age: Duration) -> Self {
        let aged = |previous: ReplacedToken| ReplacedToken { age: previous.age.saturating_add(age), ..previous };
        Self { previous_access: self.previous_access.map(aged), ..self }
    }
}

/// A token that a rotation has replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplacedToken {
    /// The token.
    pub digest: TokenDigest,
    /// How long ago it was replaced, by the clock of the store.
    pub age: Duration,
}

/// The result of comparing an access token with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The token is the current one.
    Current,
    /// The token is the one that the current token has replaced, so long ago. `access-grace` decides if it is still accepted.
    Previous(Duration),
    /// Another token is current.
    NotCurrent,
    /// The store has no such client.
    UnknownClient,
}

impl Comparison {
    /// Compares the token of this digest with what a store has.
    #[must_use]
    pub fn new(token: TokenDigest, held: Option<&CurrentTokens>) -> Self {
        match held {
            None => Self::UnknownClient,
            Some(held) if held.access == Some(token) => Self::Current,
            Some(held) => match held.previous_access.filter(|previous| previous.digest == token) {
                Some(previous) => Self::Previous(previous.age),
                None => Self::NotCurrent,
            },
        }
    }
}

/// A pair in its stored form: the tokens, or their encrypted forms. The access token is missing after
/// [`revoke_access`](super::TokenStore::revoke_access), and a store that others write to may lack either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPair {
    /// The access token.
    pub access_token: Option<Secret>,
    /// The refresh token.
    pub refresh_token: Option<Secret>,
    /// A number that grows with every write to the client, if the store counts.
    pub version: Option<u64>,
}

/// The exchange of a refresh token for a new pair.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The refresh token that was presented.
    pub presented: TokenDigest,
    /// The session and generation that the presented token names. A token that names none belongs to the session without a name, or
    /// began the session that consumed it.
    pub presented_session: Option<(String, u64)>,
    /// The new pair, of the same client. If the presented token names no session, the new pair begins one.
    pub successor: TokenRecord,
    /// How long a consumed token is answered with the same successor again, in case the first answer was lost.
    pub grace: Duration,
    /// The claims of the successor were decided on after this version of the session. If its access tokens were
    /// [revoked](super::TokenStore::revoke_access) later, the answer is [`Rotated::AccessRevoked`]. A caller that knows of no such
    /// revocation begins with 0. With `u64::MAX`, the rotation is done all the same.
    pub decided_after: u64,
}

/// The result of [`TokenStore::rotate`](super::TokenStore::rotate).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The successor is stored.
    Rotated,
    /// The refresh token was consumed within the grace. This is the pair that it was exchanged for.
    Repeated(StoredPair),
    /// The refresh token was consumed before, so it was copied. The session is revoked now (RFC 9700, 4.14.2).
    Reused,
    /// The store has another refresh token; this one is refused and nothing changes.
    Superseded,
    /// The access tokens of the session were revoked in this version, after the claims of the successor were decided on. Nothing changes:
    /// the caller decides on them again, and rotates with this version as [`decided_after`](Rotation::decided_after).
    AccessRevoked(u64),
    /// The session was revoked.
    Revoked,
    /// The store has no such client.
    UnknownClient,
}

/// The tokens that are to be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revocation {
    /// One session.
    Session {
        /// The client id.
        client_id: String,
        /// The name of the session.
        session: String,
    },
    /// All sessions of a client.
    Client(String),
    /// Everything issued until now.
    All,
}

/// The result of [`TokenStore::revoke`](super::TokenStore::revoke).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// This many sessions were live and are revoked now.
    Sessions(u64),
    /// Nothing changed: the version is another one.
    ConditionFailed,
}
