//! An HTTP/1.1 client, with TLS by rustls and ring.

use std::{borrow::Cow, error::Error, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Uri,
    header::{ACCEPT, USER_AGENT},
    uri::{Authority, InvalidUri},
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use fastauth_core::store::{StoreError, StoreErrorKind, UrlParts, check_url};

/// The characters of a base's path that are percent-encoded.
const ENCODED_IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// For the TCP connection alone, over all addresses of the name: it leaves half of the second that a look-up has for a second try, and
/// is enough for three round trips around the world. TLS and the answer have the rest.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Less than the five seconds after which some servers close an idle connection (uvicorn, Node).
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_RETRIES: u32 = 3;
/// When the machine of the store is gone, nothing closes the connection: unacknowledged data does.
#[cfg(target_os = "linux")]
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(3);

const AGENT: HeaderValue = HeaderValue::from_static(concat!("fastauth/", env!("CARGO_PKG_VERSION")));

/// The error of a request that got no response.
pub type HttpError = hyper_util::client::legacy::Error;

/// An HTTP/1.1 client of one store, which keeps idle connections for four seconds.
///
/// It follows no redirect and uses no proxy. Certificates are verified by those that the system trusts.
#[derive(Clone, Debug)]
pub struct HttpClient {
    base: Arc<str>,
    connector: HttpsConnector<HttpConnector>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    /// Creates a client of the store at `base_url`, with or without a `/` at its end.
    ///
    /// # Errors
    ///
    /// [`Failed`](fastauth_core::store::StoreErrorKind::Failed) if the URL is not `http` or `https`, or has a user, a query, a fragment or a
    /// host that is not ASCII, and if the system has no certificates to verify an `https` store by. The error does not show the
    /// URL: there may be a password in it.
    pub fn new(base_url: &str) -> Result<Self, StoreError> {
        let base = base(base_url)?;
        let tls = tls_config(base.starts_with("https:")).map_err(|error| {
            let message = "cannot set up TLS for the token store: install the certificates of the authorities (the package \
                           ca-certificates), or name a file of them by SSL_CERT_FILE";
            failed(message).caused_by(error)
        })?;
        Ok(Self::with_tls(&base, tls))
    }

    fn with_tls(base: &str, tls: ClientConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_keepalive_interval(Some(KEEP_ALIVE));
        tcp.set_keepalive_retries(Some(KEEP_ALIVE_RETRIES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(ACKNOWLEDGED_WITHIN));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        Self { base: base.into(), client: client(&connector, usize::MAX), connector }
    }

    /// Returns a client with connections of its own.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { client: client(&self.connector, usize::MAX), ..self.clone() }
    }

    /// Returns a client that opens a new connection for each request.
    #[must_use]
    pub fn without_reuse(&self) -> Self {
        Self { client: client(&self.connector, 0), ..self.clone() }
    }

    /// Returns the URL of a path, with or without a query, below the base.
    ///
    /// # Errors
    ///
    /// [`InvalidUri`] if the path has characters that a URL cannot have, or is too long.
    pub fn url(&self, path: &str) -> Result<Uri, InvalidUri> {
        Uri::try_from(format!("{}/{path}", self.base))
    }

    /// Sends a request to a [URL](Self::url) of the store.
    ///
    /// # Errors
    ///
    /// An [`HttpError`] if no response comes. Its text shows no URL.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, HttpError> {
        let headers = request.headers_mut();
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(USER_AGENT).or_insert(AGENT);
        self.client.request(request).await
    }
}

fn client(
    connector: &HttpsConnector<HttpConnector>,
    idle: usize,
) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle)
        .build(connector.clone())
}

/// Returns the configuration of TLS. The provider is named, so that no default of the process is needed or changed.
fn tls_config(is_used: bool) -> Result<ClientConfig, Box<dyn Error + Send + Sync>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = if is_used {
        builder.with_native_roots()?
    } else {
        // There is nothing to verify, so a machine without certificates of authorities will do.
        builder.with_root_certificates(RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

/// Reads the base URL, and returns it without a `/` at its end. No error shows it: there may be a password in it.
fn base(base_url: &str) -> Result<String, StoreError> {
    let base_url = base_url.trim();
    check_url(base_url)?;
    let UrlParts { scheme, authority, path } = UrlParts::new(base_url);
    let scheme = scheme.to_ascii_lowercase();
    if !authority.is_ascii() {
        return Err(failed(
            "the host in the token store's URL is not ASCII: write it in its form that begins with xn--",
        ));
    }
    let authority = authority.to_ascii_lowercase().parse::<Authority>().ok();
    let authority = authority.filter(|authority| {
        let has_port = authority.as_str().len() > authority.host().len();
        !authority.host().is_empty() && (!has_port || authority.port_u16().is_some())
    });
    let unread = || failed("the token store's URL cannot be read: write http://HOST:PORT/PATH");
    let authority = authority.ok_or_else(unread)?;
    let path = utf8_percent_encode(path.trim_end_matches('/'), ENCODED_IN_PATH);
    let base = format!("{scheme}://{authority}{path}");
    base.parse::<Uri>().map_err(|_| unread())?;
    Ok(base)
}

/// Returns true if an error or one of its causes is that something took too long.
pub(super) fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(|error| {
        let io = error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        io || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
    })
}

pub(super) fn failed(message: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::Failed, message)
}

pub(super) fn cut_off(error: hyper::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Unreachable, "the token store's answer was cut off").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_the_base_and_the_path() {
        for (base_url, expected) in [
            ("http://127.0.0.1:80", "http://127.0.0.1:80/token"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/token"),
            ("http://db.example/mydb/data", "http://db.example/mydb/data/token"),
            ("http://db.example/mydb/data/", "http://db.example/mydb/data/token"),
            ("http://db.example/a%20b", "http://db.example/a%20b/token"),
            ("http://db.example/a b/é", "http://db.example/a%20b/%C3%A9/token"),
            ("HTTP://[::1]:9/x", "http://[::1]:9/x/token"),
            (" http://DB.example ", "http://db.example/token"),
        ] {
            let client = HttpClient::new(base_url).expect(base_url);
            assert_eq!(client.url("token").expect(base_url), expected);
        }
        assert_eq!(base("HTTPS://db.example/x/").unwrap(), "https://db.example/x");
    }
}
