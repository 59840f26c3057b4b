//! Lists of sessions: filters, pages and entries.

/// The largest page of a list.
pub const MAX_PAGE: usize = 1000;

/// How many sessions a store looks at for one page: some ten milliseconds.
pub const SCANNED_AT_ONCE: usize = 10_000;

/// A filter for [`TokenStore::list`](super::TokenStore::list). A session matches if every field that is set matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// The exact client id.
    pub client_id: Option<String>,
    /// The exact session name. Together with a client id it is one look-up, however many sessions the client has.
    pub session: Option<String>,
    /// The beginning of the client id.
    pub client_id_prefix: Option<String>,
    /// A part of the client id.
    pub client_id_part: Option<String>,
    /// The id of the key that signed the pair.
    pub kid: Option<String>,
    /// The status.
    pub status: Option<SessionStatus>,
    /// Only sessions after this client id and session: the [`next`](SessionPage::next) of the page before.
    pub after: Option<(String, String)>,
    /// The largest page that is wanted, or 0 for the store's own limit. A store may return fewer.
    pub limit: usize,
}

impl SessionFilter {
    /// Returns how many sessions a page may have.
    #[must_use]
    pub fn page_limit(&self) -> usize {
        if self.limit == 0 { MAX_PAGE } else { self.limit.min(MAX_PAGE) }
    }

    /// Returns true if a session matches; `after` and `limit` are not looked at.
    #[must_use]
    pub fn admits(&self, entry: &SessionEntry) -> bool {
        let client_id = entry.client_id.as_str();
        self.client_id.as_ref().is_none_or(|id| client_id == id)
            && self.session.as_ref().is_none_or(|session| entry.session == *session)
            && self.client_id_prefix.as_ref().is_none_or(|prefix| client_id.starts_with(prefix))
            && self.client_id_part.as_ref().is_none_or(|part| client_id.contains(part))
            && self.kid.as_ref().is_none_or(|kid| entry.kid == *kid)
            && self.status.is_none_or(|status| entry.status == status)
    }

    /// Fills a page with those of `entries` that match. They begin after the page before, and come in the order of client ids and
    /// sessions. No more than `scanned` of them are looked at: if few match, the page is short or empty, and says where to go on.
    ///
    /// # Errors
    ///
    /// Returns the error of an entry that cannot be read.
    pub fn page<E>(
        &self,
        entries: impl IntoIterator<Item = Result<SessionEntry, E>>,
        scanned: usize,
    ) -> Result<SessionPage, E> {
        let place_of = |entry: &SessionEntry| (entry.client_id.clone(), entry.session.clone());
        let mut page = SessionPage::default();
        let mut place = None;
        for (seen, entry) in entries.into_iter().enumerate() {
            if seen == scanned {
                page.next = place;
                return Ok(page);
            }
            let entry = entry?;
            place = Some(place_of(&entry));
            if !self.admits(&entry) {
                continue;
            }
            if page.sessions.len() == self.page_limit() {
                page.next = page.sessions.last().map(place_of);
                return Ok(page);
            }
            page.sessions.push(entry);
        }
        Ok(page)
    }
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionEntry>,
    /// The [`after`](SessionFilter::after) of the next page; `None` on the last one.
    pub next: Option<(String, String)>,
}

/// One session in a list. It contains no token.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionEntry {
    /// The client id.
    pub client_id: String,
    /// The name of the session; empty if its tokens name none.
    pub session: String,
    /// How many times the session was refreshed.
    pub generation: u64,
    /// The id of the key that signed the pair; empty if it is not known.
    pub kid: String,
    /// The status of the session.
    pub status: SessionStatus,
    /// The time of the login, in seconds since the Unix epoch.
    pub issued_at: u64,
    /// The time of the last refresh, in seconds since the Unix epoch; at first that of the login.
    pub renewed_at: u64,
    /// The last second of the access token since the Unix epoch; 0 if it is not known.
    pub access_expires_at: u64,
    /// The last second of the refresh token since the Unix epoch; 0 if it is not known.
    pub refresh_expires_at: u64,
    /// The version of the last write to the session.
    pub version: u64,
}

/// The status of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionStatus {
    /// Its tokens are accepted until they expire.
    Live,
    /// Its tokens were revoked.
    Revoked,
    /// Its tokens were revoked because a consumed refresh token was presented.
    Reused,
}

impl SessionStatus {
    const ALL: [Self; 3] = [Self::Live, Self::Revoked, Self::Reused];

    /// Returns the name of the status in the store API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Revoked => "revoked",
            Self::Reused => "reused",
        }
    }

    /// Returns the status of this [name](Self::as_str).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}
