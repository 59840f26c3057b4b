//! The service store.
/// Placeholder.
#[derive(Debug)] pub struct StoreService;
