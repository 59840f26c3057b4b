//! What a request that was let through carries, and when its right ends.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, pending, poll_fn},
    ops::Deref,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use crate::{
    clock::Clock,
    store::{Comparison, FamilyFilter, FamilyStatus, Stamp, StoreError, TokenDigest, TokenStore},
    token::Claims,
};

/// How long the wall clock is trusted to go on as the timer does.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// The least time between two looks at one log-in: where others write to the store all the time, each write may concern it.
const LEAST_INTERVAL: Duration = Duration::from_millis(250);
/// How soon a store that failed is asked again, at the latest.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// For how many intervals a right outlives the last answer of the store.
const TOLERANCE: u32 = 6;

/// Proof that a request passed its checks. The guard puts it into the extensions of every request that it lets through
/// to a guarded path, and nothing else can make one.
///
/// With the feature `axum` it is an extractor, and so is `Option<Permit>`.
#[derive(Clone, Debug)]
pub struct Permit {
    master: Option<Arc<str>>,
    access: Option<Arc<Access>>,
}

impl Permit {
    pub(crate) fn new(master: Option<Arc<str>>, access: Option<Arc<Access>>) -> Self {
        Self { master, access }
    }

    /// Whom the access token was issued to; `None` where only the master token was asked for.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.claims().map(Claims::client_id)
    }

    /// What the access token says; `None` where only the master token was asked for.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.access.as_ref().map(|access| &access.claims)
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
        self.access.is_some()
    }

    /// Waits until the access token would open the path no more: for what goes on after the request was let through, such as
    /// a WebSocket or a long answer. It never ends where only the master token was asked for.
    ///
    /// ```
    /// # async fn serve(permit: fastauth::Permit, work: impl Future<Output = ()>) {
    /// tokio::select! {
    ///     () = work => {}
    ///     reason = permit.ended() => tracing::info!("stopped: {reason}"),
    /// }
    /// # }
    /// ```
    ///
    /// What this process issues, renews or revokes is noticed at once; what other processes do to an SQLite file within
    /// 50 ms, or 300 ms while they write all the time. Any other store is asked again every
    /// [`websocket-recheck`](crate::SettingsBuilder::websocket_recheck), once for all that wait for the same log-in. Where
    /// the store cannot be asked for six times as long, the right ends, too.
    ///
    /// It needs the time driver of a tokio runtime. Nothing is watched before the future is polled, or after it is dropped.
    pub fn ended(&self) -> Ended {
        Ended(match &self.access {
            Some(access) => Right::Lasts(Box::pin(end(Arc::clone(access)))),
            None => Right::Lasts(Box::pin(pending())),
        })
    }
}

/// Resolves when the right of a [`Permit`] ends: see [`Permit::ended`]. Once it has resolved, it can be polled again, and
/// gives the same reason.
pub struct Ended(Right);

enum Right {
    Lasts(Pin<Box<dyn Future<Output = EndReason> + Send>>),
    Ended(EndReason),
}

impl Future for Ended {
    type Output = EndReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<EndReason> {
        let reason = match &mut self.0 {
            Right::Lasts(end) => ready!(end.as_mut().poll(cx)),
            Right::Ended(reason) => *reason,
        };
        // What it took to wait goes now.
        self.0 = Right::Ended(reason);
        Poll::Ready(reason)
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ended(..)")
    }
}

/// Why the right of a [`Permit`] has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The access token has expired.
    #[error("the access token has expired")]
    Expired,
    /// The client was issued another access token in its place.
    #[error("the access token was replaced")]
    Superseded,
    /// The access token was revoked.
    #[error("the access token was revoked")]
    Revoked,
    /// For too long, the store could not say whether the access token is still good.
    #[error("the access token could not be confirmed")]
    Unconfirmed,
}

/// An access token that was found good, and who knows how long it stays so.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    claims: Claims,
    /// What the store has to hold, where that is not the digest of the claims' own token.
    held: Option<Box<TokenDigest>>,
    /// From before the store confirmed it.
    stamp: Option<Stamp>,
    ends: Arc<Ends>,
}

impl Access {
    /// The access of a token that is confirmed after this.
    pub(crate) fn of(claims: Claims, ends: &Arc<Ends>) -> Self {
        let stamp = ends.stamp(claims.client_id());
        Self { claims, held: None, stamp, ends: Arc::clone(ends) }
    }

    /// The access by a ticket, which is bound to a token of this digest.
    pub(crate) fn by_ticket(claims: Claims, held: TokenDigest, ends: &Arc<Ends>) -> Self {
        Self { held: Some(Box::new(held)), ..Self::of(claims, ends) }
    }

    /// Whether the claims are of a token, and not of a ticket.
    pub(crate) fn is_by_token(&self) -> bool {
        self.held.is_none()
    }

    /// From before the store confirmed it.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// The log-in; tokens that name none are held under the empty name.
    pub(crate) fn family(&self) -> &str {
        self.claims.family().map(|(family, _)| family).unwrap_or_default()
    }

    /// How the token compares with what the store holds, where the store can tell at once.
    pub(crate) fn compare_now(&self, store: &dyn TokenStore) -> Option<Result<Comparison, StoreError>> {
        // Of a ticket's token there is the digest alone.
        let token = self.is_by_token().then(|| self.claims.token())?;
        store.compare_now(self.client_id(), Some(self.family()), token)
    }

    /// The same, where the store has to be waited for.
    pub(crate) async fn compare(&self, store: &dyn TokenStore) -> Result<Comparison, StoreError> {
        let held = store.load(self.client_id(), Some(self.family())).await?;
        Ok(Comparison::of(self.digest(), held.as_ref()))
    }

    /// The digest of the access token.
    pub(crate) fn digest(&self) -> TokenDigest {
        self.held.as_deref().copied().unwrap_or_else(|| TokenDigest::of(self.claims.token()))
    }
}

impl Deref for Access {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.claims
    }
}

#[cfg(test)]
impl Access {
    /// As if it was confirmed by a store whose changes give this stamp.
    pub(crate) fn stamped(claims: Claims, stamp: Stamp) -> Self {
        let ends = Ends::new(Arc::new(crate::store::MemoryStore::new()), Clock::default(), Duration::from_secs(5));
        Self { stamp: Some(stamp), ..Self::of(claims, &Arc::new(ends)) }
    }
}

/// Knows when rights end. It does nothing unless somebody waits.
pub(crate) struct Ends {
    store: Arc<dyn TokenStore>,
    clock: Clock,
    /// How often a store is asked that does not tell of changes.
    interval: Duration,
    /// By client and family, as long as somebody waits.
    logins: Mutex<HashMap<(String, String), Weak<Login>>>,
}

impl Ends {
    pub(crate) fn new(store: Arc<dyn TokenStore>, clock: Clock, interval: Duration) -> Self {
        Self { store, clock, interval, logins: Mutex::default() }
    }

    fn stamp(&self, client_id: &str) -> Option<Stamp> {
        self.store.changes().map(|changes| changes.stamp(client_id))
    }

    fn has_changed(&self, stamp: Option<Stamp>) -> bool {
        stamp.zip(self.store.changes()).is_some_and(|(stamp, changes)| changes.have_come(stamp))
    }

    /// Whether nothing can have happened since then, whoever did it.
    fn is_sure_since(&self, stamp: Option<Stamp>) -> bool {
        let (known, now_ms) = (stamp.zip(self.store.changes()), self.clock.unix_now_ms());
        known.is_some_and(|(stamp, changes)| changes.tells_of_others() && changes.unchanged_since(stamp, now_ms))
    }

    /// Waits for a change that may concern the client of the stamp.
    async fn changed_since(&self, stamp: Option<Stamp>) {
        match stamp.zip(self.store.changes()) {
            Some((stamp, changes)) => changes.changed_since(stamp).await,
            None => pending().await,
        }
    }

    fn login(self: &Arc<Self>, access: &Access) -> Arc<Login> {
        let key = (access.client_id().to_owned(), access.family().to_owned());
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let known = logins.get(&key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let login = Arc::new(Login { key: key.clone(), ends: Arc::clone(self), answer: AsyncMutex::default() });
            logins.insert(key, Arc::downgrade(&login));
            login
        })
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("interval", &self.interval).finish_non_exhaustive()
    }
}

/// A log-in that somebody waits for the end of.
struct Login {
    /// Client and family.
    key: (String, String),
    ends: Arc<Ends>,
    /// The last answer of the store. Who asks holds the lock, so that all others get the answer as well.
    answer: AsyncMutex<Option<Answer>>,
}

/// What the store said of a log-in.
#[derive(Clone, Copy)]
struct Answer {
    /// When the store was asked.
    asked_at: Instant,
    /// From before that.
    stamp: Option<Stamp>,
    /// The canonical access token, or that there was no answer.
    held: Result<Option<TokenDigest>, ()>,
    /// When the store is to be asked again, unless it tells of changes.
    due: Instant,
    /// Whether the family was revoked, once that has been asked.
    is_revoked: Option<bool>,
}

impl Login {
    /// An answer of the store that is newer than `seen`, and that nothing has made out of date since.
    async fn ask(&self, seen: Instant) -> Answer {
        let mut answer = self.answer.lock().await;
        let known = answer.filter(|known| known.asked_at > seen && !self.ends.has_changed(known.stamp));
        if let Some(known) = known {
            return known;
        }
        let (client_id, family) = (&self.key.0, &self.key.1);
        let (asked_at, stamp) = (Instant::now(), self.ends.stamp(client_id));
        let held = match self.ends.store.load(client_id, Some(family)).await {
            Ok(held) => Ok(held.and_then(|held| held.access)),
            Err(error) => {
                let error = error.with_causes();
                tracing::debug!(target: "fastauth", "the token of something open could not be confirmed: {error}");
                Err(())
            }
        };
        let interval = self.ends.interval;
        let due = asked_at + jittered(if held.is_ok() { interval } else { interval.min(RETRY_INTERVAL) });
        *answer.insert(Answer { asked_at, stamp, held, due, is_revoked: None })
    }

    /// Why another token than that of an access is held.
    async fn why(&self) -> EndReason {
        let mut answer = self.answer.lock().await;
        let is_revoked = match answer.as_ref().and_then(|answer| answer.is_revoked) {
            Some(is_revoked) => is_revoked,
            None => self.is_revoked().await,
        };
        if let Some(answer) = answer.as_mut() {
            answer.is_revoked = Some(is_revoked);
        }
        if is_revoked { EndReason::Revoked } else { EndReason::Superseded }
    }

    /// Whether the family was revoked, though the client has another one. A store that cannot tell does not.
    async fn is_revoked(&self) -> bool {
        let (client_id, family) = &self.key;
        // One look-up, however many log-ins the client has.
        let filter = FamilyFilter {
            client_id: Some(client_id.clone()),
            family: Some(family.clone()),
            ..FamilyFilter::default()
        };
        let page = timeout(RETRY_INTERVAL, self.ends.store.list(&filter)).await;
        let page = page.ok().and_then(Result::ok).unwrap_or_default();
        page.families.iter().any(|entry| entry.family == *family && entry.status != FamilyStatus::Live)
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let mut logins = self.ends.logins.lock().unwrap_or_else(PoisonError::into_inner);
        // It may be another one's by now.
        if logins.get(&self.key).is_some_and(|login| login.strong_count() == 0) {
            logins.remove(&self.key);
        }
    }
}

async fn end(access: Arc<Access>) -> EndReason {
    let login = access.ends.login(&access);
    first(expiry(access.expires_at(), &access.ends.clock), loss(&access, &login)).await
}

/// Waits until a token has expired, which it has when its last second is over.
async fn expiry(expires_at: u64, clock: &Clock) -> EndReason {
    let end_ms = expires_at.saturating_add(1).saturating_mul(1000);
    loop {
        match end_ms.saturating_sub(clock.unix_now_ms()) {
            0 => return EndReason::Expired,
            left => clock.wait_up_to(Duration::from_millis(left).min(CLOCK_INTERVAL)).await,
        }
    }
}

/// Waits until the store holds something else than the token, or has not answered for too long.
async fn loss(access: &Access, login: &Login) -> EndReason {
    let ends = &access.ends;
    let started = Instant::now();
    let (mut stamp, mut due) = (access.stamp, started + jittered(ends.interval));
    // When it was confirmed, and when an answer was seen, which may have been none.
    let (mut confirmed, mut seen) = (started, started);
    loop {
        first(ends.changed_since(stamp), sleep_until(due)).await;
        if ends.is_sure_since(stamp) {
            (confirmed, due) = (Instant::now(), Instant::now() + jittered(ends.interval));
            continue;
        }
        if seen > started {
            sleep_until(seen + LEAST_INTERVAL).await;
        }
        let patience = confirmed + ends.interval * TOLERANCE;
        // A moment for the store at least: it may have been this process that stood still.
        let until = patience.max(Instant::now() + ends.interval.min(RETRY_INTERVAL));
        let Ok(answer) = timeout_at(until, login.ask(seen)).await else { return EndReason::Unconfirmed };
        match answer.held {
            Ok(Some(held)) if held == access.digest() => confirmed = answer.asked_at,
            Ok(Some(_)) => return timeout(RETRY_INTERVAL, login.why()).await.unwrap_or(EndReason::Superseded),
            Ok(None) => return EndReason::Revoked,
            // A store that fails at once is never timed out.
            Err(()) if Instant::now() >= patience => return EndReason::Unconfirmed,
            Err(()) => {}
        }
        // What is not known is not forgotten: a change that could not be looked at is looked at later.
        (stamp, due, seen) = (answer.held.ok().and(answer.stamp), answer.due, answer.asked_at);
    }
}

/// Three quarters of a time, and up to a quarter more, so that not all ask at once.
fn jittered(time: Duration) -> Duration {
    let share = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    time * 3 / 4 + time / 4 * share / 256
}

/// What the first of two futures gives.
async fn first<T>(a: impl Future<Output = T>, b: impl Future<Output = T>) -> T {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| match a.as_mut().poll(cx) {
        Poll::Pending => b.as_mut().poll(cx),
        ready => ready,
    })
    .await
}
