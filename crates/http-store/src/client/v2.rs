//! The second version. The client goes into the query, where every text survives.

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{IF_MATCH, IF_NONE_MATCH},
};
use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    calls::{Answer, Call, Calls, Via, invalid},
    v1::foreign,
};
use crate::wire::{
    self, DigestBody, IssueBody, PageBody, RecordBody, RevokedBody, RotateBody, RotatedBody, TicketBody, code,
};
use fastauth_core::store::{
    Canonical, Condition, FamilyFilter, FamilyPage, FamilyStatus, Revocation, Revoked, Rotated, Rotation, SaveOptions,
    Saved, StoreError, TokenRecord,
};

/// What a pair takes, in bytes.
const USUAL_BODY: usize = 1024;

impl Calls {
    pub(super) async fn digests(&self, client_id: &str, family: Option<&str>) -> Result<Option<Canonical>, StoreError> {
        let call = Call::new(Method::GET, "v2/clients/-/token").parameter("client_id", client_id);
        let answer = self.call(call.parameters([("family", family)])).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(read::<DigestBody>(answer).await?.into())),
            StatusCode::NOT_FOUND => match problem(answer).await?.as_str() {
                code::UNKNOWN_CLIENT => Ok(None),
                _ => Err(foreign(StatusCode::NOT_FOUND)),
            },
            _ => Err(unexpected(answer, "a look-up").await),
        }
    }

    pub(super) async fn issue(
        &self,
        record: &TokenRecord,
        options: SaveOptions,
        via: Via,
    ) -> Result<Saved, StoreError> {
        let body = IssueBody {
            record: RecordBody::from(record),
            keep_others: options.keep_others,
            max_families: options.max_families,
        };
        let call = Call::new(Method::POST, "v2/clients/-/token").parameter("client_id", &record.client_id);
        let call = call.header(match options.condition {
            Condition::None => None,
            Condition::Version(version) => Some((IF_MATCH, wire::etag(version))),
            Condition::Absent => Some((IF_NONE_MATCH, HeaderValue::from_static("*"))),
        });
        let answer = self.call(call.json(json(&body)).via(via)).await?;
        match (answer.status(), answer.version()) {
            (StatusCode::OK, Some(version)) => {
                answer.discard().await;
                Ok(Saved::Saved(version))
            }
            (StatusCode::OK, None) => Err(invalid("the token store's answer to a write has no ETag")),
            (StatusCode::PRECONDITION_FAILED, _) => {
                answer.discard().await;
                Ok(Saved::ConditionFailed)
            }
            _ => Err(unexpected(answer, "a write").await),
        }
    }

    pub(super) async fn exchange(&self, rotation: &Rotation, via: Via) -> Result<Rotated, StoreError> {
        let call = Call::new(Method::POST, "v2/clients/-/rotate")
            .parameter("client_id", &rotation.successor.client_id)
            .json(json(&RotateBody::from(rotation)))
            .via(via);
        let answer = self.call(call).await?;
        let status = answer.status();
        match status {
            StatusCode::OK => Ok(match read::<RotatedBody>(answer).await? {
                RotatedBody::Rotated { .. } => Rotated::Rotated,
                // Also of this very rotation, if it was sent twice.
                RotatedBody::Repeated { version, data } => Rotated::Repeated(data.pair(version)),
            }),
            StatusCode::CONFLICT | StatusCode::GONE | StatusCode::NOT_FOUND => {
                match (status, problem(answer).await?.as_str()) {
                    (StatusCode::CONFLICT, code::LOST_RACE) => Ok(Rotated::Superseded),
                    (StatusCode::CONFLICT, code::REUSE_DETECTED) => Ok(Rotated::Reused),
                    (StatusCode::GONE, code::REVOKED) => Ok(Rotated::Revoked),
                    (StatusCode::NOT_FOUND, code::UNKNOWN_CLIENT) => Ok(Rotated::UnknownClient),
                    _ => Err(foreign(status)),
                }
            }
            _ => Err(unexpected(answer, "a rotation").await),
        }
    }

    pub(super) async fn end(
        &self,
        revocation: &Revocation,
        if_version: Option<u64>,
        via: Via,
    ) -> Result<Revoked, StoreError> {
        let call = match revocation {
            Revocation::Family { client_id, family } => Call::new(Method::DELETE, "v2/clients/-/families/-")
                .parameter("client_id", client_id)
                .parameter("family", family),
            Revocation::Client(client_id) => {
                Call::new(Method::DELETE, "v2/clients/-/token").parameter("client_id", client_id)
            }
            Revocation::All => Call::new(Method::POST, "v2/revoke-all").json("{}"),
        };
        let header: Option<(HeaderName, HeaderValue)> = if_version.map(|version| (IF_MATCH, wire::etag(version)));
        let answer = self.call(call.header(header).via(via)).await?;
        match answer.status() {
            StatusCode::OK => Ok(Revoked::Families(read::<RevokedBody>(answer).await?.revoked)),
            StatusCode::PRECONDITION_FAILED if if_version.is_some() => {
                answer.discard().await;
                Ok(Revoked::ConditionFailed)
            }
            _ => Err(unexpected(answer, "a revocation").await),
        }
    }

    pub(super) async fn spend(&self, ticket: &str, expires_at: u64) -> Result<bool, StoreError> {
        let body = json(&TicketBody { id: ticket.to_owned(), expires_at });
        let answer = self.call(Call::new(Method::POST, "v2/tickets").json(body)).await?;
        match answer.status() {
            StatusCode::CREATED => {
                answer.discard().await;
                Ok(true)
            }
            StatusCode::CONFLICT => match problem(answer).await?.as_str() {
                code::SPENT => Ok(false),
                _ => Err(foreign(StatusCode::CONFLICT)),
            },
            _ => Err(unexpected(answer, "a ticket").await),
        }
    }

    pub(super) async fn page(&self, filter: &FamilyFilter) -> Result<FamilyPage, StoreError> {
        let limit = filter.page_limit().to_string();
        let status = filter.status.map(FamilyStatus::as_str);
        let cursor = filter.after.as_ref().map(wire::cursor);
        let answer = self.call(Call::new(Method::GET, "v2/clients").parameters([
            ("client_id", filter.client_id.as_deref()),
            ("family", filter.family.as_deref()),
            ("prefix", filter.client_id_prefix.as_deref()),
            ("q", filter.client_id_part.as_deref()),
            ("kid", filter.kid.as_deref()),
            ("status", status),
            ("cursor", cursor.as_deref()),
            ("limit", Some(&limit)),
        ]));
        let answer = answer.await?;
        if answer.status() != StatusCode::OK {
            return Err(unexpected(answer, "a list").await);
        }
        let PageBody { families, next } = read(answer).await?;
        let next = next.map(|cursor| wire::place(&cursor).ok_or_else(junk)).transpose()?;
        Ok(FamilyPage { families, next })
    }

    /// The answer of a store that says that it speaks the second version.
    async fn call(&self, call: Call) -> Result<Answer, StoreError> {
        let answer = self.send(call).await?;
        match answer.status() {
            _ if answer.is_announced => Ok(answer),
            status if is_of_any_server(status) => Err(answer.unexpected("a call").await),
            status => {
                answer.discard().await;
                Err(foreign(status))
            }
        }
    }
}

/// Whether a status says nothing of what the server speaks.
fn is_of_any_server(status: StatusCode) -> bool {
    const REFUSALS: [StatusCode; 4] = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    status.is_server_error() || status.is_redirection() || REFUSALS.contains(&status)
}

fn json(body: &impl Serialize) -> Vec<u8> {
    let mut json = Vec::with_capacity(USUAL_BODY);
    // Texts and numbers under textual names can always be written.
    let _ = serde_json::to_writer(&mut json, body);
    json
}

async fn read<T: DeserializeOwned>(answer: Answer) -> Result<T, StoreError> {
    wire::read(&answer.body().await?).ok_or_else(junk)
}

fn junk() -> StoreError {
    invalid("the token store's answer is not the JSON of its contract")
}

/// The `code` of an answer in the form of RFC 9457.
async fn problem(answer: Answer) -> Result<String, StoreError> {
    let body: Value = serde_json::from_slice(&answer.body().await?).unwrap_or_default();
    Ok(body["code"].as_str().unwrap_or_default().to_owned())
}

async fn unexpected(answer: Answer, call: &str) -> StoreError {
    if answer.status() == StatusCode::NOT_IMPLEMENTED {
        answer.discard().await;
        return StoreError::unsupported(format!("the token store is not able to do what {call} asks for"));
    }
    answer.unexpected(call).await
}
