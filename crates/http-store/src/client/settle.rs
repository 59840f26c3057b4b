//! Finds out whether a write happened whose answer does not come.

use std::{
    future::{Future, pending},
    pin::pin,
};

use futures_util::future::select;
use tokio::time::{Instant, sleep_until, timeout};

use super::pools::Via;
use fastauth_core::store::{StoreError, StoreErrorKind};

/// What a store that is asked after a write says of it.
pub(super) enum WriteState<T> {
    /// It happened.
    Done(T),
    /// It did not, and nothing else did: it can be sent again.
    NotDone,
    /// Something else is held.
    Unclear,
}

/// When a write is sent again that the store says did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Never,
    /// If its connection broke before any answer.
    WhenBroken,
    /// Also if nothing was heard of it. The first one may still be on its way, and arrive after whatever was done since, so this
    /// is for revocations alone.
    WhenSilent,
}

/// Sends a write, and asks the store whether it happened if the answer does not come or is not the store's own. A write that did
/// not happen may be sent again, on a new connection: the store closed the first one before it read the write.
///
/// The store is asked after a quarter of the time that is left, and again after three quarters; a slow write goes on in the
/// meantime.
pub(super) async fn settle<T, W, A>(
    deadline: Instant,
    repeat: Repeat,
    write: impl Fn(Via) -> W,
    ask: impl Fn() -> A,
) -> Result<T, StoreError>
where
    W: Future<Output = Result<T, StoreError>>,
    A: Future<Output = Result<WriteState<T>, StoreError>>,
{
    let start = Instant::now();
    let left = deadline.saturating_duration_since(start);
    // Boxed, for they are part of all futures around a write, which are moved more than once.
    let mut first = Box::pin(write(Via::Kept));
    match timeout(left / 4, &mut first).await {
        Ok(Err(error)) if is_open(&error) => match Box::pin(ask()).await {
            Ok(WriteState::Done(done)) => Ok(done),
            Ok(WriteState::NotDone) if repeat != Repeat::Never && error.kind() == StoreErrorKind::Unreachable => {
                match Box::pin(write(Via::Fresh)).await {
                    Err(error) if is_open(&error) => match Box::pin(ask()).await {
                        Ok(WriteState::Done(done)) => Ok(done),
                        _ => Err(error),
                    },
                    outcome => outcome,
                }
            }
            _ => Err(error),
        },
        Ok(outcome) => outcome,
        Err(_) => {
            let again = async {
                match ask().await {
                    Ok(WriteState::Done(done)) => return done,
                    Ok(WriteState::NotDone) if repeat == Repeat::WhenSilent => {
                        if let Ok(done) = write(Via::Fresh).await {
                            return done;
                        }
                    }
                    _ => {}
                }
                pending().await
            };
            let last = async {
                sleep_until(start + left * 3 / 4).await;
                match ask().await {
                    Ok(WriteState::Done(done)) => done,
                    _ => pending().await,
                }
            };
            let known = async { Ok(select(pin!(again), pin!(last)).await.factor_first().0) };
            select(first, Box::pin(known)).await.factor_first().0
        }
    }
}

/// Returns true if an error leaves it open whether a write happened.
fn is_open(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        StoreErrorKind::TimedOut
            | StoreErrorKind::Unreachable
            | StoreErrorKind::Unavailable
            | StoreErrorKind::InvalidAnswer
    )
}
