//! The sqlite store.
/// Placeholder.
#[derive(Debug)] pub struct SqliteStore;
