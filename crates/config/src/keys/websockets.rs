//! How WebSockets are guarded.

use std::time::Duration;

use fastauth_core::{
    origin::{Origins, origin},
    settings::WebSocketRefusal,
};

use crate::{
    builder::SettingsBuilder,
    given::Given,
    key::{Choice, Feature, Group, Key, TimeLimits},
};

pub(crate) static GROUP: Group =
    Group { title: "WebSockets", keys: &[&WEBSOCKET_ORIGINS, &WEBSOCKET_RECHECK, &WEBSOCKET_REFUSAL] };

static WEBSOCKET_ORIGINS: Key = Key::list("websocket-origins", r#"["https://app.example"]"#, |draft, texts| {
    if texts.is_empty() {
        let problem = "it is empty, so no page could open a WebSocket";
        draft.fault(&WEBSOCKET_ORIGINS, problem, "name the origins, or leave it out");
    }
    let mut origins = Vec::new();
    for text in texts {
        match origin(&text) {
            Ok(origin) => origins.push(origin),
            Err((problem, remedy)) => draft.fault(&WEBSOCKET_ORIGINS, format!("{text:?} {problem}"), remedy),
        }
    }
    draft.websocket.origins = Origins::new(Some(origins));
})
.unset("any")
.doc(
    "The origins whose pages may open WebSockets, such as `[\"https://app.example\"]`. Requests without an `Origin` header \
     (non-browser clients) are not affected.",
);

static WEBSOCKET_RECHECK: Key = Key::time(
    "websocket-recheck",
    TimeLimits {
        default: Duration::from_secs(5),
        min: Duration::from_millis(100),
        max: Duration::from_secs(60 * 60),
        in_seconds: false,
    },
    |draft, interval| draft.websocket.recheck = interval,
)
.doc("How often a REST store is asked whether the token of an open WebSocket is still valid.");

static WEBSOCKET: Feature = Feature {
    name: "websocket",
    is_built: cfg!(feature = "websocket"),
    problem: "this build cannot open a WebSocket to say that it is refused",
};

static WEBSOCKET_REFUSAL: Key = Key::choice(
    "websocket-refusal",
    &[
        Choice::new(WebSocketRefusal::Http.as_str(), |draft| draft.websocket.refusal = WebSocketRefusal::Http),
        Choice::new(WebSocketRefusal::Close.as_str(), |draft| draft.websocket.refusal = WebSocketRefusal::Close)
            .feature(&WEBSOCKET),
    ],
)
.doc("With `close`, a refused WebSocket is opened, sent the reason and closed, as `fastauth-api` does.");

impl SettingsBuilder {
    /// Sets the origins whose pages may open WebSockets, such as `https://app.example` (`websocket-origins`): handshakes of other
    /// pages are refused with 403, on every path. Requests without an `Origin` header (non-browser clients) are allowed. The
    /// default is every origin.
    #[must_use]
    pub fn websocket_origins<O: Into<String>>(self, origins: impl IntoIterator<Item = O>) -> Self {
        self.set(&WEBSOCKET_ORIGINS, Given::list(origins))
    }

    /// Sets how a WebSocket without a valid credential is refused (`websocket-refusal`). The default is to refuse the handshake, of
    /// which a browser tells the page nothing. With [`Close`](WebSocketRefusal::Close) the socket is opened, sent the reason and
    /// closed with 1008, as `fastauth-api` does; it needs the feature `websocket`.
    #[must_use]
    pub fn websocket_refusal(self, refusal: WebSocketRefusal) -> Self {
        self.choose(&WEBSOCKET_REFUSAL, refusal.as_str())
    }

    /// Sets how often the store is asked whether the token of an open WebSocket is still valid, if the store does not report
    /// changes made by others (`websocket-recheck`): a socket may outlive its token for as long. The default is five seconds. See
    /// `Permit::ended`.
    #[must_use]
    pub fn websocket_recheck(self, interval: Duration) -> Self {
        self.set(&WEBSOCKET_RECHECK, Given::Time(interval))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::check_faults;

    #[test]
    fn faults_name_the_remedy() {
        check_faults(&[
            ("websocket-recheck", json!("50ms"), "\"50ms\" is out of range; write a time from \"100ms\" to \"1h\""),
            ("websocket-recheck", json!("often"), "\"often\" is not a time"),
            ("websocket-refusal", json!("drop"), "write \"http\" or \"close\""),
            ("websocket-origins", json!(["https://App.example"]), "has capital letters; write it in lower case"),
            ("websocket-origins", json!(["https://a.example/"]), "has more than a scheme, a host"),
            ("websocket-origins", json!(["*"]), "leave the key out to let every page in"),
            ("websocket-origins", json!([]), "it is empty, so no page could open a WebSocket"),
            ("websocket-origins", json!("https://a.example"), "found a text; write a list of texts"),
        ]);
    }
}
