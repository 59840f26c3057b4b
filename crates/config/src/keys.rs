//! The keys as they are configured, and changing them where they stand.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use super::{
    env_file::{EnvFile, EnvFileError, quoted},
    fault::Source,
    file::{self, Mode, replace},
    members,
    source::{BARE, is_spelling, variable},
};
use fastauth_core::{
    clock::Clock,
    json,
    keys::{KeyRing, Reform, Reforming, StoreFormat},
    secret::Secret,
    token::InvalidKey,
};

pub(super) const KEY: &str = "cryptography-key";
pub(super) const SIGNS_FROM: &str = "cryptography-key-signs-from";
pub(super) const PREVIOUS: &str = "previous-cryptography-keys";

/// The keys of a configuration: which one signs, which ones verify, and how to change them. They themselves are not
/// shown.
#[derive(Clone)]
pub struct ConfiguredKeys {
    pub(super) newest: Secret,
    /// When the newest begins to sign, since the Unix epoch.
    pub(super) signs_from: u64,
    pub(super) previous: Vec<Secret>,
    ring: Arc<KeyRing>,
    clock: Clock,
    /// Where each of the settings stands.
    places: Places,
}

#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) key: Source,
    pub(super) previous: Source,
    pub(super) signs_from: Source,
}

/// A key without the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// The key's id, which tokens name as `kid`. It tells nothing of the key that a token does not.
    pub kid: String,
    /// What the key does.
    pub role: KeyRole,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// It signs, and verifies.
    Signs,
    /// It verifies now, and signs from then on.
    SignsFrom(SystemTime),
    /// It verifies.
    Verifies,
}

/// Why keys are not changed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum KeyChangeError {
    /// A key is waiting for its time, and only the nodes know which of them have it.
    #[error("the key {kid} is to sign from {} only: wait until then, or let the new key sign at once", rfc3339(*from))]
    Pending {
        /// The id of the waiting key.
        kid: String,
        /// Its time.
        from: SystemTime,
    },
    /// No key has this id.
    #[error("no configured key has the id {0}")]
    Unknown(String),
    /// The key signs, or is the one to sign next.
    #[error("{0} is the key that signs or is to sign next: rotate first, and wait until the new key signs")]
    InUse(String),
    /// The settings stand in several places.
    #[error("`{key}` stands in {key_source}, and `{other}` in {other_source}: bring them together first")]
    Scattered {
        /// The key that signs.
        key: &'static str,
        /// Where that stands.
        key_source: Box<Source>,
        /// What stands elsewhere.
        other: &'static str,
        /// Where that is.
        other_source: Box<Source>,
    },
    /// A variable separates keys with commas, and one has a comma or spaces around it.
    #[error(
        "a key has a comma in it, or a space at an end, and cannot stand in a list of keys in a variable: move the keys into the configuration file"
    )]
    Unlistable,
    /// The keys are in a place that cannot be written from here.
    #[error("the keys stand in {0}, which cannot be changed from here")]
    Unwritable(Source),
    /// The file is not as it was when it was read.
    #[error("{} was changed by somebody else meanwhile: try again", .0.display())]
    Changed(PathBuf),
    /// The configuration file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The `.env` file could not be read or written.
    #[error(transparent)]
    EnvFile(#[from] EnvFileError),
}

impl ConfiguredKeys {
    pub(super) fn new(
        newest: Secret,
        signs_from: u64,
        previous: Vec<Secret>,
        places: Places,
        clock: Clock,
    ) -> Result<Self, InvalidKey> {
        let ring = Arc::new(KeyRing::new(&newest, signs_from, &previous)?);
        Ok(Self { newest, signs_from, previous, ring, clock, places })
    }

    /// Returns what signs and verifies.
    #[doc(hidden)]
    #[must_use]
    pub fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring)
    }

    /// All keys: `cryptography-key`, and then the previous ones as they are configured.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        let role = |number: usize| match (number, self.waits_until()) {
            (0, Some(from)) => KeyRole::SignsFrom(from),
            (0, None) | (1, Some(_)) => KeyRole::Signs,
            _ => KeyRole::Verifies,
        };
        let kids = self.ring.kids().map(str::to_owned);
        kids.enumerate().map(|(number, kid)| KeyInfo { kid, role: role(number) }).collect()
    }

    /// Where `cryptography-key` stands.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.places.key
    }

    /// Whether the key of this id may have signed what a store keeps as a token: unless another one has for certain, or
    /// it is no token of ours.
    #[must_use]
    pub fn may_have_signed(&self, kid: &str, kept: &Secret) -> bool {
        self.ring.may_have_signed(kid, kept)
    }

    /// Whether tokens can be encrypted now: whether the key that signs is one of Fernet's.
    #[must_use]
    pub fn can_encrypt(&self) -> bool {
        self.ring.seal(&Secret::from("test"), self.clock.unix_now()).is_some()
    }

    /// A new key in place of the present one, which goes to the previous ones. With a time, the present one signs until
    /// then. Nothing is written yet.
    ///
    /// # Errors
    ///
    /// Where the keys stand in several places, or one waits for its time and the new one is to wait as well.
    pub fn rotate(&self, signs_from: Option<SystemTime>) -> Result<KeyChange, KeyChangeError> {
        if let (Some(from), Some(_)) = (self.waits_until(), signs_from) {
            return Err(KeyChangeError::Pending { kid: self.kid_of_newest(), from });
        }
        let previous = std::iter::once(&self.newest).chain(&self.previous).cloned().collect();
        self.change(Secret::generate(), previous, signs_from)
    }

    /// The configuration without the previous key of this id. Whether tokens of it are live is not asked. Nothing is
    /// written yet.
    ///
    /// # Errors
    ///
    /// Where no previous key has the id, or the key signs, or the keys stand in several places.
    pub fn retire(&self, kid: &str) -> Result<KeyChange, KeyChangeError> {
        let info = self.list().into_iter().find(|key| key.kid == kid);
        match info.ok_or_else(|| KeyChangeError::Unknown(kid.to_owned()))?.role {
            KeyRole::Signs | KeyRole::SignsFrom(_) => return Err(KeyChangeError::InUse(kid.to_owned())),
            KeyRole::Verifies => {}
        }
        let kids = self.ring.kids().skip(1);
        let left = self.previous.iter().zip(kids).filter(|(_, other)| *other != kid).map(|(key, _)| key.clone());
        let left: Vec<_> = left.collect();
        // There is nobody left to sign until then.
        let signs_from = self.waits_until().filter(|_| !left.is_empty());
        self.change(self.newest.clone(), left, signs_from)
    }

    /// Until when the newest key does not sign.
    fn waits_until(&self) -> Option<SystemTime> {
        let waits = !self.previous.is_empty() && self.clock.unix_now() < self.signs_from;
        waits.then(|| UNIX_EPOCH + Duration::from_secs(self.signs_from))
    }

    fn kid_of_newest(&self) -> String {
        self.ring.kids().next().unwrap_or_default().to_owned()
    }

    fn change(
        &self,
        newest: Secret,
        previous: Vec<Secret>,
        signs_from: Option<SystemTime>,
    ) -> Result<KeyChange, KeyChangeError> {
        for (other, other_source) in [(PREVIOUS, &self.places.previous), (SIGNS_FROM, &self.places.signs_from)] {
            if !is_together(&self.places.key, other_source) {
                let (key_source, other_source) = (Box::new(self.places.key.clone()), Box::new(other_source.clone()));
                return Err(KeyChangeError::Scattered { key: KEY, key_source, other, other_source });
            }
        }
        let is_listable = |key: &Secret| !key.expose().contains(',') && key.expose().trim() == key.expose();
        if !matches!(self.places.key, Source::File(_)) && !previous.iter().all(is_listable) {
            return Err(KeyChangeError::Unlistable);
        }
        let kid = KeyRing::new(&newest, 0, &[]).ok().and_then(|ring| ring.kids().next().map(str::to_owned));
        Ok(KeyChange {
            before: self.newest.clone(),
            newest,
            kid: kid.unwrap_or_default(),
            previous,
            signs_from,
            places: self.places.clone(),
        })
    }
}

impl Reforming for ConfiguredKeys {
    fn can_encrypt(&self) -> bool {
        Self::can_encrypt(self)
    }

    fn reform(&self, kept: &Secret, format: StoreFormat) -> Reform {
        self.ring.reform(kept, format, self.clock.unix_now())
    }
}

impl fmt::Debug for ConfiguredKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfiguredKeys").field("keys", &self.list()).field("places", &self.places).finish()
    }
}

/// Whether a setting stands where the key does, or nowhere. The process's environment counts as one place.
fn is_together(key: &Source, other: &Source) -> bool {
    match (key, other) {
        (_, Source::Default) => true,
        (Source::EnvFile(key, _), Source::EnvFile(other, _)) => key == other,
        (Source::Environment(_), Source::Environment(_)) => true,
        (key, other) => key == other,
    }
}

/// A change of the keys that is not written yet.
pub struct KeyChange {
    before: Secret,
    newest: Secret,
    kid: String,
    previous: Vec<Secret>,
    signs_from: Option<SystemTime>,
    places: Places,
}

impl KeyChange {
    /// The id of what `cryptography-key` is to be.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Writes the change where the keys stand, in one step: the configuration file stays as it is around them.
    ///
    /// # Errors
    ///
    /// Where that place cannot be written, or is not as it was when it was read.
    pub fn write(&self) -> Result<(), KeyChangeError> {
        match &self.places.key {
            Source::File(path) => self.write_file(path.clone()),
            Source::EnvFile(path, name) => self.write_env_file(&EnvFile::new(path), name),
            other => Err(KeyChangeError::Unwritable(other.clone())),
        }
    }

    /// What is to be set, for who does it by hand: members of the configuration file, or variables.
    #[must_use]
    pub fn settings(&self) -> Vec<KeySetting> {
        let names = self.names();
        let values = if self.is_of_variables() { self.variables() } else { self.members() };
        let both = names.into_iter().zip(values).zip([true, true, false]);
        both.map(|((name, value), is_secret)| KeySetting { name, value, is_secret }).collect()
    }

    fn is_of_variables(&self) -> bool {
        matches!(self.places.key, Source::Environment(_) | Source::EnvFile(..))
    }

    /// The names of the three settings: those that they have, else in the manner of the key's.
    fn names(&self) -> [String; 3] {
        let key = match &self.places.key {
            Source::Environment(name) | Source::EnvFile(_, name) => name.as_str(),
            _ => KEY,
        };
        let name = |setting: &'static str, source: &Source| match source {
            Source::Environment(name) | Source::EnvFile(_, name) => name.clone(),
            _ if !self.is_of_variables() => setting.to_owned(),
            _ if key.starts_with("FASTAUTH_") => variable(setting),
            _ => bare(setting),
        };
        [key.to_owned(), name(PREVIOUS, &self.places.previous), name(SIGNS_FROM, &self.places.signs_from)]
    }

    fn variables(&self) -> [Option<Secret>; 3] {
        let mut list = String::new();
        for key in &self.previous {
            list.push_str(if list.is_empty() { "" } else { "," });
            list.push_str(key.expose());
        }
        let previous = (!self.previous.is_empty()).then(|| Secret::from(list));
        [Some(self.newest.clone()), previous, self.signs_from.map(rfc3339).map(Secret::from)]
    }

    fn members(&self) -> [Option<Secret>; 3] {
        let written = |value: Option<Value>| value.map(|value| Secret::from(value.to_string()));
        self.values().map(written)
    }

    fn values(&self) -> [Option<Value>; 3] {
        let text = |key: &Secret| Value::from(key.expose());
        let previous = (!self.previous.is_empty()).then(|| self.previous.iter().map(text).collect());
        [Some(text(&self.newest)), previous, self.signs_from.map(|from| Value::from(rfc3339(from)))]
    }

    fn write_file(&self, path: PathBuf) -> Result<(), KeyChangeError> {
        let _lock = match file::lock(&path) {
            Ok(lock) => lock,
            Err(source) => return Err(KeyChangeError::Io { path, source }),
        };
        let text = match file::read_text(&path) {
            Ok(text) => text,
            Err(source) => return Err(KeyChangeError::Io { path, source }),
        };
        let members = json::object(text.expose().trim_start_matches('\u{feff}').as_bytes()).unwrap_or_default();
        let mut held = members.iter().filter(|(name, _)| is_spelling(name, KEY)).map(|(_, value)| value);
        if held.next().and_then(Value::as_str) != Some(self.before.expose()) {
            return Err(KeyChangeError::Changed(path));
        }
        let mut changed = text;
        // Each is put right behind the key, so that the last one comes first.
        for (setting, value) in [KEY, PREVIOUS, SIGNS_FROM].into_iter().zip(self.values()).rev() {
            let is_it = |name: &str| is_spelling(name, setting);
            let is_key = |name: &str| is_spelling(name, KEY);
            match members::change(changed.expose(), is_it, (setting, value.as_ref()), is_key) {
                Some(text) => changed = Secret::from(text),
                None => return Err(KeyChangeError::Changed(path)),
            }
        }
        replace(&path, &changed, Mode::Kept).map_err(|source| KeyChangeError::Io { path, source })
    }

    fn write_env_file(&self, file: &EnvFile, name: &str) -> Result<(), KeyChangeError> {
        let locked = file.lock()?;
        if locked.value(name)? != Some(self.before.clone()) {
            return Err(KeyChangeError::Changed(file.path().to_owned()));
        }
        let (names, values) = (self.names(), self.variables());
        let changes: Vec<_> = names.iter().zip(&values).map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        Ok(locked.change(&changes)?)
    }
}

impl fmt::Debug for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyChange").field("kid", &self.kid).field("places", &self.places).finish_non_exhaustive()
    }
}

/// A setting of a [`KeyChange`], to be made by hand.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeySetting {
    /// The variable, or the member of the configuration file.
    pub name: String,
    /// What it is to be set to, in a file as JSON; it is to be taken out where there is nothing.
    pub value: Option<Secret>,
    /// Whether there is a key in it.
    pub is_secret: bool,
}

impl KeySetting {
    /// The value of a variable as it is written behind `NAME=` in a `.env` file, in quotes where it needs them.
    ///
    /// `None` where there is no value, and for one that such a file cannot hold.
    #[must_use]
    pub fn env_value(&self) -> Option<Secret> {
        self.value.as_ref().and_then(quoted)
    }
}

/// The variable without a prefix that sets a key.
fn bare(setting: &str) -> String {
    let found = BARE.iter().find(|(key, _)| *key == setting);
    found.map_or_else(|| variable(setting), |(_, name)| (*name).to_owned())
}

pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
