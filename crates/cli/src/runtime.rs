//! Runs what is asynchronous in a program that is not.

use std::future::Future;

use crate::failure::Failure;

/// Runs a future to completion on a new runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}
