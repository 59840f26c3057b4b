//! `init --axum`: a small application, from the templates.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    process::ExitCode,
};

use fastauth::{Secret, config::EnvFile};
use serde_json::Map;

use super::{Configuration, answers::Answers};
use fastauth_config::directory_of;

use crate::{
    failure::Failure,
    files::{self, Existing},
    keygen::SecretName,
    output, schema,
};

/// The files of the application by their names in it, but for those with secrets and the configuration.
const TEMPLATES: [(&str, &str); 7] = [
    ("src/main.rs", include_str!("../../templates/axum/main.rs")),
    ("src/tests.rs", include_str!("../../templates/axum/tests.rs")),
    (".gitignore", include_str!("../../templates/axum/gitignore.template")),
    (".dockerignore", include_str!("../../templates/axum/dockerignore.template")),
    ("Containerfile", include_str!("../../templates/axum/Containerfile.template")),
    ("README.md", include_str!("../../templates/axum/README.md.template")),
    // Last: without it, cargo sees no package.
    ("Cargo.toml", include_str!("../../templates/axum/Cargo.toml.template")),
];

/// The clone that the program was built from.
const CLONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Names that the application cannot have: of crates that it uses, and words of cargo and of the language.
const TAKEN: [&str; 16] = [
    "as",
    "axum",
    "build",
    "core",
    "crate",
    "deps",
    "fastauth",
    "if",
    "self",
    "serde",
    "serde_json",
    "test",
    "tokio",
    "tower",
    "tracing-subscriber",
    "tracing_subscriber",
];

pub(super) fn run(directory: &Path, dependency: Option<&str>) -> Result<ExitCode, Failure> {
    check_is_free(directory)?;
    let dependency = Dependency::parse(dependency)?;
    let parent = directory_of(directory);
    let failure = |error: io::Error| Failure::new(format!("{}: cannot be written: {error}", directory.display()));
    fs::create_dir_all(parent).map_err(failure)?;
    let name = package_name(directory);
    let draft = draft(parent).map_err(failure)?;
    write(draft.path(), &name, &dependency)?;
    publish(draft.path(), directory).map_err(failure)?;
    let shown = directory.display();
    let quoted = quoted(&shown.to_string());
    output::note(&format!(
        "Wrote the application {name} to {shown}, with fastauth from {dependency}\n\nNext:\n  cd {quoted}\n  cargo test\n  \
         cargo run   # README.md says how to log in"
    ));
    Ok(ExitCode::SUCCESS)
}

/// Returns a word as a shell takes it, in quotes if it needs them.
fn quoted(word: &str) -> String {
    if word.chars().all(|c| c.is_alphanumeric() || "/._-\\:".contains(c)) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Refuses a directory with anything in it but a repository.
fn check_is_free(directory: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::new(format!("{}: {error}", directory.display()))),
    };
    let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    if let Some(name) = names.find(|name| name != ".git") {
        return Err(Failure::new(format!(
            "{} is not empty: it has {}; give a new or an empty directory, and nothing was written",
            directory.display(),
            name.display()
        )));
    }
    Ok(())
}

/// Returns the name of the directory as a package can have it.
fn package_name(directory: &Path) -> String {
    let absolute = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let name = absolute.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return "app".to_owned();
    }
    if TAKEN.contains(&name) { format!("{name}-app") } else { name.to_owned() }
}

/// Where the application gets the crate fastauth from.
enum Dependency {
    Clone(PathBuf),
    Version(String),
}

impl Dependency {
    /// Takes the path of a clone or a version, or else the clone that the program was built from, or else its version.
    fn parse(named: Option<&str>) -> Result<Self, Failure> {
        match named {
            None => {
                let clone = fs::canonicalize(CLONE).ok().filter(|path| is_clone(path));
                Ok(clone.map_or_else(|| Self::Version(env!("CARGO_PKG_VERSION").to_owned()), Self::Clone))
            }
            Some(path) if Path::new(path).is_dir() => {
                let path = fs::canonicalize(path)?;
                if is_clone(&path) { Ok(Self::Clone(path)) } else { Err(Self::unusable(named)) }
            }
            Some(version) if version.starts_with(|c: char| c.is_ascii_digit() || "=^~".contains(c)) => {
                Ok(Self::Version(version.to_owned()))
            }
            Some(_) => Err(Self::unusable(named)),
        }
    }

    fn unusable(named: Option<&str>) -> Failure {
        Failure::new(format!(
            "--fastauth {:?} is neither the directory of a clone of FastAuth nor a version such as {:?}",
            named.unwrap_or_default(),
            env!("CARGO_PKG_VERSION")
        ))
    }

    /// Returns the members of the dependency in `Cargo.toml`.
    fn in_toml(&self) -> String {
        // A text in JSON is one in TOML.
        match self {
            Self::Clone(path) => format!("path = {}", serde_json::Value::from(path.to_string_lossy())),
            Self::Version(version) => format!("version = {}", serde_json::Value::from(version.as_str())),
        }
    }

    /// Returns the command that builds the image.
    fn build(&self, name: &str) -> String {
        match self {
            Self::Clone(path) => {
                format!("docker build -f Containerfile -t {name} --build-context fastauth={} .", path.display())
            }
            Self::Version(_) => format!("docker build -f Containerfile -t {name} ."),
        }
    }

    /// Returns the lines that put a clone into the image that builds, at its path here.
    fn copy(&self) -> String {
        match self {
            Self::Clone(path) => {
                let path = path.display();
                format!(
                    "COPY --from=fastauth Cargo.toml README.md {path}/\nCOPY --from=fastauth src {path}/src\nCOPY --from=fastauth \
                     crates {path}/crates\n"
                )
            }
            Self::Version(_) => String::new(),
        }
    }
}

impl std::fmt::Display for Dependency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Clone(path) => write!(f, "{}", path.display()),
            Self::Version(version) => write!(f, "crates.io, version {version}"),
        }
    }
}

fn is_clone(path: &Path) -> bool {
    fs::read_to_string(path.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"fastauth\""))
}

/// Creates a directory beside the one to be written, with the permissions of any other.
fn draft(parent: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(parent)
}

fn write(directory: &Path, name: &str, dependency: &Dependency) -> Result<(), Failure> {
    let password = Secret::generate();
    let password: String = password.expose().chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    fs::create_dir(directory.join("src"))?;
    for (file, template) in TEMPLATES {
        let text = template
            .replace("{{NAME}}", name)
            .replace("{{PASSWORD}}", &password)
            .replace("{{SOURCE}}", &dependency.in_toml())
            .replace("{{BUILD}}", &dependency.build(name))
            .replace("{{COPY_FASTAUTH}}", &dependency.copy());
        files::write(&directory.join(file), &text, Existing::Refuse)?;
    }
    let env_file = EnvFile::new(directory.join(".env"));
    for secret in SecretName::ALL {
        env_file.set(secret.variable(), &Secret::generate())?;
    }
    let answers = Answers::of_application(name);
    let text = Configuration::new(&answers, &Map::new()).text()?;
    files::write(&directory.join("fastauth.config.json"), &text, Existing::Refuse)?;
    schema::write(&directory.join(schema::FILE))?;
    // The versions that the clone was tested with, which are on this machine if the program was built here.
    if let Dependency::Clone(clone) = dependency
        && let Ok(lock) = fs::read_to_string(clone.join("Cargo.lock"))
    {
        files::write(&directory.join("Cargo.lock"), &lock, Existing::Refuse)?;
    }
    Ok(())
}

/// Gives the draft its name, or moves what is in it if the directory exists.
fn publish(draft: &Path, directory: &Path) -> io::Result<()> {
    if !directory.exists() {
        return fs::rename(draft, directory);
    }
    for entry in fs::read_dir(draft)? {
        let entry = entry?;
        fs::rename(entry.path(), directory.join(entry.file_name()))?;
    }
    Ok(())
}
