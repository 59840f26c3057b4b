//! The decision: from a request to a permit or a denial, in one order of steps.

use std::{future::Future, pin::Pin, sync::Arc};

use http::{HeaderMap, Method};

use crate::{
    cache::TokenCache,
    config::{ConfigError, Settings},
    credentials::{self, CredentialError},
    health::Health,
    issuer::Issuing,
    keys::KeyRing,
    observe::{Case, ObservedStore, Observer},
    response::Refusals,
    router::EndpointOptions,
    rule::{PathRefusal, RequestLine, Requirement, Rules},
    secret::SecretDigest,
    store::{Canonical, Stamp, StoreError, TokenDigest, TokenStore},
    token::{Claims, Expected, TokenError, TokenType, unix_now_ms},
};

/// Everything a decision rests on, built once from the settings and shared by layer, router and issuer.
#[derive(Debug)]
pub(crate) struct Gate {
    rules: Rules,
    /// Refusals are logged and not carried out.
    shadow: bool,
    pub(crate) observer: Observer,
    pub(crate) health: Health,
    /// Each with the name that logs show.
    master_tokens: Vec<(Arc<str>, SecretDigest)>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) store: Arc<dyn TokenStore>,
    /// Tokens that the store confirmed, as long as it tells of changes.
    cache: Option<TokenCache>,
    pub(crate) issuing: Issuing,
    pub(crate) endpoints: EndpointOptions,
    pub(crate) refusals: Refusals,
}

impl Gate {
    /// Opens the store and logs what the settings warn of.
    pub(crate) fn new(settings: Settings) -> Result<Self, ConfigError> {
        let keys = settings.key_ring();
        let store: Arc<dyn TokenStore> = Arc::new(ObservedStore::new(settings.open_store()?));
        for warning in settings.warnings() {
            tracing::warn!(target: "fastauth", "{warning}");
        }
        let master_tokens = settings.master_tokens().iter();
        Ok(Self {
            master_tokens: master_tokens
                .map(|(name, token)| (name.as_str().into(), SecretDigest::of(token.expose().as_bytes())))
                .collect(),
            keys,
            cache: settings.token_cache(&*store),
            store,
            issuing: settings.issuing(),
            endpoints: settings.endpoints(),
            refusals: Refusals::new(settings.app_name().to_owned()),
            shadow: settings.shadow(),
            observer: Observer::new(settings.rules(), settings.shadow()),
            health: Health::default(),
            rules: settings.into_rules(),
        })
    }

    /// Whether a request for the path surely needs no check. `false` leaves it to [`decide`](Self::decide).
    #[inline]
    pub(crate) fn leaves_open(&self, path: &str) -> bool {
        self.rules.leave_open(path)
    }

    /// Decides on everything that needs no store.
    pub(crate) fn decide(self: &Arc<Self>, line: &RequestLine<'_>, headers: &HeaderMap) -> Decision {
        let mut case = Case::default();
        match self.check(line, headers, &mut case) {
            Ok(decision) => {
                if let Decision::Permit(permit) = &decision {
                    self.observer.permitted(&case, line.method, permit);
                }
                decision
            }
            Err(denial) => {
                self.observer.refused(&case, line.method, &denial);
                if self.shadow { Decision::Pass } else { Decision::Deny(denial) }
            }
        }
    }

    fn check(
        self: &Arc<Self>,
        line: &RequestLine<'_>,
        headers: &HeaderMap,
        case: &mut Case,
    ) -> Result<Decision, Denial> {
        let requirement = case.requirement(&self.rules, line).map_err(|refusal| {
            self.observer.path_refused();
            DenialReason::Path(refusal)
        })?;
        if requirement.is_public() {
            return Ok(Decision::Pass);
        }
        self.check_credentials(line, requirement, headers, case)
    }

    fn check_credentials(
        self: &Arc<Self>,
        line: &RequestLine<'_>,
        requirement: Requirement,
        headers: &HeaderMap,
        case: &Case,
    ) -> Result<Decision, Denial> {
        if requirement.only_by_other_reading() {
            self.observer.other_reading(case, line.method);
        }
        let master = if requirement.needs_master() { Some(self.check_master_token(headers)?) } else { None };
        if !requirement.needs_access() {
            return Ok(Decision::Permit(Permit { master, claims: None }));
        }
        let token = credentials::access_token(headers)
            .map_err(DenialReason::Credentials)?
            .ok_or(DenialReason::MissingAccessToken)?;
        let now_ms = unix_now_ms();
        if let Some(claims) = self.confirmed(token, now_ms) {
            return Ok(Decision::Permit(Permit { master, claims: Some(claims) }));
        }
        let expected = self.expected(TokenType::Access, now_ms / 1000);
        let claims = self.keys.verify(token, &expected).map_err(DenialReason::InvalidAccessToken)?;
        let stamp = self.store.changes().map(|changes| changes.stamp(claims.client_id()));
        let verified = Verified { claims: Arc::new(claims), stamp, now_ms };
        if let Some(held) = self.store.load_now(verified.claims.client_id(), Some(verified.family())) {
            verified.confirm(self, held)?;
            return Ok(Decision::Permit(Permit { master, claims: Some(verified.claims) }));
        }
        let check =
            CanonicalCheck { gate: Arc::clone(self), method: line.method.clone(), verified, master, case: *case };
        Ok(Decision::AskStore(check.run()))
    }

    #[inline]
    fn confirmed(&self, token: &[u8], now_ms: u64) -> Option<Arc<Claims>> {
        let confirmed = self.cache.as_ref()?.confirmed(token, self.store.changes()?, now_ms);
        self.observer.remembered(confirmed.is_some());
        confirmed
    }

    /// What a token of this type has to be at `now`.
    pub(crate) fn expected(&self, token_type: TokenType, now: u64) -> Expected<'_> {
        Expected {
            issuer: self.issuing.issuer.as_deref(),
            audience: self.issuing.audience.as_deref(),
            ..Expected::of(token_type, now)
        }
    }

    /// The guard of what only the holder of a master token may do, wherever the router is mounted, and the token's name.
    pub(crate) fn guard_administration(&self, method: &Method, headers: &HeaderMap) -> Result<Arc<str>, Denial> {
        let master = self.check_master_token(headers);
        self.observer.administration(method, master.as_ref().err());
        master
    }

    fn check_master_token(&self, headers: &HeaderMap) -> Result<Arc<str>, Denial> {
        let presented = credentials::master_token(headers).map_err(DenialReason::Credentials)?;
        let presented = SecretDigest::of(presented.ok_or(DenialReason::MissingMasterToken)?);
        // All are compared, so that the time does not tell which one it was.
        let found = self.master_tokens.iter().fold(
            None,
            |found, (name, token)| {
                if *token == presented { Some(name) } else { found }
            },
        );
        found.cloned().ok_or_else(|| DenialReason::WrongMasterToken.into())
    }
}

/// What the issuer has seen of tokens that no sound client presents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCounts {
    /// Refresh tokens that came back after they had been used: their families were revoked.
    pub reused: u64,
}

/// What the guard has seen of paths that no sound client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathCounts {
    /// Requests that were refused because their path has no sound reading.
    pub refused: u64,
    /// Requests that were asked for a credential only because of another reading of their path than the one sent: an
    /// attack, or a client with a fault.
    pub only_by_other_reading: u64,
}

/// The last check under way: a permit, a denial, or neither, which is what a check that is only tried out lets pass.
pub(crate) type Check = Pin<Box<dyn Future<Output = Result<Option<Permit>, Denial>> + Send>>;

/// What a request gets.
pub(crate) enum Decision {
    /// No check applies.
    Pass,
    /// All checks passed.
    Permit(Permit),
    /// A check failed.
    Deny(Denial),
    /// All checks passed but the last, which the store answers.
    AskStore(Check),
}

/// A token that has passed all checks but the last: whether it is the client's canonical one.
struct Verified {
    claims: Arc<Claims>,
    /// From before the store is asked.
    stamp: Option<Stamp>,
    now_ms: u64,
}

impl Verified {
    /// Tokens that name no family are held under the empty name.
    fn family(&self) -> &str {
        self.claims.family().map(|(family, _)| family).unwrap_or_default()
    }

    /// The last check, by what the store answered. What it confirms is kept.
    fn confirm(&self, gate: &Gate, held: Result<Option<Canonical>, StoreError>) -> Result<(), Denial> {
        self.compare(gate, held).map_err(|reason| Denial { reason, claims: Some(Arc::clone(&self.claims)) })
    }

    fn compare(&self, gate: &Gate, held: Result<Option<Canonical>, StoreError>) -> Result<(), DenialReason> {
        let canonical = held.map_err(DenialReason::StoreUnavailable)?.ok_or(DenialReason::UnknownClient)?.access;
        if canonical != Some(TokenDigest::of(self.claims.token())) {
            return Err(DenialReason::NotCanonical);
        }
        if let (Some(cache), Some(stamp)) = (&gate.cache, self.stamp) {
            cache.keep(&self.claims, stamp, self.now_ms);
        }
        Ok(())
    }
}

/// The last check, where the store has to be waited for.
struct CanonicalCheck {
    gate: Arc<Gate>,
    method: Method,
    verified: Verified,
    master: Option<Arc<str>>,
    case: Case,
}

impl CanonicalCheck {
    fn run(self) -> Check {
        Box::pin(async move {
            let Self { gate, method, case, .. } = &self;
            if let Err(denial) = self.ask().await {
                gate.observer.refused(case, method, &denial);
                return if gate.shadow { Ok(None) } else { Err(denial) };
            }
            let permit = Permit { master: self.master.clone(), claims: Some(Arc::clone(&self.verified.claims)) };
            gate.observer.permitted(case, method, &permit);
            Ok(Some(permit))
        })
    }

    async fn ask(&self) -> Result<(), Denial> {
        let Self { gate, verified, .. } = self;
        let held = gate.store.load(verified.claims.client_id(), Some(verified.family())).await;
        verified.confirm(gate, held)
    }
}

/// Proof that a request passed its checks. The guard puts it into the extensions of every request that it lets through
/// to a guarded path, and nothing else can make one.
///
/// With the feature `axum` it is an extractor, and so is `Option<Permit>`.
#[derive(Clone, Debug)]
pub struct Permit {
    master: Option<Arc<str>>,
    claims: Option<Arc<Claims>>,
}

impl Permit {
    /// Whom the access token was issued to; `None` where only the master token was asked for.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.claims().map(Claims::client_id)
    }

    /// What the access token says; `None` where only the master token was asked for.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    /// The last second in which the access token is valid, since the Unix epoch.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.claims().map(Claims::expires_at)
    }

    /// Whether the path asked for the master token, which was right.
    #[must_use]
    pub fn passed_master_token(&self) -> bool {
        self.master.is_some()
    }

    /// The name of that master token in `master-tokens`, or `master-token`.
    #[must_use]
    pub fn master_token_name(&self) -> Option<&str> {
        self.master.as_deref()
    }

    /// Whether the path asked for an access token, which was valid and the client's canonical one.
    #[must_use]
    pub fn passed_access_token(&self) -> bool {
        self.claims.is_some()
    }
}

/// A refusal, to be found in the extensions of the response. Only the guard makes one.
#[derive(Clone, Debug)]
pub struct Denial {
    reason: DenialReason,
    /// Of the token, where its signature was found good.
    claims: Option<Arc<Claims>>,
}

/// Why a request was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DenialReason {
    /// The path has no sound reading.
    #[error("the path was refused: {0}")]
    Path(PathRefusal),
    /// The credentials can be read in more than one way.
    #[error("{0}")]
    Credentials(CredentialError),
    /// The path asks for the master token, and there is none.
    #[error("the master token is missing")]
    MissingMasterToken,
    /// The master token is wrong, or none is configured.
    #[error("the master token is wrong")]
    WrongMasterToken,
    /// The path asks for an access token, and there is none.
    #[error("the access token is missing")]
    MissingAccessToken,
    /// The access token is not one of ours, or not valid now.
    #[error("the access token was refused: {0}")]
    InvalidAccessToken(TokenError),
    /// The store does not know the client of the access token.
    #[error("the store does not know the client")]
    UnknownClient,
    /// The store holds another access token for the client.
    #[error("the access token is not the client's canonical one")]
    NotCanonical,
    /// The store could not be asked.
    #[error("the token store is unavailable")]
    StoreUnavailable(#[source] StoreError),
}

impl Denial {
    /// Why.
    #[must_use]
    pub fn reason(&self) -> &DenialReason {
        &self.reason
    }

    /// Whom the access token was issued to, where it is one of ours and only not accepted any more, or the store could not
    /// tell; `None` where nothing is known of who sent the request.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.claims.as_deref().map(Claims::client_id)
    }
}

impl From<DenialReason> for Denial {
    fn from(reason: DenialReason) -> Self {
        Self { reason, claims: None }
    }
}

impl DenialReason {
    /// All that [`code`](Self::code) can be.
    pub(crate) const CODES: [&str; 24] = [
        "path_malformed_escape",
        "path_not_utf8",
        "path_control_character",
        "path_encoded_too_often",
        "path_request_target",
        "path_too_many_readings",
        "path_too_long",
        "repeated_credentials",
        "conflicting_credentials",
        "missing_master_token",
        "wrong_master_token",
        "missing_access_token",
        "malformed_token",
        "unsupported_algorithm",
        "unsupported_extension",
        "invalid_signature",
        "expired_token",
        "token_not_yet_valid",
        "invalid_claim",
        "missing_client_id",
        "wrong_token_type",
        "unknown_client",
        "not_canonical",
        "store_unavailable",
    ];

    /// A short name of the reason that stays, for logs and counts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        Self::CODES[self.place()]
    }

    /// The place of the code.
    pub(crate) fn place(&self) -> usize {
        match self {
            Self::Path(PathRefusal::MalformedEscape) => 0,
            Self::Path(PathRefusal::NotUtf8) => 1,
            Self::Path(PathRefusal::ControlCharacter) => 2,
            Self::Path(PathRefusal::EncodedTooOften) => 3,
            Self::Path(PathRefusal::RequestTarget) => 4,
            Self::Path(PathRefusal::TooManyReadings) => 5,
            Self::Path(PathRefusal::TargetTooLong) => 6,
            Self::Credentials(CredentialError::Repeated(_)) => 7,
            Self::Credentials(CredentialError::Conflicting) => 8,
            Self::MissingMasterToken => 9,
            Self::WrongMasterToken => 10,
            Self::MissingAccessToken => 11,
            Self::InvalidAccessToken(TokenError::Malformed) => 12,
            Self::InvalidAccessToken(TokenError::UnsupportedAlgorithm) => 13,
            Self::InvalidAccessToken(TokenError::UnsupportedExtension) => 14,
            Self::InvalidAccessToken(TokenError::InvalidSignature) => 15,
            Self::InvalidAccessToken(TokenError::Expired) => 16,
            Self::InvalidAccessToken(TokenError::NotYetValid) => 17,
            Self::InvalidAccessToken(TokenError::InvalidClaim(_)) => 18,
            Self::InvalidAccessToken(TokenError::MissingClientId) => 19,
            Self::InvalidAccessToken(TokenError::WrongType) => 20,
            Self::UnknownClient => 21,
            Self::NotCanonical => 22,
            Self::StoreUnavailable(_) => 23,
        }
    }

    /// Whether it was the check of the master token that failed.
    pub(crate) fn is_of_master_token(&self) -> bool {
        matches!(
            self,
            Self::MissingMasterToken
                | Self::WrongMasterToken
                | Self::Credentials(CredentialError::Repeated(credentials::MASTER_TOKEN_SPELLING))
        )
    }
}
