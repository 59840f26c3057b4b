//! The decision: a pure function from the head of a request to what has to be checked, in one order of steps.

use http::HeaderMap;

use crate::{
    DenialReason,
    credentials::{Presented, TokenHeaders},
    observe::Case,
    origin::Origins,
    rule::{RequestLine, Rules},
    secret::Secret,
    websocket::Handshake,
};

/// The settings that a decision depends on.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) rules: Rules,
    pub(crate) origins: Origins,
    pub(crate) sources: TokenHeaders,
}

/// What has to be done about a request that is not refused at once.
#[derive(Debug)]
pub(crate) enum Decision<'a> {
    /// No check applies.
    Pass,
    /// The credentials have to be checked: first the master token, if it is needed, and then the rest.
    Check { master: Option<&'a [u8]>, then: Then<'a> },
}

/// What comes after the master token.
#[derive(Debug)]
pub(crate) enum Then<'a> {
    /// Nothing: the request is permitted.
    Permit,
    /// The access token has to be confirmed.
    Token(&'a [u8]),
    /// The ticket has to be redeemed.
    Ticket(&'a Secret),
    /// The request is refused: for want of an access token that could be checked.
    Refuse(DenialReason),
}

/// Decides on a request: its path, its origin, and then its credentials, the master token before the access token.
pub(crate) fn decide<'a>(
    policy: &Policy,
    line: &RequestLine<'_>,
    headers: &'a HeaderMap,
    handshake: Option<&'a Handshake>,
    case: &mut Case,
) -> Result<Decision<'a>, DenialReason> {
    let requirement = policy.rules.requirement(line).map_err(DenialReason::Path)?;
    case.requirement = Some(requirement);
    if handshake.is_some() && !policy.origins.admit(headers) {
        return Err(DenialReason::ForeignOrigin);
    }
    if requirement.is_public() {
        return Ok(Decision::Pass);
    }
    let presented = Presented::of(headers, policy.sources);
    let mut master = None;
    if requirement.needs_master() {
        let token = presented.master_token().map_err(DenialReason::Credentials)?;
        master = Some(token.ok_or(DenialReason::MissingMasterToken)?);
    }
    let then = if requirement.needs_access() { access(&presented, handshake) } else { Then::Permit };
    Ok(Decision::Check { master, then })
}

fn access<'a>(presented: &Presented<'a>, handshake: Option<&'a Handshake>) -> Then<'a> {
    let token = presented
        .access_token()
        .and_then(|token| handshake.map_or(Ok(token), |handshake| handshake.access_token(token)));
    match token {
        Ok(Some(token)) => return Then::Token(token),
        Ok(None) => {}
        Err(error) => return Then::Refuse(DenialReason::Credentials(error)),
    }
    match handshake.map_or(Ok(None), Handshake::ticket) {
        Ok(Some(ticket)) => Then::Ticket(ticket),
        Ok(None) => Then::Refuse(DenialReason::MissingAccessToken),
        Err(error) => Then::Refuse(DenialReason::Credentials(error)),
    }
}
