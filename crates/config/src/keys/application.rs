//! The application, and where its clients put their tokens.

use fastauth_core::{credential::TokenHeaders, settings::Reload};

use crate::{
    builder::SettingsBuilder,
    given::Given,
    key::{Choice, Feature, Group, Key},
};

pub(crate) static GROUP: Group =
    Group { title: "Application", keys: &[&APP_NAME, &CREDENTIAL_SOURCES, &RELOAD, &LOG_LV] };

static APP_NAME: Key = Key::text_or("app-name", "fastauth", |draft, name| {
    if name.trim().is_empty() {
        draft.fault(&APP_NAME, "it is empty", "give the application's name, or leave the key out");
    }
    draft.app_name = name;
})
.doc("The application's name. Challenges (`WWW-Authenticate`) carry it as their realm.");

static CREDENTIAL_SOURCES: Key =
    Key::list("credential-sources", r#"["ACCESS-TOKEN", "Authorization"]"#, |draft, names| {
        const REMEDY: &str = r#"write ["ACCESS-TOKEN", "Authorization"], or one of them, or leave it out for both"#;
        if names.is_empty() {
            draft.fault(&CREDENTIAL_SOURCES, "it is empty, so no access token could be found", REMEDY);
        }
        match TokenHeaders::named(&names) {
            Ok(headers) => draft.credential_sources = headers,
            Err(name) => {
                let problem = format!("{name:?} is no header in which access tokens are looked for");
                draft.fault(&CREDENTIAL_SOURCES, problem, REMEDY);
            }
        }
    })
    .unset(r#"["ACCESS-TOKEN", "Authorization"]"#)
    .words(&["ACCESS-TOKEN", "Authorization"])
    .in_any_case()
    .doc(
        "The headers in which access tokens are looked for. If only one is named, the other one is left alone, such as \
         the `Authorization: Bearer` of a platform in front of the application.",
    );

static SIGHUP: Feature = Feature {
    name: "sighup",
    is_built: cfg!(all(unix, feature = "sighup")),
    problem: "\"sighup\" needs Unix and the feature `sighup`, which this build lacks",
};

pub(crate) static RELOAD: Key = Key::choice(
    "reload",
    &[
        Choice::new(Reload::Off.as_str(), |draft| draft.reload = Reload::Off),
        Choice::new(Reload::Sighup.as_str(), |draft| draft.reload = Reload::Sighup).feature(&SIGHUP),
        Choice::new(Reload::Watch.as_str(), |draft| draft.reload = Reload::Watch),
    ],
)
.doc(
    "When the sources are read again while the application runs: on the signal SIGHUP, or when a file has changed, which is looked at \
     every two seconds. `off`: only when the application calls `FastAuthLayer::reload`.",
);

/// A key of `fastauth-api`.
static LOG_LV: Key = Key::ignored("log-lv");

impl SettingsBuilder {
    /// Names the application (`app-name`).
    #[must_use]
    pub fn app_name(self, name: impl Into<String>) -> Self {
        self.set(&APP_NAME, Given::Text(name.into()))
    }

    /// Sets when the configuration is read again while the application runs (`reload`). With `Sighup`, that signal no longer ends the
    /// process.
    #[must_use]
    pub fn reload(self, when: Reload) -> Self {
        self.choose(&RELOAD, when.as_str())
    }

    /// Sets the headers in which access tokens are looked for, of `ACCESS-TOKEN` and `Authorization` (`credential-sources`). The
    /// default is both. The other one is left alone, such as the `Authorization: Bearer` of a platform in front of the
    /// application. Tokens and tickets in WebSocket handshakes are not affected.
    #[must_use]
    pub fn credential_sources<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.set(&CREDENTIAL_SOURCES, Given::list(names))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::check_faults;

    #[test]
    fn faults_name_the_remedy() {
        check_faults(&[
            ("app-name", json!(1), "`app-name`: found a number; write a text in quotes"),
            ("reload", json!(true), "found true or false; write \"off\" or \"sighup\" or \"watch\""),
            ("cache", json!(true), "write \"on\" or \"off\""),
            ("app-name", json!(" "), "it is empty; give the application's name"),
            (
                "credential-sources",
                json!([]),
                "it is empty, so no access token could be found; write [\"ACCESS-TOKEN\"",
            ),
            ("credential-sources", json!(["ACCESS-TOKEN", "Cookie"]), "\"Cookie\" is no header"),
            ("credential-sources", json!([""]), "\"\" is no header in which access tokens"),
            ("credential-sources", json!(null), "found null"),
            ("credential-sources", json!("ACCESS-TOKEN"), "write a list of texts"),
        ]);
    }
}
