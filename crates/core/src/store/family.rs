//! The rules of a rotation: what becomes of a refresh token that is presented, by what is held of its family.

use std::time::Duration;

use super::{FamilyStatus, Rotation, TokenDigest};

/// What a store holds of one family, as far as a rotation has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The generation of the pair that is held.
    pub generation: u64,
    /// The refresh token that is held.
    pub refresh: Option<TokenDigest>,
    /// The refresh token that the last rotation consumed, and how long ago that was.
    pub consumed: Option<(TokenDigest, Duration)>,
    /// Whether its tokens are accepted.
    pub status: FamilyStatus,
}

/// What is to become of a presented refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one held: its successor takes its place.
    Rotate,
    /// It was consumed a moment ago: the pair that is held is given out again.
    Repeat,
    /// It was consumed before: the family is to be revoked.
    Reuse,
    /// It is another one, and no proof of a copy.
    Superseded,
    /// The family was revoked.
    Revoked,
}

impl Family {
    /// Judges the token that `rotation` presents.
    ///
    /// Only a token of an *earlier* generation proves that somebody has a copy. One of a later generation than what is
    /// held means that the store was set back, as by restoring a backup, which is not the client's doing.
    #[must_use]
    pub fn judge(&self, rotation: &Rotation) -> Verdict {
        let is_earlier = || rotation.presented_family.as_ref().is_some_and(|(_, number)| *number < self.generation);
        match (self.status, self.consumed) {
            (FamilyStatus::Revoked | FamilyStatus::Reused, _) => Verdict::Revoked,
            _ if self.refresh == Some(rotation.presented) => Verdict::Rotate,
            (_, Some((consumed, ago))) if consumed == rotation.presented && ago < rotation.grace => Verdict::Repeat,
            (_, Some((consumed, _))) if consumed == rotation.presented => Verdict::Reuse,
            _ if is_earlier() => Verdict::Reuse,
            _ => Verdict::Superseded,
        }
    }
}
