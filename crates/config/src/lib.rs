//! The configuration of FastAuth: its keys, the sources that they are read from, and changing them where they stand.
//! Applications use the crate `fastauth`, which re-exports what they need.
//!
//! [`Settings`] are made from code, the environment, a configuration file and `.env`, in this order of precedence. Every key is
//! one row of a table (the private module `keys`), from which come its variable, its faults, what `fastauth check` shows, the
//! [`reference`](reference()) and the [JSON Schema](json_schema).

#![cfg_attr(docsrs, feature(doc_cfg))]

mod announce;
mod builder;
mod code_parts;
mod configured_keys;
mod crossing;
mod digests;
mod draft;
#[cfg(feature = "edit")]
mod edit;
mod env_file;
mod env_text;
mod environment;
mod fault;
mod file;
mod fingerprint;
mod finish;
mod given;
mod key;
mod keys;
mod load;
mod placeholder;
mod reference;
mod report;
mod rules;
mod settings;
mod sources;
#[cfg(test)]
mod testing;
mod time;
mod values;

#[doc(hidden)]
pub use digests::Digests;
#[cfg(feature = "edit")]
pub use edit::{KeyChange, KeyChangeError, KeySetting};
#[doc(hidden)]
pub use environment::is_of_a_service;
#[doc(hidden)]
pub use file::directory_of;
#[doc(hidden)]
pub use fingerprint::Fingerprint;
#[doc(hidden)]
pub use rules::demands_as_object;
#[doc(hidden)]
pub use settings::Lasting;
pub use {
    announce::{announce, announce_fault},
    builder::SettingsBuilder,
    configured_keys::{ConfiguredKeys, KeyInfo, KeyRole},
    env_file::{EnvFile, EnvFileError},
    fault::{ConfigError, Fault, Source},
    file::exposure,
    reference::{json_schema, reference},
    report::{Report, ReportEntry},
    settings::Settings,
};
