//! What takes a right away is done though nobody waits for it.

use std::future::Future;

use tokio::{runtime::Handle, sync::oneshot};
use tracing::Instrument;

use super::{StoreError, StoreErrorKind};

/// Runs what takes a right away to its end though its caller goes away, where there is a runtime to run it. What fails then is
/// logged, since nobody else hears of it.
pub async fn carried_through<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let Ok(runtime) = Handle::try_current() else { return work.await };
    let (answer, answered) = oneshot::channel();
    let work = async move {
        if let Err(Err(error)) = answer.send(work.await) {
            let error = error.with_causes();
            tracing::error!(target: "fastauth", "a revocation did not succeed, and its caller has gone: {error}");
        }
    };
    drop(runtime.spawn(work.in_current_span()));
    let broken_off = |_| Err(StoreError::new(StoreErrorKind::Failed, "the revocation did not run to its end"));
    answered.await.unwrap_or_else(broken_off)
}
