//! Who is logged in. These paths are guarded, so each handler has the permit of its caller.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use fastauth::{
    Permit, TokenIssuer,
    store::{Revocation, SessionFilter, SessionStatus},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{link::ADMIN, problem::Problem};

/// The most sessions that are listed.
const MOST: usize = 50;

pub(crate) fn router<S>(issuer: TokenIssuer) -> Router<S> {
    Router::new()
        .route("/access/sessions", get(list))
        .route("/access/sessions/revoke", post(revoke))
        .route("/access/logout-everywhere", post(log_out_everywhere))
        .with_state(issuer)
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Session {
    #[schema(example = "demo")]
    client_id: String,
    /// The claim `sid` of its tokens
    session: String,
    /// How many times it was refreshed
    generation: u64,
    /// The time of the log-in, in seconds since 1970
    issued_at: u64,
    /// The last second of the refresh token, since 1970
    refresh_expires_at: u64,
}

/// List sessions
///
/// The live sessions of the caller; with the scope `admin`, those of all clients. At most 50.
#[utoipa::path(get, path = "/access/sessions", tag = "demo", responses(
    (status = 200, description = "The sessions", body = [Session]),
))]
pub(crate) async fn list(permit: Permit, State(issuer): State<TokenIssuer>) -> Result<Json<Vec<Session>>, Problem> {
    let filter = SessionFilter {
        client_id: if is_admin(&permit) { None } else { permit.client_id().map(str::to_owned) },
        status: Some(SessionStatus::Live),
        ..SessionFilter::default()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut sessions = issuer.list(&filter).await.map_err(Problem::unavailable)?.sessions;
    // The store keeps expired ones for a while.
    sessions.retain(|session| session.refresh_expires_at >= now);
    sessions.sort_by_key(|session| std::cmp::Reverse(session.issued_at));
    sessions.truncate(MOST);
    let shown = sessions.into_iter().map(|session| Session {
        client_id: session.client_id,
        session: session.session,
        generation: session.generation,
        issued_at: session.issued_at,
        refresh_expires_at: session.refresh_expires_at,
    });
    Ok(Json(shown.collect()))
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct Named {
    #[schema(example = "demo")]
    client_id: String,
    /// The claim `sid` of its tokens
    session: String,
}

/// Revoke a session
///
/// One of the caller's own; with the scope `admin`, that of any client.
#[utoipa::path(post, path = "/access/sessions/revoke", tag = "demo", request_body = Named, responses(
    (status = 204, description = "It is revoked, or was not there"),
    (status = 403, description = "It belongs to another client", body = Problem),
))]
pub(crate) async fn revoke(
    permit: Permit,
    State(issuer): State<TokenIssuer>,
    Json(named): Json<Named>,
) -> Result<StatusCode, Problem> {
    if permit.client_id() != Some(&named.client_id) && !is_admin(&permit) {
        let message = "the session belongs to another client, and the scope `admin` is missing";
        return Err(Problem::new(StatusCode::FORBIDDEN, "not_your_session", message));
    }
    let session = Revocation::Session { client_id: named.client_id, session: named.session };
    issuer.revoke(&session).await.map_err(Problem::unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Log out everywhere
///
/// Revokes all sessions of the caller, with their sockets.
#[utoipa::path(post, path = "/access/logout-everywhere", tag = "demo", responses(
    (status = 204, description = "They are revoked"),
))]
pub(crate) async fn log_out_everywhere(
    permit: Permit,
    State(issuer): State<TokenIssuer>,
) -> Result<StatusCode, Problem> {
    if let Some(client_id) = permit.client_id() {
        issuer.revoke(&Revocation::Client(client_id.to_owned())).await.map_err(Problem::unavailable)?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Returns true if the token was issued with the scope: the application's own claim, by its own rule.
fn is_admin(permit: &Permit) -> bool {
    permit.claims().is_some_and(|claims| claims.scope().any(|scope| scope == ADMIN))
}
