//! What an endpoint is: one constant from which the routing, the checks before it runs, and the OpenAPI document are made.

use std::{borrow::Cow, future::Future, pin::Pin};

use bytes::Bytes;
use http::{Method, Response, request::Parts};
use http_body_util::Full;

use super::{
    describe::{Facts, ParameterSet, ResponseDoc},
    error::EndpointError,
    parameters::Parameters,
    parts::RouterParts,
};
use crate::{
    check::problem::ErrorForm,
    credential,
    observe::{self, Event},
    query::ParameterError,
    settings::{EndpointOptions, ResponseShape},
    shown::shown,
};

/// An endpoint of the [`TokenRouter`](crate::TokenRouter).
pub(super) struct Endpoint {
    /// The path below the mount of the router.
    pub(super) path: &'static str,
    /// The methods, as the header `Allow` lists them.
    pub(super) methods: fn(&EndpointOptions) -> &'static str,
    pub(super) protection: Protection,
    pub(super) effect: Effect,
    pub(super) shape: EndpointShape,
    /// The parameters in whose place the cookie of the refresh token may come.
    pub(super) cookie_replaces: Option<&'static str>,
    /// The operation's id in the OpenAPI document.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    /// The alternative sets of parameters.
    pub(super) parameters: fn(&Facts<'_>) -> Vec<ParameterSet>,
    /// The answers that are the endpoint's own. Those that follow from its protection and effect are added to them.
    pub(super) answers: fn(&Facts<'_>) -> Vec<ResponseDoc>,
    pub(super) run: Run,
}

/// The form of the answers of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndpointShape {
    /// As it is configured.
    Configured,
    /// That of RFC 6749, by which clients of OAuth go.
    OAuth,
}

impl EndpointShape {
    pub(super) fn of_pairs(self, options: &EndpointOptions) -> ResponseShape {
        if self == Self::OAuth { ResponseShape::OAuth } else { options.response_shape }
    }

    pub(super) fn of_errors(self, options: &EndpointOptions) -> ErrorForm {
        if self == Self::OAuth { ErrorForm::OAuth } else { ErrorForm::new(options) }
    }
}

impl Endpoint {
    /// Checks the master token of a request, and logs its name: at `info` if something is changed.
    pub(super) fn check_master(&self, parts: &RouterParts, request: &Parts) -> Result<(), EndpointError> {
        let token = parts.master.require(request, parts.sources);
        match &token {
            Ok(_) => parts.observer.record(Event::AdministrationPermitted),
            Err(reason) => {
                let details = &parts.details(request);
                parts.observer.record(Event::AdministrationRefused { method: &request.method, reason, details });
            }
        }
        let token = token.map_err(|reason| EndpointError::Denied(reason.into()))?;
        let method = observe::name_of(&request.method);
        let path = &*shown(request.uri.path());
        if self.effect == Effect::Reads {
            tracing::debug!(target: "fastauth", %method, path, master_token = token.name(), "administration");
        } else {
            tracing::info!(target: "fastauth", %method, path, master_token = token.name(), "administration");
        }
        Ok(())
    }
}

/// Who may call an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// Anyone, from any page: it changes nothing and reveals no secret.
    Open,
    /// The holder of a master token. The router checks it before anything else.
    Master,
    /// The holder of the token among the parameters. The endpoint checks it.
    Token,
    /// The holder of the token among the parameters, or of a master token. The endpoint checks them.
    TokenOrMaster,
    /// The holder of an access token in the headers. The endpoint checks it.
    Access,
}

impl Protection {
    /// Returns true if requests are asked for a master token, all or some of them.
    pub(super) fn may_ask_master(self) -> bool {
        matches!(self, Self::Master | Self::TokenOrMaster)
    }

    /// Returns what a request has to bring, for people to read.
    pub(super) fn credential(self) -> &'static str {
        match self {
            Self::Open => "nothing",
            Self::Master => "the master token",
            Self::Token => "the token sent",
            Self::TokenOrMaster => "the token sent, or the master token",
            Self::Access => "an access token",
        }
    }
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
    /// Issues tokens: it is limited, and the application may refuse it.
    Issues,
}

pub(super) type EndpointResult = Result<Response<Full<Bytes>>, EndpointError>;

pub(super) type Run = for<'a> fn(EndpointCall<'a>) -> Pin<Box<dyn Future<Output = EndpointResult> + Send + 'a>>;

/// A request to an endpoint that has passed the checks of the router.
pub(super) struct EndpointCall<'a> {
    pub(super) parts: &'a RouterParts,
    /// All endpoints of the router.
    pub(super) endpoints: &'static [Endpoint],
    pub(super) endpoint: &'static Endpoint,
    pub(super) request: &'a Parts,
    pub(super) parameters: Parameters<'a>,
}

impl EndpointCall<'_> {
    pub(super) fn shape(&self) -> ResponseShape {
        self.endpoint.shape.of_pairs(&self.parts.options)
    }

    /// Returns the value of a parameter, which may be empty.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, EndpointError> {
        self.parameters.get(name).map_err(|problem| unusable(name, problem))
    }

    /// Returns the value of a parameter. An empty one counts as absent (RFC 6749 3.2).
    pub(super) fn optional(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, EndpointError> {
        self.parameters.given(name).map_err(|problem| unusable(name, problem))
    }

    /// Returns the value of a parameter that must not be absent or empty.
    pub(super) fn required(&self, name: &'static str) -> Result<Cow<'_, str>, EndpointError> {
        self.optional(name)?.ok_or(EndpointError::Missing(name))
    }

    /// Returns a number of seconds from one to `longest`, if it is given.
    pub(super) fn seconds(&self, name: &'static str, longest: u64) -> Result<Option<u64>, EndpointError> {
        let number = match self.parameters.number(name) {
            Err(problem) => return Err(unusable(name, problem)),
            Ok(None) => return Ok(None),
            Ok(Some(number)) => number.filter(|number| (1..=longest).contains(number)),
        };
        let problem =
            || EndpointError::Unusable { name, problem: format!("send a whole number from 1 to {longest}").into() };
        number.map(Some).ok_or_else(problem)
    }

    /// Returns true if a parameter is present and true.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, EndpointError> {
        self.parameters.is_true(name).map_err(|problem| unusable(name, problem))
    }

    /// Returns the refresh token in the cookie, if that is how it travels. A GET never takes it: a link on another site is one.
    pub(super) fn cookie(&self) -> Result<Option<Cow<'_, str>>, EndpointError> {
        if !self.parts.options.uses_cookie() || self.request.method != Method::POST {
            return Ok(None);
        }
        let token = credential::refresh_token(self.request).map_err(|_| EndpointError::RepeatedCookie)?;
        Ok(token.map(Cow::Borrowed))
    }

    /// Checks the master token of an endpoint that asks for it only in some cases.
    pub(super) fn check_master(&self) -> Result<(), EndpointError> {
        self.endpoint.check_master(self.parts, self.request)
    }

    /// Returns the refresh token in the cookie, if the parameter is absent.
    pub(super) fn refresh_token_of_cookie(&self) -> Result<Cow<'_, str>, EndpointError> {
        match self.cookie()? {
            Some(token) => Ok(token),
            None if self.parts.options.uses_cookie() => Err(EndpointError::NotLoggedIn),
            None => Err(EndpointError::Missing("refresh_token")),
        }
    }
}

pub(super) fn unusable(name: &'static str, problem: ParameterError) -> EndpointError {
    EndpointError::Unusable { name, problem: problem.to_string().into() }
}
