//! Credentials for the requests of a test.

use http::{HeaderMap, HeaderName, HeaderValue, Request, header::AUTHORIZATION, request};

use crate::Secret;

/// A request, request builder or map of headers that takes the credentials the guard looks for.
///
/// ```
/// use fastauth::{Secret, test_util::WithCredentials};
///
/// let request = http::Request::get("/access/hello").access_token(&Secret::from("a.b.c")).body(())?;
/// assert_eq!(request.headers()["access-token"], "a.b.c");
/// # Ok::<(), http::Error>(())
/// ```
pub trait WithCredentials: Sized {
    /// Adds a header, beside any others of its name.
    #[must_use]
    fn with_header(self, name: HeaderName, value: HeaderValue) -> Self;

    /// Adds an access token in the header `ACCESS-TOKEN`.
    ///
    /// # Panics
    ///
    /// If a header cannot carry the text. Issued tokens never have such a text.
    #[must_use]
    #[track_caller]
    fn access_token(self, token: &Secret) -> Self {
        self.with_header(HeaderName::from_static("access-token"), value(token.expose()))
    }

    /// Adds an access token in the header `Authorization`.
    ///
    /// # Panics
    ///
    /// As [`access_token`](Self::access_token).
    #[must_use]
    #[track_caller]
    fn bearer_token(self, token: &Secret) -> Self {
        self.with_header(AUTHORIZATION, value(&format!("Bearer {}", token.expose())))
    }

    /// Adds a master token in the header `MASTER-TOKEN`.
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
