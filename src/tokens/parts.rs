//! The running parts that the endpoints share.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::request::Parts;

use super::{describe::Facts, error::EndpointError, issuer::Issuer, limit::Limits};
use crate::{
    check::{confirm::Confirmer, live::Reloads, master::MasterTokens, refuse::Refusals},
    credential::TokenHeaders,
    observe::{Details, Event, Limited, Observer},
    origin::Origins,
    secret::TokenDigest,
    settings::EndpointOptions,
    store::{StoreHealth, TokenStore},
};

/// What the endpoints need, by one configuration.
#[derive(Debug)]
pub(crate) struct RouterParts {
    pub(crate) issuer: Issuer,
    pub(crate) store: Arc<dyn TokenStore>,
    pub(crate) options: EndpointOptions,
    pub(crate) origins: Origins,
    pub(crate) limits: Option<Arc<Limits>>,
    pub(crate) sources: TokenHeaders,
    pub(crate) master: Arc<MasterTokens>,
    pub(crate) confirmer: Arc<Confirmer>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) health: Arc<StoreHealth>,
    pub(crate) reloads: Arc<Reloads>,
    pub(crate) observer: Arc<Observer>,
    /// The OpenAPI document, once it was asked for.
    pub(crate) document: OnceLock<Bytes>,
}

impl RouterParts {
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            options: &self.options,
            app_name: self.refusals.realm(),
            sources: self.sources,
            is_limited: self.limits.is_some(),
            limits_guesses: self.master.limits_guesses(),
            has_claims_hook: self.issuer.issuing().claims_hook.is_some(),
        }
    }

    /// Takes the details of a request that is refused.
    pub(super) fn details(&self, request: &Parts) -> Details {
        self.observer.details(&request.uri, &request.headers, &request.extensions)
    }

    /// Counts a request of its caller, if the application tells callers apart.
    pub(super) fn admit_caller(&self, request: &Parts) -> Result<(), EndpointError> {
        self.admit(Limited::Caller, |limits| limits.admit_caller(request))
    }

    /// Counts a request to issue tokens to a client.
    pub(super) fn admit_client(&self, client_id: &str) -> Result<(), EndpointError> {
        self.admit(Limited::Client, |limits| limits.admit_client(client_id))
    }

    /// Counts a use of a refresh token. The client is charged later, if the store accepts the token.
    pub(super) fn admit_token(&self, client_id: &str, token: TokenDigest) -> Result<(), EndpointError> {
        self.admit(Limited::Client, |limits| {
            limits.check_client(client_id)?;
            limits.admit_token(client_id, token)
        })
    }

    /// Counts a pair that a client was issued for its refresh token.
    pub(super) fn charge_client(&self, client_id: &str) {
        if let Some(limits) = &self.limits {
            limits.charge_client(client_id);
        }
    }

    fn admit(&self, by: Limited, admit: impl FnOnce(&Limits) -> Result<(), Duration>) -> Result<(), EndpointError> {
        let Some(limits) = &self.limits else { return Ok(()) };
        admit(limits).map_err(|wait| {
            self.observer.record(Event::Limited { by });
            EndpointError::Limited(wait)
        })
    }
}
