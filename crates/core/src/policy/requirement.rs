//! What a request has to bring, computed from the rules that its path meets.

use super::{PathList, RuleId};

/// The checks that a request needs, each with the rule that asks for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requirement {
    master: Asked,
    access: Asked,
}

/// One check: why it is asked for, if it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Asked {
    cause: Cause,
    /// The path as sent asks for it, and not only another reading.
    as_sent: bool,
}

/// Why a check is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is not asked for.
    #[default]
    None,
    /// A fault of the path, for which every check is asked.
    Fault,
    /// A guard that loses to an exemption, while another reading of the path is not exempt.
    Beaten(RuleId),
    /// A guard that no exemption beats.
    Guard(RuleId),
}

/// What a reading of a path asks for, or several of them together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asking {
    pub(super) master: Cause,
    pub(super) access: Cause,
    /// The longest rule that each reading meets is an exemption.
    pub(super) is_exempt: bool,
}

impl Requirement {
    /// Nothing is asked for.
    pub(super) const NOTHING: Self = Self { master: Asked::NOT, access: Asked::NOT };

    /// Computes what a path requires, of which all readings together ask `all`, and the path as sent `as_sent`.
    #[inline]
    pub(super) fn new(all: Asking, as_sent: Asking) -> Self {
        if all.is_exempt {
            return Self::NOTHING;
        }
        let is_exempt = as_sent.is_exempt;
        Self {
            master: Asked { cause: all.master, as_sent: as_sent.master.asks() && !is_exempt },
            access: Asked { cause: all.access, as_sent: as_sent.access.asks() && !is_exempt },
        }
    }

    /// Returns true if the master token is asked for.
    #[inline]
    pub fn needs_master(self) -> bool {
        self.master.cause.asks()
    }

    /// Returns true if an access token is asked for.
    #[inline]
    pub fn needs_access(self) -> bool {
        self.access.cause.asks()
    }

    /// Returns true if nothing is asked for.
    #[inline]
    pub fn is_public(self) -> bool {
        !self.needs_master() && !self.needs_access()
    }

    /// Returns true if the path as sent would ask for less: the request is an attack, or its client has a fault.
    pub fn only_by_other_reading(self) -> bool {
        [self.master, self.access].iter().any(|asked| asked.cause.asks() && !asked.as_sent)
    }

    /// Returns the rule of this list that decides: the first reading that meets one counts, and of its rules the shortest
    /// that no exemption beats.
    pub fn rule(self, list: PathList) -> Option<RuleId> {
        match self.cause(list) {
            Cause::Guard(rule) | Cause::Beaten(rule) => Some(rule),
            Cause::Fault | Cause::None => None,
        }
    }

    pub(super) fn cause(self, list: PathList) -> Cause {
        match list {
            PathList::Master => self.master.cause,
            PathList::Access => self.access.cause,
            PathList::Public => Cause::None,
        }
    }

    /// Adds what another path of the same request requires.
    #[inline]
    pub(super) fn or(self, other: Self) -> Self {
        Self { master: self.master.or(other.master), access: self.access.or(other.access) }
    }
}

impl Asked {
    const NOT: Self = Self { cause: Cause::None, as_sent: false };

    fn or(self, other: Self) -> Self {
        Self { cause: self.cause.or(other.cause), as_sent: self.as_sent || other.as_sent }
    }
}

impl Cause {
    #[inline]
    fn asks(self) -> bool {
        self != Self::None
    }

    /// Returns the stronger cause, the first one if they are alike.
    #[inline]
    pub(super) fn or(self, other: Self) -> Self {
        if other.strength() > self.strength() { other } else { self }
    }

    #[inline]
    fn strength(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Fault => 1,
            Self::Beaten(_) => 2,
            Self::Guard(_) => 3,
        }
    }

    #[inline]
    fn beaten(self) -> Self {
        if let Self::Guard(rule) = self { Self::Beaten(rule) } else { self }
    }
}

impl Asking {
    pub(super) fn cause(&self, list: PathList) -> Cause {
        match list {
            PathList::Master => self.master,
            PathList::Access => self.access,
            PathList::Public => Cause::None,
        }
    }

    /// Adds a rule that the reading meets. They come shortest first, and exemptions before guards of the same length.
    #[inline]
    pub(super) fn add(&mut self, list: PathList, rule: RuleId) {
        self.is_exempt = list == PathList::Public;
        match list {
            PathList::Master => self.master = self.master.or(Cause::Guard(rule)),
            PathList::Access => self.access = self.access.or(Cause::Guard(rule)),
            PathList::Public => {
                self.master = self.master.beaten();
                self.access = self.access.beaten();
            }
        }
    }

    /// Adds what another reading of the same path asks for.
    pub(super) fn and(self, other: Self) -> Self {
        Self { is_exempt: self.is_exempt && other.is_exempt, ..self.or(other) }
    }

    /// Adds causes to ask.
    pub(super) fn or(self, other: Self) -> Self {
        Self { master: self.master.or(other.master), access: self.access.or(other.access), ..self }
    }
}
