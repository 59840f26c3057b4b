//! What the log says of a refused request beside the decision, as `log-details` has it.

use std::net::{IpAddr, SocketAddr};

use http::{Extensions, HeaderMap, HeaderName, Uri};

use crate::{
    original_uri,
    settings::LogDetails,
    shown::{shown, shown_bytes},
};

/// The details of a request that is refused, or may be. There are none if none are configured.
#[derive(Debug, Default)]
pub(crate) struct Details(Option<Box<Taken>>);

/// Texts that are safe to show.
#[derive(Debug)]
struct Taken {
    path: Option<String>,
    peer: Option<String>,
    request_id: Option<String>,
}

impl Details {
    #[cold]
    pub(super) fn take(configured: &LogDetails, uri: &Uri, headers: &HeaderMap, extensions: &Extensions) -> Self {
        let path = || shown(original_uri::get(extensions).unwrap_or(uri).path()).into_owned();
        Self(Some(Box::new(Taken {
            path: configured.path.then(path),
            peer: configured.peer.then(|| peer(extensions)).flatten(),
            request_id: configured.request_id.as_ref().and_then(|name| request_id(headers, name)),
        })))
    }

    pub(crate) fn path(&self) -> Option<&str> {
        self.0.as_ref()?.path.as_deref()
    }

    pub(crate) fn peer(&self) -> Option<&str> {
        self.0.as_ref()?.peer.as_deref()
    }

    pub(crate) fn request_id(&self) -> Option<&str> {
        self.0.as_ref()?.request_id.as_deref()
    }
}

/// Returns the address that the server or the application put into a request.
fn peer(extensions: &Extensions) -> Option<String> {
    if let Some(address) = extensions.get::<IpAddr>() {
        return Some(address.to_string());
    }
    let address = extensions.get::<SocketAddr>().copied().or_else(|| connected(extensions));
    address.map(|address| address.to_string())
}

#[cfg(feature = "axum")]
fn connected(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<axum::extract::ConnectInfo<SocketAddr>>().map(|connected| connected.0)
}

#[cfg(not(feature = "axum"))]
fn connected(_: &Extensions) -> Option<SocketAddr> {
    None
}

fn request_id(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name).filter(|value| !value.is_sensitive())?;
    Some(shown_bytes(value.as_bytes()))
}
