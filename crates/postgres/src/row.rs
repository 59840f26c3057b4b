//! Reading rows.

use std::time::Duration;

use fastauth_core::{
    secret::Secret,
    store::{CurrentTokens, ReplacedToken, Session, SessionEntry, SessionStatus, StoredPair, TokenDigest},
};
use tokio_postgres::{Row, row::RowIndex};

/// The names, of which the database keeps the bytes.
pub(crate) fn text(row: &Row, column: &str) -> String {
    optional_text(row, column).unwrap_or_default()
}

pub(crate) fn optional_text(row: &Row, column: &str) -> Option<String> {
    // They were written as texts. Whatever else is there belongs to no client.
    row.get::<_, Option<&[u8]>>(column).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

pub(crate) fn digest(row: &Row, column: &str) -> Option<TokenDigest> {
    let bytes = row.get::<_, Option<&[u8]>>(column)?;
    bytes.try_into().ok().map(TokenDigest::from_bytes)
}

/// Numbers are never negative in the tables.
pub(crate) fn number(row: &Row, column: impl RowIndex + std::fmt::Display) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or(0)
}

/// The columns of [`current`].
macro_rules! current_columns {
    () => {
        concat!(
            "t.access_sha256, t.refresh_sha256, t.version, t.previous_access_sha256, ",
            crate::transaction::now_ms!(),
            " - t.consumed_at_ms AS age_ms"
        )
    };
}
pub(crate) use current_columns;

pub(crate) fn current(row: &Row) -> CurrentTokens {
    // A time in the future was written before the clock was set back, so the age is not known.
    let age = u64::try_from(row.get::<_, i64>("age_ms")).ok().map(Duration::from_millis);
    CurrentTokens {
        access: digest(row, "access_sha256"),
        refresh: digest(row, "refresh_sha256"),
        previous_access: digest(row, "previous_access_sha256")
            .zip(age)
            .map(|(digest, age)| ReplacedToken { digest, age }),
        version: Some(number(row, "version")),
    }
}

pub(crate) fn pair(row: &Row) -> StoredPair {
    let token = |column| optional_text(row, column).map(Secret::from);
    StoredPair {
        access_token: token("access_token"),
        refresh_token: token("refresh_token"),
        version: Some(number(row, "version")),
    }
}

pub(crate) fn status(row: &Row, column: &str) -> SessionStatus {
    SessionStatus::from_name(row.get(column)).unwrap_or(SessionStatus::Revoked)
}

pub(crate) fn entry(row: &Row) -> SessionEntry {
    SessionEntry {
        client_id: text(row, "client_id"),
        session: text(row, "session"),
        generation: number(row, "generation"),
        kid: text(row, "kid"),
        status: status(row, "status"),
        issued_at: number(row, "issued_at"),
        renewed_at: number(row, "renewed_at"),
        access_expires_at: number(row, "access_expires_at"),
        refresh_expires_at: number(row, "refresh_expires_at"),
        version: number(row, "version"),
    }
}

/// A session that is held, as a write needs it.
pub(crate) struct Held {
    pub(crate) name: String,
    pub(crate) session: Session,
    pub(crate) access: Option<TokenDigest>,
    pub(crate) pair: StoredPair,
    pub(crate) issued_at: i64,
    pub(crate) begun: i64,
    pub(crate) version: u64,
}

/// The columns of [`Held`].
macro_rules! held_columns {
    () => {
        concat!(
            "t.session, t.generation, t.status, t.access_token, t.access_sha256, t.refresh_token, t.refresh_sha256,
             t.consumed_sha256, t.issued_at, t.begun, t.version, ",
            crate::transaction::now_ms!(),
            " - t.consumed_at_ms AS age_ms"
        )
    };
}
pub(crate) use held_columns;

impl Held {
    /// Reads a row. What began before the floor is revoked.
    pub(crate) fn read(row: &Row, floor: i64) -> Self {
        let begun: i64 = row.get("begun");
        let status = match status(row, "status") {
            SessionStatus::Live if begun <= floor => SessionStatus::Revoked,
            status => status,
        };
        let access = digest(row, "access_sha256");
        let version = number(row, "version");
        let ago = Duration::from_millis(number(row, "age_ms"));
        let session = Session {
            generation: number(row, "generation"),
            refresh: digest(row, "refresh_sha256"),
            consumed: digest(row, "consumed_sha256").map(|consumed| (consumed, ago)),
            access_revoked: access.is_none().then_some(version),
            status,
        };
        Self {
            name: text(row, "session"),
            session,
            access,
            pair: pair(row),
            issued_at: row.get("issued_at"),
            begun,
            version,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.session.status == SessionStatus::Live
    }
}
