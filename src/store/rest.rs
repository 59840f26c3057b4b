//! The rest store.
/// Placeholder.
#[derive(Debug)] pub struct RestStore;
