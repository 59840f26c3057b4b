//! Putting credentials into requests.

use http::{HeaderMap, HeaderName, HeaderValue, Request, header::AUTHORIZATION, request};

use crate::Secret;

/// Puts a token where the guard looks for it: into a request, its builder, or a map of headers.
///
/// ```
/// use fastauth::{Secret, test_util::WithCredentials};
///
/// let request = http::Request::get("/access/hello").access_token(&Secret::from("a.b.c")).body(())?;
/// assert_eq!(request.headers()["access-token"], "a.b.c");
/// # Ok::<(), http::Error>(())
/// ```
pub trait WithCredentials: Sized {
    /// With this header, beside those of the name that are there.
    #[must_use]
    fn with_header(self, name: HeaderName, value: HeaderValue) -> Self;

    /// With an access token, in the header `ACCESS-TOKEN`.
    ///
    /// # Panics
    ///
    /// Where no header can carry it; tokens that were issued never are so.
    #[must_use]
    #[track_caller]
    fn access_token(self, token: &Secret) -> Self {
        self.with_header(HeaderName::from_static("access-token"), value(token.expose()))
    }

    /// With an access token, in the header `Authorization`.
    ///
    /// # Panics
    ///
    /// As [`access_token`](Self::access_token).
    #[must_use]
    #[track_caller]
    fn bearer_token(self, token: &Secret) -> Self {
        self.with_header(AUTHORIZATION, value(&format!("Bearer {}", token.expose())))
    }

    /// With a master token, in the header `MASTER-TOKEN`.
    ///
    /// # Panics
    ///
    /// As [`access_token`](Self::access_token).
    #[must_use]
    #[track_caller]
    fn master_token(self, token: &Secret) -> Self {
        self.with_header(HeaderName::from_static("master-token"), value(token.expose()))
    }
}

impl WithCredentials for request::Builder {
    fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        self.header(name, value)
    }
}

impl WithCredentials for HeaderMap {
    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.append(name, value);
        self
    }
}

impl<B> WithCredentials for Request<B> {
    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers_mut().append(name, value);
        self
    }
}

#[track_caller]
fn value(text: &str) -> HeaderValue {
    match HeaderValue::from_str(text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            value
        }
        Err(_) => panic!("the secret has a character that no header can carry"),
    }
}
