//! Revocations that are completed even if their callers go away.

use std::future::Future;

use tokio::{runtime::Handle, sync::oneshot};
use tracing::Instrument;

use super::{StoreError, StoreErrorKind};
use crate::trace;

/// Runs a revocation to its end even if its caller goes away, provided that there is a tokio runtime. A failure after that is
/// logged.
pub async fn carried_through<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let Ok(runtime) = Handle::try_current() else { return work.await };
    let (answer, answered) = oneshot::channel();
    let work = async move {
        if let Err(Err(error)) = answer.send(work.await) {
            let error = error.with_causes();
            tracing::error!(target: "fastauth", "a revocation failed after its caller went away: {error}");
        }
    };
    drop(runtime.spawn(trace::within(trace::parent(), work).in_current_span()));
    match answered.await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::new(StoreErrorKind::Failed, "the revocation was interrupted")),
    }
}
