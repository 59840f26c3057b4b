//! By what a request is judged and refused, after its credentials: the same for the guard and for what asks for more behind it.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use fastauth_core::hooks::{Hooks, Rejection};
use http::{Method, Response, request::Parts};
use http_body_util::Full;

use super::{
    admission::Reconsider,
    denial::Denial,
    refuse::{RefusalForm, Refusals, keep_private},
    respond::{head_only, with_own_length},
};
#[cfg(feature = "websocket")]
use crate::settings::WebSocketRefusal;
use crate::{
    clock::Clock,
    observe::{Details, Event, Observer},
    rule::{Demands, ServiceTest, Unmet},
    token::Claims,
};

/// The terms of one configuration. Each permit has them.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) judge: Judge,
    /// The number of the set that they are part of.
    pub(crate) number: u64,
    /// Where the current set is; gone with the layer.
    pub(crate) live: Weak<dyn Reconsider>,
    pub(crate) refusals: Arc<Refusals>,
    #[cfg(feature = "websocket")]
    pub(crate) websocket_refusal: WebSocketRefusal,
    pub(crate) hooks: Hooks,
    pub(crate) observer: Arc<Observer>,
    /// Refusals are logged and not carried out.
    pub(crate) shadow: bool,
}

/// What demands are judged by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judge {
    pub(crate) clock: Clock,
    pub(crate) service: ServiceTest,
    /// The time that counts, since the Unix epoch, in place of the clock's.
    pub(crate) at: Option<u64>,
}

impl Judge {
    /// Checks the demands of a rule or of a layer. Without an access token, none is met.
    #[inline]
    pub(crate) fn check(&self, demands: &Demands, claims: Option<&Claims>) -> Result<(), Unmet> {
        match claims {
            Some(claims) => demands.check(claims, self.now_for(demands), &self.service),
            None if demands.is_empty() => Ok(()),
            None => Err(Unmet::Claim),
        }
    }

    /// Returns the time, if the demands depend on it.
    #[inline]
    fn now_for(&self, demands: &Demands) -> u64 {
        if demands.max_age.is_none() {
            return 0;
        }
        self.at.unwrap_or_else(|| self.clock.unix_now())
    }
}

impl Terms {
    /// Logs and counts a denial of what is behind the guard, which `shadow` does not carry out.
    pub(crate) fn refuse(&self, method: &Method, details: &Details, denial: Denial) -> Result<(), Denial> {
        self.record(method, details, &denial);
        if self.shadow { Ok(()) } else { Err(denial) }
    }

    /// Logs and counts a denial of what is behind the guard.
    pub(crate) fn record(&self, method: &Method, details: &Details, denial: &Denial) {
        let client = denial.client_id();
        self.observer.record(Event::RequirementUnmet { method, client, reason: denial.reason(), details });
    }

    /// Renders a denial. If the application has a say in it, the head of the request is needed.
    pub(crate) fn answer(&self, denial: Denial, form: RefusalForm, head: Option<&Parts>) -> Response<Full<Bytes>> {
        let (Some(on_reject), Some(head), false) = (&self.hooks.on_reject, head, form.is_grpc()) else {
            return self.refusals.answer(denial, form);
        };
        let response = self.refusals.answer(denial.clone(), form.with_body());
        let response = response.map(|body| body.into_inner().unwrap_or_default());
        let rejection = Rejection::new(head, denial.reason(), denial.client_id(), response);
        let mut response = with_own_length(on_reject.answer(rejection));
        keep_private(response.headers_mut());
        response.extensions_mut().insert(denial);
        if head.method == Method::HEAD { head_only(response) } else { response }
    }
}
