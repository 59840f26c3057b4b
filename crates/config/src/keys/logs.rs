//! What the log says of refused requests.

use fastauth_core::settings::LogDetail;
use http::HeaderName;

use crate::{
    builder::SettingsBuilder,
    given::Given,
    key::{Group, Key},
};

pub(crate) static GROUP: Group = Group { title: "Logs", keys: &[&LOG_DETAILS, &REQUEST_ID_HEADER] };

/// The headers that carry credentials.
const OF_CREDENTIALS: [&str; 7] = [
    "access-token",
    "authorization",
    "cookie",
    "master-token",
    "proxy-authorization",
    "sec-websocket-protocol",
    "set-cookie",
];

static LOG_DETAILS: Key = Key::list("log-details", r#"["path", "peer", "request-id"]"#, |draft, names| {
    for name in names {
        match LogDetail::ALL.into_iter().find(|detail| detail.as_str() == name) {
            Some(LogDetail::Path) => draft.log_details.path = true,
            Some(LogDetail::Peer) => draft.log_details.peer = true,
            Some(LogDetail::RequestId) => {
                draft.log_details.request_id = Some(HeaderName::from_static("x-request-id"));
            }
            _ => {
                let remedy = r#"write some of ["path", "peer", "request-id"], or leave it out"#;
                draft.fault(&LOG_DETAILS, format!("{name:?} is no detail of a request"), remedy);
            }
        }
    }
})
.words(&["path", "peer", "request-id"])
.doc(
    "What the log says of a refused request, beside the rule and the reason: any of `path` (without the query), `peer` (the \
     address that it came from) and `request-id`.",
);

static REQUEST_ID_HEADER: Key = Key::text("request-id-header", |draft, name| {
    const REMEDY: &str = "write the name of a header such as \"x-request-id\" or \"traceparent\"";
    let Ok(header) = name.parse::<HeaderName>() else {
        return draft.fault(&REQUEST_ID_HEADER, format!("{name:?} is not the name of a header"), REMEDY);
    };
    if OF_CREDENTIALS.contains(&header.as_str()) {
        let problem = format!("{name:?} carries credentials, which are never logged");
        return draft.fault(&REQUEST_ID_HEADER, problem, REMEDY);
    }
    match &mut draft.log_details.request_id {
        Some(request_id) => *request_id = header,
        None => draft.warn("`request-id-header` has no effect: `log-details` does not have \"request-id\""),
    }
})
.unset("x-request-id")
.doc("The header that has the id of a request, for `log-details`.");

impl SettingsBuilder {
    /// Sets what the log says of a refused request, beside the rule and the reason (`log-details`). The default is nothing: paths
    /// and addresses may be personal data, and a path may have a secret in it.
    ///
    /// [`LogDetail::Peer`] is taken from the request's extensions: an [`IpAddr`](std::net::IpAddr), or else a
    /// [`SocketAddr`](std::net::SocketAddr), or else with the feature `axum` the `ConnectInfo<SocketAddr>` of
    /// `into_make_service_with_connect_info`. Behind a proxy that is the proxy; no header is trusted to say otherwise. A layer of
    /// your own that knows the proxy can insert the client's `IpAddr`.
    #[must_use]
    pub fn log_details(self, details: impl IntoIterator<Item = LogDetail>) -> Self {
        self.set(&LOG_DETAILS, Given::list(details.into_iter().map(LogDetail::as_str)))
    }

    /// Sets the header that has the id of a request, for [`LogDetail::RequestId`] (`request-id-header`). The default is
    /// `x-request-id`.
    #[must_use]
    pub fn request_id_header(self, name: impl Into<String>) -> Self {
        self.set(&REQUEST_ID_HEADER, Given::Text(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::check_faults;

    #[test]
    fn faults_name_the_remedy() {
        check_faults(&[
            ("log-details", json!(["paths"]), "\"paths\" is no detail of a request; write some of [\"path\""),
            ("log-details", json!("path"), "found a text; write a list of texts"),
            ("request-id-header", json!("x request"), "\"x request\" is not the name of a header"),
            ("request-id-header", json!("Authorization"), "carries credentials, which are never logged"),
            ("request-id-header", json!("ACCESS-TOKEN"), "carries credentials"),
            ("request-id-header", json!(""), "is not the name of a header"),
        ]);
    }
}
