//! Settings in the making: what is wrong with them is gathered, not thrown.

use std::{collections::BTreeSet, num::NonZeroU32};

use fastauth_core::{
    credential::TokenHeaders,
    issue::Issuing,
    origin::Origins,
    policy::{Level, PathOptions, Prefix, Rule, ServiceTest},
    secret::Secret,
    settings::{Caching, EndpointOptions, LogDetails, Reload, WebSocketSettings},
};
use http::HeaderMap;

use crate::{code_parts::CodeParts, fault::Fault, values::Values};

/// The values that the keys set, and what is wrong with them.
pub(crate) struct Draft<'a> {
    pub(crate) values: &'a Values,
    pub(crate) parts: &'a CodeParts,
    pub(crate) app_name: String,
    pub(crate) credential_sources: TokenHeaders,
    pub(crate) store: StoreDraft,
    pub(crate) secrets: SecretsDraft,
    pub(crate) paths: PathsDraft,
    pub(crate) rules: RulesDraft,
    pub(crate) reload: Reload,
    pub(crate) shadow: bool,
    pub(crate) issuing: Issuing,
    pub(crate) caching: Caching,
    pub(crate) endpoints: EndpointOptions,
    pub(crate) rate: RateDraft,
    pub(crate) websocket: WebSocketSettings,
    pub(crate) log_details: LogDetails,
    pub(crate) allowed_origins: Origins,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<String>,
    pub(crate) notes: Vec<String>,
}

#[derive(Default)]
pub(crate) struct StoreDraft {
    pub(crate) urls: Vec<String>,
    pub(crate) headers: HeaderMap,
}

#[derive(Default)]
pub(crate) struct SecretsDraft {
    /// Each with the name that logs show.
    pub(crate) master_tokens: Vec<(String, Secret)>,
    pub(crate) key: Option<Secret>,
    pub(crate) previous: Vec<Secret>,
    /// Since the Unix epoch.
    pub(crate) signs_from: u64,
}

#[derive(Default)]
pub(crate) struct PathsDraft {
    pub(crate) master: Vec<Prefix>,
    pub(crate) access: Vec<Prefix>,
    pub(crate) public: Vec<Prefix>,
    pub(crate) base: Option<Prefix>,
    pub(crate) options: PathOptions,
}

#[derive(Default)]
pub(crate) struct RulesDraft {
    pub(crate) rules: Vec<Rule>,
    /// The places of those that have a fault already.
    pub(crate) unread: BTreeSet<usize>,
    pub(crate) default_level: Option<Level>,
    pub(crate) service_test: ServiceTest,
}

#[derive(Default)]
pub(crate) struct RateDraft {
    pub(crate) per_minute: Option<NonZeroU32>,
    pub(crate) burst: Option<NonZeroU32>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(values: &'a Values, parts: &'a CodeParts) -> Self {
        Self {
            values,
            parts,
            app_name: String::new(),
            credential_sources: TokenHeaders::ALL,
            store: StoreDraft::default(),
            secrets: SecretsDraft::default(),
            paths: PathsDraft::default(),
            rules: RulesDraft::default(),
            reload: Reload::Off,
            shadow: false,
            issuing: Issuing { claims_hook: parts.claims_hook.clone(), ..Issuing::default() },
            caching: Caching::default(),
            endpoints: EndpointOptions::default(),
            rate: RateDraft::default(),
            websocket: WebSocketSettings::default(),
            log_details: LogDetails::default(),
            allowed_origins: Origins::default(),
            faults: values.faults.clone(),
            warnings: values.warnings.clone(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Returns a number that is within its limits as a count. More than an address space has is as good as its end.
    pub(crate) fn count(number: u64) -> usize {
        usize::try_from(number).unwrap_or(usize::MAX)
    }
}
