//! Pairs: signing new ones, and opening those that are stored.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Issuer;
use crate::{
    issue::IssueErrorKind,
    keys::StoreFormat,
    secret::Secret,
    store::{StoredPair, TokenDigest, TokenEntry, TokenPair, TokenRecord},
    token::{NewToken, TokenType},
    tokens::issued::{Delivery, IssuedTokens},
};

/// A pair to be made.
pub(super) struct NewPair<'a> {
    pub(super) client_id: &'a str,
    pub(super) session: &'a str,
    pub(super) generation: u64,
    pub(super) claims: &'a Map<String, Value>,
    pub(super) issued_at: u64,
    /// When the session began, in seconds since the Unix epoch.
    pub(super) logged_in_at: u64,
}

/// A pair as the client gets it, and as the store keeps it.
pub(super) struct SignedPair {
    pub(super) issued: IssuedTokens,
    pub(super) record: TokenRecord,
}

/// One token of a pair.
struct SignedToken<'a> {
    token: Secret,
    entry: TokenEntry,
    /// The id of the key that signed it.
    kid: &'a str,
}

impl Issuer {
    /// Signs a pair. No token of it lasts longer than its session.
    pub(super) fn sign(&self, pair: &NewPair<'_>) -> Result<SignedPair, IssueErrorKind> {
        let issuing = &self.parts.issuing;
        let left = issuing.left_of_session(pair.logged_in_at, pair.issued_at).ok_or(IssueErrorKind::SessionEnded)?;
        let access_ttl = issuing.access_ttl.min(left);
        let refresh_ttl = issuing.refresh_ttl.min(left);
        let access = self.sign_token(pair, TokenType::Access, access_ttl)?;
        let refresh = self.sign_token(pair, TokenType::Refresh, refresh_ttl)?;
        let delivery = self.parts.delivery;
        let record = TokenRecord {
            client_id: pair.client_id.to_owned(),
            session: pair.session.to_owned(),
            generation: pair.generation,
            kid: refresh.kid.to_owned(),
            access: access.entry,
            refresh: refresh.entry,
        };
        let issued = IssuedTokens {
            client_id: pair.client_id.to_owned(),
            session: pair.session.to_owned(),
            tokens: TokenPair { access_token: access.token, refresh_token: refresh.token },
            expires_in: access_ttl,
            scope: pair.claims.get("scope").and_then(Value::as_str).map(str::to_owned),
            delivery: Delivery { cookie_age: delivery.cookie_age.map(|age| age.min(refresh_ttl)), ..delivery },
        };
        Ok(SignedPair { issued, record })
    }

    fn sign_token(
        &self,
        pair: &NewPair<'_>,
        token_type: TokenType,
        lifetime: Duration,
    ) -> Result<SignedToken<'_>, IssueErrorKind> {
        let new = NewToken {
            client_id: pair.client_id,
            token_type,
            issued_at: pair.issued_at,
            lifetime,
            session: pair.session,
            generation: pair.generation,
            logged_in_at: self.parts.issuing.names_log_in().then_some(pair.logged_in_at),
            issuer: self.parts.issuing.issuer.as_deref(),
            audience: self.parts.issuing.audience.as_deref(),
            claims: pair.claims,
        };
        let (token, kid) = self.parts.keys.sign_token(&new).ok_or(IssueErrorKind::Signing)?;
        let entry = TokenEntry {
            text: self.text_to_store(&token, pair.issued_at)?,
            digest: TokenDigest::of(token.expose()),
            expires_at: pair.issued_at.saturating_add(lifetime.as_secs()),
        };
        Ok(SignedToken { token, entry, kid })
    }

    /// Encrypts a token for the store, if that is configured.
    fn text_to_store(&self, token: &Secret, now: u64) -> Result<Secret, IssueErrorKind> {
        if self.parts.issuing.store_format == StoreFormat::Plain {
            return Ok(token.clone());
        }
        self.parts.keys.seal(token, now).ok_or(IssueErrorKind::Signing)
    }

    /// Opens the pair that has replaced a refresh token a moment ago. If its access token was revoked since, its place takes
    /// `not_accepted`, which has expired for the client: it refreshes again.
    pub(super) fn open_pair(
        &self,
        client_id: &str,
        pair: &StoredPair,
        not_accepted: Secret,
        now: u64,
    ) -> Result<IssuedTokens, IssueErrorKind> {
        let refresh_token = self.open(pair.refresh_token.as_ref())?;
        let access_token = match &pair.access_token {
            Some(kept) => self.open(Some(kept))?,
            None => not_accepted,
        };
        // Either may have expired by now: then the refresh token beside it is what the client needs.
        let claims = match &pair.access_token {
            Some(_) => self.verify_at(access_token.expose(), TokenType::Access, 0)?,
            None => self.verify_at(refresh_token.expose(), TokenType::Refresh, 0)?,
        };
        let ends_at = if pair.access_token.is_some() { claims.expires_at() } else { now };
        Ok(IssuedTokens {
            client_id: client_id.to_owned(),
            session: claims.session().map(|(session, _)| session.to_owned()).unwrap_or_default(),
            tokens: TokenPair { access_token, refresh_token },
            expires_in: Duration::from_secs(ends_at.saturating_sub(now)),
            scope: claims.get("scope").and_then(Value::as_str).map(str::to_owned),
            delivery: self.parts.delivery,
        })
    }

    fn open(&self, stored: Option<&Secret>) -> Result<Secret, IssueErrorKind> {
        stored.and_then(|stored| self.parts.keys.open(stored)).ok_or(IssueErrorKind::Superseded)
    }
}
