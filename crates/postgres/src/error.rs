//! The errors of a database server, in the words of an operator.

use std::{borrow::Cow, error::Error as _};

use fastauth_core::store::{StoreError, StoreErrorKind};
use tokio_postgres::error::{Error, SqlState};

/// What became of a write that failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was written, and another connection may help.
    NotWritten(StoreError),
    /// The answer was lost: it may have been written.
    Unknown(StoreError),
    /// Nothing was written.
    Refused(StoreError),
}

impl Failure {
    pub(crate) fn into_error(self) -> StoreError {
        match self {
            Self::NotWritten(error) | Self::Unknown(error) | Self::Refused(error) => error,
        }
    }
}

pub(crate) fn failed(message: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::Failed, message)
}

pub(crate) fn timed_out() -> StoreError {
    StoreError::new(StoreErrorKind::TimedOut, "the database server did not answer in time")
}

pub(crate) fn unreachable() -> StoreError {
    StoreError::new(StoreErrorKind::Unreachable, "the database server cannot be reached")
}

/// Returns true if the connection is of no use any more, or leads to a server that cannot be written to.
pub(crate) fn is_lost(error: &Error) -> bool {
    match error.code() {
        None => true,
        Some(code) => {
            code.code().starts_with("08")
                || [
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::CANNOT_CONNECT_NOW,
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    SqlState::READ_ONLY_SQL_TRANSACTION,
                ]
                .contains(code)
        }
    }
}

/// Returns true for errors of statements that were prepared on a connection which a pooler has exchanged since.
pub(crate) fn is_of_pooler(error: &Error) -> bool {
    error
        .code()
        .is_some_and(|code| [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT].contains(code))
}

/// Returns true if the transaction was ended because of others that it waited for, and can be repeated.
pub(crate) fn is_conflict(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::QUERY_CANCELED].contains(code)
    })
}

/// Says what the server, or the connection to it, has said. Details are left out, since they name values.
pub(crate) fn said(error: &Error) -> StoreError {
    if let Some(said) = error.as_db_error() {
        let code = said.code();
        let message = match code.code() {
            "57014" => return timed_out(),
            "28P01" | "28000" => "the database server refuses the user or the password",
            "3D000" => "the database server has no database of this name: create it, or name another",
            "42501" => "the user has no right to do this in the database: make it the owner of the schema fastauth",
            "53100" => "the database server has no room left on its disk",
            "53300" => "the database server has no connection left: raise max_connections, or lower those of others",
            "25006" => "the database server cannot be written to: it is a standby",
            "42P01" | "3F000" => "the tables of the schema fastauth are missing: they were removed while in use",
            _ => "the database server refused a statement",
        };
        return failed(message).caused_by(format!("{} (SQLSTATE {})", said.message(), code.code()));
    }
    let mut causes = error.to_string();
    if let Some(source) = error.source() {
        let source = source.to_string();
        if !causes.contains(&source) {
            causes = format!("{causes}: {source}");
        }
    }
    unreachable().caused_by(causes)
}
