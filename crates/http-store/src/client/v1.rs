//! The first version: `GET` and `POST` of a pair.

use http::StatusCode;
use reqwest::Method;
use serde_json::{Value, json};

use super::calls::{Call, Calls, Speaks, Via, invalid};
use fastauth_core::secret::Secret;
use fastauth_core::store::{StoreError, StoredPair};

/// The client that is asked for only to see how the store answers.
const NOBODY: &str = "fastauth-discovery";

/// What a look-up came to.
pub(super) enum Found {
    Pair(StoredPair),
    /// The client is not known; `is_said` is whether the answer says more than its status, which others have, too.
    Nothing {
        is_said: bool,
    },
}

impl Calls {
    /// The pair of a client. Of a store that spoke the second version once, an answer that does not say so is not its own.
    pub(super) async fn get(&self, client_id: &str) -> Result<Option<StoredPair>, StoreError> {
        self.get_of(client_id, None).await
    }

    /// The same of one family, of which a store that does not tell them apart takes no notice.
    pub(super) async fn get_of(&self, client_id: &str, family: Option<&str>) -> Result<Option<StoredPair>, StoreError> {
        Ok(match self.look_up(client_id, family).await? {
            Found::Pair(pair) => Some(pair),
            Found::Nothing { .. } => None,
        })
    }

    pub(super) async fn look_up(&self, client_id: &str, family: Option<&str>) -> Result<Found, StoreError> {
        let call = Call::new(Method::GET, "token").parameter("client_id", client_id);
        let answer = self.send(call.parameters([("family", family)])).await?;
        let (status, is_announced, version) = (answer.status(), answer.is_announced, answer.version());
        if !is_announced && self.speaks_v2() {
            answer.discard().await;
            return Err(foreign(status));
        }
        let pair = match status {
            StatusCode::OK => Found::Pair(StoredPair { version, ..parse(&answer.body().await?)? }),
            StatusCode::NOT_FOUND => {
                let body = answer.body().await?;
                // One that has no more to say than its status is good enough for the first version.
                if !is_refusal(&body) && (is_announced || !body.is_empty()) {
                    return Err(not_its_own());
                }
                Found::Nothing { is_said: !body.is_empty() }
            }
            _ => return Err(answer.unexpected("a look-up").await),
        };
        if !is_announced {
            self.learn(Speaks::V1);
        }
        Ok(pair)
    }

    /// Has the store hold a pair, and gives its version where there is one.
    pub(super) async fn post(
        &self,
        client_id: &str,
        (access, refresh): (&Secret, &Secret),
        via: Via,
    ) -> Result<Option<u64>, StoreError> {
        let data = json!({"data": { "access_token": access.expose(), "refresh_token": refresh.expose() }});
        let call = Call::new(Method::POST, "token").parameter("client_id", client_id).json(data.to_string()).via(via);
        let answer = self.send(call).await?;
        let (status, version, is_announced) = (answer.status(), answer.version(), answer.is_announced);
        if !is_announced && self.speaks_v2() {
            answer.discard().await;
            return Err(foreign(status));
        }
        if status != StatusCode::OK {
            return Err(answer.unexpected("a write").await);
        }
        if !is_announced {
            // What a store says to acknowledge a write is free, but it is no page.
            let is_page = !answer.is_json_or_text();
            let said = answer.beginning().await;
            if is_page || is_markup(&said) {
                return Err(page());
            }
            // Where others might say the same, the store is asked what it holds.
            if !is_acknowledgement(&said) {
                let held = self.get(client_id).await?;
                let is_held = |held: StoredPair| {
                    held.access_token.as_ref() == Some(access) && held.refresh_token.as_ref() == Some(refresh)
                };
                if !held.is_some_and(is_held) {
                    return Err(page());
                }
            }
            self.learn(Speaks::V1);
        } else {
            answer.discard().await;
        }
        Ok(version)
    }

    /// Makes sure that it is known which version the store speaks.
    pub(super) async fn discover(&self) -> Result<(), StoreError> {
        match self.speaks() {
            Speaks::Unknown => self.get(NOBODY).await.map(drop),
            Speaks::V1 | Speaks::V2 => Ok(()),
        }
    }
}

/// What answers in place of a store that speaks the second version.
pub(super) fn foreign(status: StatusCode) -> StoreError {
    invalid(format!(
        "something else than the token store answered with status {}: let its whole path, with v2/ in it, through to it",
        status.as_u16()
    ))
}

fn page() -> StoreError {
    invalid("a page answered a write in the place of the token store: let its path through to it")
}

pub(super) fn not_its_own() -> StoreError {
    invalid(
        "something else than the token store answered with status 404: let its path through to it. Of the store, a 404 has \
         no body or is {\"detail\":\"…\"}",
    )
}

/// Whether a body begins as HTML and XML do.
fn is_markup(beginning: &[u8]) -> bool {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    beginning.strip_prefix(BYTE_ORDER_MARK).unwrap_or(beginning).trim_ascii_start().starts_with(b"<")
}

/// Whether a body is what stores say to acknowledge a write, and nobody in their place does: nothing, a word, or the pair.
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

/// Whether a body is `{"detail":…}`, which says that the store itself refuses.
fn is_refusal(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body["detail"].is_string())
}

/// Reads `{"data":{"access_token":…,"refresh_token":…}}`. By hand, because a derived reader takes an array for an
/// object, and because its errors quote what they found, which may be a token.
fn parse(body: &[u8]) -> Result<StoredPair, StoreError> {
    let mut answer: Value = serde_json::from_slice(body).map_err(|_| invalid("the token store's answer is no JSON"))?;
    let data = answer
        .get_mut("data")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| invalid("the token store's answer has no object data"))?;
    let mut token = |name| match data.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(token)) => Ok(Some(Secret::from(token))),
        Some(_) => Err(invalid(format!("the {name} in the token store's answer is no text"))),
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
