//! The secrets: master tokens, and the keys that sign.

use std::time::{SystemTime, UNIX_EPOCH};

use fastauth_core::{
    keys::{CAN_ENCRYPT, StoreFormat, is_fernet_key},
    policy::Level,
    secret::Secret,
};

use crate::{
    builder::SettingsBuilder,
    configured_keys::{ConfiguredKeys, KeySources},
    draft::Draft,
    fault::label_of,
    given::Given,
    key::{Group, Key},
    keys::{
        paths::MASTER_TOKEN_PATHS,
        rules::{DEFAULT_LEVEL, RULES},
        tokens::STORE_FORMAT,
    },
    placeholder::is_placeholder,
};

pub(crate) static GROUP: Group = Group {
    title: "Secrets",
    keys: &[
        &MASTER_TOKEN,
        &MASTER_TOKEN_FILE,
        &MASTER_TOKENS,
        &CRYPTOGRAPHY_KEY,
        &CRYPTOGRAPHY_KEY_FILE,
        &CRYPTOGRAPHY_KEY_SIGNS_FROM,
        &PREVIOUS_CRYPTOGRAPHY_KEYS,
    ],
};

const MAKE_ONE: &str = "generate one with `fastauth keygen`";

/// HS256 needs a key as long as its output (RFC 7518 3.2).
const MIN_KEY_LEN: usize = 32;

/// Below this length, the start warns that a master token may be guessed.
const SHORT_SECRET_LEN: usize = 16;

/// Secrets that stand in public documentation: of `fastauth-api`, and of this crate's tests.
const PUBLISHED: [&str; 2] =
    ["kAONxbkATfyk3kmnUhw7YyAMotmvuJ6tVsuT1w3A6N4=", "bsdW01Xfx6YAPxfpvz5Yp5MVBI9JUedbJxu_PkGR7mA="];

pub(crate) static MASTER_TOKEN: Key = Key::secret("master-token", |draft, token| {
    if is_usable(draft, &MASTER_TOKEN, &token) {
        check_master_token(draft, &MASTER_TOKEN, MASTER_TOKEN.name, &token);
        draft.secrets.master_tokens.push((MASTER_TOKEN.name.to_owned(), token));
    }
})
.bare("MASTER_TOKEN")
.doc("The static API key that opens `master-token-paths` and issuing. Without one, issuing over HTTP is closed.");

static MASTER_TOKEN_FILE: Key = Key::secret_file("master-token-file", &MASTER_TOKEN)
    .doc("The file that holds `master-token`, absolute or relative to the configuration file. A line break at its end does not count.");

static MASTER_TOKENS: Key = Key::secret_map("master-tokens", |draft, tokens| {
    let one = MASTER_TOKEN.name;
    for (name, token) in &tokens {
        if token.expose().trim().is_empty() || is_placeholder(token.expose()) {
            draft.fault(&MASTER_TOKENS, format!("the value of {name:?} is empty or a placeholder"), MAKE_ONE);
        } else if name.trim().is_empty() {
            draft.fault(&MASTER_TOKENS, "a name is empty", "give each token a name for the logs");
        } else if name == one {
            let problem = format!("{one:?} is the name of the token in `{one}`");
            draft.fault(&MASTER_TOKENS, problem, "give the token another name");
        }
        check_master_token(draft, &MASTER_TOKENS, &format!("{}.{name}", MASTER_TOKENS.name), token);
    }
    draft.secrets.master_tokens.extend(tokens);
})
.doc("More master tokens, each with the name that logs show, so that one can be withdrawn: `{\"ops\": \"…\"}`.");

pub(crate) static CRYPTOGRAPHY_KEY: Key = Key::secret("cryptography-key", |draft, key| {
    if !is_usable(draft, &CRYPTOGRAPHY_KEY, &key) {
        return;
    }
    if let Some(problem) = unclear(key.expose()) {
        draft.fault(&CRYPTOGRAPHY_KEY, format!("it {problem}"), "remove that");
    }
    let length = key.expose().len();
    if length < MIN_KEY_LEN {
        let problem = format!("it has {length} bytes, and HS256 needs at least {MIN_KEY_LEN}");
        draft.fault(&CRYPTOGRAPHY_KEY, problem, MAKE_ONE);
    }
    draft.secrets.key = Some(key);
})
.bare("CRYPTOGRAPHY_KEY")
.doc(
    "Required. The key that signs tokens. The string's bytes are the HS256 key, at least 32; it is not base64-decoded.",
);

pub(crate) static CRYPTOGRAPHY_KEY_FILE: Key = Key::secret_file("cryptography-key-file", &CRYPTOGRAPHY_KEY).doc(
    "The file that holds `cryptography-key`, as for `master-token-file`. If a reload finds another key in it, the one before still \
     verifies, until no token of it can be valid or the process ends.",
);

pub(crate) static CRYPTOGRAPHY_KEY_SIGNS_FROM: Key = Key::instant("cryptography-key-signs-from", |draft, time| {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => draft.secrets.signs_from = since.as_secs(),
        Err(_) => draft.fault(&CRYPTOGRAPHY_KEY_SIGNS_FROM, "it is before 1970", "write a later time"),
    }
})
.bare("CRYPTOGRAPHY_KEY_SIGNS_FROM")
.unset("always")
.doc(
    "When `cryptography-key` begins to sign, such as `2030-01-31T12:00:00Z`. Until then, the first previous key signs.",
);

pub(crate) static PREVIOUS_CRYPTOGRAPHY_KEYS: Key = Key::secret_list("previous-cryptography-keys", |draft, keys| {
    const KEY: &Key = &PREVIOUS_CRYPTOGRAPHY_KEYS;
    const REMEDY: &str = "remove it if no live token was signed with it";
    for (number, key) in keys.iter().enumerate() {
        let length = key.expose().len();
        if is_placeholder(key.expose()) {
            draft.fault(KEY, "one is a placeholder, not a key", REMEDY);
        } else if length < MIN_KEY_LEN {
            let problem = format!("one has {length} bytes, and HS256 needs at least {MIN_KEY_LEN}");
            draft.fault(KEY, problem, REMEDY);
        } else if let Some(problem) = unclear(key.expose()) {
            draft.fault(KEY, format!("one {problem}"), "remove that");
        } else if draft.secrets.key.as_ref() == Some(key) || keys[..number].contains(key) {
            draft.warn(format!("`{}`: a key appears twice", KEY.name));
        } else if PUBLISHED.contains(&key.expose()) {
            draft.warn(format!("`{}`: one is a published example, with which anyone can sign; {REMEDY}", KEY.name));
        }
    }
    draft.secrets.previous = keys;
})
.bare("PREVIOUS_CRYPTOGRAPHY_KEYS")
.doc("Keys that verify and do not sign, the latest first, so that their tokens stay valid.");

/// Returns true if a secret is neither empty nor a placeholder.
fn is_usable(draft: &mut Draft<'_>, key: &'static Key, secret: &Secret) -> bool {
    let text = secret.expose();
    if text.trim().is_empty() {
        draft.fault(key, "it is empty", MAKE_ONE);
        return false;
    }
    if is_placeholder(text) {
        draft.fault(key, "it is a placeholder, not a secret", MAKE_ONE);
        return false;
    }
    if PUBLISHED.contains(&text) {
        draft.warn(format!("`{}` is a published example, which anyone can look up; {MAKE_ONE}", key.name));
    }
    true
}

/// Returns what is wrong with a key that one variable would keep and another would trim.
fn unclear(key: &str) -> Option<&'static str> {
    if key.contains(|c: char| c.is_control() || c == '\u{feff}') {
        Some("has a line break, a byte order mark or another control character in it")
    } else if key.trim() != key {
        Some("has a space at its beginning or end")
    } else {
        None
    }
}

fn check_master_token(draft: &mut Draft<'_>, key: &'static Key, shown: &str, token: &Secret) {
    let text = token.expose();
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || text.trim() != text {
        let problem =
            format!("no client could send `{shown}`: a header carries printable ASCII without spaces at its ends");
        draft.fault(key, problem, MAKE_ONE);
    } else if text.len() < SHORT_SECRET_LEN {
        draft.warn(format!("`{shown}` has only {} characters and may be guessed; {MAKE_ONE}", text.len()));
    }
}

/// Brings the keys together.
pub(crate) fn complete_keys(draft: &mut Draft<'_>) -> Option<ConfiguredKeys> {
    if draft.secrets.key.is_none() && !draft.has_fault(&[&CRYPTOGRAPHY_KEY]) {
        let problem = "it is not set, so no token can be signed or verified";
        draft.missing(&CRYPTOGRAPHY_KEY, problem);
    }
    let newest = draft.secrets.key.clone()?;
    let previous = draft.secrets.previous.clone();
    let signs_from = draft.secrets.signs_from;
    if signs_from > draft.parts.clock.unix_now() && previous.is_empty() {
        let remedy = "add the earlier key to `previous-cryptography-keys`, or remove this";
        draft.fault(&CRYPTOGRAPHY_KEY_SIGNS_FROM, "no key signs until then", remedy);
    }
    let places = KeySources {
        key: draft.source(&CRYPTOGRAPHY_KEY),
        previous: draft.source(&PREVIOUS_CRYPTOGRAPHY_KEYS),
        signs_from: draft.source(&CRYPTOGRAPHY_KEY_SIGNS_FROM),
    };
    match ConfiguredKeys::new(newest, signs_from, previous, places, draft.parts.clock.clone()) {
        Ok(keys) => Some(keys),
        Err(error) => {
            if !draft.has_fault(&[&CRYPTOGRAPHY_KEY, &PREVIOUS_CRYPTOGRAPHY_KEYS]) {
                draft.fault(&CRYPTOGRAPHY_KEY, error.to_string(), MAKE_ONE);
            }
            None
        }
    }
}

/// Compares the master tokens with the paths that need one, and with each other.
pub(crate) fn complete_master_tokens(draft: &mut Draft<'_>) {
    if draft.secrets.master_tokens.is_empty() && !draft.has_fault(&[&MASTER_TOKEN, &MASTER_TOKENS]) {
        match what_needs_master(draft) {
            Some(what) => draft.missing(&MASTER_TOKEN, &format!("it is not set, but {what} requires it")),
            None => draft.warn("no master token is configured: issuing over HTTP is closed"),
        }
    }
    let tokens = &draft.secrets.master_tokens;
    let mut same = Vec::new();
    for (number, (name, token)) in tokens.iter().enumerate() {
        if let Some((other, _)) = tokens[..number].iter().find(|(_, other)| other == token) {
            same.push(format!("the master tokens {other:?} and {name:?} are the same text"));
        }
        if draft.secrets.key.as_ref() == Some(token) || draft.secrets.previous.contains(token) {
            same.push(format!(
                "`{name}` and a cryptography key are the same text, so either one gives away the other; {MAKE_ONE}"
            ));
        }
    }
    draft.warnings.extend(same);
}

/// Returns what requires a master token: the first of the list, the rules and the default level.
fn what_needs_master(draft: &Draft<'_>) -> Option<String> {
    if draft.values.has_items(MASTER_TOKEN_PATHS.name) {
        return Some(format!("`{}`", MASTER_TOKEN_PATHS.name));
    }
    if let Some(place) = draft.rules.rules.iter().position(|rule| asks_master(rule.level())) {
        return Some(format!("`{}[{place}]`{}", RULES.name, label_of(&draft.rules.rules[place])));
    }
    asks_master(draft.rules.default_level).then(|| format!("`{}`", DEFAULT_LEVEL.name))
}

fn asks_master(level: Option<Level>) -> bool {
    matches!(level, Some(Level::Master | Level::Both))
}

/// Checks that the key which signs can encrypt, if tokens are to be stored encrypted.
pub(crate) fn check_format(draft: &mut Draft<'_>) {
    let newest =
        draft.secrets.key.as_ref().filter(|_| draft.issuing.store_format == StoreFormat::Fernet && CAN_ENCRYPT);
    let Some(newest) = newest else { return };
    // Until the newest key signs, the one before it encrypts.
    let waits = draft.parts.clock.unix_now() < draft.secrets.signs_from;
    let signs_first = draft.secrets.previous.first().filter(|_| waits);
    if !is_fernet_key(newest) || !signs_first.is_none_or(is_fernet_key) {
        let problem = "\"fernet\" encrypts by the key that signs, which is not a Fernet key";
        draft.fault(
            &STORE_FORMAT,
            problem,
            "write \"plain\", and \"fernet\" when a key of `fastauth keys rotate` signs",
        );
    }
}

impl SettingsBuilder {
    /// Sets the static API key that opens `master-token-paths` and issuing (`master-token`).
    #[must_use]
    pub fn master_token(self, token: impl Into<Secret>) -> Self {
        self.set(&MASTER_TOKEN, Given::Secret(token.into()))
    }

    /// Sets the file that holds the master token (`master-token-file`).
    #[must_use]
    pub fn master_token_file(self, path: impl Into<String>) -> Self {
        self.set(&MASTER_TOKEN_FILE, Given::Text(path.into()))
    }

    /// Sets several master tokens, each with the name that logs show (`master-tokens`), so that one can be withdrawn.
    #[must_use]
    pub fn master_tokens<N: Into<String>, V: Into<Secret>>(self, tokens: impl IntoIterator<Item = (N, V)>) -> Self {
        self.set(&MASTER_TOKENS, Given::secret_map(tokens))
    }

    /// Sets the key that signs tokens (`cryptography-key`): at least 32 bytes, used as they are and never decoded.
    #[must_use]
    pub fn cryptography_key(self, key: impl Into<Secret>) -> Self {
        self.set(&CRYPTOGRAPHY_KEY, Given::Secret(key.into()))
    }

    /// Sets the file that holds the key that signs tokens (`cryptography-key-file`).
    #[must_use]
    pub fn cryptography_key_file(self, path: impl Into<String>) -> Self {
        self.set(&CRYPTOGRAPHY_KEY_FILE, Given::Text(path.into()))
    }

    /// Sets when `cryptography-key` begins to sign (`cryptography-key-signs-from`), in whole seconds. Until then the first of
    /// `previous-cryptography-keys` signs, so that every node has the new key before it signs.
    #[must_use]
    pub fn cryptography_key_signs_from(self, time: SystemTime) -> Self {
        self.set(&CRYPTOGRAPHY_KEY_SIGNS_FROM, Given::Instant(time))
    }

    /// Sets the keys that verify and do not sign, the latest first (`previous-cryptography-keys`): their tokens stay valid.
    #[must_use]
    pub fn previous_cryptography_keys<K: Into<Secret>>(self, keys: impl IntoIterator<Item = K>) -> Self {
        self.set(&PREVIOUS_CRYPTOGRAPHY_KEYS, Given::SecretList(keys.into_iter().map(Into::into).collect()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::check_faults;

    #[test]
    fn faults_name_the_remedy() {
        check_faults(&[
            ("master-token", json!(""), "`master-token`: it is empty"),
            ("master-token", json!("  "), "`master-token`: it is empty"),
            ("master-token", json!("<your-master-token>"), "it is a placeholder, not a secret"),
            ("master-token", json!("hush\nhush-hush-hush"), "no client could send `master-token`"),
            ("master-token", json!(["hush"]), "`master-token`: found a list"),
            ("master-tokens", json!(["hush"]), "`master-tokens`: found a list; write an object"),
            ("master-tokens", json!({ "ops": "" }), "the value of \"ops\" is empty or a placeholder"),
            ("master-tokens", json!({ "": "hush-hush-hush-hush" }), "a name is empty"),
            ("master-tokens", json!({ "master-token": "hush-hush-hush-hush" }), "give the token another name"),
            ("master-tokens", json!({ "ops": "hush\nhush" }), "no client could send `master-tokens.ops`"),
            ("cryptography-key", json!("hush-short"), "it has 10 bytes, and HS256 needs at least 32"),
            ("cryptography-key", json!("${CRYPTOGRAPHY_KEY_OF_THE_DEPLOYMENT}"), "it is a placeholder"),
            (
                "cryptography-key-signs-from",
                json!("2999-01-01T00:00:00Z"),
                "no key signs until then; add the earlier key",
            ),
            ("cryptography-key-signs-from", json!("noon"), "is not a time; write one in UTC"),
            ("previous-cryptography-keys", json!(["hush"]), "one has 4 bytes, and HS256"),
            ("previous-cryptography-keys", json!([""]), "one has 0 bytes"),
            (
                "previous-cryptography-keys",
                json!(["<the key that was there before>"]),
                "one is a placeholder, not a key",
            ),
            ("previous-cryptography-keys", json!("hush"), "found a text; write a list of texts"),
        ]);
    }
}
