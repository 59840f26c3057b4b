//! Finds the call that a path names.

use std::borrow::Cow;

use http::Method;

use super::reply::StoreProblem;
use fastauth_core::{query, store::StoreCall};

/// Stands in a path for the id of a client or session that is in the query.
const IN_QUERY: &str = "-";

/// A call of the store API, by the one path that it has below the mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/token`, the one path of the first version.
    Pair,
    /// `/v2/clients/{id}/token`
    Client(&'a str),
    /// `/v2/clients/{id}/rotate`
    Rotate(&'a str),
    /// `/v2/clients/{id}/access-token`
    AccessToken(&'a str),
    /// `/v2/clients/{id}/sessions/{session}`
    Session(&'a str, &'a str),
    /// `/v2/clients`
    List,
    /// `/v2/revoke-all`
    RevokeAll,
    /// `/v2/tickets`
    Tickets,
    /// `/v2/changes`
    Changes,
    /// `/v2/snapshot`
    Snapshot,
    /// `/v2/tokens:batchGet`
    Batch,
    /// `/v2/openapi.json`
    Description,
}

impl<'a> Route<'a> {
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        // One more than any path has, so that no other is cut to one of them.
        let segments: Vec<_> = path.strip_prefix('/')?.splitn(6, '/').collect();
        match segments[..] {
            ["v2", "clients", id, "token"] => Some(Self::Client(id)),
            ["v2", "clients", id, "rotate"] => Some(Self::Rotate(id)),
            ["v2", "clients", id, "access-token"] => Some(Self::AccessToken(id)),
            ["v2", "clients", id, "sessions", session] => Some(Self::Session(id, session)),
            ["v2", "clients"] => Some(Self::List),
            ["v2", "revoke-all"] => Some(Self::RevokeAll),
            ["v2", "tickets"] => Some(Self::Tickets),
            ["v2", "changes"] => Some(Self::Changes),
            ["v2", "snapshot"] => Some(Self::Snapshot),
            ["v2", "tokens:batchGet"] => Some(Self::Batch),
            ["v2", "openapi.json"] => Some(Self::Description),
            ["token"] => Some(Self::Pair),
            _ => None,
        }
    }

    /// Returns its path with names in place of ids.
    pub(super) fn template(self) -> &'static str {
        match self {
            Self::Pair => "/token",
            Self::Client(_) => "/v2/clients/{client_id}/token",
            Self::Rotate(_) => "/v2/clients/{client_id}/rotate",
            Self::AccessToken(_) => "/v2/clients/{client_id}/access-token",
            Self::Session(..) => "/v2/clients/{client_id}/sessions/{session}",
            Self::List => "/v2/clients",
            Self::RevokeAll => "/v2/revoke-all",
            Self::Tickets => "/v2/tickets",
            Self::Changes => "/v2/changes",
            Self::Snapshot => "/v2/snapshot",
            Self::Batch => "/v2/tokens:batchGet",
            Self::Description => "/v2/openapi.json",
        }
    }

    /// Returns what a method asks of the store, by the name that [`StoreCall`] gives it if it is one.
    pub(super) fn operation(self, method: &Method) -> &'static str {
        let call = match (self, method) {
            (Self::Pair, &Method::GET | &Method::HEAD) => StoreCall::Pair,
            (Self::Client(_), &Method::GET | &Method::HEAD) => StoreCall::Load,
            (Self::Pair | Self::Client(_), &Method::POST) => StoreCall::Save,
            (Self::Pair | Self::Client(_) | Self::Session(..), &Method::DELETE) => StoreCall::Revoke,
            (Self::AccessToken(_), &Method::DELETE) => StoreCall::RevokeAccess,
            (Self::Rotate(_), &Method::POST) => StoreCall::Rotate,
            (Self::List, &Method::GET | &Method::HEAD) => StoreCall::List,
            (Self::Tickets, &Method::POST) => StoreCall::Spend,
            (Self::RevokeAll, &Method::POST) => return "revoke_all",
            (Self::Changes, &Method::GET | &Method::HEAD) => return "follow",
            (Self::Snapshot, &Method::GET | &Method::HEAD) => return "snapshot",
            (Self::Batch, &Method::POST) => return "batch_get",
            (Self::Description, &Method::GET | &Method::HEAD) => return "describe",
            _ => return "other",
        };
        call.as_str()
    }

    /// Returns the methods that it allows.
    pub(super) fn methods(self, speaks_v2: bool) -> &'static [Method] {
        match self {
            Self::Pair if !speaks_v2 => &[Method::GET, Method::HEAD, Method::POST, Method::OPTIONS],
            Self::Pair | Self::Client(_) => &[Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS],
            Self::Rotate(_) | Self::RevokeAll | Self::Tickets | Self::Batch => &[Method::POST, Method::OPTIONS],
            Self::AccessToken(_) | Self::Session(..) => &[Method::DELETE, Method::OPTIONS],
            Self::List | Self::Changes | Self::Snapshot | Self::Description => {
                &[Method::GET, Method::HEAD, Method::OPTIONS]
            }
        }
    }
}

/// Returns the client of a path of the second version: `client_id` in the query if the path has `-`, or else the one in the path.
///
/// A path cannot carry every text: clients and proxies remove `.` and `..` from a URL, however they are encoded, and some proxies
/// refuse or decode `%2F`.
pub(super) fn client_id<'a>(segment: &'a str, query: &'a str) -> Result<Cow<'a, str>, StoreProblem> {
    match named("client_id", segment, query)? {
        id if id.is_empty() => Err(StoreProblem::bad_request("client_id is empty")),
        id => Ok(id),
    }
}

pub(super) fn session<'a>(segment: &'a str, query: &'a str) -> Result<Cow<'a, str>, StoreProblem> {
    named("session", segment, query)
}

fn named<'a>(name: &str, segment: &'a str, query: &'a str) -> Result<Cow<'a, str>, StoreProblem> {
    match parameter(query, name)? {
        Some(given) if segment == IN_QUERY => Ok(given),
        None if segment == IN_QUERY => Err(StoreProblem::bad_request(format!("{name} is missing"))),
        Some(_) => {
            Err(StoreProblem::bad_request(format!("{name} is in the path and in the query: write - in the path")))
        }
        None => query::segment(segment)
            .ok_or_else(|| StoreProblem::bad_request(format!("{name}: the path is not percent-encoded UTF-8"))),
    }
}

/// Returns the value of a parameter that appears at most once.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, StoreProblem> {
    query::parameter(query, name).map_err(|error| StoreProblem::bad_request(format!("{name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_one_path() {
        for (path, expected) in [
            ("/token", Some(Route::Pair)),
            ("/v2/clients/a%2Fb/token", Some(Route::Client("a%2Fb"))),
            ("/v2/clients/%2E%2E/token", Some(Route::Client("%2E%2E"))),
            ("/v2/clients/-/token", Some(Route::Client("-"))),
            ("/v2/clients/v2/rotate", Some(Route::Rotate("v2"))),
            ("/v2/clients/-/access-token", Some(Route::AccessToken("-"))),
            ("/v2/clients/a/sessions/f", Some(Route::Session("a", "f"))),
            ("/v2/clients/a/sessions/", Some(Route::Session("a", ""))),
            ("/v2/clients", Some(Route::List)),
            ("/v2/revoke-all", Some(Route::RevokeAll)),
            ("/v2/tickets", Some(Route::Tickets)),
            ("/v2/changes", Some(Route::Changes)),
            ("/v2/snapshot", Some(Route::Snapshot)),
            ("/v2/tokens:batchGet", Some(Route::Batch)),
            ("/v2/openapi.json", Some(Route::Description)),
            ("/v2/tokens%3AbatchGet", None),
            ("/v2/tokens", None),
            ("", None),
            ("/", None),
            ("token", None),
            ("//token", None),
            ("/tokens", None),
            ("/token/", None),
            ("/Token", None),
            ("/my/db/token", None),
            ("/v2/token", None),
            ("/v2/clients/", None),
            ("/v2/clients/a", None),
            ("/v2/clients/a/sessions", None),
            ("/v2/clients/a/sessions/f/", None),
            ("/v2/clients/a/sessions/f/token", None),
            ("/x/v2/revoke-all", None),
            ("/x/v2/clients/a/token", None),
            ("/token/v2/clients", None),
            ("/V2/clients", None),
        ] {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }

    #[test]
    fn operation_is_what_the_store_is_asked_for() {
        for (path, method, expected) in [
            ("/token", Method::GET, "pair"),
            ("/token", Method::HEAD, "pair"),
            ("/token", Method::POST, "save"),
            ("/token", Method::DELETE, "revoke"),
            ("/token", Method::OPTIONS, "other"),
            ("/v2/clients/a/token", Method::GET, "load"),
            ("/v2/clients/a/token", Method::POST, "save"),
            ("/v2/clients/a/token", Method::DELETE, "revoke"),
            ("/v2/clients/a/rotate", Method::POST, "rotate"),
            ("/v2/clients/a/rotate", Method::GET, "other"),
            ("/v2/clients/a/access-token", Method::DELETE, "revoke_access"),
            ("/v2/clients/a/access-token", Method::POST, "other"),
            ("/v2/clients/a/sessions/s", Method::DELETE, "revoke"),
            ("/v2/clients", Method::GET, "list"),
            ("/v2/revoke-all", Method::POST, "revoke_all"),
            ("/v2/tickets", Method::POST, "spend"),
            ("/v2/changes", Method::GET, "follow"),
            ("/v2/snapshot", Method::GET, "snapshot"),
            ("/v2/tokens:batchGet", Method::POST, "batch_get"),
            ("/v2/openapi.json", Method::GET, "describe"),
        ] {
            let route = Route::parse(path).unwrap();
            assert_eq!(route.operation(&method), expected, "{method} {path}");
            assert!(!route.template().contains("/a/"), "{path}");
        }
    }

    #[test]
    fn the_client_is_in_the_path_or_in_the_query() {
        for (segment, query, expected) in [
            ("a", "", Some("a")),
            ("-", "", None),
            ("a+b", "", Some("a+b")),
            ("a%2Fb%25", "", Some("a/b%")),
            ("-", "client_id=%2E%2E", Some("..")),
            ("-", "client_id=-", Some("-")),
            ("a", "session=b", Some("a")),
            ("a", "client_id=a", None),
            ("-", "client_id=", None),
            ("", "", None),
            ("%", "", None),
            ("%ff", "", None),
            ("-", "client_id=a&client_id=b", None),
        ] {
            assert_eq!(client_id(segment, query).ok().as_deref(), expected, "{segment} {query}");
        }
    }
}
