//! The JSON and the headers of the second version of the store API, for client and server.

#![cfg_attr(
    not(all(feature = "client", feature = "server")),
    allow(dead_code, reason = "one end alone uses half of it")
)]

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use fastauth_core::store::{
    CurrentTokens, ReplacedToken, Rotation, SessionEntry, StoredPair, TokenDigest, TokenEntry, TokenRecord,
};
use fastauth_core::{json, secret::Secret};

pub(super) mod feed;

/// The header by which a store announces the version that it speaks: `v=2`, and free parameters.
pub(super) const ANNOUNCEMENT: HeaderName = HeaderName::from_static("fastauth-store");

/// The path of the feed of changes.
pub(super) const FEED: &str = "v2/changes";

/// The path of the snapshot.
pub(super) const SNAPSHOT: &str = "v2/snapshot";

/// The header by which a look-up names the last change that its sender knows.
pub(super) const SEEN: HeaderName = HeaderName::from_static("fastauth-seen");

/// The largest number that all readers of JSON can hold (RFC 8259 6).
const MAX_NUMBER: u64 = (1 << 53) - 1;
/// The longest id of a ticket, in bytes.
const MAX_TICKET_ID: usize = 256;

/// The codes of problems, which are a part of the contract.
pub(super) mod code {
    pub(crate) const LOST_RACE: &str = "lost_race";
    pub(crate) const REUSE_DETECTED: &str = "reuse_detected";
    pub(crate) const ACCESS_REVOKED: &str = "access_revoked";
    pub(crate) const REVOKED: &str = "revoked";
    pub(crate) const UNKNOWN_CLIENT: &str = "unknown_client";
    pub(crate) const NOT_FOUND: &str = "not_found";
    pub(crate) const SPENT: &str = "spent";
    pub(crate) const RATE_LIMITED: &str = "rate_limited";
}

/// Reads one object. There is no error to show, for a token might be in it.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_value(Value::Object(json::object(body).ok()?)).ok()
}

/// A digest in hex.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct HexDigest(TokenDigest);

impl HexDigest {
    pub(super) fn digest(self) -> TokenDigest {
        self.0
    }
}

impl TryFrom<String> for HexDigest {
    type Error = fastauth_core::secret::TokenDigestError;

    fn try_from(hex: String) -> Result<Self, Self::Error> {
        hex.parse().map(Self)
    }
}

impl From<HexDigest> for String {
    fn from(digest: HexDigest) -> Self {
        digest.0.to_string()
    }
}

/// A pair on its way into the store. Without a digest, the text is the token itself.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordBody {
    #[serde(default)]
    session: String,
    #[serde(default)]
    generation: u64,
    #[serde(default)]
    kid: String,
    access_token: String,
    access_sha256: Option<HexDigest>,
    #[serde(default)]
    access_expires_at: u64,
    refresh_token: String,
    refresh_sha256: Option<HexDigest>,
    #[serde(default)]
    refresh_expires_at: u64,
}

impl From<&TokenRecord> for RecordBody {
    fn from(record: &TokenRecord) -> Self {
        let access = &record.access;
        let refresh = &record.refresh;
        Self {
            session: record.session.clone(),
            generation: record.generation,
            kid: record.kid.clone(),
            access_token: access.text.expose().to_owned(),
            access_sha256: Some(HexDigest(access.digest)),
            access_expires_at: access.expires_at,
            refresh_token: refresh.text.expose().to_owned(),
            refresh_sha256: Some(HexDigest(refresh.digest)),
            refresh_expires_at: refresh.expires_at,
        }
    }
}

impl RecordBody {
    /// Returns the record of this client, or `None` if a number is too large.
    pub(super) fn record(self, client_id: String) -> Option<TokenRecord> {
        let numbers = [self.generation, self.access_expires_at, self.refresh_expires_at];
        if numbers.iter().any(|number| *number > MAX_NUMBER) {
            return None;
        }
        let entry = |text: String, digest: Option<HexDigest>, expires_at| TokenEntry {
            digest: digest.map_or_else(|| TokenDigest::of(&text), |digest| digest.0),
            text: Secret::from(text),
            expires_at,
        };
        Some(TokenRecord {
            client_id,
            session: self.session,
            generation: self.generation,
            kid: self.kid,
            access: entry(self.access_token, self.access_sha256, self.access_expires_at),
            refresh: entry(self.refresh_token, self.refresh_sha256, self.refresh_expires_at),
        })
    }
}

/// A pair to be issued.
#[derive(Serialize, Deserialize)]
pub(super) struct IssueBody {
    #[serde(flatten)]
    pub(super) record: RecordBody,
    #[serde(default)]
    pub(super) keep_others: bool,
    /// The limit of live sessions after this; 0, the default, is none.
    #[serde(default)]
    pub(super) max_sessions: usize,
}

/// A rotation.
#[derive(Serialize, Deserialize)]
pub(super) struct RotateBody {
    refresh_sha256: HexDigest,
    session: Option<String>,
    generation: Option<u64>,
    #[serde(default)]
    grace_ms: u64,
    /// Without it, the rotation is done whatever was revoked before.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_after: Option<u64>,
    new: RecordBody,
}

impl From<&Rotation> for RotateBody {
    fn from(rotation: &Rotation) -> Self {
        let (session, generation) = rotation.presented_session.clone().unzip();
        Self {
            refresh_sha256: HexDigest(rotation.presented),
            session,
            generation,
            grace_ms: milliseconds(rotation.grace),
            decided_after: Some(rotation.decided_after).filter(|version| *version < u64::MAX),
            new: RecordBody::from(&rotation.successor),
        }
    }
}

impl RotateBody {
    /// Returns the rotation of this client, or `None` if session and generation do not come together or a number is too large.
    pub(super) fn rotation(self, client_id: String) -> Option<Rotation> {
        let presented_session = match (self.session, self.generation) {
            (Some(session), Some(generation)) => Some((session, generation)),
            (None, None) => None,
            _ => return None,
        };
        Some(Rotation {
            presented: self.refresh_sha256.0,
            presented_session,
            successor: self.new.record(client_id)?,
            grace: Duration::from_millis(self.grace_ms),
            decided_after: self.decided_after.unwrap_or(u64::MAX),
        })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The digests that tokens are compared with.
#[derive(Serialize, Deserialize)]
pub(super) struct DigestBody {
    version: Option<u64>,
    access_sha256: Option<HexDigest>,
    refresh_sha256: Option<HexDigest>,
    /// The access token that the last rotation replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_access_sha256: Option<HexDigest>,
    /// How long ago that was when the store answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_access_age_ms: Option<u64>,
}

impl From<CurrentTokens> for DigestBody {
    fn from(held: CurrentTokens) -> Self {
        Self {
            version: held.version,
            access_sha256: held.access.map(HexDigest),
            refresh_sha256: held.refresh.map(HexDigest),
            previous_access_sha256: held.previous_access.map(|previous| HexDigest(previous.digest)),
            previous_access_age_ms: held.previous_access.map(|previous| milliseconds(previous.age)),
        }
    }
}

impl From<DigestBody> for CurrentTokens {
    fn from(body: DigestBody) -> Self {
        Self {
            access: body.access_sha256.map(|digest| digest.0),
            refresh: body.refresh_sha256.map(|digest| digest.0),
            previous_access: body
                .previous_access_sha256
                .zip(body.previous_access_age_ms)
                .map(|(digest, age_ms)| ReplacedToken { digest: digest.0, age: Duration::from_millis(age_ms) }),
            version: body.version,
        }
    }
}

/// The outcome of a rotation that succeeded.
#[derive(Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum RotatedBody {
    Rotated { version: Option<u64> },
    Repeated { version: Option<u64>, data: PairBody },
}

/// A pair as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct PairBody {
    access_token: Option<String>,
    refresh_token: Option<String>,
}

impl From<&StoredPair> for PairBody {
    fn from(pair: &StoredPair) -> Self {
        let text = |token: &Option<Secret>| token.as_ref().map(|token| token.expose().to_owned());
        Self { access_token: text(&pair.access_token), refresh_token: text(&pair.refresh_token) }
    }
}

impl PairBody {
    pub(super) fn pair(self, version: Option<u64>) -> StoredPair {
        StoredPair {
            access_token: self.access_token.map(Secret::from),
            refresh_token: self.refresh_token.map(Secret::from),
            version,
        }
    }
}

/// A ticket to spend.
#[derive(Serialize, Deserialize)]
pub(super) struct TicketBody {
    pub(super) id: String,
    pub(super) expires_at: u64,
}

impl TicketBody {
    /// Returns true if the id is neither empty nor too long, and the number is not too large.
    pub(super) fn is_valid(&self) -> bool {
        (1..=MAX_TICKET_ID).contains(&self.id.len()) && self.expires_at <= MAX_NUMBER
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct SavedBody {
    pub(super) version: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RevokedBody {
    /// The number of sessions that it ended.
    pub(super) revoked: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PageBody {
    pub(super) sessions: Vec<SessionEntry>,
    pub(super) next: Option<String>,
}

/// Returns a place in a list as an opaque text.
pub(super) fn cursor((client_id, session): &(String, String)) -> String {
    BASE64URL.encode(serde_json::json!([client_id, session]).to_string())
}

pub(super) fn place(cursor: &str) -> Option<(String, String)> {
    serde_json::from_slice(&BASE64URL.decode(cursor).ok()?).ok()
}

/// Returns the entity tag of a version (RFC 9110 8.8.3).
#[allow(clippy::expect_used, reason = "no input: a number in quotes")]
pub(super) fn etag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits and quotes are visible ASCII")
}

/// Returns the version in a strong entity tag that [`etag`] made.
pub(super) fn version(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Returns true if a store that sends this header speaks the second version, which every later one includes.
pub(super) fn announces(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(announces_version)
}

fn announces_version(value: &str) -> bool {
    let version = value.split(';').find_map(|parameter| parameter.trim().strip_prefix("v="));
    version.is_some_and(|version| version.trim().parse::<u32>().is_ok_and(|version| version >= 2))
}

/// Returns true if a store that sends this header has a feed of its changes.
pub(super) fn announces_feed(value: &HeaderValue) -> bool {
    let Ok(value) = value.to_str() else { return false };
    announces_version(value) && value.split(';').any(|parameter| parameter.trim().starts_with("feed="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_may_be_announced() {
        for (value, expected) in [
            ("v=2; feed=v2/changes", true),
            ("v=2;epoch=5;feed=/v2/changes", true),
            ("v=2", false),
            ("v=2; feeds=x", false),
            ("feed=v2/changes", false),
        ] {
            assert_eq!(announces_feed(&HeaderValue::from_static(value)), expected, "{value}");
        }
    }

    #[test]
    fn the_announcement_may_have_parameters() {
        for (value, expected) in [
            ("v=2", true),
            ("v=2; epoch=5; feed=/v2/changes", true),
            ("epoch=v=1;v=2", true),
            (" v=2 ; x", true),
            ("v=3", true),
            ("v=1", false),
            ("v=", false),
            ("v=two", false),
            ("2", false),
            ("", false),
            ("v=1; v=2", false),
        ] {
            assert_eq!(announces(&HeaderValue::from_static(value)), expected, "{value}");
        }
    }

    #[test]
    fn a_cursor_is_read_back_and_others_are_not() {
        for at in [("a", "f"), ("", ""), ("é\"\0/", "\\")] {
            let at = (at.0.to_owned(), at.1.to_owned());
            assert_eq!(place(&cursor(&at)), Some(at));
        }
        for cursor in ["", "x", "W10", "WyJhIl0", "WyJhIiwiYiIsImMiXQ", "bnVsbA"] {
            assert_eq!(place(cursor), None, "{cursor}");
        }
    }

    #[test]
    fn entity_tags_are_versions_in_quotes() {
        assert_eq!(etag(7), "\"7\"");
        assert_eq!(version("\"7\""), Some(7));
        for tag in ["7", "\"\"", "\"x\"", "W/\"7\"", "\"+7\"", "\"99999999999999999999\"", "\"", ""] {
            assert_eq!(version(tag), None, "{tag}");
        }
    }

    #[test]
    fn a_body_is_an_object_with_numbers_in_range() {
        let record = |body: &str| read::<RecordBody>(body.as_bytes())?.record("c".to_owned());
        let plain = record(r#"{"access_token":"a","refresh_token":"r","more":[1]}"#).unwrap();
        assert_eq!((plain.access.digest, plain.refresh.digest), (TokenDigest::of("a"), TokenDigest::of("r")));
        for body in [
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"a","refresh_token":"r","access_token":"b"}"#,
            r#"{"access_token":"a","refresh_token":"r","access_sha256":"00"}"#,
            r#"{"access_token":"a","refresh_token":"r","generation":9007199254740992}"#,
            r#"{"access_token":"a","refresh_token":"r","generation":-1}"#,
            r#"{"access_token":"a","refresh_token":"r","access_expires_at":9007199254740992}"#,
            r#"["f",0,"k","a",null,0,"r",null,0]"#,
        ] {
            assert!(record(body).is_none(), "{body}");
        }
    }
}
