//! Tickets: each opens one WebSocket, or requests of one method below one path, for a client that can send nothing but a URL.
//!
//! A ticket is encrypted, so that a logged URL reveals nothing, and small, whatever claims its access token has: it names the
//! session and the digest of the token, which is loaded from the store. It opens nothing that the token would not.

use std::time::Duration;

use http::Method;

use crate::{
    check::lifetime::Access,
    keys::KeyRing,
    random::unique_name,
    rule::{Prefix, RequestLine, Rules},
    secret::{Secret, TokenDigest},
    token::TokenError,
};

/// How long a ticket is valid: as long as a page takes to open a socket.
pub(crate) const LIFETIME: Duration = Duration::from_secs(30);

/// A valid ticket, which may have been used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) id: String,
    /// The last second in which it is valid, since the Unix epoch.
    pub(crate) expires_at: u64,
    pub(crate) client_id: String,
    pub(crate) session: String,
    /// The digest of the access token.
    pub(crate) access: TokenDigest,
    pub(crate) opens: Opens,
}

/// What a ticket opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opens {
    /// One WebSocket.
    Socket,
    /// One request, or any number of them.
    Requests { method: Method, path: Prefix, is_repeatable: bool },
}

/// The content that is encrypted, in this order. The last is the method, the path and whether it is repeatable, unless the ticket opens a
/// WebSocket.
type Content<'a> = (&'a str, u64, &'a str, &'a str, String, Option<(&'a str, &'a str, bool)>);

impl Ticket {
    /// Creates a ticket for an access, at `now`. It lasts as long as this, but no longer than the access token.
    pub(crate) fn for_access(access: &Access, opens: Opens, lifetime: Duration, now: u64) -> Self {
        Self {
            id: unique_name(),
            expires_at: access.last_second().min(now.saturating_add(lifetime.as_secs())),
            client_id: access.client_id().to_owned(),
            session: access.session().to_owned(),
            access: access.digest(),
            opens,
        }
    }

    /// Returns true if it can be used more than once.
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(self.opens, Opens::Requests { is_repeatable: true, .. })
    }

    /// Returns true if it was issued for such a request.
    pub(crate) fn admits(&self, rules: &Rules, line: &RequestLine<'_>, is_handshake: bool) -> bool {
        match &self.opens {
            Opens::Socket => is_handshake,
            Opens::Requests { method, path, .. } => {
                !is_handshake && line.method == method && rules.are_below(line, path)
            }
        }
    }

    /// Encrypts the ticket for the client, or returns `None` if that fails.
    pub(crate) fn seal(&self, keys: &KeyRing, now: u64) -> Option<Secret> {
        let opens = match &self.opens {
            Opens::Socket => None,
            Opens::Requests { method, path, is_repeatable } => Some((method.as_str(), path.as_str(), *is_repeatable)),
        };
        let access = self.access.to_string();
        let content: Content<'_> = (&self.id, self.expires_at, &self.client_id, &self.session, access, opens);
        keys.seal_ticket(&serde_json::to_vec(&content).ok()?, now)
    }

    /// Opens a ticket, if one of the keys has sealed it and it has not expired.
    pub(crate) fn open(keys: &KeyRing, text: &str, now: u64) -> Result<Self, TokenError> {
        let content = keys.open_ticket(text).ok_or(TokenError::Malformed)?;
        type Owned = (String, u64, String, String, String, Option<(String, String, bool)>);
        let (id, expires_at, client_id, session, access, opens): Owned =
            serde_json::from_slice(&content).map_err(|_| TokenError::Malformed)?;
        let access = access.parse().map_err(|_| TokenError::Malformed)?;
        if expires_at < now {
            return Err(TokenError::Expired);
        }
        let opens = opens.map_or(Some(Opens::Socket), Opens::read).ok_or(TokenError::Malformed)?;
        Ok(Self { id, expires_at, client_id, session, access, opens })
    }
}

impl Opens {
    fn read((method, path, is_repeatable): (String, String, bool)) -> Option<Self> {
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        Some(Self::Requests { method, path: Prefix::parse(&path).ok()?, is_repeatable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::Changes,
        token::{Expected, NewToken, TokenType},
    };

    const NOW: u64 = 1_800_000_000;

    fn ring() -> KeyRing {
        KeyRing::new(&Secret::generate(), 0, &[]).unwrap()
    }

    fn access(keys: &KeyRing, client_id: &str, lifetime: u64) -> Access {
        let new = NewToken::new(client_id, TokenType::Access, NOW, Duration::from_secs(lifetime));
        let (token, _) = keys.sign_token(&new).unwrap();
        let claims = keys.verify(token.expose().as_bytes(), &Expected::new(TokenType::Access, NOW)).unwrap();
        Access::stamped(claims, Changes::of_own_store().stamp("c"))
    }

    fn sealed(keys: &KeyRing, lifetime: u64) -> Secret {
        Ticket::for_access(&access(keys, "élève", lifetime), Opens::Socket, LIFETIME, NOW).seal(keys, NOW).unwrap()
    }

    #[test]
    fn ticket_names_its_token() {
        let keys = ring();
        let access = access(&keys, "élève", 600);
        let ticket = Ticket::for_access(&access, Opens::Socket, LIFETIME, NOW);
        assert_eq!((ticket.client_id.as_str(), ticket.access, ticket.expires_at), ("élève", access.digest(), NOW + 30));
        assert_eq!(Ticket::open(&keys, ticket.seal(&keys, NOW).unwrap().expose(), NOW), Ok(ticket.clone()));
        assert_ne!(Ticket::for_access(&access, Opens::Socket, LIFETIME, NOW).id, ticket.id);
    }

    #[test]
    fn ticket_expires_soon_and_with_its_token() {
        let keys = ring();
        for (lifetime, end) in [(600, NOW + 30), (10, NOW + 10)] {
            let text = sealed(&keys, lifetime);
            assert!(Ticket::open(&keys, text.expose(), end).is_ok());
            assert_eq!(Ticket::open(&keys, text.expose(), end + 1), Err(TokenError::Expired));
        }
    }

    /// The keys include one that is not a Fernet key, and one that no longer signs.
    #[test]
    fn tickets_are_opened_by_every_key() {
        let old = Secret::from("a key of at least thirty-two bytes");
        let before = KeyRing::new(&old, 0, &[]).unwrap();
        let new = Secret::generate();
        let after = KeyRing::new(&new, 0, std::slice::from_ref(&old)).unwrap();
        let waiting = KeyRing::new(&new, NOW + 100, &[old]).unwrap();
        let text = sealed(&before, 600);
        assert!(Ticket::open(&after, text.expose(), NOW).is_ok());
        // Nodes that do not know the new key yet open what this one makes.
        assert!(Ticket::open(&before, sealed(&waiting, 600).expose(), NOW).is_ok());
        assert_eq!(Ticket::open(&before, sealed(&after, 600).expose(), NOW), Err(TokenError::Malformed));
        assert_eq!(Ticket::open(&ring(), text.expose(), NOW), Err(TokenError::Malformed));
    }

    #[test]
    fn tickets_and_sealed_tokens_are_not_mixed_up() {
        let keys = ring();
        let token = keys.sign_token(&NewToken::new("c", TokenType::Access, NOW, LIFETIME)).unwrap().0;
        let kept = keys.seal(&token, NOW).unwrap();
        let ticket = sealed(&keys, 600);
        assert_eq!(keys.open(&ticket), None);
        for wrong in ["", "x", "a.b.c", token.expose(), kept.expose(), &ticket.expose()[1..]] {
            assert_eq!(Ticket::open(&keys, wrong, NOW), Err(TokenError::Malformed), "{wrong}");
        }
    }
}
