//! Issuing: minting a pair and having the store hold it, in that order, before anybody is told.

use std::{sync::Arc, time::Duration};

use fastauth_core::issue::{ClientIdError, Grant, Introspection, IssueError, IssuedTokens, Issuing, MAX_CLIENT_ID_LEN};
use serde_json::{Map, Value};

use crate::{
    gate::Gate,
    observe::{GrantKind, Issued},
    random::unique_name,
    rotations::Exchanged,
    secret::Secret,
    shown::shown,
    store::{
        FamilyFilter, FamilyPage, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreError,
        StoredPair, TokenDigest, TokenEntry, TokenPair, TokenRecord, carried_through,
    },
    token::{Claims, NewToken, TokenError, TokenType, is_reserved},
};

/// Issues, renews, revokes and reads tokens in code: what the [`TokenRouter`](crate::TokenRouter) does over HTTP.
///
/// Use it where your own code decides who gets tokens, such as a login handler. It asks for no master token.
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    gate: Arc<Gate>,
}

/// A refresh token whose claims were found good, and when: the exchange goes by the same time.
#[derive(Clone)]
pub(crate) struct Presented {
    pub(crate) claims: Claims,
    at: u64,
}

impl TokenIssuer {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// Issues a pair to `client_id`, which takes the place of those that it had, or with `tokens-per-client: "many"` stands beside them.
    ///
    /// # Errors
    ///
    /// [`IssueError::ClientId`] where the id is empty, too long or has control characters;
    /// [`IssueError::NotSaved`] where the store did not save the pair.
    pub async fn issue(&self, client_id: &str) -> Result<IssuedTokens, IssueError> {
        self.issue_with(client_id, Map::new()).await
    }

    /// As [`issue`](Self::issue), with claims of your own. They go over to the pairs that this one is renewed to.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue), and [`IssueError::ReservedClaim`].
    pub async fn issue_with(&self, client_id: &str, claims: Map<String, Value>) -> Result<IssuedTokens, IssueError> {
        let issued = self.begin(client_id, claims).await;
        self.gate.observer.issued(GrantKind::New, issued.as_ref().map(|_| Issued::Anew));
        issued
    }

    async fn begin(&self, client_id: &str, claims: Map<String, Value>) -> Result<IssuedTokens, IssueError> {
        check_client_id(client_id)?;
        let claims = self.claims(client_id, false, claims).await?;
        let family = unique_name();
        let (issued, record) = self.mint(client_id, &family, 0, &claims, self.unix_now())?;
        let Issuing { many_families, max_families, .. } = self.gate.issuing;
        // Alone, a pair is all that a client has. So it is one call of the first version of a REST store.
        let options = match many_families {
            true => SaveOptions { keep_others: true, max_families, ..SaveOptions::default() },
            false => SaveOptions::default(),
        };
        let not_saved = |error| IssueError::NotSaved { client_id: client_id.to_owned(), error };
        match self.gate.store.save(&record, options).await.map_err(not_saved)? {
            Saved::Saved(_) => {}
            // No condition was set.
            Saved::ConditionFailed => return Err(IssueError::Superseded),
        }
        tracing::info!(target: "fastauth", client_id = &*shown(client_id), family = &*shown(&family), "issued");
        Ok(issued)
    }

    /// Exchanges a refresh token, which must be the one that the store holds, for a new pair. Within `refresh-grace` of
    /// that, the same token gets the same pair again.
    ///
    /// # Errors
    ///
    /// [`IssueError::InvalidRefreshToken`], [`IssueError::Superseded`], [`IssueError::Reused`] and
    /// [`IssueError::Revoked`] for the token; [`IssueError::Store`] where the store could not be asked,
    /// [`IssueError::NotSaved`] where it did not save the pair.
    pub async fn refresh(&self, refresh_token: &str) -> Result<IssuedTokens, IssueError> {
        match self.present(refresh_token) {
            Ok(presented) => self.exchange(refresh_token, &presented).await.map(|(issued, _)| issued),
            Err(error) => Err(self.not_renewed(error.into())),
        }
    }

    /// The claims of a refresh token. Whether it is the one that is held is seen when it is exchanged.
    pub(crate) fn present(&self, refresh_token: &str) -> Result<Presented, TokenError> {
        let at = self.unix_now();
        Ok(Presented { claims: self.verify_at(refresh_token, TokenType::Refresh, at)?, at })
    }

    /// Counts a refresh token that is none.
    pub(crate) fn not_renewed(&self, error: IssueError) -> IssueError {
        self.gate.observer.issued(GrantKind::Refresh, Err(&error));
        error
    }

    /// What [`refresh`](Self::refresh) does once the token's claims are known, and whether the pair is a new one.
    pub(crate) async fn exchange(&self, refresh_token: &str, presented: &Presented) -> Exchanged {
        let renewed = self.renew(refresh_token, presented).await;
        self.gate.observer.issued(GrantKind::Refresh, renewed.as_ref().map(|(_, how)| *how));
        renewed
    }

    async fn renew(&self, refresh_token: &str, presented: &Presented) -> Exchanged {
        let claims = self.claims(presented.claims.client_id(), true, presented.claims.own_claims()).await?;
        let token = TokenDigest::of(refresh_token);
        // Without a grace, every use but the first is the proof of a copy.
        if self.gate.issuing.refresh_grace.is_zero() {
            return self.rotate(token, presented, claims).await;
        }
        let issuer = self.clone();
        let presented = presented.clone();
        let exchange = async move { issuer.rotate(token, &presented, claims).await };
        self.gate.rotations.join(token, exchange).await
    }

    async fn rotate(
        &self,
        token: TokenDigest,
        Presented { claims: presented, at }: &Presented,
        claims: Map<String, Value>,
    ) -> Exchanged {
        let client_id = presented.client_id();
        let (family, generation) = match presented.family() {
            Some((family, generation)) => (family.to_owned(), generation.saturating_add(1)),
            None => (unique_name(), 0),
        };
        let (issued, successor) = self.mint(client_id, &family, generation, &claims, *at)?;
        let rotation = Rotation {
            presented: token,
            presented_family: presented.family().map(|(family, generation)| (family.to_owned(), generation)),
            successor,
            grace: self.grace(),
        };
        let rotated = self.gate.store.rotate(&rotation).await.map_err(|error| store_error(client_id, error))?;
        match rotated {
            Rotated::Rotated => {
                tracing::info!(target: "fastauth", client_id = &*shown(client_id), family = &*shown(&family), "refreshed");
                Ok((issued, Issued::Anew))
            }
            Rotated::Repeated(pair) => {
                tracing::info!(target: "fastauth", client_id = &*shown(client_id), family = &*shown(&family), "refreshed once more, with the same pair");
                self.repeated(client_id, &pair, *at).map(|issued| (issued, Issued::Again))
            }
            Rotated::Reused => {
                tracing::warn!(target: "fastauth", client_id = &*shown(client_id), family = &*shown(&family), "a used refresh token came back: its family is revoked");
                Err(IssueError::Reused)
            }
            Rotated::Revoked => Err(IssueError::Revoked),
            Rotated::Superseded | Rotated::UnknownClient => Err(IssueError::Superseded),
        }
    }

    /// The grace as the store counts it: from when it did the rotation. The client's begins when it could be told, or told that
    /// the store does not answer.
    fn grace(&self) -> Duration {
        match self.gate.issuing.refresh_grace {
            Duration::ZERO => Duration::ZERO,
            grace => grace.saturating_add(self.gate.store.patience()),
        }
    }

    /// Reads a token: signature, times and type. Whether it is the canonical one only the store knows.
    ///
    /// # Errors
    ///
    /// What is wrong with the token.
    pub fn verify(&self, token: &str, expected: TokenType) -> Result<Claims, TokenError> {
        self.verify_at(token, expected, self.unix_now())
    }

    fn verify_at(&self, token: &str, expected: TokenType, now: u64) -> Result<Claims, TokenError> {
        self.gate.keys.verify(token.as_bytes(), &self.gate.expected(expected, now))
    }

    fn unix_now(&self) -> u64 {
        self.gate.clock.unix_now()
    }

    /// Reads a token of either type, and asks the store whether it is accepted (RFC 7662).
    ///
    /// # Errors
    ///
    /// Where the store could not be asked.
    pub async fn introspect(&self, token: &str) -> Result<Introspection, StoreError> {
        let Ok(claims) = self.verify_any(token) else { return Ok(Introspection::Inactive) };
        let is_canonical = self.is_canonical(token, &claims).await?;
        Ok(if is_canonical { Introspection::Active(claims) } else { Introspection::Inactive })
    }

    async fn is_canonical(&self, token: &str, claims: &Claims) -> Result<bool, StoreError> {
        let family = claims.family().map(|(family, _)| family).unwrap_or_default();
        let held = self.gate.store.load(claims.client_id(), Some(family)).await?;
        let held = held.and_then(|held| match claims.token_type() {
            TokenType::Access => held.access,
            TokenType::Refresh => held.refresh,
        });
        Ok(held == Some(TokenDigest::of(token)))
    }

    /// Revokes the family of a token that its holder presents (RFC 7009), access or refresh token, and says whether
    /// anything was revoked. A superseded one speaks for its family as well, as long as it has not expired. A token that is
    /// not ours, or has expired, revokes nothing, and is no error.
    ///
    /// # Errors
    ///
    /// Where the store could not be asked.
    pub async fn revoke_token(&self, token: &str) -> Result<bool, StoreError> {
        match self.verify_any(token) {
            Ok(claims) => self.revoke_verified(token, &claims).await,
            Err(_) => Ok(false),
        }
    }

    /// What [`revoke_token`](Self::revoke_token) does once the token's claims are known.
    pub(crate) async fn revoke_verified(&self, token: &str, claims: &Claims) -> Result<bool, StoreError> {
        let issuer = self.clone();
        let token = Secret::from(token);
        let claims = claims.clone();
        carried_through(async move { issuer.revoke_family_of(token.expose(), &claims).await }).await
    }

    async fn revoke_family_of(&self, token: &str, claims: &Claims) -> Result<bool, StoreError> {
        let client_id = claims.client_id().to_owned();
        let revocation = match claims.family() {
            Some((family, _)) => Revocation::Family { client_id, family: family.to_owned() },
            // Tokens that name no family are held under the empty name, and only the one that is held speaks for it.
            None if self.is_canonical(token, claims).await? => Revocation::Family { client_id, family: String::new() },
            None => return Ok(false),
        };
        Ok(self.end(&revocation).await? > 0)
    }

    /// Revokes a family, all of a client's, or everything, and says how many families that were. From the answer on this
    /// process accepts none of their tokens; others do so from the next time on that they ask the store. On a tokio runtime it
    /// goes on though the future is dropped, as it is with a request whose client has gone.
    ///
    /// # Errors
    ///
    /// Where the store could not be asked, and where it is not able to
    /// ([`Unsupported`](crate::store::StoreErrorKind::Unsupported)).
    pub async fn revoke(&self, revocation: &Revocation) -> Result<u64, StoreError> {
        let issuer = self.clone();
        let revocation = revocation.clone();
        carried_through(async move { issuer.end(&revocation).await }).await
    }

    async fn end(&self, revocation: &Revocation) -> Result<u64, StoreError> {
        match self.gate.store.revoke(revocation, None).await? {
            Revoked::Families(count) => {
                tracing::info!(target: "fastauth", revocation = %shown(&format!("{revocation:?}")), count, "revoked");
                Ok(count)
            }
            Revoked::ConditionFailed => Ok(0),
        }
    }

    /// Lists families: who is logged in, since when, and until when.
    ///
    /// # Errors
    ///
    /// Where the store could not be asked, and where it is not able to.
    pub async fn list(&self, filter: &FamilyFilter) -> Result<FamilyPage, StoreError> {
        self.gate.store.list(filter).await
    }

    /// What the store can promise.
    ///
    /// # Errors
    ///
    /// Where it could not be asked.
    pub async fn promises(&self) -> Result<Promises, StoreError> {
        self.gate.store.promises().await
    }

    /// The claims of a token of either type.
    pub(crate) fn verify_any(&self, token: &str) -> Result<Claims, TokenError> {
        let now = self.unix_now();
        match self.verify_at(token, TokenType::Access, now) {
            Err(TokenError::WrongType) => self.verify_at(token, TokenType::Refresh, now),
            verified => verified,
        }
    }

    async fn claims(
        &self,
        client_id: &str,
        is_refresh: bool,
        claims: Map<String, Value>,
    ) -> Result<Map<String, Value>, IssueError> {
        let claims = match &self.gate.issuing.claims_hook {
            Some(hook) => {
                let grant = Grant::new(client_id.to_owned(), is_refresh, claims);
                hook.claims(grant).await.map_err(IssueError::Refused)?
            }
            None => claims,
        };
        match claims.keys().find(|name| is_reserved(name)) {
            Some(name) => Err(IssueError::ReservedClaim(name.clone())),
            None => Ok(claims),
        }
    }

    fn mint(
        &self,
        client_id: &str,
        family: &str,
        generation: u64,
        claims: &Map<String, Value>,
        issued_at: u64,
    ) -> Result<(IssuedTokens, TokenRecord), IssueError> {
        let issuing = &self.gate.issuing;
        let mint = |token_type, lifetime: Duration| {
            let (issuer, audience) = (issuing.issuer.as_deref(), issuing.audience.as_deref());
            let new =
                NewToken { client_id, token_type, issued_at, lifetime, family, generation, issuer, audience, claims };
            let (token, kid) = self.gate.keys.mint(&new).ok_or(IssueError::Signing)?;
            let entry = TokenEntry {
                text: self.kept(&token, issued_at)?,
                digest: TokenDigest::of(token.expose()),
                expires_at: issued_at.saturating_add(lifetime.as_secs()),
            };
            Ok::<_, IssueError>((token, entry, kid))
        };
        let (access_token, access, _) = mint(TokenType::Access, issuing.access_ttl)?;
        let (refresh_token, refresh, kid) = mint(TokenType::Refresh, issuing.refresh_ttl)?;
        let record = TokenRecord {
            client_id: client_id.to_owned(),
            family: family.to_owned(),
            generation,
            kid: kid.to_owned(),
            access,
            refresh,
        };
        let issued = IssuedTokens::new(
            client_id.to_owned(),
            family.to_owned(),
            TokenPair { access_token, refresh_token },
            issuing.access_ttl,
            claims.get("scope").and_then(Value::as_str).map(str::to_owned),
        );
        Ok((issued, record))
    }

    /// What the store is to keep of a token.
    fn kept(&self, token: &Secret, now: u64) -> Result<Secret, IssueError> {
        if !self.gate.issuing.sealed {
            return Ok(token.clone());
        }
        self.gate.keys.seal(token, now).ok_or(IssueError::Signing)
    }

    /// The pair that took the place of a refresh token a moment ago.
    fn repeated(&self, client_id: &str, pair: &StoredPair, now: u64) -> Result<IssuedTokens, IssueError> {
        let open = |kept: &Option<Secret>| self.gate.keys.open(kept.as_ref()?);
        let (Some(access_token), Some(refresh_token)) = (open(&pair.access_token), open(&pair.refresh_token)) else {
            return Err(IssueError::Superseded);
        };
        // It may have expired meanwhile: then the refresh token beside it is what the client needs.
        let expected = self.gate.expected(TokenType::Access, 0);
        let claims = self.gate.keys.verify(access_token.expose().as_bytes(), &expected)?;
        Ok(IssuedTokens::new(
            client_id.to_owned(),
            claims.family().map(|(family, _)| family.to_owned()).unwrap_or_default(),
            TokenPair { access_token, refresh_token },
            Duration::from_secs(claims.expires_at().saturating_sub(now)),
            claims.get("scope").and_then(Value::as_str).map(str::to_owned),
        ))
    }
}

fn store_error(client_id: &str, error: StoreError) -> IssueError {
    if error.is_save() {
        IssueError::NotSaved { client_id: client_id.to_owned(), error }
    } else {
        IssueError::Store(error)
    }
}

fn check_client_id(client_id: &str) -> Result<(), ClientIdError> {
    match client_id {
        "" => Err(ClientIdError::Empty),
        id if id.len() > MAX_CLIENT_ID_LEN => Err(ClientIdError::TooLong),
        id if id.chars().any(char::is_control) => Err(ClientIdError::ControlCharacter),
        _ => Ok(()),
    }
}
