//! The token endpoints.

use std::num::NonZeroU32;

use fastauth_core::{
    origin::{Origins, origin},
    settings::{CookieSameSite, ErrorShape, RateLimit, RefreshTransport, ResponseShape},
};

use crate::{
    builder::SettingsBuilder,
    draft::Draft,
    given::Given,
    key::{Choice, Feature, Group, Key, NumberLimits},
};

pub(crate) static GROUP: Group = Group {
    title: "Token endpoints",
    keys: &[
        &ALLOW_GET,
        &RESPONSE_SHAPE,
        &ERROR_SHAPE,
        &REFRESH_TRANSPORT,
        &COOKIE_SAME_SITE,
        &ALLOWED_ORIGINS,
        &RATE_LIMIT_PER_MINUTE,
        &RATE_LIMIT_BURST,
    ],
};

static ALLOW_GET: Key = Key::flag("allow-get", true, |draft, on| draft.endpoints.allow_get = on).doc(
    "Lets `GET` issue and refresh beside `POST`, as `fastauth-api` does. Parameters of a `GET` stand in the URL, and so in logs.",
);

static RESPONSE_SHAPE: Key = Key::choice(
    "response-shape",
    &[
        Choice::new(ResponseShape::Envelope.as_str(), |draft| draft.endpoints.response_shape = ResponseShape::Envelope),
        Choice::new(ResponseShape::OAuth.as_str(), |draft| draft.endpoints.response_shape = ResponseShape::OAuth),
    ],
)
.doc(
    "With `oauth`, issuing and refreshing answer as RFC 6749 specifies; with `envelope`, as `fastauth-api` does. Every refusal, of a \
     guarded path too, has the same shape.",
);

static ERROR_SHAPE: Key = Key::choice(
    "error-shape",
    &[
        Choice::new(ErrorShape::Response.as_str(), |draft| draft.endpoints.error_shape = ErrorShape::Response),
        Choice::new(ErrorShape::Problem.as_str(), |draft| draft.endpoints.error_shape = ErrorShape::Problem),
    ],
)
.doc(
    "With `problem`, refusals have the form of RFC 9457 (`application/problem+json`); with `response`, that of `response-shape`.",
);

static REFRESH_TRANSPORT: Key = Key::choice(
    "refresh-transport",
    &[
        Choice::new(RefreshTransport::Body.as_str(), |draft| {
            draft.endpoints.refresh_transport = RefreshTransport::Body;
        }),
        Choice::new(RefreshTransport::Cookie.as_str(), |draft| {
            draft.endpoints.refresh_transport = RefreshTransport::Cookie;
        }),
    ],
)
.doc("With `cookie`, refresh tokens travel in a cookie that scripts cannot read.");

static COOKIE_SAME_SITE: Key = Key::choice(
    "cookie-same-site",
    &[
        Choice::new(CookieSameSite::Strict.as_str(), |draft| draft.endpoints.cookie_same_site = CookieSameSite::Strict),
        Choice::new(CookieSameSite::None.as_str(), |draft| draft.endpoints.cookie_same_site = CookieSameSite::None),
    ],
)
.doc(
    "With `none`, pages of another site that are in `allowed-origins` may use the cookie of the refresh token, too, as far as the \
     browser allows cookies of third parties (`SameSite=None; Partitioned`). Pages of the same site, such as a subdomain, do not need it.",
);

static ALLOWED_ORIGINS: Key = Key::list("allowed-origins", r#"["https://app.example"]"#, |draft, texts| {
    let mut origins = Vec::new();
    for text in texts {
        match origin(&text) {
            Ok(origin) => origins.push(origin),
            Err((problem, remedy)) => draft.fault(&ALLOWED_ORIGINS, format!("{text:?} {problem}"), remedy),
        }
    }
    draft.allowed_origins = Origins::new(Some(origins));
})
.unset("the own; any for WebSockets")
.doc(
    "The origins, beside the application's own, whose pages may use the cookie of the refresh token, and which may open WebSockets. Without \
     the key, every page may open WebSockets (with a credential); with `[]`, only the own pages. Requests without an `Origin` header \
     (non-browser clients) are not affected. CORS is the application's.",
);

static RATE_LIMIT: Feature =
    Feature { name: "rate-limit", is_built: cfg!(feature = "rate-limit"), problem: "this build has no rate limits" };

static RATE_LIMIT_PER_MINUTE: Key =
    Key::number("rate-limit-per-minute", rates(None), |draft, rate| draft.rate.per_minute = positive(rate))
        .feature(&RATE_LIMIT)
        .doc("How often a client is issued tokens, a minute.");

static RATE_LIMIT_BURST: Key =
    Key::number("rate-limit-burst", rates(Some(10)), |draft, rate| draft.rate.burst = positive(rate))
        .doc("How often a client is issued tokens at once. It needs `rate-limit-per-minute`.");

/// More than a million is no limit.
const fn rates(default: Option<u64>) -> NumberLimits {
    NumberLimits { default, min: 1, max: 1_000_000 }
}

fn positive(rate: u64) -> Option<NonZeroU32> {
    u32::try_from(rate).ok().and_then(NonZeroU32::new)
}

/// Brings together what several keys make.
pub(crate) fn complete(draft: &mut Draft<'_>) {
    check_same_site(draft);
    if draft.is_set(&RATE_LIMIT_BURST) && !draft.is_set(&RATE_LIMIT_PER_MINUTE) {
        let problem = "there is no `rate-limit-per-minute`, so nothing is limited";
        draft.fault(&RATE_LIMIT_BURST, problem, "set `rate-limit-per-minute` too, or leave this out");
    }
    if let (Some(per_minute), Some(burst)) = (draft.rate.per_minute, draft.rate.burst) {
        let caller = draft.parts.rate_limit_key.clone();
        draft.endpoints.rate_limit = Some(RateLimit { per_minute, burst, caller });
    }
}

fn check_same_site(draft: &mut Draft<'_>) {
    if draft.endpoints.cookie_same_site == CookieSameSite::Strict {
        return;
    }
    if !draft.endpoints.uses_cookie() {
        let problem = "there is no cookie: `refresh-transport` is \"body\"";
        draft.fault(&COOKIE_SAME_SITE, problem, "set `refresh-transport` to \"cookie\", or leave this out");
    } else if draft.allowed_origins.list().is_empty() && !draft.has_fault(&[&ALLOWED_ORIGINS]) {
        let problem = "`allowed-origins` names no page that could use the cookie from another site";
        draft.fault(&COOKIE_SAME_SITE, problem, "name the origins there, or leave this out");
    }
}

impl SettingsBuilder {
    /// Lets `GET` issue and refresh beside `POST` (`allow-get`), as `fastauth-api` does. The default is on. Parameters of a `GET`
    /// stand in the URL, and so in logs.
    #[must_use]
    pub fn allow_get(self, on: bool) -> Self {
        self.set(&ALLOW_GET, Given::Flag(on))
    }

    /// Sets the form of answers (`response-shape`): the envelope of `fastauth-api`, which is the default, or the form of RFC 6749.
    #[must_use]
    pub fn response_shape(self, shape: ResponseShape) -> Self {
        self.choose(&RESPONSE_SHAPE, shape.as_str())
    }

    /// Sets the form of refusals (`error-shape`): that of [`response_shape`](Self::response_shape), which is the default, or problem
    /// details (RFC 9457).
    #[must_use]
    pub fn error_shape(self, shape: ErrorShape) -> Self {
        self.choose(&ERROR_SHAPE, shape.as_str())
    }

    /// Sets how refresh tokens travel (`refresh-transport`): in bodies, which is the default, or in a cookie that scripts cannot
    /// read.
    #[must_use]
    pub fn refresh_transport(self, transport: RefreshTransport) -> Self {
        self.choose(&REFRESH_TRANSPORT, transport.as_str())
    }

    /// Sets with which requests browsers send the cookie of the refresh token (`cookie-same-site`). The default is
    /// [`CookieSameSite::Strict`]: those of pages of the same site.
    #[must_use]
    pub fn cookie_same_site(self, same_site: CookieSameSite) -> Self {
        self.choose(&COOKIE_SAME_SITE, same_site.as_str())
    }

    /// Sets the origins, beside the application's own, whose pages may use the cookie of the refresh token, and which may open WebSockets
    /// (`allowed-origins`), such as `https://app.example`. Other pages are refused with 403. Requests without an `Origin` header
    /// (non-browser clients) are not affected. By default, only the own pages may use the cookie, and every page may open WebSockets.
    #[must_use]
    pub fn allowed_origins<O: Into<String>>(self, origins: impl IntoIterator<Item = O>) -> Self {
        self.set(&ALLOWED_ORIGINS, Given::list(origins))
    }

    /// Limits how often a client is issued tokens: so many times a minute (`rate-limit-per-minute`). The default is no limit.
    #[cfg(feature = "rate-limit")]
    #[must_use]
    pub fn rate_limit_per_minute(self, count: u32) -> Self {
        self.set(&RATE_LIMIT_PER_MINUTE, Given::Number(count.into()))
    }

    /// Sets how often a client is issued tokens at once (`rate-limit-burst`). The default is 10. It needs
    /// [`rate_limit_per_minute`](Self::rate_limit_per_minute).
    #[cfg(feature = "rate-limit")]
    #[must_use]
    pub fn rate_limit_burst(self, count: u32) -> Self {
        self.set(&RATE_LIMIT_BURST, Given::Number(count.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::check_faults;

    #[test]
    fn faults_name_the_remedy() {
        check_faults(&[
            ("allow-get", json!("no"), "`allow-get`: found a text; write true or false"),
            ("response-shape", json!("xml"), "\"xml\" is not one of its values; write \"envelope\" or \"oauth\""),
            ("error-shape", json!("json"), "write \"response\" or \"problem\""),
            ("refresh-transport", json!("header"), "write \"body\" or \"cookie\""),
            ("allowed-origins", json!(["https://App.example"]), "has capital letters; write it in lower case"),
            ("allowed-origins", json!(["https://a.example/"]), "has more than a scheme, a host"),
            ("allowed-origins", json!(["*"]), "name each origin"),
            ("allowed-origins", json!(["null"]), "is what every sandboxed page says"),
            ("allowed-origins", json!("https://a.example"), "found a text; write a list of texts"),
            ("cookie-same-site", json!("lax"), "write \"strict\" or \"none\""),
            ("cookie-same-site", json!("none"), "there is no cookie: `refresh-transport` is \"body\""),
            ("rate-limit-per-minute", json!("60"), "found a text; write a whole number, such as 60"),
            ("rate-limit-per-minute", json!(0.5), "0.5 is not a whole number"),
            ("rate-limit-per-minute", json!(-1), "-1 is not a whole number"),
            ("rate-limit-burst", json!(5), "there is no `rate-limit-per-minute`"),
        ]);
    }
}
