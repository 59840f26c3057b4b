//! Changing the keys where they stand.

use std::{fmt, path::PathBuf, time::SystemTime};

use fastauth_core::{json, keys::KeyRing, secret::Secret};
use serde_json::Value;

use super::json::Document;
use crate::{
    configured_keys::{ConfiguredKeys, KeyRole, KeySources},
    env_file::{EnvFile, EnvFileError, quoted},
    fault::Source,
    file::{self, Mode, replace},
    given::rfc3339,
    key::Key,
    keys::secrets::{
        CRYPTOGRAPHY_KEY, CRYPTOGRAPHY_KEY_FILE, CRYPTOGRAPHY_KEY_SIGNS_FROM as SIGNS_FROM,
        PREVIOUS_CRYPTOGRAPHY_KEYS as PREVIOUS,
    },
    sources::FILE_ENDING,
};

/// Why keys are not changed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum KeyChangeError {
    /// A key is waiting for its time, and only the nodes know which of them have it.
    #[error(
        "the key {kid} signs only from {} on: wait until then; to let it sign at once, remove `{}` ({time_source}) and restart \
         every node",
        rfc3339(*from),
        SIGNS_FROM.name
    )]
    Pending {
        /// The id of the waiting key.
        kid: String,
        /// Its time.
        from: SystemTime,
        /// Where that stands.
        time_source: Box<Source>,
    },
    /// No key has this id.
    #[error("no configured key has the id {0}")]
    Unknown(String),
    /// The key signs, or is the one to sign next.
    #[error("{0} is the key that signs or is to sign next: rotate first, and wait until the new key signs")]
    InUse(String),
    /// The settings stand in several sources.
    #[error("`{key}` is set in {key_source}, but `{other}` in {other_source}: move them to one place first")]
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
        "a key with a comma, or with a space at an end, cannot be part of a list in a variable: move the keys to the configuration file"
    )]
    Unlistable,
    /// The keys are in a place that cannot be written from here.
    #[error("the keys are set in {0}, which this program cannot change")]
    Unwritable(Source),
    /// The file is not as it was when it was read.
    #[error("{} was changed by another process: try again", .0.display())]
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
    /// Plans a new key in place of the present one, which goes to the previous ones. With a time, the present one signs until
    /// then. Nothing is written yet.
    ///
    /// # Errors
    ///
    /// If the keys stand in several sources, or one waits for its time and the new one is to wait as well.
    pub fn rotate(&self, signs_from: Option<SystemTime>) -> Result<KeyChange, KeyChangeError> {
        if let (Some(from), Some(_)) = (self.waits_until(), signs_from) {
            let kid = self.ring.kids().next().unwrap_or_default().to_owned();
            let time_source = Box::new(self.sources.signs_from.clone());
            return Err(KeyChangeError::Pending { kid, from, time_source });
        }
        let previous = std::iter::once(&self.newest).chain(&self.previous).cloned().collect();
        self.change(Secret::generate(), previous, signs_from)
    }

    /// Plans the configuration without the previous key of this id. The store is not asked whether tokens of it are live. Nothing
    /// is written yet.
    ///
    /// # Errors
    ///
    /// If no previous key has the id, or the key signs, or the keys stand in several sources.
    pub fn retire(&self, kid: &str) -> Result<KeyChange, KeyChangeError> {
        let info = self.list().into_iter().find(|key| key.kid == kid);
        match info.ok_or_else(|| KeyChangeError::Unknown(kid.to_owned()))?.role {
            KeyRole::Signs | KeyRole::SignsFrom(_) => {
                return Err(KeyChangeError::InUse(kid.to_owned()));
            }
            KeyRole::Verifies => {}
        }
        let kids = self.ring.kids().skip(1);
        let left = self.previous.iter().zip(kids).filter(|(_, other)| *other != kid).map(|(key, _)| key.clone());
        let left: Vec<_> = left.collect();
        // Without another key, there is none to sign until then.
        let signs_from = self.waits_until().filter(|_| !left.is_empty());
        self.change(self.newest.clone(), left, signs_from)
    }

    fn change(
        &self,
        newest: Secret,
        previous: Vec<Secret>,
        signs_from: Option<SystemTime>,
    ) -> Result<KeyChange, KeyChangeError> {
        let sources = &self.sources;
        for (other, other_source) in [(&PREVIOUS, &sources.previous), (&SIGNS_FROM, &sources.signs_from)] {
            if !is_together(&sources.key, other_source) {
                return Err(KeyChangeError::Scattered {
                    key: CRYPTOGRAPHY_KEY.name,
                    key_source: Box::new(sources.key.clone()),
                    other: other.name,
                    other_source: Box::new(other_source.clone()),
                });
            }
        }
        if !matches!(sources.key, Source::File(_)) && !previous.iter().all(is_listable) {
            return Err(KeyChangeError::Unlistable);
        }
        let kid = KeyRing::new(&newest, 0, &[]).ok().and_then(|ring| ring.kids().next().map(str::to_owned));
        Ok(KeyChange {
            before: self.newest.clone(),
            newest,
            kid: kid.unwrap_or_default(),
            previous,
            signs_from,
            sources: sources.clone(),
        })
    }
}

/// Returns true if a key can be told from its neighbours in a list with commas.
fn is_listable(key: &Secret) -> bool {
    !key.expose().contains(',') && key.expose().trim() == key.expose()
}

/// Returns true if a setting stands where the key does, or nowhere. The process's environment counts as one place.
fn is_together(key: &Source, other: &Source) -> bool {
    match (key, other) {
        (_, Source::Default) => true,
        (Source::EnvFile(key, _), Source::EnvFile(other, _)) => key == other,
        (Source::Environment(_) | Source::SecretFile(..), Source::Environment(_) | Source::SecretFile(..)) => true,
        (Source::SecretFile(_, name), Source::File(_)) => CRYPTOGRAPHY_KEY_FILE.is_spelled(name),
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
    sources: KeySources,
}

/// What one of the settings becomes.
struct Setting {
    key: &'static Key,
    /// The variable, or the member of the configuration file.
    name: String,
    /// True if the variable or member names a file with the value in it.
    is_in_file: bool,
    /// True if it stands in the configuration file as it is.
    is_member: bool,
    value: NewValue,
}

enum NewValue {
    Removed,
    Text(Secret),
    List(Vec<Secret>),
}

impl NewValue {
    fn in_json(&self) -> Option<Value> {
        match self {
            Self::Removed => None,
            Self::Text(text) => Some(Value::from(text.expose())),
            Self::List(items) => Some(items.iter().map(|item| Value::from(item.expose())).collect()),
        }
    }

    fn in_variable(&self) -> Option<Secret> {
        match self {
            Self::Removed => None,
            Self::Text(text) => Some(text.clone()),
            Self::List(items) => Some(Secret::from(items.iter().map(Secret::expose).collect::<Vec<_>>().join(","))),
        }
    }
}

impl KeyChange {
    /// Returns the id of what `cryptography-key` is to be.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Writes the change where the keys stand, in one step: the configuration file stays as it is around them.
    ///
    /// # Errors
    ///
    /// If that place cannot be written, or is not as it was when it was read.
    pub fn write(&self) -> Result<(), KeyChangeError> {
        match &self.sources.key {
            Source::File(path) => self.write_file(path.clone()),
            Source::EnvFile(path, name) => self.write_env_file(&EnvFile::new(path), name),
            other => Err(KeyChangeError::Unwritable(other.clone())),
        }
    }

    /// Returns what is to be set, to do it by hand: members of the configuration file, or variables.
    #[must_use]
    pub fn settings(&self) -> Vec<KeySetting> {
        let is_of_variables = self.is_of_variables();
        self.changes()
            .into_iter()
            .map(|setting| {
                let value = if is_of_variables && !setting.is_member {
                    setting.value.in_variable()
                } else {
                    setting.value.in_json().map(|value| Secret::from(value.to_string()))
                };
                KeySetting {
                    name: setting.name,
                    value,
                    is_secret: *setting.key != SIGNS_FROM,
                    is_in_file: setting.is_in_file,
                    is_member: setting.is_member,
                }
            })
            .collect()
    }

    fn is_of_variables(&self) -> bool {
        matches!(self.sources.key, Source::Environment(_) | Source::SecretFile(..) | Source::EnvFile(..))
    }

    fn changes(&self) -> [Setting; 3] {
        let previous = match self.previous.as_slice() {
            [] => NewValue::Removed,
            previous => NewValue::List(previous.to_vec()),
        };
        let signs_from = match self.signs_from {
            None => NewValue::Removed,
            Some(time) => NewValue::Text(Secret::from(rfc3339(time))),
        };
        [
            self.setting(&CRYPTOGRAPHY_KEY, &self.sources.key, NewValue::Text(self.newest.clone())),
            self.setting(&PREVIOUS, &self.sources.previous, previous),
            self.setting(&SIGNS_FROM, &self.sources.signs_from, signs_from),
        ]
    }

    /// Names a setting: as it is named now, else in the manner of the key's.
    fn setting(&self, key: &'static Key, source: &Source, value: NewValue) -> Setting {
        let in_manner_of = |name: &str| match key.bare {
            Some(bare) if !name.starts_with("FASTAUTH_") => bare.to_owned(),
            _ => key.variable(),
        };
        let (name, is_in_file) = match (source, &self.sources.key) {
            (Source::Environment(name) | Source::EnvFile(_, name), _) => (name.clone(), false),
            (Source::SecretFile(_, name), _) => (name.clone(), true),
            // Only the key itself has a member that names a file.
            (_, Source::SecretFile(_, name)) if CRYPTOGRAPHY_KEY_FILE.is_spelled(name) => (key.name.to_owned(), false),
            (_, Source::SecretFile(_, name)) => (format!("{}{FILE_ENDING}", in_manner_of(name)), true),
            (_, Source::Environment(name) | Source::EnvFile(_, name)) => (in_manner_of(name), false),
            _ => (key.name.to_owned(), false),
        };
        let is_member = !is_in_file && name == key.name;
        Setting { key, name, is_in_file, is_member, value }
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
        let Some(changed) = self.changed_file(text.expose()) else {
            return Err(KeyChangeError::Changed(path));
        };
        replace(&path, &changed, Mode::Kept).map_err(|source| KeyChangeError::Io { path, source })
    }

    /// Returns the text of the configuration file with the change, unless another key stands in it.
    fn changed_file(&self, text: &str) -> Option<Secret> {
        let members = json::object(text.trim_start_matches('\u{feff}').as_bytes()).ok()?;
        let held = members.iter().find(|(name, _)| CRYPTOGRAPHY_KEY.is_spelled(name))?.1;
        if held.as_str() != Some(self.before.expose()) {
            return None;
        }
        let document = Document::parse(text)?;
        // Each is put right behind the key, so that the last one comes first.
        for setting in self.changes().iter().rev() {
            match setting.value.in_json() {
                Some(value) => document.set(setting.key, &value, &CRYPTOGRAPHY_KEY)?,
                None => document.remove(setting.key),
            }
        }
        Some(Secret::from(document.text()))
    }

    fn write_env_file(&self, file: &EnvFile, name: &str) -> Result<(), KeyChangeError> {
        let locked = file.lock()?;
        if locked.value(name)? != Some(self.before.clone()) {
            return Err(KeyChangeError::Changed(file.path().to_owned()));
        }
        let changes = self.changes().map(|setting| (setting.name, setting.value.in_variable()));
        let changes: Vec<_> = changes.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        Ok(locked.change(&changes)?)
    }
}

impl fmt::Debug for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyChange").field("kid", &self.kid).field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// A setting of a [`KeyChange`], to be made by hand.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeySetting {
    /// The variable, or the member of the configuration file.
    pub name: String,
    /// What it is to be set to, in a configuration file as JSON. Without a value, it is to be removed.
    pub value: Option<Secret>,
    /// True if there is a key in it.
    pub is_secret: bool,
    /// True if the variable or member names a file, such as `CRYPTOGRAPHY_KEY_FILE`, and the value is to be all that the file holds.
    pub is_in_file: bool,
    /// True if it is a member of the configuration file, and the value is to stand there.
    pub is_member: bool,
}

impl KeySetting {
    /// Returns the value of a variable as it is written behind `NAME=` in a `.env` file, in quotes if it needs them.
    ///
    /// Returns `None` if there is no value, and for one that such a file cannot hold.
    #[must_use]
    pub fn env_value(&self) -> Option<Secret> {
        self.value.as_ref().and_then(quoted)
    }
}

fastauth_core::debug_as_text!(KeyChangeError);
