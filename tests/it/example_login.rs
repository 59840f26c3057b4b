//! `examples/login.rs` over a socket, from log-in to log-out.

use fastauth::FastAuthLayer;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::stores::any_port;

#[allow(dead_code, reason = "this is not the program")]
#[path = "../../examples/login.rs"]
mod login;

/// The application, with requests to it.
struct Server {
    address: String,
    client: Client,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind(any_port()).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = login::app(FastAuthLayer::new(login::settings().unwrap()).unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, client: Client::new() }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.address))
    }

    async fn log_in(&self, user: &str, password: &str) -> Response {
        let form = json!({ "user": user, "password": password }).to_string();
        self.post("/login").header("content-type", "application/json").body(form).send().await.unwrap()
    }

    async fn me(&self, token: &str) -> Response {
        self.client.get(format!("{}/api/me", self.address)).header("ACCESS-TOKEN", token).send().await.unwrap()
    }

    async fn refresh(&self, cookie: &str) -> Response {
        self.post("/auth/token/refresh").header("cookie", cookie).send().await.unwrap()
    }
}

/// What a browser keeps of an answer: the cookie, and the access token.
async fn kept(response: Response) -> (String, String) {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let body: Value = response.json().await.unwrap();
    assert!(body["data"].get("refresh_token").is_none(), "a script could read it");
    (cookie.split_once(';').unwrap().0.to_owned(), body["data"]["access_token"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn user_logs_in_and_out() {
    let server = Server::start().await;
    for (user, password) in [("alice", "builder"), ("carol", "wonderland"), ("", "")] {
        let response = server.log_in(user, password).await;
        assert_eq!(response.status(), 401, "{user}");
        assert!(!response.headers().contains_key("set-cookie"));
    }
    assert_eq!(server.me("").await.status(), 401);

    let (first_cookie, first) = kept(server.log_in("alice", "wonderland").await).await;
    let me: Value = server.me(&first).await.json().await.unwrap();
    assert_eq!((&me["user"], &me["roles"]), (&json!("alice"), &json!(["editor", "reader"])));

    let (cookie, token) = kept(server.refresh(&first_cookie).await).await;
    assert_eq!(server.me(&first).await.status(), 401, "a newer one has replaced it");
    let me: Value = server.me(&token).await.json().await.unwrap();
    assert_eq!(me["roles"], json!(["editor", "reader"]), "the claims are kept");

    let (other_cookie, other) = kept(server.log_in("alice", "wonderland").await).await;
    let response = server.post("/api/logout").header("ACCESS-TOKEN", &token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(server.me(&token).await.status(), 401);
    assert_eq!(server.refresh(&cookie).await.status(), 401);
    assert_eq!(server.me(&other).await.status(), 200, "the log-in of another browser goes on");
    assert_eq!(server.refresh(&other_cookie).await.status(), 200);
}
