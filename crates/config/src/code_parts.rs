//! What can only be set in code.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use fastauth_core::{clock::Clock, hooks::Hooks, issue::ClaimsHook, settings::CallerKey, store::TokenStore};

/// What can only be set in code.
#[derive(Clone, Default)]
pub(crate) struct CodeParts {
    pub(crate) store: Option<Arc<dyn TokenStore>>,
    pub(crate) claims_hook: Option<Arc<dyn ClaimsHook>>,
    pub(crate) clock: Clock,
    pub(crate) rate_limit_key: Option<CallerKey>,
    pub(crate) metrics: bool,
    pub(crate) hooks: Hooks,
}

/// From where the sources are read. Tests make one of their own and so leave the process's alone.
#[derive(Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) environment: Option<BTreeMap<String, String>>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) file: Option<PathBuf>,
}
