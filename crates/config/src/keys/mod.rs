//! The table of the configuration keys: a static for each, beside the method of the builder that sets it in code.

use crate::key::{Group, Key, ValueKind};

pub(crate) mod application;
pub(crate) mod cache;
pub(crate) mod endpoints;
pub(crate) mod logs;
pub(crate) mod paths;
pub(crate) mod rules;
pub(crate) mod secrets;
pub(crate) mod store;
pub(crate) mod tokens;
pub(crate) mod websockets;

/// Every key there is, in the order in which they are read, and in which reports show them.
pub(crate) static GROUPS: [&Group; 10] = [
    &application::GROUP,
    &store::GROUP,
    &secrets::GROUP,
    &paths::GROUP,
    &rules::GROUP,
    &tokens::GROUP,
    &cache::GROUP,
    &endpoints::GROUP,
    &websockets::GROUP,
    &logs::GROUP,
];

/// Returns every key there is.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|group| group.keys).copied()
}

/// Returns the keys that a variable without a prefix sets, too, with that variable.
pub(crate) fn bare() -> impl Iterator<Item = (&'static Key, &'static str)> {
    all().filter_map(|key| Some((key, key.bare?)))
}

/// Returns the key that names the file of a secret, or the secret whose file a key names.
pub(crate) fn twin(key: &'static Key) -> Option<&'static Key> {
    match key.kind {
        ValueKind::SecretFile { of } => Some(of),
        ValueKind::Secret { .. } => all().find(|other| matches!(other.kind, ValueKind::SecretFile { of } if of == key)),
        _ => None,
    }
}

/// Returns the key of a spelling in kebab-case, snake_case or both mixed.
pub(crate) fn find(spelling: &str) -> Option<&'static Key> {
    all().find(|key| key.is_spelled(spelling))
}

/// Returns true if a key can guard a path.
pub(crate) fn says_what_to_guard(key: &Key) -> bool {
    [&paths::MASTER_TOKEN_PATHS, &paths::ACCESS_TOKEN_PATHS, &rules::RULES, &rules::DEFAULT_LEVEL].contains(&key)
}

/// The known key that is most like an unknown one.
pub(crate) struct Nearest {
    pub(crate) name: &'static str,
    /// How many changes it is away.
    pub(crate) distance: usize,
}

/// Returns the known key that is most like this spelling.
pub(crate) fn nearest(spelling: &str) -> Nearest {
    let name = spelling.replace('_', "-").to_ascii_lowercase();
    all()
        .flat_map(|key| [Some(key.name), key.alias])
        .flatten()
        .map(|known| Nearest { name: known, distance: strsim::damerau_levenshtein(&name, known) })
        .min_by_key(|nearest| nearest.distance)
        .unwrap_or(Nearest { name: "", distance: usize::MAX })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    #[cfg(feature = "rate-limit")]
    use std::time::Duration;

    #[cfg(feature = "rate-limit")]
    use fastauth_core::{
        issue::TokensPerClient,
        keys::StoreFormat,
        policy::{Ambiguous, Level, Rule},
        settings::{
            CacheMode, CookieSameSite, ErrorShape, LogDetail, RefreshTransport, Reload, ResponseShape, WebSocketRefusal,
        },
    };

    use super::*;
    #[cfg(feature = "rate-limit")]
    use crate::builder::SettingsBuilder;

    #[test]
    fn names_are_unique_and_documented() {
        let mut names = BTreeSet::new();
        for key in all() {
            for name in [Some(key.name), key.alias].into_iter().flatten() {
                assert!(names.insert(name), "{name} names two keys");
                assert_eq!(find(&name.replace('-', "_")), Some(key));
            }
            assert!(!key.doc.is_empty() || matches!(key.kind, ValueKind::Ignored), "{key:?} has no text");
        }
    }

    #[test]
    fn defaults_are_within_their_limits() {
        for key in all() {
            match &key.kind {
                ValueKind::Number { limits, .. } => {
                    assert!(limits.default.is_none_or(|number| (limits.min..=limits.max).contains(&number)), "{key:?}");
                }
                ValueKind::Time { limits, .. } => {
                    assert_eq!(limits.problem(limits.default), None, "{key:?}");
                }
                ValueKind::Choice { choices, .. } => assert!(choices.len() > 1, "{key:?}"),
                _ => {}
            }
        }
    }

    /// Calls methods of the builder, each by its name.
    macro_rules! built {
        ($($method:ident($value:expr)),+ $(,)?) => {
            vec![$((stringify!($method), SettingsBuilder::default().$method($value).code)),+]
        };
    }

    #[cfg(feature = "rate-limit")]
    #[test]
    fn each_key_has_a_method_of_its_name() {
        let built = built![
            app_name("a"),
            credential_sources(["ACCESS-TOKEN"]),
            reload(Reload::Watch),
            log_details([LogDetail::Path]),
            request_id_header("x-id"),
            database_api_url("sqlite:a"),
            headers([("a", "b")]),
            master_token("a"),
            master_token_file("a"),
            master_tokens([("a", "b")]),
            cryptography_key("a"),
            cryptography_key_file("a"),
            previous_cryptography_keys(["a"]),
            cryptography_key_signs_from(std::time::UNIX_EPOCH),
            master_token_paths(["/a"]),
            access_token_paths(["/a"]),
            public_paths(["/a"]),
            base_path("/a"),
            case_insensitive(true),
            windows(true),
            skip_preflight(true),
            ambiguous(Ambiguous::Protect),
            shadow(true),
            rules([Rule::prefix("/a").access()]),
            default_level(Level::Deny),
            service_claim([("principal", "service")]),
            access_ttl(Duration::from_secs(1)),
            refresh_ttl(Duration::from_secs(1)),
            session_ttl(Duration::from_secs(1)),
            refresh_grace(Duration::ZERO),
            access_grace(Duration::ZERO),
            tokens_per_client(TokensPerClient::Many),
            max_tokens_per_client(2),
            store_format(StoreFormat::Plain),
            store_grace(Duration::from_secs(1)),
            issuer("a"),
            audience("a"),
            cache(false),
            cache_capacity(1),
            cache_mode(CacheMode::Replica),
            cache_ttl(Duration::ZERO),
            allow_get(false),
            response_shape(ResponseShape::OAuth),
            error_shape(ErrorShape::Problem),
            refresh_transport(RefreshTransport::Cookie),
            cookie_same_site(CookieSameSite::None),
            allowed_origins(["https://a.example"]),
            rate_limit_per_minute(1),
            rate_limit_burst(1),
            websocket_recheck(Duration::from_secs(1)),
            websocket_refusal(WebSocketRefusal::Close),
        ];
        for (method, code) in &built {
            let names: Vec<_> = code.iter().map(|(key, _)| key.name.replace('-', "_")).collect();
            assert_eq!(names, [*method]);
        }
        let settable =
            all().filter(|key| !matches!(key.kind, ValueKind::Ignored)).map(|key| key.name.replace('-', "_"));
        let with_method: BTreeSet<_> = built.iter().map(|(method, _)| (*method).to_owned()).collect();
        assert_eq!(settable.collect::<BTreeSet<_>>(), with_method);
    }

    #[test]
    fn slip_of_the_hand_is_recognised() {
        for (slip, name) in [("acces-token-paths", "access-token-paths"), ("MASTER_TOKE", "master-token")] {
            assert_eq!(nearest(slip).name, name);
        }
    }
}
