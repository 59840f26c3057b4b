//! Deleting what no call can ask for: expired rows, used tickets, the tokens of revoked rows, and old changes.

use fastauth_core::store::TICKET_KEPT;
use rusqlite::{OptionalExtension, params};

use super::tables::Tables;

/// The number of rows that are deleted or looked at in one transaction.
pub(super) const CLEANED_AT_ONCE: usize = 1000;

/// How long changes are kept, in milliseconds. They are deleted once a minute.
const CHANGES_KEPT_MS: u64 = 3_600_000;

/// How far the clients were gone through for the floor of the store.
#[derive(Clone, Default)]
pub(super) struct Sweep {
    floor: u64,
    /// The client that was looked at last; `None` at the end.
    after: Option<String>,
}

impl Tables<'_> {
    /// Cleans up to [`CLEANED_AT_ONCE`] rows of each kind and returns the largest number. A row whose end is unknown stays.
    pub(super) fn clean(&self, sweep: &mut Sweep) -> rusqlite::Result<usize> {
        let counts = [
            self.delete_expired()?,
            self.delete_tickets()?,
            self.delete_changes()?,
            self.sweep_clients()?,
            self.sweep_store(sweep)?,
        ];
        Ok(counts.into_iter().fold(0, usize::max))
    }

    fn delete_expired(&self) -> rusqlite::Result<usize> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM token WHERE rowid IN (
                 SELECT rowid FROM token
                 WHERE access_expires_at > 0 AND refresh_expires_at > 0
                     AND max(access_expires_at, refresh_expires_at) < ?1 LIMIT ?2
             )",
        )?;
        delete.execute(params![self.now(), CLEANED_AT_ONCE])
    }

    fn delete_tickets(&self) -> rusqlite::Result<usize> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM ticket WHERE id IN (SELECT id FROM ticket WHERE expires_at < ?1 LIMIT ?2)")?;
        delete.execute(params![self.now().saturating_sub(TICKET_KEPT), CLEANED_AT_ONCE])
    }

    /// Deletes old changes, but never the newest, whose number must not be used again.
    fn delete_changes(&self) -> rusqlite::Result<usize> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM change WHERE number IN (
                 SELECT number FROM (SELECT number, at_ms FROM change ORDER BY number LIMIT ?2)
                 WHERE at_ms < ?1 AND number < (SELECT max(number) FROM change)
             )",
        )?;
        delete.execute(params![self.now_ms().saturating_sub(CHANGES_KEPT_MS), CLEANED_AT_ONCE])
    }

    /// Removes the tokens of rows that the floor of their client has revoked.
    fn sweep_clients(&self) -> rusqlite::Result<usize> {
        let mut next = self
            .connection
            .prepare_cached("SELECT client_id, floor FROM client WHERE swept < floor ORDER BY client_id LIMIT 1")?;
        let mut count = 0;
        while count < CLEANED_AT_ONCE {
            let found = next.query_row([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?))).optional()?;
            let Some((client_id, floor)) = found else { break };
            count += self.sweep_client(&client_id, floor, CLEANED_AT_ONCE - count)?.max(1);
        }
        Ok(count)
    }

    /// Removes the tokens of rows that the floor of the store has revoked, from the client on that `sweep` names.
    fn sweep_store(&self, sweep: &mut Sweep) -> rusqlite::Result<usize> {
        let floor = self.connection.query_row("SELECT floor FROM store", [], |row| row.get(0))?;
        if sweep.floor != floor {
            *sweep = Sweep { floor, after: Some(String::new()) };
        }
        let mut next = self.connection.prepare_cached(
            "SELECT client_id, swept < ?2 FROM client WHERE client_id > ?1 ORDER BY client_id LIMIT 1",
        )?;
        let mut count = 0;
        while count < CLEANED_AT_ONCE
            && let Some(after) = &sweep.after
        {
            let found = next.query_row(params![after, floor], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
            let Some((client_id, is_unswept)) = found.optional()? else {
                sweep.after = None;
                break;
            };
            let left = CLEANED_AT_ONCE - count;
            let rows = if is_unswept { self.sweep_client(&client_id, floor, left)? } else { 0 };
            if rows < left {
                sweep.after = Some(client_id);
            }
            count += rows.max(1);
        }
        Ok(count)
    }

    /// Removes the tokens of at most `most` rows of a client up to a floor, and returns the number of rows.
    fn sweep_client(&self, client_id: &str, floor: u64, most: usize) -> rusqlite::Result<usize> {
        let mut revoke = self.connection.prepare_cached(
            "UPDATE token SET status = 'revoked', access_token = NULL, refresh_token = NULL WHERE rowid IN (
                 SELECT rowid FROM token WHERE client_id = ?1 AND status = 'live' AND version <= ?2 LIMIT ?3
             )",
        )?;
        let rows = revoke.execute(params![client_id, floor, most])?;
        // The floor of the client is no measure of this: a trigger has raised it to that of the store.
        if rows < most {
            let mut swept = self.connection.prepare_cached("UPDATE client SET swept = ?2 WHERE client_id = ?1")?;
            swept.execute(params![client_id, floor])?;
        }
        Ok(rows)
    }
}
