//! Look-ups and lists.

use fastauth_core::store::{CurrentTokens, SCANNED_AT_ONCE, SessionFilter, SessionPage, StoreError, StoredPair};

use super::{
    row::{current, current_columns, entry, pair},
    server::Readers,
    transaction::live,
    value::{Query, Value},
};

/// The live session of the name, or else the one that was written last: the second part is run only if the first finds nothing.
macro_rules! named_or_newest {
    ($columns:expr) => {
        concat!(
            "(SELECT ",
            $columns,
            " FROM fastauth.token t WHERE t.client_id = $1 AND t.session = $2 AND ",
            live!(),
            ") UNION ALL (SELECT ",
            $columns,
            " FROM fastauth.token t WHERE t.client_id = $1 AND ",
            live!(),
            " ORDER BY t.version DESC LIMIT 1) LIMIT 1"
        )
    };
}

/// The condition for a row `t` of any client to be live.
macro_rules! is_live {
    () => {
        "t.status = 'live' AND t.begun > greatest((SELECT s.floor FROM fastauth.store s),
             coalesce((SELECT c.floor FROM fastauth.client c WHERE c.client_id = t.client_id), 0))"
    };
}
pub(crate) use is_live;

pub(crate) async fn current_of(
    readers: &Readers,
    client_id: &str,
    session: Option<&str>,
) -> Result<Option<CurrentTokens>, StoreError> {
    const CURRENT: &str = named_or_newest!(current_columns!());
    let rows = readers.query(Query::new(CURRENT, [client_id.into(), name(session)])).await?;
    Ok(rows.first().map(current))
}

pub(crate) async fn pair_of(
    readers: &Readers,
    client_id: &str,
    session: Option<&str>,
) -> Result<Option<StoredPair>, StoreError> {
    const PAIR: &str = named_or_newest!("t.access_token, t.refresh_token, t.version");
    let rows = readers.query(Query::new(PAIR, [client_id.into(), name(session)])).await?;
    Ok(rows.first().map(pair))
}

fn name(session: Option<&str>) -> Value {
    Value::Bytes(session.map(|session| session.as_bytes().to_vec()))
}

/// Reads a page in the order of the primary key, from the end of the page before, so that every page costs the same. It looks at a
/// limited number of rows: if few of them match, the page is short or empty, and has a place to go on from.
pub(crate) async fn list(readers: &Readers, filter: &SessionFilter) -> Result<SessionPage, StoreError> {
    macro_rules! list {
        ($comparison:literal) => {
            concat!(
                "SELECT t.client_id, t.session, t.generation, t.kid, t.issued_at, t.renewed_at, t.access_expires_at,
                     t.refresh_expires_at, t.version,
                     CASE WHEN t.status <> 'live' OR ",
                is_live!(),
                " THEN t.status ELSE 'revoked' END AS status
                 FROM fastauth.token t
                 WHERE t.client_id >= $1 AND t.client_id <= $2 AND (t.client_id, t.session) ",
                $comparison,
                " ($3, $4) ORDER BY t.client_id, t.session LIMIT $5"
            )
        };
    }
    let Some(range) = Range::from_filter(filter) else { return Ok(SessionPage::default()) };
    let is_selective = filter.client_id_part.is_some() || filter.kid.is_some() || filter.status.is_some();
    let is_scan = is_selective || (filter.session.is_some() && range.comparison != Comparison::Equal);
    let scanned = if is_scan { SCANNED_AT_ONCE } else { filter.page_limit() };
    let sql = match range.comparison {
        Comparison::Equal => list!("="),
        Comparison::After => list!(">"),
        Comparison::From => list!(">="),
    };
    let values = [&range.first, &range.last, &range.place.0, &range.place.1].map(|key| Value::Bytes(Some(key.clone())));
    let values = [&values[..], &[(scanned as u64 + 1).into()]].concat();
    let rows = readers.query(Query::new(sql, values)).await?;
    filter.page(rows.iter().map(|row| Ok(entry(row))), scanned)
}

/// The part of the primary key that a list walks through.
struct Range {
    first: Vec<u8>,
    last: Vec<u8>,
    place: (Vec<u8>, Vec<u8>),
    comparison: Comparison,
}

/// How a row compares with the place of a [`Range`].
#[derive(PartialEq, Eq)]
enum Comparison {
    Equal,
    After,
    From,
}

impl Range {
    /// Returns `None` if no row can match.
    fn from_filter(filter: &SessionFilter) -> Option<Self> {
        let (first, last) = match (&filter.client_id, &filter.client_id_prefix) {
            (Some(client_id), Some(prefix)) if !client_id.starts_with(prefix) => return None,
            (Some(client_id), _) => (client_id.as_str(), client_id.clone().into_bytes()),
            // 0xff sorts after all UTF-8, which never contains it.
            (None, Some(prefix)) => (prefix.as_str(), [prefix.as_bytes(), &[0xff]].concat()),
            (None, None) => ("", vec![0xff]),
        };
        let bytes = |text: &str| text.as_bytes().to_vec();
        if let (Some(client_id), Some(session)) = (&filter.client_id, &filter.session) {
            if filter.after.as_ref().is_some_and(|after| (&after.0, &after.1) >= (client_id, session)) {
                return None;
            }
            let place = (bytes(client_id), bytes(session));
            return Some(Self { first: bytes(first), last, place, comparison: Comparison::Equal });
        }
        Some(match &filter.after {
            Some((client_id, session)) => Self {
                first: bytes(client_id.as_str().max(first)),
                last,
                place: (bytes(client_id), bytes(session)),
                comparison: Comparison::After,
            },
            None => Self { first: bytes(first), last, place: (Vec::new(), Vec::new()), comparison: Comparison::From },
        })
    }
}
