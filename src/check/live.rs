//! The running parts that the configuration makes, which a reload replaces while requests run.
//!
//! All parts of one configuration are one set. A request takes the part that it needs once, and keeps it to its end.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The place of the current set, of which each service takes its own part.
pub(crate) trait Current<P>: Debug + Send + Sync {
    /// Returns the part in the current set.
    fn current(&self) -> Arc<P>;
}

/// Whether the last reload failed, so that what runs is not what is configured.
#[derive(Debug, Default)]
pub(crate) struct Reloads(AtomicBool);

impl Reloads {
    /// Notes how a reload went.
    pub(crate) fn note(&self, is_applied: bool) {
        self.0.store(!is_applied, Ordering::Relaxed);
    }

    pub(crate) fn last_failed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether the set of a part was replaced. It is a flag in the part itself, so that asking costs one look at memory that is read
/// anyway.
#[derive(Debug, Default)]
pub(crate) struct Replaced(AtomicBool);

impl Replaced {
    #[inline]
    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Marks a set as replaced, after another one has taken its place.
    pub(crate) fn mark(&self) {
        self.0.store(true, Ordering::Release);
    }
}
