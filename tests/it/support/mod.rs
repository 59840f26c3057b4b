//! What the tests need around them.

pub(crate) mod faulty;
pub(crate) mod feed;
#[cfg(feature = "test-util")]
pub(crate) mod feed_server;
pub(crate) mod front;
pub(crate) mod h2_socket;
pub(crate) mod kept;
pub(crate) mod log;
#[cfg(target_os = "linux")]
pub(crate) mod postgres;
#[cfg(unix)]
pub(crate) mod process;
pub(crate) mod stores;
pub(crate) mod v1;
