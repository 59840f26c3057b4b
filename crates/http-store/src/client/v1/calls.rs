//! The calls of the first version, and whether it was the store that answered.

use std::future::Future;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    super::{
        connection::{HttpCall, StoreResponse, Version, invalid},
        pools::Via,
        servers::Errand,
    },
    V1, holds,
};
use fastauth_core::{
    secret::Secret,
    store::{StoreError, StoredPair, TokenRecord},
};

/// The client that is asked for only to see how the store answers.
const DISCOVERY: &str = "fastauth-discovery";

/// The answer to a look-up.
#[derive(Clone)]
pub(crate) struct HeldPair {
    /// The pair, or `None` if the store does not know the client.
    pub(crate) pair: Option<StoredPair>,
    /// True if the store announced the second version.
    pub(crate) is_announced: bool,
    /// True if the answer is no more than a 404, which other servers send too.
    pub(super) is_bare: bool,
}

impl V1 {
    /// Looks a client up.
    pub(crate) async fn get(&self, client_id: &str) -> Result<HeldPair, StoreError> {
        self.get_of(client_id, None).await
    }

    /// Looks one session of a client up; a store that does not tell sessions apart ignores it.
    pub(crate) async fn get_of(&self, client_id: &str, session: Option<&str>) -> Result<HeldPair, StoreError> {
        let call = HttpCall::new(Method::GET, "token").parameter("client_id", client_id);
        let held = self.call(call.parameters([("session", session)]), read_pair).await?;
        if !held.is_announced {
            self.connection.learn(Version::V1);
        }
        Ok(held)
    }

    /// Writes a pair, and returns its version if the store has versions.
    pub(super) async fn post(&self, record: &TokenRecord, via: Via) -> Result<Option<u64>, StoreError> {
        let access = record.access.text.expose();
        let refresh = record.refresh.text.expose();
        let data = json!({"data": { "access_token": access, "refresh_token": refresh }});
        let call = HttpCall::new(Method::POST, "token").parameter("client_id", &record.client_id);
        let said = self.call(call.json(data.to_string()).via(via), read_acknowledgement).await?;
        // If other servers might say the same, what is held decides.
        if said.is_doubtful {
            let held = self.get(&record.client_id).await?.pair;
            if !held.is_some_and(|held| holds(&held, record)) {
                return Err(page());
            }
        }
        if !said.is_announced {
            self.connection.learn(Version::V1);
        }
        Ok(said.version)
    }

    /// Finds out which version the store speaks, unless that is known.
    pub(crate) async fn discover(&self) -> Result<Version, StoreError> {
        if self.connection.version() == Version::Unknown {
            self.get(DISCOVERY).await?;
        }
        Ok(self.connection.version())
    }

    /// Sends a call and reads the answer. Of a store that spoke the second version once, an answer that does not announce it is not its
    /// own.
    async fn call<T, R>(&self, call: HttpCall, read: impl Fn(StoreResponse) -> R) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        let read = &read;
        let call = if self.is_urgent { call.errand(Errand::Urgent) } else { call };
        let read_own = move |response: StoreResponse| async move {
            let status = response.status();
            if response.is_announced || !self.connection.speaks_v2() {
                return read(response).await;
            }
            if status.is_server_error() {
                return Err(response.unexpected("a call").await);
            }
            response.discard().await;
            Err(foreign(status))
        };
        self.connection.exchange(call, read_own).await
    }
}

/// What the answer to a write says.
struct Acknowledgement {
    version: Option<u64>,
    is_announced: bool,
    /// Other servers may say the same.
    is_doubtful: bool,
}

async fn read_pair(response: StoreResponse) -> Result<HeldPair, StoreError> {
    let is_announced = response.is_announced;
    let version = response.version();
    match response.status() {
        StatusCode::OK => {
            let pair = StoredPair { version, ..parse(&response.body().await?)? };
            Ok(HeldPair { pair: Some(pair), is_announced, is_bare: false })
        }
        StatusCode::NOT_FOUND => {
            let body = response.body().await?;
            // By the first version, a 404 that says nothing else is the store's own.
            let is_bare = body.is_empty();
            if !is_refusal(&body) && (is_announced || !is_bare) {
                return Err(not_its_own());
            }
            Ok(HeldPair { pair: None, is_announced, is_bare })
        }
        _ => Err(response.unexpected("a look-up").await),
    }
}

async fn read_acknowledgement(response: StoreResponse) -> Result<Acknowledgement, StoreError> {
    let version = response.version();
    let is_announced = response.is_announced;
    if response.status() != StatusCode::OK {
        return Err(response.unexpected("a write").await);
    }
    if is_announced {
        response.discard().await;
        return Ok(Acknowledgement { version, is_announced, is_doubtful: false });
    }
    // A store may acknowledge a write by any text, but not by a page.
    let is_page = !response.is_json_or_text();
    let body = response.beginning().await;
    if is_page || is_markup(&body) {
        return Err(page());
    }
    Ok(Acknowledgement { version, is_announced, is_doubtful: !is_acknowledgement(&body) })
}

/// Creates the error for what answers in place of a store that speaks the second version.
pub(crate) fn foreign(status: StatusCode) -> StoreError {
    invalid(format!(
        "another server answered with status {} in place of the token store: route its whole path to it, v2/ included",
        status.as_u16()
    ))
}

fn page() -> StoreError {
    invalid("a page answered a write in place of the token store: route its path to it")
}

pub(super) fn not_its_own() -> StoreError {
    invalid(
        "another server answered with status 404 in place of the token store: route its path to it. A 404 of the store has \
         no body or is {\"detail\":\"…\"}",
    )
}

/// Returns true if a body begins as HTML and XML do.
fn is_markup(beginning: &[u8]) -> bool {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    beginning.strip_prefix(BYTE_ORDER_MARK).unwrap_or(beginning).trim_ascii_start().starts_with(b"<")
}

/// Returns true if a body acknowledges a write as stores do, and no other server does: nothing, a word, or the pair.
fn is_acknowledgement(body: &[u8]) -> bool {
    let is_word = |word: &str| ["ok", "saved", "success"].iter().any(|known| word.eq_ignore_ascii_case(known));
    match serde_json::from_slice(body) {
        Ok(Value::Null) => true,
        Ok(Value::String(word)) => is_word(&word),
        Ok(Value::Object(members)) => {
            members.get("data").is_some_and(Value::is_object)
                || members.values().all(|value| value.as_str().is_some_and(is_word))
        }
        Ok(_) => false,
        Err(_) => std::str::from_utf8(body.trim_ascii()).is_ok_and(|body| body.is_empty() || is_word(body)),
    }
}

/// Returns true if a body is `{"detail":…}`, by which the store itself refuses.
fn is_refusal(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body["detail"].is_string())
}

/// Reads `{"data":{"access_token":…,"refresh_token":…}}`. By hand, since a derived reader accepts an array as an object, and
/// since its errors quote what they found, which may be a token.
fn parse(body: &[u8]) -> Result<StoredPair, StoreError> {
    let mut answer: Value =
        serde_json::from_slice(body).map_err(|_| invalid("the token store's answer is not JSON"))?;
    let data = answer
        .get_mut("data")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| invalid("the token store's answer has no object data"))?;
    let mut token = |name| match data.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(token)) => Ok(Some(Secret::from(token))),
        Some(_) => Err(invalid(format!("the {name} in the token store's answer is not a string"))),
    };
    Ok(StoredPair { access_token: token("access_token")?, refresh_token: token("refresh_token")?, version: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastauth_core::store::StoreErrorKind;

    #[test]
    fn answers_are_read_by_the_contract() {
        let pair = |access: Option<&str>, refresh: Option<&str>| {
            Some(StoredPair {
                access_token: access.map(Secret::from),
                refresh_token: refresh.map(Secret::from),
                version: None,
            })
        };
        for (body, expected) in [
            (r#"{"data":{"access_token":"a","refresh_token":"r"}}"#, pair(Some("a"), Some("r"))),
            (r#" {"x":[1],"data":{"y":{},"refresh_token":"r","access_token":"a"}} "#, pair(Some("a"), Some("r"))),
            (r#"{"data":{"access_token":"a"}}"#, pair(Some("a"), None)),
            (r#"{"data":{"access_token":null,"refresh_token":null}}"#, pair(None, None)),
            (r#"{"data":{}}"#, pair(None, None)),
            (r#"{"data":{"access_token":"\u00e9"}}"#, pair(Some("é"), None)),
            (r#"{"data":{"access_token":1}}"#, None),
            (r#"{"data":{"refresh_token":["hush"]}}"#, None),
            (r#"{"data":["hush","hush"]}"#, None),
            (r#"[["hush","hush"]]"#, None),
            (r#"{"data":null}"#, None),
            (r#"{"data":"hush"}"#, None),
            ("{}", None),
            ("", None),
            ("null", None),
            (r#"{"data":{"access_token":"hush"}"#, None),
            (r#"{"data":{"access_token":"hush"}} x"#, None),
        ] {
            match (parse(body.as_bytes()), expected) {
                (Ok(tokens), Some(expected)) => assert_eq!(tokens, expected, "{body}"),
                (Err(error), None) => {
                    assert_eq!(error.kind(), StoreErrorKind::InvalidAnswer);
                    assert!(!format!("{error:?}").contains("hush"), "{body}");
                }
                (outcome, _) => panic!("{body}: {outcome:?}"),
            }
        }
        assert!(parse(b"{\"data\":{\"access_token\":\"\xff\"}}").is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
