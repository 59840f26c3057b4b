//! What a request has to bring, computed from the prefixes and rules that its path meets.

use super::{Level, PathList, RuleId};

/// The checks that a request needs, each with the prefix or rule that asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// The bits of what is asked for.
    needs: u8,
    /// Those of them that the path as sent asks for, and not only another reading.
    as_sent: u8,
    master: Cause,
    access: Cause,
    won: Won,
    reported: Option<RuleId>,
}

const MASTER: u8 = 1;
const ACCESS: u8 = 1 << 1;
const OPTIONAL: u8 = 1 << 2;
const DENY: u8 = 1 << 3;

/// The most rules that are kept by name. A plain path has one; with a slash at its end, and without case, at most four.
const MOST_WON: usize = 4;

/// The rules that won for the readings of a path, but those that make it public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Won {
    /// These.
    Some([Option<RuleId>; MOST_WON]),
    /// More than can be kept, or those are not known: all rules count.
    All,
}

/// Why a check is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is not asked for.
    #[default]
    None,
    /// A fault of the path, for which every check is asked.
    Fault,
    /// The level of what no rule matches.
    Default,
    /// A rule that won.
    Rule(RuleId),
    /// A guard that loses to an exemption, while another reading of the path is not exempt.
    Beaten(RuleId),
    /// A guard that no exemption beats.
    Guard(RuleId),
}

/// What the lists ask of a reading of a path, or of several of them together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asking {
    pub(super) master: Cause,
    pub(super) access: Cause,
    /// The longest prefix that each reading meets is an exemption.
    pub(super) is_exempt: bool,
}

impl Requirement {
    /// Nothing is asked for.
    pub(super) const NOTHING: Self = Self {
        needs: 0,
        as_sent: 0,
        master: Cause::None,
        access: Cause::None,
        won: Won::Some([None; MOST_WON]),
        reported: None,
    };

    /// Computes what the lists require of a path, of which all readings together ask `all`, and the path as sent `as_sent`.
    #[inline]
    pub(super) fn new(all: Asking, as_sent: Asking) -> Self {
        if all.is_exempt {
            return Self::NOTHING;
        }
        let sent = if as_sent.is_exempt { 0 } else { as_sent.needs() };
        Self { needs: all.needs(), as_sent: sent, master: all.master, access: all.access, ..Self::NOTHING }
    }

    /// Creates what a level asks for. The cause is that of each credential that it needs.
    pub(super) fn of_level(level: Level, cause: Cause) -> Self {
        let needs = match level {
            Level::Public => 0,
            Level::Optional => OPTIONAL,
            Level::Access => ACCESS,
            Level::Master => MASTER,
            Level::Both => MASTER | ACCESS,
            Level::Deny => DENY,
        };
        let cause_of = |need| if needs & need == 0 { Cause::None } else { cause };
        Self { needs, as_sent: needs, master: cause_of(MASTER), access: cause_of(ACCESS), ..Self::NOTHING }
    }

    /// Creates what a rule asks for.
    pub(super) fn of_rule(level: Level, rule: RuleId) -> Self {
        let won = if level == Level::Public { [None; MOST_WON] } else { [Some(rule), None, None, None] };
        Self { won: Won::Some(won), ..Self::of_level(level, Cause::Rule(rule)) }
    }

    /// Returns true if the master token is asked for.
    #[inline]
    #[must_use]
    pub fn needs_master(self) -> bool {
        self.needs & MASTER != 0
    }

    /// Returns true if an access token is asked for.
    #[inline]
    #[must_use]
    pub fn needs_access(self) -> bool {
        self.needs & ACCESS != 0
    }

    /// Returns true if nothing is asked for.
    #[inline]
    #[must_use]
    pub fn is_public(self) -> bool {
        self.needs == 0
    }

    /// Returns true if nothing is asked for and no rule has anything to report: there is nothing to do.
    #[inline]
    #[must_use]
    pub fn is_open(self) -> bool {
        self.needs == 0 && self.reported.is_none()
    }

    /// Returns true if no credential is asked for, while an access token that is presented must be valid.
    #[inline]
    #[must_use]
    pub fn is_optional(self) -> bool {
        self.needs == OPTIONAL
    }

    /// Returns true if all credentials are asked for that the other asks for, or the request is refused.
    pub(super) fn asks_all_of(self, other: Self) -> bool {
        self.is_denied() || other.needs & !self.needs & !OPTIONAL == 0
    }

    /// Returns true if the request is refused, with the credentials that are asked for as well as without.
    #[inline]
    #[must_use]
    pub fn is_denied(self) -> bool {
        self.needs & DENY != 0
    }

    /// Returns true if the request is refused, and no credential is asked for before that.
    #[inline]
    #[must_use]
    pub fn is_only_denied(self) -> bool {
        self.is_denied() && !self.needs_master() && !self.needs_access()
    }

    /// Returns true if the path as sent would ask for less: the request is an attack, or its client has a fault.
    #[must_use]
    pub fn only_by_other_reading(self) -> bool {
        self.needs & !self.as_sent & !OPTIONAL != 0
    }

    /// Returns the prefix or rule that decides on this check: for a guard, the first reading that meets one counts, and of its
    /// guards the shortest that no exemption beats. A rule is named if no guard asks. `None` if the check is not asked for, or
    /// by the default level or a fault of the path.
    #[must_use]
    pub fn rule(self, list: PathList) -> Option<RuleId> {
        match self.cause(list) {
            Cause::Guard(rule) | Cause::Beaten(rule) | Cause::Rule(rule) => Some(rule),
            Cause::Fault | Cause::Default | Cause::None => None,
        }
    }

    /// Returns true if a credential is asked for because the path has a fault.
    #[must_use]
    pub fn is_by_fault(self) -> bool {
        self.master == Cause::Fault || self.access == Cause::Fault
    }

    /// Returns the rule that decides: the first that won and does not make the path public. Guards are not rules.
    #[must_use]
    pub fn first_rule(self) -> Option<RuleId> {
        match self.won {
            Won::Some([first, ..]) => first,
            Won::All => None,
        }
    }

    /// Returns the rule that only reports and would have decided, if there is one.
    #[inline]
    #[must_use]
    pub fn reported(self) -> Option<RuleId> {
        self.reported
    }

    /// Returns true if a rule won that does not make the path public, or if all rules count.
    #[inline]
    #[must_use]
    pub fn has_winners(self) -> bool {
        !matches!(self.won, Won::Some([None, ..]))
    }

    /// Returns the rules that won, or `None` if all rules count.
    #[inline]
    pub(super) fn won(self) -> Option<[Option<RuleId>; MOST_WON]> {
        match self.won {
            Won::Some(rules) => Some(rules),
            Won::All => None,
        }
    }

    pub(super) fn cause(self, list: PathList) -> Cause {
        match list {
            PathList::Master => self.master,
            PathList::Access => self.access,
            PathList::Public => Cause::None,
        }
    }

    /// Adds what another path, reading or rule requires.
    #[inline]
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            needs: self.needs | other.needs,
            as_sent: self.as_sent | other.as_sent,
            master: self.master.or(other.master),
            access: self.access.or(other.access),
            won: self.won.or(other.won),
            reported: self.reported.or(other.reported),
        }
    }

    /// Returns the same as what a reading asks for that is not the path as sent.
    pub(super) fn of_other_reading(self) -> Self {
        Self { as_sent: 0, ..self }
    }

    /// Returns the same with a rule that only reports.
    pub(super) fn reporting(self, reported: Option<RuleId>) -> Self {
        Self { reported, ..self }
    }

    /// Returns the same with all rules.
    pub(super) fn by_all_rules(self) -> Self {
        Self { won: Won::All, ..self }
    }
}

impl Won {
    #[inline]
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Some([None, ..]), any) | (any, Self::Some([None, ..])) => any,
            (Self::Some(mine), Self::Some(others)) => Self::Some(mine).add(others),
            _ => Self::All,
        }
    }

    fn add(self, others: [Option<RuleId>; MOST_WON]) -> Self {
        let Self::Some(mut rules) = self else { return self };
        for other in others.into_iter().flatten() {
            let Some(place) = rules.iter_mut().find(|rule| rule.is_none_or(|rule| rule == other)) else {
                return Self::All;
            };
            *place = Some(other);
        }
        Self::Some(rules)
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
            Self::Default => 2,
            Self::Rule(_) => 3,
            Self::Beaten(_) => 4,
            Self::Guard(_) => 5,
        }
    }

    #[inline]
    fn beaten(self) -> Self {
        if let Self::Guard(rule) = self { Self::Beaten(rule) } else { self }
    }
}

impl Asking {
    #[inline]
    fn needs(self) -> u8 {
        (u8::from(self.master.asks()) * MASTER) | (u8::from(self.access.asks()) * ACCESS)
    }

    pub(super) fn cause(&self, list: PathList) -> Cause {
        match list {
            PathList::Master => self.master,
            PathList::Access => self.access,
            PathList::Public => Cause::None,
        }
    }

    /// Adds a prefix that the reading meets. They come shortest first, and exemptions before guards of the same length.
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
