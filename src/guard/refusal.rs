//! Writes a refusal: over HTTP, over gRPC, or by closing a WebSocket.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::Full;

#[cfg(feature = "websocket")]
use super::closing::Closing;
use super::head;
use crate::check::{denial::Denial, refuse::RefusalForm, terms::Terms};
#[cfg(feature = "websocket")]
use crate::settings::WebSocketRefusal;

/// All that is needed to write a refusal after the request has been forwarded or dropped.
pub(super) struct Refusal {
    form: RefusalForm,
    terms: Arc<Terms>,
    /// The head of the request, if the application answers it.
    head: Option<Box<Parts>>,
    /// The WebSocket that is opened to send the reason.
    #[cfg(feature = "websocket")]
    closing: Option<Box<Closing>>,
}

impl Refusal {
    pub(super) fn new<B>(request: &Request<B>, terms: &Arc<Terms>) -> Self {
        Self {
            form: RefusalForm::new(request.method(), request.headers()),
            terms: Arc::clone(terms),
            head: None,
            #[cfg(feature = "websocket")]
            closing: None,
        }
    }

    /// Takes out of the request what it takes to refuse it, which depends on the configuration. The request is of no use after that.
    pub(super) fn prepare<B>(mut self, request: &mut Request<B>, denial: &Denial) -> Self {
        #[cfg(feature = "websocket")]
        if self.terms.websocket_refusal == WebSocketRefusal::Close {
            self.closing = Closing::take(request, denial).map(Box::new);
        }
        #[cfg(not(feature = "websocket"))]
        let _ = denial;
        if self.terms.hooks.on_reject.is_some() {
            head::strip_ticket(request);
            self.head = Some(Box::new(head::take(request)));
        }
        self
    }

    pub(super) fn render(self, denial: Denial) -> Response<Full<Bytes>> {
        #[cfg(feature = "websocket")]
        if let Some(closing) = self.closing {
            let mut response = closing.open();
            response.extensions_mut().insert(denial);
            return response;
        }
        self.terms.answer(denial, self.form, self.head.as_deref())
    }
}
