//! The ticket: a parameter of the URI, for clients that can only control the URL.

use std::borrow::Cow;

use http::{Request, Uri};

use super::{Carries, CredentialError, Scheme};
use crate::{
    query::{self, ParameterError},
    secret::Secret,
};

pub(super) static TICKET: Scheme =
    Scheme { name: PARAMETER, carries: Carries::Ticket, header: None, read: None, challenge: None, openapi: None };

const PARAMETER: &str = "ticket";

/// Takes the ticket out of the URI of a handshake.
pub(super) fn take<B>(request: &mut Request<B>) -> Result<Option<Secret>, CredentialError> {
    let ticket = ticket(request.uri()).map(|ticket| ticket.map(|ticket| Secret::from(&*ticket)));
    if !matches!(ticket, Ok(None))
        && let Some(uri) = without_ticket(request.uri())
    {
        *request.uri_mut() = uri;
    }
    ticket
}

/// Reads the ticket in the URI of a request that is no handshake. It stays there: unless it is what proves who the client is, the
/// parameter is the application's.
pub(super) fn find(uri: &Uri) -> Option<Result<Secret, CredentialError>> {
    if !uri.query()?.contains(PARAMETER) {
        return None;
    }
    ticket(uri).map(|ticket| ticket.map(|ticket| Secret::from(&*ticket))).transpose()
}

/// Returns the ticket in a URI. A value that is not text becomes an empty one, which no ticket is.
fn ticket(uri: &Uri) -> Result<Option<Cow<'_, str>>, CredentialError> {
    match query::parameter(uri.query().unwrap_or_default(), PARAMETER) {
        Err(ParameterError::Repeated) => Err(CredentialError::RepeatedTicket),
        found => Ok(found.unwrap_or(Some(Cow::Borrowed("")))),
    }
}

/// Returns a URI without the ticket in it, if it has a query.
#[must_use]
pub fn without_ticket(uri: &Uri) -> Option<Uri> {
    let rest = query::without(uri.query()?, PARAMETER);
    let path = uri.path();
    let mut parts = uri.clone().into_parts();
    let path_and_query = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
    parts.path_and_query = Some(path_and_query.try_into().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_is_taken_out_of_the_uri() {
        for (uri, expected, left) in [
            ("/ws?ticket=a.b", Ok(Some("a.b")), "/ws"),
            ("https://h:1/ws?x=1&ticket=a&y=%20", Ok(Some("a")), "https://h:1/ws?x=1&y=%20"),
            ("/ws?%74icket=a&", Ok(Some("a")), "/ws"),
            ("/ws?ticket=%ff", Ok(Some("")), "/ws"),
            ("/ws?tickets=a", Ok(None), "/ws?tickets=a"),
            ("/ws", Ok(None), "/ws"),
            ("/ws?ticket=a&ticket=a", Err(CredentialError::RepeatedTicket), "/ws"),
        ] {
            let mut request = Request::builder().uri(uri).body(()).unwrap();
            let taken = take(&mut request);
            assert_eq!(
                taken.as_ref().map(|ticket| ticket.as_ref().map(Secret::expose)),
                expected.as_ref().copied(),
                "{uri}"
            );
            assert_eq!(request.uri().to_string(), left, "{uri}");
        }
    }
}
