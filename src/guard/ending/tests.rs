//! Tests of bodies that end with their permits.

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use tokio::{runtime::Handle, time::timeout};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{
    EndsOn, FastAuthLayer, Settings,
    store::{MemoryStore, Revocation},
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);
const FORMS: [Form; 3] = [Form::EventStream, Form::Grpc, Form::Other];

type Item = Result<Frame<Bytes>, Infallible>;

async fn permit() -> (FastAuthLayer, Permit) {
    let settings = Settings::builder()
        .cryptography_key(crate::Secret::generate())
        .access_token_paths(["/access"])
        .store(MemoryStore::new());
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let token = layer.issuer().issue("alice").await.unwrap().tokens.access_token;
    let permitted = service_fn(|request: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(request.extensions().get::<Permit>().cloned())))
    });
    let request = Request::get("/access").header("access-token", token.expose()).body(()).unwrap();
    let response = layer.layer(permitted).oneshot(request).await.unwrap();
    let permit = response.into_body().unchanged().unwrap();
    (layer, permit.unwrap())
}

async fn revoke(layer: &FastAuthLayer) {
    layer.issuer().revoke(&Revocation::All).await.unwrap();
}

fn data() -> Item {
    Ok(Frame::data(Bytes::from_static(b"piece")))
}

fn trailers() -> Item {
    Ok(Frame::trailers(HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))])))
}

fn ending<S>(items: S, form: Form, permit: &Permit) -> EndingBody<StreamBody<S>> {
    EndingBody::new(StreamBody::new(items), form, permit.clone())
}

#[tokio::test]
async fn each_form_ends_in_its_own_way() {
    for form in FORMS {
        let (layer, permit) = permit().await;
        let held = Arc::new(());
        let inner = Arc::clone(&held);
        let items =
            stream::iter([data()]).chain(stream::pending()).inspect(move |_| assert!(Arc::strong_count(&inner) > 0));
        let mut body = ending(items, form, &permit);
        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert!(timeout(Duration::from_millis(20), body.frame()).await.is_err(), "{form:?} goes on");
        assert_eq!(Arc::strong_count(&held), 2);
        revoke(&layer).await;
        let last = timeout(LONG, body.frame()).await.unwrap();
        match form {
            Form::EventStream => assert!(last.is_none()),
            Form::Grpc => {
                let trailers = last.unwrap().unwrap().into_trailers().unwrap();
                assert_eq!(
                    (&trailers["grpc-status"], &trailers["grpc-message"]),
                    (&HeaderValue::from_static("16"), &HeaderValue::from_static("the access token was revoked"),)
                );
            }
            Form::Other => {
                assert_eq!(last.unwrap().unwrap_err().downcast_ref(), Some(&EndReason::Revoked));
            }
        }
        assert_eq!(Arc::strong_count(&held), 1, "{form:?}: the inner body is dropped");
        assert!(body.is_end_stream() && body.frame().await.is_none(), "{form:?}");
    }
}

#[tokio::test]
async fn body_that_is_always_ready_ends() {
    for form in FORMS {
        let (layer, permit) = permit().await;
        let mut body = ending(stream::repeat_with(data), form, &permit);
        for _ in 0..10 {
            assert!(body.frame().await.unwrap().unwrap().is_data());
        }
        revoke(&layer).await;
        let until_its_end = async {
            while let Some(Ok(frame)) = body.frame().await {
                if !frame.is_data() {
                    break;
                }
                // As a connection does that has written enough.
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, until_its_end).await.unwrap();
        assert!(body.is_end_stream(), "{form:?}");
    }
}

#[tokio::test]
async fn response_that_is_complete_starts_no_task() {
    let (layer, permit) = permit().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut complete = ending(stream::iter([data(), trailers()]), Form::Grpc, &permit);
    // Whatever has become of the token in the meantime.
    revoke(&layer).await;
    assert!(complete.frame().await.unwrap().unwrap().is_data());
    assert_eq!(complete.frame().await.unwrap().unwrap().into_trailers().unwrap()["grpc-status"], "0");
    assert!(complete.frame().await.is_none());
    assert_eq!(tasks(), before);
    // One that goes on does, and it goes with the body.
    let (_layer, permit) = self::permit().await;
    let mut stream = ending(stream::iter([data(), data(), data()]).chain(stream::pending()), Form::Grpc, &permit);
    for _ in 0..3 {
        stream.frame().await.unwrap().unwrap();
    }
    assert_eq!(tasks(), before + 1);
    drop(stream);
    timeout(LONG, async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn inner_error_and_trailers_are_the_last() {
    let (_, permit) = permit().await;
    let broken = || Err::<Frame<Bytes>, _>(std::io::Error::other("broken"));
    for form in FORMS {
        let mut body = EndingBody::new(StreamBody::new(stream::iter([broken(), broken()])), form, permit.clone());
        assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "broken");
        assert!(body.frame().await.is_none(), "{form:?}");
        let mut body = ending(stream::iter([trailers()]).chain(stream::pending()), form, &permit);
        assert!(body.frame().await.unwrap().unwrap().is_trailers());
        assert!(body.frame().await.is_none(), "{form:?}");
    }
}

#[tokio::test]
async fn form_is_that_of_the_content_type() {
    let (_, permit) = permit().await;
    for (content_type, expected) in [
        ("text/event-stream", "EventStream"),
        ("Text/Event-Stream; charset=utf-8", "EventStream"),
        ("text/event-stream ;charset=utf-8", "EventStream"),
        ("text/event-streams", "Other"),
        ("text/event", "Other"),
        ("application/grpc", "Grpc"),
        ("application/grpc+proto", "Grpc"),
        ("application/grpc-web", "Other"),
        ("text/html", "Other"),
        ("", "Other"),
    ] {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        if content_type.is_empty() {
            headers.clear();
        }
        let by_default = Form::of(&headers, &permit).map_or("Other".to_owned(), |form| format!("{form:?}"));
        assert_eq!(by_default, expected, "{content_type}");
        assert_eq!(Form::of(&headers, &permit).is_none(), expected == "Other", "{content_type}");
        for ends_on in [EndsOn::Token, EndsOn::Revoke] {
            let form = Form::of(&headers, &permit.clone().ending_on(Some(ends_on)));
            assert_eq!(format!("{:?}", form.unwrap()), expected, "{content_type}");
        }
    }
}

#[test]
fn body_is_send_and_sync() {
    fn assert_send_and_sync<T: Send + Sync + Unpin>() {}
    assert_send_and_sync::<crate::ResponseBody<http_body_util::Full<Bytes>>>();
}
