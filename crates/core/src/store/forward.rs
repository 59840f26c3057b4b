//! Stores that wrap another store.

/// A call of a [`TokenStore`](super::TokenStore), as tests, logs and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StoreCall {
    /// [`load`](super::TokenStore::load), and [`compare_now`](super::TokenStore::compare_now) if it answers.
    Load,
    /// [`pair`](super::TokenStore::pair) and [`pair_of`](super::TokenStore::pair_of)
    Pair,
    /// [`save`](super::TokenStore::save)
    Save,
    /// [`rotate`](super::TokenStore::rotate)
    Rotate,
    /// [`revoke`](super::TokenStore::revoke)
    Revoke,
    /// [`revoke_access`](super::TokenStore::revoke_access)
    RevokeAccess,
    /// [`list`](super::TokenStore::list)
    List,
    /// [`spend`](super::TokenStore::spend)
    Spend,
    /// [`check`](super::TokenStore::check)
    Check,
    /// [`promises`](super::TokenStore::promises)
    Promises,
}

impl StoreCall {
    /// The number of calls.
    pub const COUNT: usize = 10;

    /// Returns the name of the call in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Pair => "pair",
            Self::Save => "save",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::RevokeAccess => "revoke_access",
            Self::List => "list",
            Self::Spend => "spend",
            Self::Check => "check",
            Self::Promises => "promises",
        }
    }
}

/// Implements methods of a [`TokenStore`](crate::store::TokenStore) by those of another store.
///
/// It takes the wrapper's own name for itself, the wrapped store, and the methods to forward. The wrapper writes the others.
///
/// ```
/// use std::{sync::atomic::{AtomicU64, Ordering}, time::Duration};
/// use fastauth_core::{forward_store, store::{CurrentTokens, MemoryStore, StoreFuture, TokenStore}};
///
/// #[derive(Debug)]
/// struct Counting {
///     inner: MemoryStore,
///     loads: AtomicU64,
/// }
///
/// impl TokenStore for Counting {
///     forward_store!(|store| store.inner;
///         kind pair pair_of save rotate revoke revoke_access list spend check promises patience changes log);
///
///     fn load<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>> {
///         self.loads.fetch_add(1, Ordering::Relaxed);
///         self.inner.load(client_id, session)
///     }
/// }
/// ```
///
/// With a method of the wrapper behind the wrapped store (`|store| store.inner, timed; …`), each asynchronous call goes through
/// it: `fn timed<'a, T>(&'a self, call: StoreCall, inner: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a) -> StoreFuture<'a, T>`.
#[macro_export]
macro_rules! forward_store {
    (|$store:ident| $inner:expr; $($method:ident)+) => {
        $($crate::forward_store!(@$method [] $store $inner);)+
    };
    (|$store:ident| $inner:expr, $through:ident; $($method:ident)+) => {
        $($crate::forward_store!(@$method [$through] $store $inner);)+
    };
    (@kind $through:tt $store:ident $inner:expr) => {
        fn kind(&self) -> &'static str {
            let $store = self;
            $inner.kind()
        }
    };
    (@compare_now $through:tt $store:ident $inner:expr) => {
        fn compare_now(
            &self,
            client_id: &str,
            session: Option<&str>,
            token: &[u8],
        ) -> Option<Result<$crate::store::Comparison, $crate::store::StoreError>> {
            let $store = self;
            $inner.compare_now(client_id, session, token)
        }
    };
    (@patience $through:tt $store:ident $inner:expr) => {
        fn patience(&self) -> ::std::time::Duration {
            let $store = self;
            $inner.patience()
        }
    };
    (@changes $through:tt $store:ident $inner:expr) => {
        fn changes(&self) -> Option<&$crate::store::Changes> {
            let $store = self;
            $inner.changes()
        }
    };
    (@log $through:tt $store:ident $inner:expr) => {
        fn log(&self) -> Option<&dyn $crate::store::ChangeLog> {
            let $store = self;
            $inner.log()
        }
    };
    (@load $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, Load load(client_id: &'a str, session: Option<&'a str>)
            Option<$crate::store::CurrentTokens>);
    };
    (@pair $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, Pair pair(client_id: &'a str) Option<$crate::store::StoredPair>);
    };
    (@pair_of $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, Pair pair_of(client_id: &'a str, session: &'a str)
            Option<$crate::store::StoredPair>);
    };
    (@save $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, Save save(record: &'a $crate::store::TokenRecord,
            options: $crate::store::SaveOptions) $crate::store::Saved);
    };
    (@rotate $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, Rotate rotate(rotation: &'a $crate::store::Rotation) $crate::store::Rotated);
    };
    (@revoke $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, Revoke revoke(revocation: &'a $crate::store::Revocation,
            if_version: Option<u64>) $crate::store::Revoked);
    };
    (@revoke_access $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, RevokeAccess revoke_access(client_id: &'a str, session: Option<&'a str>) u64);
    };
    (@list $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, List list(filter: &'a $crate::store::SessionFilter) $crate::store::SessionPage);
    };
    (@spend $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, Spend spend(ticket: &'a str, expires_at: u64) bool);
    };
    (@check $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, Check check() ());
    };
    (@promises $($rest:tt)+) => {
        $crate::forward_store!(@@ $($rest)+, Promises promises() $crate::store::Promises);
    };
    (@@ [] $store:ident $inner:expr, $call:ident $method:ident($($name:ident: $type:ty),*) $answer:ty) => {
        fn $method<'a>(&'a self, $($name: $type),*) -> $crate::store::StoreFuture<'a, $answer> {
            let $store = self;
            $inner.$method($($name),*)
        }
    };
    (@@ [$through:ident] $store:ident $inner:expr, $call:ident $method:ident($($name:ident: $type:ty),*) $answer:ty) => {
        fn $method<'a>(&'a self, $($name: $type),*) -> $crate::store::StoreFuture<'a, $answer> {
            let $store = self;
            $store.$through($crate::store::StoreCall::$call, move || $inner.$method($($name),*))
        }
    };
}
