//! Requests to the endpoints as libraries and proxies send them.

use axum::{Router, body::Body, middleware::map_request};
use fastauth::FastAuthLayer;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{Limited, StreamBody};
use serde_json::json;
use tower::{Layer, ServiceExt};

use crate::app::{Endpoints, FORM, JSON, MASTER, app, layer, serve, settings};

/// The client that a body is read to be of, or the status of the refusal.
async fn issued(server: &Endpoints, content_type: &str, body: &str) -> Result<String, u16> {
    let headers = [("master-token", MASTER), ("content-type", content_type)];
    let reply = server.send("POST", "/auth/token/new", &headers, body).await;
    if reply.status != 200 {
        return Err(reply.status);
    }
    Ok(reply.json()["data"]["client_id"].as_str().unwrap().to_owned())
}

/// Apache's HttpClient and Spring name ISO-8859-1 unless they are configured otherwise.
#[tokio::test]
async fn ascii_in_compatible_charsets_is_accepted() {
    let server = Endpoints::of(&layer()).await;
    for charset in [
        "ISO-8859-1",
        "iso-8859-1",
        "\"ISO-8859-1\"",
        "latin1",
        "US-ASCII",
        "utf-8",
        "UTF8",
        "\"utf-8\"",
        "windows-1252",
    ] {
        for content_type in [format!("{FORM}; charset={charset}"), format!("{FORM};x=1 ;Charset = {charset}")] {
            assert_eq!(issued(&server, &content_type, "client_id=a+b").await, Ok("a b".to_owned()), "{content_type}");
        }
        let content_type = format!("{JSON};charset={charset}");
        assert_eq!(issued(&server, &content_type, r#"{"client_id":"\u00e9"}"#).await, Ok("é".to_owned()));
    }
    // It could be either text: two ids must not become one.
    for charset in ["ISO-8859-1", "us-ascii"] {
        for body in ["client_id=%E9", "client_id=%C3%A9", "client_id=é"] {
            assert_eq!(issued(&server, &format!("{FORM}; charset={charset}"), body).await, Err(400), "{body}");
        }
        assert_eq!(issued(&server, &format!("{JSON}; charset={charset}"), r#"{"client_id":"é"}"#).await, Err(400));
        let both = format!("{FORM}; charset=utf-8; charset={charset}");
        assert_eq!(issued(&server, &both, "client_id=%C3%A9").await, Err(400));
    }
    for charset in ["utf-16", "utf-7", "shift_jis", "", "iso-8859-2"] {
        assert_eq!(issued(&server, &format!("{FORM}; charset={charset}"), "client_id=c").await, Err(415), "{charset}");
    }
}

/// PowerShell and editors put one there.
#[tokio::test]
async fn byte_order_mark_is_ignored() {
    let server = Endpoints::of(&layer()).await;
    assert_eq!(issued(&server, JSON, "\u{feff}{\"client_id\":\"c\"}").await, Ok("c".to_owned()));
    assert_eq!(issued(&server, FORM, "\u{feff}client_id=c").await, Ok("c".to_owned()));
    assert_eq!(issued(&server, JSON, "\u{feff}\u{feff}{\"client_id\":\"c\"}").await, Err(400));
}

/// A page that posts a secret must not have its browser ask the user for a password.
#[tokio::test]
async fn only_basic_credentials_get_a_basic_challenge() {
    let layer = layer();
    let server = Endpoints::of(&layer).await;
    let pair = layer.issuer().issue("c").await.unwrap().tokens;
    let grant = format!("grant_type=refresh_token&refresh_token={}", pair.refresh_token.expose());
    for secret in ["client_secret=x", "client_assertion=x", "client_id=c&client_secret=x"] {
        let reply = server.post("/auth/token", &format!("{grant}&{secret}")).await;
        assert_eq!((reply.status, &reply.json()["error"]), (400, &json!("invalid_client")), "{secret}");
        assert_eq!(reply.header("www-authenticate"), "", "{secret}");
    }
    let basic = [("content-type", FORM), ("authorization", "Basic Yzp4")];
    let reply = server.send("POST", "/auth/token", &basic, &format!("{grant}&client_secret=x")).await;
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, r#"Basic realm="demo""#));
}

/// The application's own limit says so as ours does, whether it knows the length before or not.
#[tokio::test]
async fn body_over_a_limit_around_the_router_is_413() {
    let router = || layer().router();
    // What the layers of tower-http and axum do to a body of which no length is told.
    let limit = async |request: Request<Body>| request.map(|body| Body::new(Limited::new(body, 100)));
    let limited = map_request(limit);
    for (name, app) in [
        ("around all", app(layer()).layer(limited.clone())),
        ("around the router", Router::new().nest_service("/auth", limited.layer(router()))),
    ] {
        let address = serve(app).await;
        for chunks in [1, 10] {
            let chunk = "x".repeat(2000 / chunks);
            let frames = std::iter::repeat_n(chunk, chunks)
                .map(|chunk| Ok::<_, std::convert::Infallible>(Frame::data(bytes::Bytes::from(chunk))));
            let request = reqwest::Client::new()
                .post(format!("http://{address}/auth/token/new"))
                .header("master-token", MASTER)
                .header("content-type", FORM)
                .body(reqwest::Body::wrap(StreamBody::new(futures_util::stream::iter(frames))));
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 413, "{name}, in {chunks} chunks");
            assert!(response.text().await.unwrap().contains("too long"), "{name}");
        }
    }
}

/// A body that comes slowly has its time; one that stops coming has three seconds.
#[tokio::test(start_paused = true)]
async fn pausing_body_times_out_soon() {
    let started = tokio::time::Instant::now();
    let frames = futures_util::stream::unfold(0, |sent| async move {
        match sent {
            0..3 => {
                tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                Some((Ok::<_, std::convert::Infallible>(Frame::data(bytes::Bytes::from("client_id=c&"))), sent + 1))
            }
            _ => std::future::pending().await,
        }
    });
    let request = Request::post("/auth/token/new").header("master-token", MASTER).header("content-type", FORM);
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let response = layer.router().oneshot(request.body(StreamBody::new(frames)).unwrap()).await.unwrap();
    assert_eq!((response.status(), started.elapsed().as_secs()), (StatusCode::REQUEST_TIMEOUT, 9));
}
