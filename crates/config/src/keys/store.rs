//! Where tokens are kept.

use std::time::Duration;

use fastauth_core::{
    settings::StoreSettings,
    store::{UrlParts, check_headers, check_url, sqlite_path},
};
use http::{HeaderMap, HeaderName, HeaderValue, uri::Authority};

use crate::{
    builder::SettingsBuilder,
    draft::Draft,
    file,
    given::Given,
    key::{Feature, Group, Key, TimeLimits},
    placeholder::{is_empty_header, is_placeholder_in_header},
};

pub(crate) static GROUP: Group = Group { title: "Store", keys: &[&DATABASE_API_URL, &HEADERS, &STORE_GRACE] };

/// The embedded store's file.
const DEFAULT_URL: &str = "sqlite:fastauth.db";

pub(crate) static DATABASE_API_URL: Key = Key::addresses("database-api-url", DEFAULT_URL, |draft, urls| {
    draft.store.urls = urls;
})
.alias("database-api-path")
.concealed()
.doc(
    "Where tokens are kept: `http://HOST/PATH`, or `sqlite:FILE` with a plain path, absolute or relative to the \
             configuration file. If several servers answer for one store, a list of their addresses.",
);

pub(crate) static HEADERS: Key = Key::secret_map("headers", |draft, members| {
    for (name, value) in members {
        let Ok(parsed) = HeaderName::try_from(&name) else {
            draft.fault(&HEADERS, format!("{name:?} is not a header name"), "write a name such as \"X-Api-Key\"");
            continue;
        };
        let value = value.expose();
        let Ok(mut content) = HeaderValue::from_str(value) else {
            draft.fault(&HEADERS, format!("the value of {name:?} cannot stand in a header"), "use printable ASCII");
            continue;
        };
        if is_empty_header(value) {
            draft.fault(&HEADERS, format!("the value of {name:?} is empty"), "give it a value, or leave it out");
        } else if is_placeholder_in_header(value) {
            draft.fault(&HEADERS, format!("the value of {name:?} is a placeholder"), "replace it by the value");
        }
        content.set_sensitive(true);
        if draft.store.headers.insert(parsed, content).is_some() {
            draft.fault(&HEADERS, format!("{name:?} appears twice"), "keep one of them");
        }
    }
})
.doc("Headers that are sent with every call to a REST store: `{\"Authorization\": \"Bearer …\"}`.");

static STORE_GRACE: Key = Key::time(
    "store-grace",
    // While it lasts, a node cannot hear of a revocation.
    TimeLimits { default: Duration::ZERO, min: Duration::ZERO, max: Duration::from_secs(300), in_seconds: false },
    |draft, grace| draft.caching.grace = grace,
)
.doc(
    "How much longer a cached token is accepted while a REST store cannot be reached: what is revoked elsewhere in that time is \
     accepted for as long. Each use is counted (`fastauth_grace_accepts_total`) and logged once a minute. With `0s`, such requests are \
     answered with 503.",
);

static REST: Feature =
    Feature { name: "rest", is_built: cfg!(feature = "rest"), problem: "this build has no REST store" };

static SQLITE: Feature = Feature {
    name: "sqlite",
    is_built: cfg!(feature = "sqlite"),
    problem: "there is no REST store to keep the tokens, and this build has no embedded one",
};

/// Reads the address of the store.
pub(crate) fn complete(draft: &mut Draft<'_>) -> Option<StoreSettings> {
    if let Some(store) = &draft.parts.store {
        return Some(StoreSettings::Custom(store.clone()));
    }
    let urls = std::mem::take(&mut draft.store.urls);
    let headers = std::mem::take(&mut draft.store.headers);
    if !headers.is_empty() && !draft.is_set(&DATABASE_API_URL) {
        draft.warn("`headers` go to a REST store, and `database-api-url` names none");
    }
    let is_rest = |url: &String| {
        let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        scheme.is_some_and(|scheme| ["http", "https"].contains(&scheme.as_str()))
    };
    match urls.as_slice() {
        [] => {
            draft.fault(&DATABASE_API_URL, "the list is empty", "write at least one address");
            None
        }
        [url] if url.starts_with("sqlite:") => sqlite(draft, url),
        urls if urls.iter().all(is_rest) => rest(draft, urls, headers),
        [_] => {
            let problem = "it is neither the address of a REST store nor of an SQLite file";
            draft.fault(&DATABASE_API_URL, problem, "write \"http://HOST:PORT/PATH\" or \"sqlite:FILE\"");
            None
        }
        _ => {
            let problem = "not all of the list are addresses of a REST store";
            draft.fault(&DATABASE_API_URL, problem, "write \"http://HOST:PORT/PATH\" for each server of the store");
            None
        }
    }
}

fn rest(draft: &mut Draft<'_>, urls: &[String], headers: HeaderMap) -> Option<StoreSettings> {
    if !headers.is_empty() && urls.iter().any(|url| is_plain_to_others(url)) {
        draft.warn("`headers` go to another machine over http://, unencrypted; use https:// in `database-api-url`");
    }
    if !REST.is_built {
        draft.fault(&DATABASE_API_URL, REST.problem, "build with the feature `rest`");
        return None;
    }
    if let Some(url) = urls.iter().enumerate().find_map(|(place, url)| urls[..place].contains(url).then_some(url)) {
        let place = urls.iter().position(|other| other == url).unwrap_or_default() + 1;
        draft.fault(&DATABASE_API_URL, format!("address {place} of the list appears twice"), "keep one of them");
        return None;
    }
    match urls.iter().try_for_each(|url| check_url(url)).and_then(|()| check_headers(&headers)) {
        Ok(()) => Some(StoreSettings::Rest { urls: urls.to_vec(), headers }),
        Err(error) => {
            draft.fault(&DATABASE_API_URL, error.to_string(), "write \"http://HOST:PORT/PATH\"");
            None
        }
    }
}

fn sqlite(draft: &mut Draft<'_>, url: &str) -> Option<StoreSettings> {
    if !SQLITE.is_built {
        let remedy = "write \"http://HOST:PORT/PATH\", or build with the feature `sqlite`";
        draft.fault(&DATABASE_API_URL, SQLITE.problem, remedy);
        return None;
    }
    let Some(path) = sqlite_path(url) else {
        let problem = if url == "sqlite:" || url.starts_with("sqlite::") {
            "it names no file, and a database in memory would forget every token"
        } else {
            "it is not the plain path of a file: neither `//` or `~` in front of it, `/` behind it, nor `?`, `#`, `%`, `$` or \
             `file:` is understood"
        };
        draft.fault(&DATABASE_API_URL, problem, "write \"sqlite:FILE\", such as \"sqlite:/var/lib/app/tokens.db\"");
        return None;
    };
    let path = draft.values.directory.join(path);
    draft.warnings.extend(file::exposure(&path));
    Some(StoreSettings::Sqlite { path })
}

/// Returns true if calls to this address leave the machine unencrypted.
fn is_plain_to_others(url: &str) -> bool {
    let UrlParts { scheme, authority, .. } = UrlParts::new(url);
    let authority = authority.parse::<Authority>();
    let host = authority.as_ref().map_or("", Authority::host).trim_matches(['[', ']']).to_ascii_lowercase();
    let is_loopback = host
        .parse::<std::net::IpAddr>()
        .map_or(host == "localhost" || host.ends_with(".localhost"), |ip| ip.to_canonical().is_loopback());
    scheme.eq_ignore_ascii_case("http") && !is_loopback
}

/// Returns where tokens are kept, for people to read. A URL with a user, a password or parameters was refused.
pub(crate) fn place(store: &StoreSettings) -> String {
    match store {
        StoreSettings::Custom(store) => format!("the application's own store ({})", store.kind()),
        StoreSettings::Rest { urls, .. } => urls.join(", "),
        StoreSettings::Sqlite { path } => {
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
        }
    }
}

impl SettingsBuilder {
    /// Sets the store's address (`database-api-url`): `http://…` or `sqlite:FILE`.
    #[must_use]
    pub fn database_api_url(self, url: impl Into<String>) -> Self {
        self.set(&DATABASE_API_URL, Given::Text(url.into()))
    }

    /// Sets the addresses of a REST store that several servers answer for (`database-api-url`).
    #[must_use]
    pub fn database_api_urls<T: Into<String>>(self, urls: impl IntoIterator<Item = T>) -> Self {
        self.set(&DATABASE_API_URL, Given::list(urls))
    }

    /// Sets how much longer a cached token is accepted while a REST store cannot be reached (`store-grace`), at most five minutes. The
    /// default is no longer: such requests are answered with 503.
    #[must_use]
    pub fn store_grace(self, grace: Duration) -> Self {
        self.set(&STORE_GRACE, Given::Time(grace))
    }

    /// Sets headers that are sent with every call to a REST store (`headers`).
    #[must_use]
    pub fn headers<N: Into<String>, V: Into<fastauth_core::secret::Secret>>(
        self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.set(&HEADERS, Given::secret_map(headers))
    }
}

#[cfg(all(test, feature = "rest", feature = "sqlite"))]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{check_faults, report, shown};

    #[test]
    fn faults_name_the_remedy() {
        check_faults(&[
            ("database-api-url", json!("ftp://x"), "neither the address of a REST store nor of an SQLite file"),
            ("database-api-url", json!("sqlite::memory:"), "would forget every token"),
            ("database-api-url", json!([]), "the list is empty; write at least one address"),
            ("database-api-url", json!(["http://a", "sqlite:b"]), "not all of the list are addresses of a REST store"),
            ("database-api-url", json!(["http://a", "http://b", "http://a"]), "address 1 of the list appears twice"),
            (
                "database-api-url",
                json!(["http://a", 1]),
                "found a number in the list; write a text in quotes, or a list",
            ),
            ("database-api-url", json!(["http://a", "http://u:hush@b"]), "holds a user or a password"),
            ("store-grace", json!("6m"), "\"6m\" is out of range; write a time from \"0s\" to \"5m\", such as \"5s\""),
            ("headers", json!({ "bad name": "hush" }), "\"bad name\" is not a header name"),
            ("headers", json!({ "X-A": "hush\n" }), "the value of \"X-A\" cannot stand in a header"),
            ("headers", json!({ "Authorization": "Bearer …" }), "the value of \"Authorization\" is a placeholder"),
            ("headers", json!({ "Authorization": "Bearer ..." }), "the value of \"Authorization\" is a placeholder"),
            ("headers", json!({ "X-A": 1 }), "found a number as the value of `X-A`"),
            ("headers", json!({ "X-A": "hush", "x-a": "hush" }), "appears twice"),
        ]);
    }

    #[test]
    fn several_addresses_are_one_store() {
        let urls = json!(["http://a.example/x", "https://b.example"]);
        let report = report(&[("database-api-url", urls)]);
        assert!(report.faults().is_empty(), "{:?}", report.faults());
        assert_eq!(shown(&report, "database-api-url"), r#"["http://a.example/x", "https://b.example"]"#);
    }

    #[test]
    fn refused_url_is_not_shown() {
        for url in ["http:user:hush@db/x", "user:hush@db:5432/x", "http://db.example/?key=hush", "http://u:hush@h"] {
            let report = report(&[("database-api-url", json!(url))]);
            assert_eq!(shown(&report, "database-api-url"), "not usable");
            assert!(!format!("{:?} {:?}", report.entries(), report.faults()).contains("hush"), "{url}");
        }
    }

    #[test]
    fn loopback_is_no_other_machine() {
        for (url, expected) in [
            ("http://db.example/x", true),
            ("http://10.0.0.1", true),
            ("HTTP://10.0.0.1", true),
            ("http://db.example/a b", true),
            ("http://db.example/é", true),
            ("http://localhost/a b", false),
            ("https://db.example", false),
            ("http://localhost:1", false),
            ("http://a.localhost", false),
            ("http://127.0.0.2", false),
            ("http://[::1]:1", false),
            ("http://[::ffff:127.0.0.1]", false),
        ] {
            assert_eq!(is_plain_to_others(url), expected, "{url}");
        }
    }
}
