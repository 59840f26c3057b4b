//! The writes that a store can ask for, each with the answer that its caller waits for.

use fastauth_core::store::{
    Changes, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreError, TokenRecord,
};
use tokio::sync::oneshot::{self, Receiver, Sender};

use super::tables::{ConvertedRow, Tables};

/// A write.
pub(super) enum Command {
    Save(TokenRecord, SaveOptions, Reply<Saved>),
    Rotate(Rotation, Reply<Rotated>),
    Revoke(Revocation, Option<u64>, Reply<Revoked>),
    /// The client, and its session if only that is meant.
    RevokeAccess(String, Option<String>, Reply<u64>),
    /// Answers how many rows were still as they had been read.
    Convert(Vec<ConvertedRow>, Reply<u64>),
    /// Answers whether the ticket was unused.
    Spend(String, u64, Reply<bool>),
    /// Gives the log another epoch.
    RestartLog(Reply<()>),
    /// Proves that the file can be written, and changes no token.
    Beat(Reply<()>),
}

/// The way back to the caller of a command. The answer is kept here until the transaction is on the disk.
pub(super) struct Reply<T> {
    caller: Option<Sender<Result<T, StoreError>>>,
    pub(super) answer: Option<T>,
}

impl<T> Reply<T> {
    pub(super) fn new() -> (Self, Receiver<Result<T, StoreError>>) {
        let (caller, answered) = oneshot::channel();
        (Self { caller: Some(caller), answer: None }, answered)
    }

    /// Returns true if the caller has gone, or has its answer already.
    pub(super) fn is_abandoned(&self) -> bool {
        self.caller.as_ref().is_none_or(Sender::is_closed)
    }
}

/// A [`Reply`] of any type.
trait Caller {
    fn is_abandoned(&self) -> bool;
    fn send_answer(&mut self);
    /// Returns true if the caller receives the error.
    fn send_error(&mut self, error: StoreError) -> bool;
}

impl<T> Caller for Reply<T> {
    fn is_abandoned(&self) -> bool {
        self.is_abandoned()
    }

    fn send_answer(&mut self) {
        if let Some(caller) = self.caller.take()
            && let Some(answer) = self.answer.take()
        {
            let _ = caller.send(Ok(answer));
        }
    }

    fn send_error(&mut self, error: StoreError) -> bool {
        self.caller.take().is_some_and(|caller| caller.send(Err(error)).is_ok())
    }
}

impl Command {
    /// Writes to the tables and keeps the answer.
    pub(super) fn apply(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Save(record, options, reply) => reply.answer = Some(tables.save(record, *options)?),
            Self::Rotate(rotation, reply) => reply.answer = tables.rotate(rotation, reply.is_abandoned())?,
            Self::Revoke(revocation, version, reply) => reply.answer = Some(tables.revoke(revocation, *version)?),
            Self::RevokeAccess(client_id, session, reply) => {
                reply.answer = Some(tables.revoke_access(client_id, session.as_deref())?);
            }
            Self::Convert(rows, reply) => reply.answer = Some(tables.convert(rows)?),
            Self::Spend(ticket, expires_at, reply) => reply.answer = Some(tables.spend(ticket, *expires_at)?),
            Self::RestartLog(reply) => reply.answer = Some(tables.restart_log()?),
            Self::Beat(reply) => reply.answer = Some(tables.beat()?),
        }
        Ok(())
    }

    /// Returns true if the answer says that another set of tokens is accepted now.
    pub(super) fn has_changed_tokens(&self) -> bool {
        match self {
            Self::Save(.., reply) => matches!(reply.answer, Some(Saved::Saved(_))),
            Self::Rotate(_, reply) => matches!(reply.answer, Some(Rotated::Rotated | Rotated::Reused)),
            Self::Revoke(.., reply) => matches!(reply.answer, Some(Revoked::Sessions(1..))),
            Self::RevokeAccess(.., reply) => matches!(reply.answer, Some(1..)),
            Self::Convert(..) | Self::Spend(..) | Self::RestartLog(_) | Self::Beat(_) => false,
        }
    }

    /// Reports to `changes` whose tokens this command may have changed.
    pub(super) fn announce(&self, changes: &Changes) {
        match self {
            Self::Save(record, ..) => changes.client_changed(&record.client_id),
            Self::Rotate(rotation, _) => changes.client_changed(&rotation.successor.client_id),
            Self::Revoke(revocation, ..) => changes.revoked(revocation),
            Self::RevokeAccess(client_id, ..) => changes.client_changed(client_id),
            Self::Convert(..) | Self::Spend(..) | Self::RestartLog(_) | Self::Beat(_) => {}
        }
    }

    pub(super) fn is_revocation(&self) -> bool {
        matches!(self, Self::Revoke(..) | Self::RevokeAccess(..))
    }

    /// Returns true if the command can end a session or use up a ticket, which is done even if its caller has gone.
    pub(super) fn outlives_caller(&self) -> bool {
        self.is_revocation() || matches!(self, Self::Rotate(..) | Self::Spend(..))
    }

    pub(super) fn is_abandoned(&mut self) -> bool {
        self.caller().is_abandoned()
    }

    pub(super) fn send_answer(&mut self) {
        self.caller().send_answer();
    }

    /// Returns true if the caller receives the error.
    pub(super) fn send_error(&mut self, error: StoreError) -> bool {
        self.caller().send_error(error)
    }

    fn caller(&mut self) -> &mut dyn Caller {
        match self {
            Self::Save(.., reply) => reply,
            Self::Rotate(_, reply) => reply,
            Self::Revoke(.., reply) => reply,
            Self::RevokeAccess(.., reply) => reply,
            Self::Convert(_, reply) => reply,
            Self::Spend(.., reply) => reply,
            Self::RestartLog(reply) | Self::Beat(reply) => reply,
        }
    }
}
