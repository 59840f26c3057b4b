//! The paths that are guarded, and how they are read.

use fastauth_core::policy::{Ambiguous, Prefix, Use};

use crate::{
    builder::SettingsBuilder,
    draft::Draft,
    given::Given,
    key::{Choice, Group, Key},
};

pub(crate) static GROUP: Group = Group {
    title: "Paths",
    keys: &[
        &MASTER_TOKEN_PATHS,
        &ACCESS_TOKEN_PATHS,
        &PUBLIC_PATHS,
        &BASE_PATH,
        &CASE_INSENSITIVE,
        &WINDOWS,
        &SKIP_PREFLIGHT,
        &AMBIGUOUS,
        &SHADOW,
    ],
};

pub(crate) static MASTER_TOKEN_PATHS: Key = Key::paths("master-token-paths", |draft, texts| {
    draft.paths.master = prefixes(draft, &MASTER_TOKEN_PATHS, &texts, Use::Guard);
})
.doc("The prefixes of paths that require the master token.");

pub(crate) static ACCESS_TOKEN_PATHS: Key = Key::paths("access-token-paths", |draft, texts| {
    draft.paths.access = prefixes(draft, &ACCESS_TOKEN_PATHS, &texts, Use::Guard);
})
.doc("The prefixes of paths that require an access token. A path in both lists requires both tokens.");

static PUBLIC_PATHS: Key = Key::paths("public-paths", |draft, texts| {
    draft.paths.public = prefixes(draft, &PUBLIC_PATHS, &texts, Use::Exemption);
})
.doc(
    "The prefixes, in whole segments, that stay open below a shorter guarded one. The longest prefix wins; of two that are \
     as long, the guarded one.",
);

static BASE_PATH: Key = Key::text("base-path", |draft, text| {
    draft.paths.base = prefix(draft, &BASE_PATH, &text, Use::BasePath);
})
.of_paths()
.doc(
    "The prefix that an outer router strips before the guard sees the path. The path counts as it is, with the prefix before it \
     and, if it begins with that, without it: what guards counts in any of these. What opens, a rule or an entry of \
     `public-paths`, has to be written both ways: `/health` and `/api/health`. Leave it out if nothing is stripped before the \
     guard.",
);

static CASE_INSENSITIVE: Key = Key::flag("case-insensitive", false, |draft, on| {
    draft.paths.options.case_insensitive = on;
})
.doc("Ignores case: `/ACCESS` requires what `/access` does.");

static WINDOWS: Key = Key::flag("windows", false, |draft, on| draft.paths.options.windows = on).doc(
    "Reads paths as Windows does: `/access./x` requires what `/access/x` does, and a short name such as `ACCES~1` requires \
     every token.",
);

static SKIP_PREFLIGHT: Key = Key::flag("skip-preflight", false, |draft, on| draft.paths.options.skip_preflight = on)
    .doc("Lets CORS preflights pass without a token, but where the level is `deny`.");

static AMBIGUOUS: Key = Key::choice(
    "ambiguous",
    &[
        Choice::new(Ambiguous::Refuse.as_str(), |draft| draft.paths.options.ambiguous = Ambiguous::Refuse),
        Choice::new(Ambiguous::Protect.as_str(), |draft| draft.paths.options.ambiguous = Ambiguous::Protect),
    ],
)
.doc(
    "With `protect`, a path that cannot be decoded, or has too many readings, requires every token instead of being refused.",
);

static SHADOW: Key = Key::flag("shadow", false, |draft, on| {
    if on {
        draft.warn("`shadow` is on: refusals are only logged, and no path is guarded");
    }
    draft.shadow = on;
})
.doc(
    "Only logs refusals: **nothing is guarded**. A handler that requires a `Permit` answers 500 if there is none, and one \
     that requires `Claims<T>` refuses those that do not fit, so let it ask for an `Option` of them.",
);

fn prefixes(draft: &mut Draft<'_>, key: &'static Key, texts: &[String], of: Use) -> Vec<Prefix> {
    texts.iter().filter_map(|text| prefix(draft, key, text, of)).collect()
}

fn prefix(draft: &mut Draft<'_>, key: &'static Key, text: &str, of: Use) -> Option<Prefix> {
    match Prefix::parse(text) {
        Ok(prefix) => Some(prefix),
        Err(error) => {
            draft.fault(key, format!("the prefix {text:?} {error}"), error.remedy(of));
            None
        }
    }
}

impl SettingsBuilder {
    /// Sets the prefixes that require the master token (`master-token-paths`).
    #[must_use]
    pub fn master_token_paths<P: Into<String>>(self, prefixes: impl IntoIterator<Item = P>) -> Self {
        self.set(&MASTER_TOKEN_PATHS, Given::list(prefixes))
    }

    /// Sets the prefixes that require an access token (`access-token-paths`).
    #[must_use]
    pub fn access_token_paths<P: Into<String>>(self, prefixes: impl IntoIterator<Item = P>) -> Self {
        self.set(&ACCESS_TOKEN_PATHS, Given::list(prefixes))
    }

    /// Sets the prefixes that stay open below a guarded one (`public-paths`), in whole segments. A longer guarded prefix below one
    /// of them is guarded; of the same length, the guard wins.
    #[must_use]
    pub fn public_paths<P: Into<String>>(self, prefixes: impl IntoIterator<Item = P>) -> Self {
        self.set(&PUBLIC_PATHS, Given::list(prefixes))
    }

    /// Sets the prefix that an outer router strips before the guard sees the path (`base-path`): the path counts with and
    /// without it, and without it also where it is not stripped. So what opens, a rule or an entry of `public-paths`, has to be written both ways. Behind axum's `nest` it is not needed if the feature `axum` is on, because axum keeps the whole path.
    #[must_use]
    pub fn base_path(self, prefix: impl Into<String>) -> Self {
        self.set(&BASE_PATH, Given::Text(prefix.into()))
    }

    /// Ignores case where a token is required (`case-insensitive`).
    #[must_use]
    pub fn case_insensitive(self, on: bool) -> Self {
        self.set(&CASE_INSENSITIVE, Given::Flag(on))
    }

    /// Ignores dots and spaces at the end of a segment, as Windows does (`windows`).
    #[must_use]
    pub fn windows(self, on: bool) -> Self {
        self.set(&WINDOWS, Given::Flag(on))
    }

    /// Lets CORS preflights pass without a token (`skip-preflight`), and through the layers of `Require`, but where a rule
    /// denies them. Something behind the guard has to answer them: see the guide on origins.
    #[must_use]
    pub fn skip_preflight(self, on: bool) -> Self {
        self.set(&SKIP_PREFLIGHT, Given::Flag(on))
    }

    /// Sets what becomes of a path with a malformed escape, or with escapes that are not UTF-8 (`ambiguous`). The default is to
    /// refuse it. With [`Protect`](Ambiguous::Protect) it requires every token: for applications with URLs in Latin-1.
    #[must_use]
    pub fn ambiguous(self, ambiguous: Ambiguous) -> Self {
        self.choose(&AMBIGUOUS, ambiguous.as_str())
    }

    /// Only logs refusals (`shadow`): **nothing is guarded** but issuing. A request that would be refused has no `Permit`, so let
    /// handlers ask for `Option<Permit>`. Use it to try rules out on live traffic.
    #[must_use]
    pub fn shadow(self, on: bool) -> Self {
        self.set(&SHADOW, Given::Flag(on))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::check_faults;

    #[test]
    fn faults_name_the_remedy() {
        check_faults(&[
            ("access-token-paths", json!("/access"), "found a text; write a list of texts"),
            ("access-token-paths", json!(["/a", 1]), "found a number in the list"),
            ("access-token-paths", json!(["access"]), "the prefix \"access\" must begin with `/`; write \"/access\""),
            ("access-token-paths", json!([""]), "is empty; to guard everything write \"/\""),
            ("master-token-paths", json!(["/a/../b"]), "has a dot segment; write \"/b\""),
            ("base-path", json!("api"), "must begin with `/`"),
            ("windows", json!("yes"), "`windows`: found a text; write true or false"),
            ("ambiguous", json!("maybe"), "write \"refuse\" or \"protect\""),
        ]);
    }
}
