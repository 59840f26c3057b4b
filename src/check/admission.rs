//! What a permit was given for, and the question whether the rules of the moment still give it.

use std::fmt::Debug;

use http::{Method, Request, Uri};
use tokio::sync::watch;

use super::master::MasterToken;
use crate::{
    original_uri,
    rule::{Connect, RequestLine},
    token::Claims,
};

/// What a request asked for when it was let through.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    method: Method,
    uri: Uri,
    /// The one before a router stripped a prefix, if it has another path.
    original_uri: Option<Box<Uri>>,
    connect: Connect,
}

impl Admission {
    pub(crate) fn new<B>(request: &Request<B>, connect: Connect) -> Self {
        let uri = request.uri();
        let original_uri = original_uri::get(request.extensions()).filter(|original| original.path() != uri.path());
        Self {
            method: request.method().clone(),
            uri: uri.clone(),
            original_uri: original_uri.map(|original| Box::new(original.clone())),
            connect,
        }
    }

    pub(crate) fn line(&self) -> RequestLine<'_> {
        RequestLine {
            original_uri: self.original_uri.as_deref(),
            connect: self.connect,
            ..RequestLine::new(&self.method, &self.uri)
        }
    }
}

/// The credentials of a permit.
#[derive(Clone, Copy)]
pub(crate) struct Admitted<'a> {
    pub(crate) master: Option<&'a MasterToken>,
    pub(crate) claims: Option<&'a Claims>,
    /// When the token was confirmed, since the Unix epoch.
    pub(crate) at: Option<u64>,
}

/// Decides again, after a reload, on what was let through before.
pub(crate) trait Reconsider: Debug + Send + Sync {
    /// Returns the number of the set of the moment. Each reload adds one.
    fn numbers(&self) -> watch::Receiver<u64>;

    /// Returns true if the rules of the moment let it through.
    fn still_admits(&self, admission: &Admission, credentials: Admitted<'_>) -> bool;
}
