//! How WebSockets are guarded.

use std::time::Duration;

use fastauth_core::settings::WebSocketRefusal;

use crate::{
    builder::SettingsBuilder,
    given::Given,
    key::{Choice, Feature, Group, Key, TimeLimits},
};

pub(crate) static GROUP: Group = Group { title: "WebSockets", keys: &[&WEBSOCKET_RECHECK, &WEBSOCKET_REFUSAL] };

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
        ]);
    }
}
