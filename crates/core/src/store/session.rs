//! The rules of a session: which refresh token may be exchanged, and which pair may be saved.

use std::time::Duration;

use super::{Rotation, Saved, SessionStatus, TokenDigest, TokenRecord};

/// A stored session, as far as the rules need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The generation of the stored pair.
    pub generation: u64,
    /// The stored refresh token.
    pub refresh: Option<TokenDigest>,
    /// The refresh token that the last rotation consumed, and how long ago that was.
    pub consumed: Option<(TokenDigest, Duration)>,
    /// The version of the session, if its access tokens were [revoked](super::TokenStore::revoke_access) since its last rotation.
    pub access_revoked: Option<u64>,
    /// The status of the session.
    pub status: SessionStatus,
}

/// The verdict on a presented refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The token is the stored one: its successor replaces it.
    Rotate,
    /// The token is the stored one, but the access tokens were revoked in this version, after the claims of the successor were decided on.
    AccessRevoked(u64),
    /// The token was consumed within the grace: the stored pair is returned again.
    Repeat,
    /// The token was consumed before: the session is to be revoked.
    Reuse,
    /// The token is another one, and does not prove that a token was copied.
    Superseded,
    /// The session was revoked.
    Revoked,
}

impl Session {
    /// Judges the refresh token that `rotation` presents.
    ///
    /// Only a token of an *earlier* generation proves that a token was copied. A token of a later generation than the stored one
    /// means that the store was set back, for example by restoring a backup, which is not the client's doing.
    #[must_use]
    pub fn judge(&self, rotation: &Rotation) -> Verdict {
        if self.status != SessionStatus::Live {
            return Verdict::Revoked;
        }
        if self.refresh == Some(rotation.presented) {
            let revoked = self.access_revoked.filter(|version| *version > rotation.decided_after);
            return revoked.map_or(Verdict::Rotate, Verdict::AccessRevoked);
        }
        if let Some((_, ago)) = self.consumed.filter(|(consumed, _)| *consumed == rotation.presented) {
            return if ago < rotation.grace { Verdict::Repeat } else { Verdict::Reuse };
        }
        let presented = rotation.presented_session.as_ref().map(|(_, generation)| *generation);
        if presented.is_some_and(|generation| generation < self.generation) {
            return Verdict::Reuse;
        }
        Verdict::Superseded
    }

    /// Judges a pair that is to be saved into this session, which has a name; `access` and `version` are those of the stored pair, whose
    /// access token may have been revoked.
    /// Returns `None` if the pair is to be written.
    ///
    /// A write may arrive twice, and late: it neither revives a session that was revoked nor undoes a refresh, and a pair that is
    /// stored already keeps its version.
    #[must_use]
    pub fn judge_save(&self, record: &TokenRecord, access: Option<TokenDigest>, version: u64) -> Option<Saved> {
        if self.status != SessionStatus::Live || self.generation > record.generation {
            return Some(Saved::ConditionFailed);
        }
        let is_same =
            access.is_none_or(|access| access == record.access.digest) && self.refresh == Some(record.refresh.digest);
        is_same.then_some(Saved::Saved(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{secret::Secret, store::TokenEntry};

    fn entry(text: &str) -> TokenEntry {
        TokenEntry { text: Secret::from(text), digest: TokenDigest::of(text), expires_at: 0 }
    }

    fn record(access: &str, refresh: &str, generation: u64) -> TokenRecord {
        TokenRecord {
            client_id: "c".to_owned(),
            session: "f".to_owned(),
            generation,
            kid: String::new(),
            access: entry(access),
            refresh: entry(refresh),
        }
    }

    fn session(status: SessionStatus) -> Session {
        Session {
            generation: 2,
            refresh: Some(TokenDigest::of("r2")),
            consumed: Some((TokenDigest::of("r1"), Duration::from_secs(10))),
            access_revoked: None,
            status,
        }
    }

    fn rotation(presented: &str, generation: Option<u64>, grace: u64) -> Rotation {
        Rotation {
            presented: TokenDigest::of(presented),
            presented_session: generation.map(|generation| ("f".to_owned(), generation)),
            successor: record("a3", "r3", 3),
            grace: Duration::from_secs(grace),
            decided_after: 0,
        }
    }

    #[test]
    fn claims_are_decided_on_after_a_revocation_of_access_tokens() {
        let revoked = Session { access_revoked: Some(7), ..session(SessionStatus::Live) };
        for (presented, decided_after, verdict) in [
            ("r2", 0, Verdict::AccessRevoked(7)),
            ("r2", 6, Verdict::AccessRevoked(7)),
            ("r2", 7, Verdict::Rotate),
            ("r2", u64::MAX, Verdict::Rotate),
            ("r1", 0, Verdict::Repeat),
            ("other", 0, Verdict::Superseded),
        ] {
            let rotation = Rotation { decided_after, ..rotation(presented, None, 11) };
            assert_eq!(revoked.judge(&rotation), verdict, "{presented} {decided_after}");
        }
        let ended = Session { status: SessionStatus::Revoked, ..revoked };
        assert_eq!(ended.judge(&rotation("r2", None, 11)), Verdict::Revoked);
        // A first pair that arrives again brings no access token back.
        assert_eq!(revoked.judge_save(&record("a2", "r2", 2), None, 7), Some(Saved::Saved(7)));
        assert_eq!(revoked.judge_save(&record("a2", "r1", 1), None, 7), Some(Saved::ConditionFailed));
    }

    #[test]
    fn refresh_token_is_judged_by_the_stored_session() {
        for (presented, generation, grace, verdict) in [
            ("r2", Some(2), 0, Verdict::Rotate),
            ("r2", None, 0, Verdict::Rotate),
            ("r1", Some(1), 11, Verdict::Repeat),
            ("r1", Some(1), 10, Verdict::Reuse),
            ("r1", None, 10, Verdict::Reuse),
            ("r0", Some(0), 11, Verdict::Reuse),
            ("r0", None, 11, Verdict::Superseded),
            ("other", Some(2), 11, Verdict::Superseded),
            ("later", Some(3), 11, Verdict::Superseded),
        ] {
            let rotation = rotation(presented, generation, grace);
            assert_eq!(session(SessionStatus::Live).judge(&rotation), verdict, "{presented} {generation:?} {grace}");
            for status in [SessionStatus::Revoked, SessionStatus::Reused] {
                assert_eq!(session(status).judge(&rotation), Verdict::Revoked, "{presented}");
            }
        }
    }

    #[test]
    fn pair_that_arrives_twice_is_not_written_again() {
        let access = Some(TokenDigest::of("a2"));
        for (record, saved) in [
            (record("a2", "r2", 2), Some(Saved::Saved(7))),
            (record("a2", "other", 2), None),
            (record("other", "r2", 2), None),
            (record("a3", "r3", 3), None),
            (record("a1", "r1", 1), Some(Saved::ConditionFailed)),
        ] {
            assert_eq!(session(SessionStatus::Live).judge_save(&record, access, 7), saved, "{record:?}");
            for status in [SessionStatus::Revoked, SessionStatus::Reused] {
                assert_eq!(session(status).judge_save(&record, access, 7), Some(Saved::ConditionFailed), "{record:?}");
            }
        }
    }
}
