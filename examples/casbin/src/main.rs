//! An application that asks casbin about what the rules permit: `cargo run -p example-casbin`.
//!
//! FastAuth verifies the token. Then the policy of casbin decides who may do what with which path.

use std::{
    error::Error,
    io::{self, Write},
};

use axum::{Router, routing::any};
use casbin::{CoreApi, DefaultModel, Enforcer, StringAdapter};
use fastauth::{
    AccessCheck, AccessFuture, AccessQuestion, FastAuthLayer, Refusal, Secret, Settings, store::MemoryStore,
};
use tokio::net::TcpListener;

/// A client, or one of its roles, does something with a path.
const MODEL: &str = "
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && r.act == p.act
";

const POLICY: &str = "
p, reader, /notes/*, GET
p, writer, /notes/*, POST
g, writer, reader
g, alice, writer
g, bob, reader
";

struct Casbin(Enforcer);

impl AccessCheck for Casbin {
    fn check<'a>(&'a self, question: AccessQuestion<'a>) -> AccessFuture<'a> {
        let client = question.claims.map_or("", |claims| claims.client_id());
        let request = (client, question.request.uri.path(), question.request.method.as_str());
        let decided = self.0.enforce(request);
        Box::pin(async move {
            if decided.map_err(Refusal::failed)? { Ok(()) } else { Err(Refusal::new("the policy does not allow this")) }
        })
    }
}

async fn layer() -> Result<FastAuthLayer, Box<dyn Error>> {
    let model = DefaultModel::from_str(MODEL).await?;
    let enforcer = Enforcer::new(model, StringAdapter::new(POLICY)).await?;
    let settings = Settings::builder()
        .cryptography_key(Secret::generate())
        .access_token_paths(["/notes"])
        .store(MemoryStore::new())
        .access_check(Casbin(enforcer));
    Ok(FastAuthLayer::new(settings.build()?)?)
}

fn app(auth: FastAuthLayer) -> Router {
    Router::new().route("/notes/{name}", any(async || "done\n")).layer(auth)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let auth = layer().await?;
    let listener = TcpListener::bind("127.0.0.1:8000").await?;
    let address = listener.local_addr()?;
    let mut out = io::stdout();
    for client in ["alice", "bob", "mallory"] {
        let token = auth.issuer().issue(client).await?.tokens.access_token;
        // `println!` panics if standard output is closed. The server goes on instead.
        let _ = writeln!(
            out,
            "# {client}\ncurl -X POST -H 'ACCESS-TOKEN: {}' http://{address}/notes/today",
            token.expose()
        );
    }
    axum::serve(listener, app(auth)).await?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is a test")]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn policy_decides_after_the_token() {
        let auth = layer().await.unwrap();
        for (client, method, status) in [
            ("alice", "GET", 200),
            ("alice", "POST", 200),
            ("bob", "GET", 200),
            ("bob", "POST", 403),
            ("mallory", "GET", 403),
        ] {
            let token = auth.issuer().issue(client).await.unwrap().tokens.access_token;
            let request = Request::builder().method(method).uri("/notes/today").header("ACCESS-TOKEN", token.expose());
            let response = app(auth.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), status, "{client} {method}");
        }
        let request = Request::get("/notes/today").body(Body::empty()).unwrap();
        assert_eq!(app(auth).oneshot(request).await.unwrap().status(), 401, "without a token, it is not asked");
    }
}
