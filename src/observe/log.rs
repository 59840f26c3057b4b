//! Logs events by `tracing`, all with the target `fastauth`.

use http::Method;
use tracing::{Level, Span};

use super::{ADMINISTRATION, Case, Decider, Details, Event, IN_CODE, Names, Outcome, TICKET};
use crate::{DenialReason, shown::shown, store::StoreError};

/// Logs an event, if that is of interest.
#[inline(always)]
pub(super) fn log(event: Event<'_>, names: &Names) {
    match event {
        Event::Permitted { case, method, client, master_token } => {
            let decider = case.decider(None);
            tracing::debug!(
                target: "fastauth",
                method = %name_of(method),
                list = names.list(decider),
                rule = names.name(decider),
                level = case.level(),
                outcome = Outcome::Permitted.as_str(),
                client = client.map(shown).as_deref(),
                master_token,
                "permitted"
            );
        }
        Event::Refused { case, method, client, reason, details } => {
            log_refusal(&case, method, client, reason, details, names);
        }
        Event::OtherReading { case, method, details } => {
            let decider = case.decider(None);
            tracing::warn!(
                target: "fastauth",
                method = %name_of(method),
                list = names.list(decider),
                rule = names.name(decider),
                level = case.level(),
                path = details.path(),
                peer = details.peer(),
                request_id = details.request_id(),
                "a path is protected only by another reading than the one sent"
            );
        }
        Event::AdministrationRefused { method, reason, details } => {
            let outcome = Outcome::Refused.as_str();
            tracing::info!(
                target: "fastauth",
                method = %name_of(method), rule = ADMINISTRATION, level = "master", outcome, reason = reason.code(),
                path = details.path(), peer = details.peer(), request_id = details.request_id(),
                "administration refused: {reason}"
            );
        }
        Event::TicketRefused { reason: DenialReason::StoreUnavailable(error), details, .. } => {
            log_store_failure(error, "no ticket issued", details);
        }
        Event::TicketRefused { method, client, reason, details } => {
            let client = client.map(shown);
            let outcome = Outcome::Refused.as_str();
            tracing::info!(
                target: "fastauth",
                method = %name_of(method), rule = TICKET, level = "access", outcome, reason = reason.code(),
                client = client.as_deref(),
                path = details.path(), peer = details.peer(), request_id = details.request_id(),
                "no ticket issued: {reason}"
            );
        }
        Event::WouldRefuse { rule, method, client, reason, details } => {
            let client = client.map(shown);
            tracing::info!(
                target: "fastauth",
                method = %name_of(method), list = "rules", rule = names.name(Decider::Rule(rule)),
                outcome = Outcome::WouldBeRefused.as_str(), reason = reason.code(), report_only = true,
                client = client.as_deref(),
                path = details.path(), peer = details.peer(), request_id = details.request_id(),
                "a rule that only reports would have refused: {reason}"
            );
        }
        Event::RequirementUnmet { method, client, reason, details } => {
            let client = client.map(shown);
            let outcome = names.refusal;
            tracing::info!(
                target: "fastauth",
                method = %name_of(method), rule = IN_CODE, outcome = outcome.as_str(), reason = reason.code(),
                client = client.as_deref(),
                path = details.path(), peer = details.peer(), request_id = details.request_id(),
                "{}: {reason}", outcome.as_words()
            );
        }
        Event::AdministrationPermitted | Event::CacheLookup { .. } | Event::Issued { .. } | Event::Limited { .. } => {}
    }
}

#[inline(never)]
fn log_refusal(
    case: &Case,
    method: &Method,
    client: Option<&str>,
    reason: &DenialReason,
    details: &Details,
    names: &Names,
) {
    if !tracing::enabled!(target: "fastauth", Level::ERROR) {
        return;
    }
    let decider = case.decider(Some(reason));
    let list = names.list(decider);
    let rule = names.name(decider);
    let level = case.level();
    let outcome = names.refusal.as_str();
    let code = reason.code();
    let client = client.map(shown);
    let client = client.as_deref();
    let path = details.path();
    let peer = details.peer();
    let request_id = details.request_id();
    match reason {
        DenialReason::StoreUnavailable(error) => tracing::error!(
            target: "fastauth",
            method = %name_of(method), list, rule, level, outcome, reason = code, client, path, peer, request_id,
            kind = error.kind().code(),
            error = error.with_causes(),
            "the token store is unavailable"
        ),
        DenialReason::CheckFailed(_) => tracing::error!(
            target: "fastauth",
            method = %name_of(method), list, rule, level, outcome, reason = code, client, path, peer, request_id,
            "{}: {reason}", names.refusal.as_words()
        ),
        reason => tracing::info!(
            target: "fastauth",
            method = %name_of(method), list, rule, level, outcome, reason = code, client, path, peer, request_id,
            "{}: {reason}", names.refusal.as_words()
        ),
    }
}

/// Logs a failure of the store outside of a decision with its causes, which the client does not see.
pub(crate) fn log_store_failure(error: &StoreError, outcome: &str, details: &Details) {
    tracing::error!(
        target: "fastauth",
        kind = error.kind().code(),
        error = error.with_causes(),
        path = details.path(),
        peer = details.peer(),
        request_id = details.request_id(),
        "{outcome}: the token store is unavailable"
    );
}

/// Logs that so many requests were let through although the store cannot be reached.
pub(super) fn log_grace(error: &StoreError, count: u64) {
    tracing::warn!(
        target: "fastauth",
        kind = error.kind().code(),
        error = error.with_causes(),
        count,
        "the token store is unavailable: tokens that it confirmed before are accepted (`store-grace`)"
    );
}

/// Creates the span of what is behind the guard, for a request that was let through to a guarded path; `None` if nothing
/// listens.
#[inline]
pub(crate) fn span(client: Option<&str>, master_token: Option<&str>) -> Option<Span> {
    if !tracing::enabled!(target: "fastauth", Level::DEBUG) {
        return None;
    }
    let client = client.map(shown);
    let span = tracing::debug_span!(target: "fastauth", "guarded", client = client.as_deref(), master_token);
    (!span.is_disabled()).then_some(span)
}

/// Returns the name of a method, which is otherwise any text that a client likes.
pub(crate) fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::PATCH => "PATCH",
        Method::TRACE => "TRACE",
        _ => "other",
    }
}
