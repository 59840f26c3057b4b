//! `schema`, and the file that editors check a configuration by.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use fastauth::config::json_schema;
use serde_json::Value;

use crate::{
    failure::Failure,
    files::{self, Existing},
    output,
};

#[derive(Args)]
#[command(after_help = "\
Editors complete and check the keys, the rules and their members if the configuration begins with
\"$schema\": \"./fastauth.config.schema.json\", as that of `fastauth init` does.

Examples:
  fastauth schema
  fastauth schema > fastauth.config.schema.json")]
pub(crate) struct Schema {}

/// The name of the file, beside the configuration.
pub(crate) const FILE: &str = "fastauth.config.schema.json";

/// The file as `$schema` names it.
pub(crate) const REFERENCE: &str = "./fastauth.config.schema.json";

pub(crate) fn run(_: &Schema) -> Result<ExitCode, Failure> {
    output::verbatim(&text())?;
    Ok(ExitCode::SUCCESS)
}

fn text() -> String {
    format!("{:#}\n", json_schema())
}

/// Returns the file beside a configuration, if it can be written there.
pub(crate) fn beside(config: &Path, existing: Existing) -> Result<PathBuf, Failure> {
    let path = config.with_file_name(FILE);
    if existing == Existing::Refuse && path.exists() && !is_current(&path) {
        let path = path.display();
        return Err(Failure::new(format!(
            "{path} already exists, and is not what this version writes; --force replaces it, and nothing was written"
        )));
    }
    Ok(path)
}

pub(crate) fn write(path: &Path) -> Result<(), Failure> {
    files::write(path, &text(), Existing::Replace)
}

/// Returns what to do about a file in a directory that is not of this version.
pub(crate) fn suggestion(directory: &Path) -> Option<String> {
    let path = directory.join(FILE);
    let is_missing = matches!(fs::metadata(&path), Err(error) if error.kind() == ErrorKind::NotFound);
    if is_missing || is_current(&path) {
        return None;
    }
    let path = path.display();
    Some(format!(
        "replace {path}, by which editors check the configuration: it is of another version. `fastauth schema > {path}` writes \
         that of this one"
    ))
}

fn is_current(path: &Path) -> bool {
    let schema = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    schema.is_some_and(|schema| schema == json_schema())
}
