//! The layer around a whole axum router, as `axum::serve` takes it.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    Router, ServiceExt,
    body::Body,
    extract::{Request, connect_info::IntoMakeServiceWithConnectInfo},
    response::Response,
    routing::IntoMakeService,
    serve::{IncomingStream, Listener},
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{FastAuth, FastAuthLayer, ResponseBody, ResponseFuture, TokenRouter};

impl FastAuthLayer {
    /// Wraps a whole router, so that nothing in it is unguarded: routes, nested routers and fallbacks, in whatever order they were
    /// added. If the router has a state, give it that first, by `with_state`.
    ///
    /// ```no_run
    /// # async fn serve(listener: tokio::net::TcpListener) -> std::io::Result<()> {
    /// let auth = fastauth::FastAuthLayer::from_config();
    /// let app = axum::Router::new().nest_service("/auth", auth.router());
    /// axum::serve(listener, auth.around(app)).await
    /// # }
    /// ```
    #[must_use]
    pub fn around(&self, router: Router) -> GuardedRouter {
        GuardedRouter(self.layer(router))
    }
}

/// A router behind the guard: see [`FastAuthLayer::around`].
#[derive(Clone, Debug)]
pub struct GuardedRouter(FastAuth<Router>);

impl GuardedRouter {
    /// Converts it into a service that makes services. `axum::serve` takes it, but also the router itself.
    #[must_use]
    pub fn into_make_service(self) -> IntoMakeService<Self> {
        ServiceExt::<Request>::into_make_service(self)
    }

    /// Converts it into what `axum::serve` takes, and lets handlers extract `ConnectInfo<C>`, such as the address of the client with
    /// `C = SocketAddr`.
    #[must_use]
    pub fn into_make_service_with_connect_info<C>(self) -> IntoMakeServiceWithConnectInfo<Self, C> {
        ServiceExt::<Request>::into_make_service_with_connect_info(self)
    }
}

impl Service<Request> for GuardedRouter {
    type Response = Response;
    type Error = Infallible;
    type Future = GuardedFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.0, cx)
    }

    #[inline]
    fn call(&mut self, request: Request) -> GuardedFuture {
        GuardedFuture { response: self.0.call(request) }
    }
}

/// `axum::serve` takes it.
impl<L: Listener> Service<IncomingStream<'_, L>> for GuardedRouter {
    type Response = Self;
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _stream: IncomingStream<'_, L>) -> Self::Future {
        ready(Ok(self.clone()))
    }
}

/// `Router::merge` takes the token endpoints as they are, with `/auth` (or their [`prefix`](TokenRouter::prefix)) before each:
/// `.merge(auth.router())`.
///
/// `Router::nest` adds that by itself: `.nest("/auth", auth.router().prefix("").into())`, for which
/// `.nest_service("/auth", auth.router())` is shorter.
impl<S: Clone + Send + Sync + 'static> From<TokenRouter> for Router<S> {
    fn from(tokens: TokenRouter) -> Self {
        let tokens = tokens.with_known_paths();
        tokens.paths().fold(Self::new(), |router, path| {
            router.route_service(&path, tokens.clone()).route_service(&format!("{path}/"), tokens.clone())
        })
    }
}

pin_project! {
    /// The response of a [`GuardedRouter`].
    pub struct GuardedFuture {
        #[pin]
        response: ResponseFuture<Router, Body>,
    }
}

impl Future for GuardedFuture {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().response.poll(cx))?;
        Poll::Ready(Ok(response.map(Body::from)))
    }
}

impl fmt::Debug for GuardedFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuardedFuture(..)")
    }
}

/// Does not box the inner service's body again.
impl From<ResponseBody<Body>> for Body {
    fn from(body: ResponseBody<Body>) -> Self {
        match body.unchanged() {
            Ok(body) => body,
            Err(body) => Self::new(body),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::StatusCode;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{Secret, Settings, store::MemoryStore};

    #[tokio::test]
    async fn whole_router_is_guarded() {
        let settings = Settings::builder()
            .cryptography_key(Secret::generate())
            .access_token_paths(["/access"])
            .store(MemoryStore::new());
        let auth = FastAuthLayer::new(settings.build().unwrap()).unwrap();
        let token = auth.issuer().issue("alice").await.unwrap().tokens.access_token;
        let app = Router::new().route("/access/a", get(async || "a")).fallback(async || "fallback");
        let app = auth.around(app);
        for (path, token, expected) in [
            ("/access/a", "", StatusCode::UNAUTHORIZED),
            ("/access/nowhere", "", StatusCode::UNAUTHORIZED),
            ("/access/a", token.expose(), StatusCode::OK),
            ("/elsewhere", "", StatusCode::OK),
        ] {
            let mut request = Request::builder().uri(path);
            if !token.is_empty() {
                request = request.header("ACCESS-TOKEN", token);
            }
            let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), expected, "{path}");
            let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
            assert!(!body.is_empty(), "{path}");
        }
    }
}
