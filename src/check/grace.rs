//! The warning of an `access-grace` that has no effect.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::sleep};

use crate::store::TokenStore;

/// How soon a store that did not answer is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Asks the store in the background if it keeps what `access-grace` needs, and warns if it does not. A store that does not answer is
/// asked again, as long as it is in use.
pub(crate) fn warn_if_unkept(store: &Arc<dyn TokenStore>, grace: Duration) {
    let Ok(runtime) = Handle::try_current() else { return };
    if grace.is_zero() {
        return;
    }
    let store = Arc::downgrade(store);
    runtime.spawn(async move {
        while let Some(store) = store.upgrade() {
            match store.promises().await {
                Ok(promises) if promises.access_grace => return,
                Ok(_) => {
                    tracing::warn!(
                        target: "fastauth",
                        "`access-grace` has no effect: the token store does not keep replaced access tokens (a REST store of version 1 \
                         cannot); use a store of version 2 (`fastauth store serve`) or the embedded one, or remove the key"
                    );
                    return;
                }
                Err(_) => {}
            }
            drop(store);
            sleep(RETRY_INTERVAL).await;
        }
    });
}
