//! The first version: `GET` and `POST` of a pair.

use http::StatusCode;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    super::{StoreError, StoredPair},
    calls::{Call, Calls, Speaks, invalid},
};
use crate::secret::Secret;

/// The client that is asked for only to see how the store answers.
const NOBODY: &str = "fastauth-discovery";

/// What a look-up found.
pub(super) struct LookedUp {
    /// Whether the answer is of a store that speaks the second version.
    pub(super) is_announced: bool,
    pub(super) pair: Option<StoredPair>,
}

impl Calls {
    /// The pair of a client. Of a store that speaks the second version an answer that does not say so may be somebody
    /// else's, as a proxy's page is: it counts only where it is a pair.
    pub(super) async fn get(&self, client_id: &str) -> Result<Option<StoredPair>, StoreError> {
        self.get_of(client_id, None).await
    }

    /// The same of one family, of which a store that does not tell them apart takes no notice.
    pub(super) async fn get_of(&self, client_id: &str, family: Option<&str>) -> Result<Option<StoredPair>, StoreError> {
        let LookedUp { is_announced, pair } = self.look_up_of(client_id, family).await?;
        if is_announced {
            return Ok(pair);
        }
        match (self.speaks(), &pair) {
            (Speaks::V2, None) => return Err(foreign(StatusCode::NOT_FOUND)),
            (Speaks::V2 | Speaks::Unknown, _) => self.learn(Speaks::V1),
            (Speaks::V1, _) => {}
        }
        Ok(pair)
    }

    pub(super) async fn look_up(&self, client_id: &str) -> Result<LookedUp, StoreError> {
        self.look_up_of(client_id, None).await
    }

    async fn look_up_of(&self, client_id: &str, family: Option<&str>) -> Result<LookedUp, StoreError> {
        let call = Call::new(Method::GET, "token").parameter("client_id", client_id);
        let answer = self.send(call.parameters([("family", family)])).await?;
        let (is_announced, version) = (answer.is_announced, answer.version());
        let pair = match answer.status() {
            StatusCode::OK => Some(StoredPair { version, ..parse(&answer.body().await?)? }),
            StatusCode::NOT_FOUND if is_announced => {
                if !is_refusal(&answer.body().await?) {
                    return Err(foreign(StatusCode::NOT_FOUND));
                }
                None
            }
            StatusCode::NOT_FOUND => {
                answer.discard().await;
                None
            }
            _ => return Err(answer.unexpected("a look-up").await),
        };
        Ok(LookedUp { is_announced, pair })
    }

    /// Has the store hold a pair, and gives its version where there is one.
    pub(super) async fn post(
        &self,
        client_id: &str,
        (access, refresh): (&Secret, &Secret),
    ) -> Result<Option<u64>, StoreError> {
        let data = json!({"data": { "access_token": access.expose(), "refresh_token": refresh.expose() }});
        let call = Call::new(Method::POST, "token").parameter("client_id", client_id).json(data.to_string());
        let answer = self.send(call).await?;
        if answer.status() != StatusCode::OK {
            return Err(answer.unexpected("a write").await);
        }
        if !answer.is_announced && self.speaks() == Speaks::Unknown {
            self.learn(Speaks::V1);
        }
        let version = answer.version();
        answer.discard().await;
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
    use super::{super::super::StoreErrorKind, *};

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
