//! The calls of the second version. The client goes into the query, where every text survives.

use std::future::Future;

use http::{
    HeaderValue, Method, StatusCode,
    header::{IF_MATCH, IF_NONE_MATCH},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    super::{
        connection::{HttpCall, StoreResponse, invalid},
        pools::Via,
        servers::Errand,
        v1::foreign,
    },
    V2,
};
use fastauth_core::store::{
    Condition, CurrentTokens, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, SessionFilter, SessionPage,
    SessionStatus, StoreError, TokenRecord,
};

use crate::wire::{
    self, DigestBody, IssueBody, PageBody, RecordBody, RevokedBody, RotateBody, RotatedBody, TicketBody, code,
};

impl V2 {
    /// Returns the digests of what is current.
    pub(crate) async fn digests(
        &self,
        client_id: &str,
        session: Option<&str>,
    ) -> Result<Option<CurrentTokens>, StoreError> {
        let call = HttpCall::new(Method::GET, "v2/clients/-/token").parameter("client_id", client_id);
        self.call(call.parameters([("session", session)]), read_digests).await
    }

    pub(super) async fn post_record(
        &self,
        record: &TokenRecord,
        options: SaveOptions,
        via: Via,
    ) -> Result<Saved, StoreError> {
        let body = IssueBody {
            record: RecordBody::from(record),
            keep_others: options.keep_others,
            max_sessions: options.max_sessions,
        };
        let call = HttpCall::new(Method::POST, "v2/clients/-/token").parameter("client_id", &record.client_id);
        let call = call.header(match options.condition {
            Condition::None => None,
            Condition::Version(version) => Some((IF_MATCH, wire::etag(version))),
            Condition::Absent => Some((IF_NONE_MATCH, HeaderValue::from_static("*"))),
        });
        self.call(call.json(json(&body)).via(via), read_saved).await
    }

    pub(super) async fn post_rotation(&self, rotation: &Rotation, via: Via) -> Result<Rotated, StoreError> {
        let call = HttpCall::new(Method::POST, "v2/clients/-/rotate")
            .parameter("client_id", &rotation.successor.client_id)
            .json(json(&RotateBody::from(rotation)))
            .via(via);
        self.call(call, read_rotated).await
    }

    pub(super) async fn delete(
        &self,
        revocation: &Revocation,
        if_version: Option<u64>,
        via: Via,
    ) -> Result<Revoked, StoreError> {
        let call = match revocation {
            Revocation::Session { client_id, session } => HttpCall::new(Method::DELETE, "v2/clients/-/sessions/-")
                .parameter("client_id", client_id)
                .parameter("session", session),
            Revocation::Client(client_id) => {
                HttpCall::new(Method::DELETE, "v2/clients/-/token").parameter("client_id", client_id)
            }
            Revocation::All => HttpCall::new(Method::POST, "v2/revoke-all").json("{}"),
        };
        let condition = if_version.map(|version| (IF_MATCH, wire::etag(version)));
        let has_condition = condition.is_some();
        let read = move |response: StoreResponse| async move {
            match response.status() {
                StatusCode::OK => Ok(Revoked::Sessions(read::<RevokedBody>(response).await?.revoked)),
                StatusCode::PRECONDITION_FAILED if has_condition => {
                    response.discard().await;
                    Ok(Revoked::ConditionFailed)
                }
                _ => Err(unexpected(response, "a revocation").await),
            }
        };
        self.call(call.header(condition).via(via), read).await
    }

    pub(super) async fn delete_access(
        &self,
        client_id: &str,
        session: Option<&str>,
        via: Via,
    ) -> Result<u64, StoreError> {
        let call = HttpCall::new(Method::DELETE, "v2/clients/-/access-token").parameter("client_id", client_id);
        self.call(call.parameters([("session", session)]).via(via), read_access_revoked).await
    }

    /// Spends a ticket, and returns true if it was the first to do so.
    pub(crate) async fn spend(&self, ticket: &str, expires_at: u64) -> Result<bool, StoreError> {
        let body = json(&TicketBody { id: ticket.to_owned(), expires_at });
        self.call(HttpCall::new(Method::POST, "v2/tickets").json(body), read_spent).await
    }

    /// Returns one page of a list.
    pub(crate) async fn page(&self, filter: &SessionFilter) -> Result<SessionPage, StoreError> {
        let limit = filter.page_limit().to_string();
        let status = filter.status.map(SessionStatus::as_str);
        let cursor = filter.after.as_ref().map(wire::cursor);
        // It takes as long as a write may, for there may be much to scan.
        let call = HttpCall::new(Method::GET, "v2/clients").errand(Errand::Usual).parameters([
            ("client_id", filter.client_id.as_deref()),
            ("session", filter.session.as_deref()),
            ("prefix", filter.client_id_prefix.as_deref()),
            ("q", filter.client_id_part.as_deref()),
            ("kid", filter.kid.as_deref()),
            ("status", status),
            ("cursor", cursor.as_deref()),
            ("limit", Some(&limit)),
        ]);
        self.call(call, read_page).await
    }

    /// Sends a call, and reads the answer if it announces the second version.
    async fn call<T, R>(&self, call: HttpCall, read: impl Fn(StoreResponse) -> R) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        let read = &read;
        let call = if self.is_urgent { call.errand(Errand::Urgent) } else { call };
        let read_own = move |response: StoreResponse| async move {
            match response.status() {
                _ if response.is_announced => read(response).await,
                status if may_be_of_any_server(status) => Err(response.unexpected("a call").await),
                status => {
                    response.discard().await;
                    Err(foreign(status))
                }
            }
        };
        self.connection.exchange(call, read_own).await
    }
}

async fn read_digests(response: StoreResponse) -> Result<Option<CurrentTokens>, StoreError> {
    match response.status() {
        StatusCode::OK => Ok(Some(read::<DigestBody>(response).await?.into())),
        StatusCode::NOT_FOUND => match problem(response).await?.as_str() {
            code::UNKNOWN_CLIENT => Ok(None),
            _ => Err(foreign(StatusCode::NOT_FOUND)),
        },
        _ => Err(unexpected(response, "a look-up").await),
    }
}

async fn read_saved(response: StoreResponse) -> Result<Saved, StoreError> {
    match (response.status(), response.version()) {
        (StatusCode::OK, Some(version)) => {
            response.discard().await;
            Ok(Saved::Saved(version))
        }
        (StatusCode::OK, None) => Err(invalid("the token store's answer to a write has no ETag")),
        (StatusCode::PRECONDITION_FAILED, _) => {
            response.discard().await;
            Ok(Saved::ConditionFailed)
        }
        _ => Err(unexpected(response, "a write").await),
    }
}

async fn read_rotated(response: StoreResponse) -> Result<Rotated, StoreError> {
    let status = response.status();
    match status {
        StatusCode::OK => Ok(match read::<RotatedBody>(response).await? {
            RotatedBody::Rotated { .. } => Rotated::Rotated,
            // Also of this very rotation, if it was sent twice.
            RotatedBody::Repeated { version, data } => Rotated::Repeated(data.pair(version)),
        }),
        StatusCode::CONFLICT | StatusCode::GONE | StatusCode::NOT_FOUND => {
            let version = response.version();
            match (status, problem(response).await?.as_str()) {
                (StatusCode::CONFLICT, code::ACCESS_REVOKED) => match version {
                    Some(version) => Ok(Rotated::AccessRevoked(version)),
                    None => Err(invalid("the token store's answer to a rotation has no ETag")),
                },
                (StatusCode::CONFLICT, code::LOST_RACE) => Ok(Rotated::Superseded),
                (StatusCode::CONFLICT, code::REUSE_DETECTED) => Ok(Rotated::Reused),
                (StatusCode::GONE, code::REVOKED) => Ok(Rotated::Revoked),
                (StatusCode::NOT_FOUND, code::UNKNOWN_CLIENT) => Ok(Rotated::UnknownClient),
                _ => Err(foreign(status)),
            }
        }
        _ => Err(unexpected(response, "a rotation").await),
    }
}

async fn read_access_revoked(response: StoreResponse) -> Result<u64, StoreError> {
    const TOO_OLD: &str = "the token store is of an earlier version, which cannot revoke access tokens alone: update it, or \
                           revoke the session";
    match response.status() {
        StatusCode::OK => Ok(read::<RevokedBody>(response).await?.revoked),
        StatusCode::NOT_FOUND => match problem(response).await?.as_str() {
            // A path that a store does not know may be refused as by the first version, without a code.
            code::NOT_FOUND | "" => Err(StoreError::unsupported(TOO_OLD)),
            _ => Err(foreign(StatusCode::NOT_FOUND)),
        },
        _ => Err(unexpected(response, "a revocation of access tokens").await),
    }
}

async fn read_spent(response: StoreResponse) -> Result<bool, StoreError> {
    match response.status() {
        StatusCode::CREATED => {
            response.discard().await;
            Ok(true)
        }
        StatusCode::CONFLICT => match problem(response).await?.as_str() {
            code::SPENT => Ok(false),
            _ => Err(foreign(StatusCode::CONFLICT)),
        },
        _ => Err(unexpected(response, "a ticket").await),
    }
}

async fn read_page(response: StoreResponse) -> Result<SessionPage, StoreError> {
    if response.status() != StatusCode::OK {
        return Err(unexpected(response, "a list").await);
    }
    let PageBody { sessions, next } = read(response).await?;
    let next = next.map(|cursor| wire::place(&cursor).ok_or_else(junk)).transpose()?;
    Ok(SessionPage { sessions, next })
}

/// Returns true if a status says nothing of which version the server speaks.
fn may_be_of_any_server(status: StatusCode) -> bool {
    const REFUSALS: [StatusCode; 4] = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    status.is_server_error() || status.is_redirection() || REFUSALS.contains(&status)
}

#[allow(clippy::expect_used, reason = "no input: the bodies are this crate's own types")]
fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("strings and numbers under string keys serialize")
}

async fn read<T: DeserializeOwned>(response: StoreResponse) -> Result<T, StoreError> {
    wire::read(&response.body().await?).ok_or_else(junk)
}

fn junk() -> StoreError {
    invalid("the token store's answer is not the JSON of its contract")
}

/// Returns the `code` of a problem (RFC 9457); empty if there is none.
async fn problem(response: StoreResponse) -> Result<String, StoreError> {
    let body: Value = serde_json::from_slice(&response.body().await?).unwrap_or_default();
    Ok(body["code"].as_str().unwrap_or_default().to_owned())
}

async fn unexpected(response: StoreResponse, call: &str) -> StoreError {
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        let limited = response.rate_limited();
        return match problem(response).await.as_deref() {
            Ok(code::RATE_LIMITED) => limited,
            _ => {
                invalid(format!("a server limits the calls to the token store, which answered {call} with status 429"))
            }
        };
    }
    if response.status() == StatusCode::NOT_IMPLEMENTED {
        response.discard().await;
        return StoreError::unsupported(format!("the token store does not support {call} of this kind"));
    }
    response.unexpected(call).await
}
