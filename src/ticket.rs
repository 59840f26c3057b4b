//! Tickets: each opens one WebSocket, for a client that can send nothing but a URL with its handshake.
//!
//! A ticket is signed as tokens are, and no token: it names no client outside of `claims`, so that nothing that reads tokens takes
//! it for one. It carries what the access token says and the digest of it, and opens nothing that the token would not.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    json,
    keys::KeyRing,
    permit::Access,
    secret::{Secret, TokenDigest},
    token::{Claims, Expected, TokenError, unique_name},
};

/// How long a ticket is good: for as long as a page takes to open a socket.
pub(crate) const LIFETIME: Duration = Duration::from_secs(30);

/// The claim `type`.
const TYPE: &str = "ticket";

#[derive(Serialize)]
struct Payload<'a> {
    r#type: &'static str,
    exp: u64,
    jti: &'a str,
    /// The digest of the access token, in hex.
    ath: String,
    /// What the access token says.
    claims: &'a Map<String, Value>,
}

/// A ticket that was found good, and may have been used.
pub(crate) struct Ticket {
    pub(crate) id: String,
    /// Its last second, since the Unix epoch.
    pub(crate) expires_at: u64,
    /// The digest of the access token.
    pub(crate) access: TokenDigest,
    /// What the access token says.
    pub(crate) claims: Claims,
}

/// A ticket for an access, at `now`; `None` where it cannot be signed.
pub(crate) fn issue(keys: &KeyRing, access: &Access, now: u64) -> Option<Secret> {
    let payload = Payload {
        r#type: TYPE,
        exp: access.expires_at().min(now.saturating_add(LIFETIME.as_secs())),
        jti: &unique_name(),
        ath: access.digest().to_string(),
        claims: access.as_object(),
    };
    keys.sign(&serde_json::to_vec(&payload).ok()?, now)
}

impl Ticket {
    /// The ticket of a text, if it is one of ours and the access token behind it is as `expected`.
    pub(crate) fn read(keys: &KeyRing, text: &str, expected: &Expected<'_>) -> Result<Self, TokenError> {
        let mut payload = json::object(&keys.signed_payload(text)?).map_err(|_| TokenError::Malformed)?;
        if payload.get("type").and_then(Value::as_str) != Some(TYPE) {
            return Err(TokenError::WrongType);
        }
        let expires_at = payload.get("exp").and_then(Value::as_u64).ok_or(TokenError::InvalidClaim("exp"))?;
        if expires_at < expected.now {
            return Err(TokenError::Expired);
        }
        let claims = match payload.remove("claims") {
            Some(Value::Object(claims)) => Claims::of_object(claims, text, expected)?,
            _ => return Err(TokenError::InvalidClaim("claims")),
        };
        let text = |name| payload.get(name).and_then(Value::as_str);
        let access = text("ath").and_then(|digest| digest.parse().ok()).ok_or(TokenError::InvalidClaim("ath"))?;
        let id = text("jti").ok_or(TokenError::InvalidClaim("jti"))?.to_owned();
        Ok(Self { id, expires_at, access, claims })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::Changes,
        token::{NewToken, TokenType},
    };

    const NOW: u64 = 1_800_000_000;
    const EXPECTED: Expected<'static> = Expected::of(TokenType::Access, NOW);

    fn ring() -> KeyRing {
        KeyRing::new(&Secret::generate(), 0, &[]).unwrap()
    }

    fn access(keys: &KeyRing, lifetime: u64) -> (Access, Secret) {
        let new = NewToken::plain("élève", TokenType::Access, NOW, Duration::from_secs(lifetime));
        let (token, _) = keys.mint(&new).unwrap();
        let claims = keys.verify(token.expose().as_bytes(), &EXPECTED).unwrap();
        (Access::stamped(claims, Changes::of_own_store().stamp("c")), token)
    }

    #[test]
    fn a_ticket_says_what_its_token_says() {
        let keys = ring();
        let (access, token) = access(&keys, 600);
        let text = issue(&keys, &access, NOW).unwrap();
        let ticket = Ticket::read(&keys, text.expose(), &EXPECTED).unwrap();
        assert!(ticket.access == TokenDigest::of(token.expose()) && ticket.expires_at == NOW + 30);
        assert_eq!(ticket.claims.client_id(), "élève");
        assert_eq!(ticket.claims.expires_at(), NOW + 600);
        assert_eq!(ticket.claims.as_object(), access.as_object());
        assert_ne!(Ticket::read(&keys, issue(&keys, &access, NOW).unwrap().expose(), &EXPECTED).unwrap().id, ticket.id);
    }

    #[test]
    fn a_ticket_ends_soon_and_with_its_token() {
        let keys = ring();
        let read = |text: &Secret, now| Ticket::read(&keys, text.expose(), &Expected { now, ..EXPECTED }).map(drop);
        let text = issue(&keys, &access(&keys, 600).0, NOW).unwrap();
        assert_eq!(read(&text, NOW + 30), Ok(()));
        assert_eq!(read(&text, NOW + 31), Err(TokenError::Expired));
        let text = issue(&keys, &access(&keys, 10).0, NOW).unwrap();
        assert_eq!(read(&text, NOW + 10), Ok(()));
        assert_eq!(read(&text, NOW + 11), Err(TokenError::Expired));
    }

    #[test]
    fn tickets_and_tokens_are_told_apart() {
        let keys = ring();
        let (access, token) = access(&keys, 600);
        assert_eq!(Ticket::read(&keys, token.expose(), &EXPECTED).map(drop), Err(TokenError::WrongType));
        let ticket = issue(&keys, &access, NOW).unwrap();
        for token_type in [TokenType::Access, TokenType::Refresh] {
            let found = keys.verify(ticket.expose().as_bytes(), &Expected::of(token_type, NOW));
            assert_eq!(found, Err(TokenError::MissingClientId));
        }
        assert_eq!(Ticket::read(&ring(), ticket.expose(), &EXPECTED).map(drop), Err(TokenError::InvalidSignature));
        for broken in ["", "x", "a.b.c", &ticket.expose()[1..]] {
            assert!(Ticket::read(&keys, broken, &EXPECTED).is_err(), "{broken}");
        }
        // What is asked of the token is asked of the ticket.
        let expected = Expected { audience: Some("another"), ..EXPECTED };
        assert_eq!(Ticket::read(&keys, ticket.expose(), &expected).map(drop), Err(TokenError::InvalidClaim("aud")));
    }
}
