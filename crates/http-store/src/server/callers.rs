//! Admits callers: those with the bearer token or, if there is none, programs on this machine.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use http::{
    HeaderMap, HeaderName, Uri,
    header::{AUTHORIZATION, HOST, ORIGIN},
    uri::Authority,
};

use super::reply::StoreProblem;
use fastauth_core::{
    credential,
    secret::Secret,
    store::{StoreError, StoreErrorKind},
};

/// The shortest bearer token, in characters. A caller that guesses it has every client's tokens.
const MIN_BEARER_LEN: usize = 16;
/// The fewest different characters.
const MIN_VARIETY: usize = 6;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The callers that a service answers.
#[derive(Clone)]
pub(super) enum AllowedCallers {
    /// Programs that call it by a name of this machine.
    Local,
    /// Those with one of these tokens.
    Bearer(Arc<[Secret]>),
    /// Every caller.
    All,
}

impl AllowedCallers {
    /// Restricts the callers to those with a token, and adds this one, unless it could be guessed.
    pub(super) fn and_bearer(&self, token: Secret) -> Result<Self, StoreError> {
        let text = token.expose();
        let mut characters: Vec<_> = text.chars().collect();
        let length = characters.len();
        characters.sort_unstable();
        characters.dedup();
        if length < MIN_BEARER_LEN || characters.len() < MIN_VARIETY {
            return Err(StoreError::new(
                StoreErrorKind::Failed,
                format!(
                    "the bearer token has {length} characters, {} of them different, and could be guessed: it needs \
                     {MIN_BEARER_LEN} or more and {MIN_VARIETY} different ones, such as `fastauth keygen` makes",
                    characters.len()
                ),
            ));
        }
        let earlier = if let Self::Bearer(tokens) = self { &tokens[..] } else { &[] };
        Ok(Self::Bearer(earlier.iter().cloned().chain([token]).collect()))
    }

    /// Refuses the requests of all other callers.
    pub(super) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), StoreProblem> {
        match self {
            Self::All => Ok(()),
            Self::Bearer(tokens) if brings_one_of(tokens, headers) => Ok(()),
            Self::Bearer(_) => Err(StoreProblem::unauthorized()),
            // A browser names the origin of a page that sends a request. A page of another site whose own name leads here is
            // known by that name, in `Host`.
            Self::Local if headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE) => {
                Err(StoreProblem::forbidden("a store without a bearer token does not answer browsers"))
            }
            Self::Local if is_for_this_machine(uri, headers) => Ok(()),
            Self::Local => Err(StoreProblem::forbidden(
                "a store without a bearer token answers only its own machine: call it as localhost or 127.0.0.1",
            )),
        }
    }
}

fn brings_one_of(tokens: &[Secret], headers: &HeaderMap) -> bool {
    let Some(sent) = credential::single(headers, &AUTHORIZATION).and_then(credential::bearer) else { return false };
    // All are compared, so that the time does not show which one it was.
    tokens.iter().fold(false, |found, token| token.matches(sent) | found)
}

/// Returns true if each name by which a request calls this server is one of this machine. Browsers always send a name.
fn is_for_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    let in_headers = headers.get_all(HOST).iter().map(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let in_uri = uri.authority().cloned().map(Some);
    in_headers.chain(in_uri).all(|name| name.is_some_and(|name| !name.as_str().contains('@') && is_local(name.host())))
}

fn is_local(host: &str) -> bool {
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match in_brackets {
        Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|address| address.to_canonical().is_loopback()),
        None => {
            host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost")
                || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_recognised() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost:6789", true),
            ("localhost.:1", true),
            ("127.0.0.1", true),
            ("127.0.0.1:6789", true),
            ("127.255.255.254", true),
            ("[::1]", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:6789", false),
            ("[::]:6789", false),
            ("[::2]", false),
            ("[fe80::1]", false),
            ("10.0.0.1", false),
            ("128.0.0.1", false),
            ("127.0.0.1.example", false),
            ("127.1", false),
            ("2130706433", false),
            ("0x7f.0.0.1", false),
            ("localhost.example", false),
            ("rebound.localhost.example:6789", false),
            ("evil.example", false),
            ("evil.example@localhost", false),
            ("localhost@evil.example", false),
            ("localhost evil.example", false),
            ("", false),
            (":80", false),
        ] {
            let headers = HeaderMap::from_iter([(HOST, host.parse().expect(host))]);
            assert_eq!(is_for_this_machine(&Uri::from_static("/token"), &headers), expected, "{host:?}");
        }
    }

    #[test]
    fn one_foreign_name_is_enough_to_refuse() {
        let headers = |hosts: &[&str]| hosts.iter().map(|host| (HOST, host.parse().expect("text"))).collect();
        for (uri, hosts, expected) in [
            ("/token", &[][..], true),
            ("http://localhost/token", &[], true),
            ("http://evil.example/token", &[], false),
            ("http://evil.example/token", &["localhost"], false),
            ("http://localhost/token", &["evil.example"], false),
            ("/token", &["localhost", "evil.example"], false),
            ("/token", &["localhost", "127.0.0.1"], true),
        ] {
            assert_eq!(is_for_this_machine(&uri.parse().expect(uri), &headers(hosts)), expected, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn a_bearer_that_could_be_guessed_is_refused_without_showing_it() {
        for weak in
            ["", "x", "hush-hush", "hush-hush-hush-", "xxxxxxxxxxxxxxxxxxxxxxxx", "ababababababababab", "éèéèéè"]
        {
            let error = AllowedCallers::Local.and_bearer(Secret::from(weak)).err().expect(weak).to_string();
            assert!(error.contains("fastauth keygen") && (weak.len() < 2 || !error.contains(weak)), "{error}");
        }
        assert!(AllowedCallers::Local.and_bearer(Secret::generate()).is_ok());
        assert!(
            AllowedCallers::Local.and_bearer(Secret::from("hush-hush-hush-h")).is_err(),
            "five different characters"
        );
        assert!(AllowedCallers::Local.and_bearer(Secret::from("correct-horse-battery")).is_ok());
    }

    #[test]
    fn each_of_two_bearers_is_admitted_and_no_other() {
        let one = AllowedCallers::Local.and_bearer(Secret::from("correct-horse-battery")).unwrap();
        let both = one.and_bearer(Secret::from("staple-horse-correct")).unwrap();
        for (sent, expected) in [
            ("Bearer correct-horse-battery", [true, true]),
            ("Bearer staple-horse-correct", [false, true]),
            ("Bearer correct-horse-battery,staple-horse-correct", [false, false]),
            ("Bearer ", [false, false]),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, sent.parse().unwrap())]);
            let admits = |callers: &AllowedCallers| callers.admit(&Uri::from_static("/token"), &headers).is_ok();
            assert_eq!([admits(&one), admits(&both)], expected, "{sent}");
        }
    }
}
