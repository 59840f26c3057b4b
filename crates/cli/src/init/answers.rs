//! What `init` asks, and how each answer is checked.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use fastauth::{Level, Rule, Secret, Settings, SettingsBuilder, config::EnvFile};
use serde::Serialize;

use super::args::Init;
use fastauth_config::directory_of;

use crate::{ask::ask, failure::Failure, keygen::SecretName, output};

/// The answers, each checked.
pub(super) struct Answers {
    pub(super) app_name: String,
    /// The package `fastauth-api` uses the store as well.
    pub(super) is_shared: bool,
    /// The `.env` file to copy secrets from.
    pub(super) secrets_from: Option<PathBuf>,
    pub(super) store: String,
    pub(super) guards: Guards,
}

/// What is guarded.
pub(super) enum Guards {
    /// Every path by an access token, unless a rule says otherwise.
    Rules(Vec<RuleEntry>),
    /// The prefixes in the two lists, as `fastauth-api` has them.
    Lists { access: Vec<String>, master: Vec<String> },
}

/// A rule, as it is written.
#[derive(Serialize)]
pub(super) struct RuleEntry {
    path: String,
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    extent: Option<&'static str>,
    level: &'static str,
}

const EMBEDDED_STORE: &str = "sqlite:fastauth.db";
/// What `fastauth store serve` listens on.
const SERVED_STORE: &str = "http://127.0.0.1:6789";
const NO_PATH: &str = "none";

/// A question, with what explains it.
struct Question<'a> {
    explanation: &'a str,
    text: &'a str,
    default: &'a str,
}

const SHARED: Question<'_> = Question {
    explanation: "The Python package fastauth-api can use the same token store and key. It needs tokens stored as plain text, one \
session of a client, and GET for new tokens. If you do not know that package, answer no.",
    text: "Is the store shared with fastauth-api?",
    default: "no",
};

const SECRETS_FROM: Question<'_> = Question {
    explanation: "Both sides need the same CRYPTOGRAPHY_KEY. Give the path of the .env file of fastauth-api to copy it and the \
MASTER_TOKEN, or \"none\" to generate new ones, which you then give to fastauth-api.",
    text: "The .env file of fastauth-api?",
    default: "none",
};

const STORE: Question<'_> = Question {
    explanation: "Tokens are stored in an embedded database (sqlite:FILE, relative to the configuration file), or in a store that \
several machines share (http://HOST:PORT/PATH, such as `fastauth store serve`).",
    text: "Where are tokens stored?",
    default: EMBEDDED_STORE,
};

const SHARED_STORE: Question<'_> = Question {
    explanation: "fastauth-api reaches its store over HTTP. Give the address of that store, such as that of `fastauth store serve`.",
    text: "Where are tokens stored?",
    default: SERVED_STORE,
};

const PUBLIC_PATHS: Question<'_> = Question {
    explanation: "Every request requires an access token, which a client gets by logging in, unless its path is one of these or below \
one. /auth has the endpoints for tokens, which check requests themselves. Separate several by spaces. \"/health\" opens /health and \
/health/x, and not /healthy. \"none\" opens nothing.",
    text: "Paths that are open to all?",
    default: "/auth /login /health",
};

const MASTER_RULES: Question<'_> = Question {
    explanation: "Requests to these paths, and to those below them, require the master token instead, a static API key for operators \
and other services.",
    text: "Paths that require the master token?",
    default: "none",
};

const ACCESS_PATHS: Question<'_> = Question {
    explanation: "Requests whose path starts with one of these prefixes require an access token, which a client gets by logging in. \
Separate several by spaces. \"/api\" guards /api, /api/x and /apix; \"/api/\" guards /api and /api/x. \"none\" guards nothing this way.",
    text: "Prefixes that require an access token?",
    default: "/access",
};

const MASTER_PATHS: Question<'_> = Question {
    explanation: "Requests whose path starts with one of these prefixes require the master token, a static API key for operators and \
other services.",
    text: "Prefixes that require the master token?",
    default: "/master",
};

impl Answers {
    /// Checks what the flags give, and asks for the rest if `asks` is true. Otherwise the defaults count.
    pub(super) fn take(args: &Init, config: &Path, asks: bool) -> Result<Self, Failure> {
        let directory = config.parent().unwrap_or(Path::new(""));
        let name = directory_name(directory);
        let app_name = Question {
            explanation: "The name of your application. A 401 response names it as the realm (`WWW-Authenticate`).",
            text: "Name of the application?",
            default: &name,
        };
        check_flags(args, directory)?;
        let app_name = app_name.answer(args.app_name.as_deref(), asks, check_app_name)?;
        let is_shared = args.shared_with_fastauth_api || SHARED.answer(None, asks, yes_or_no)?;
        let secrets_from = if is_shared {
            let given = args.secrets_from.as_ref().map(|path| path.display().to_string());
            SECRETS_FROM.answer(given.as_deref(), asks, check_secrets)?
        } else {
            None
        };
        let store = if is_shared { SHARED_STORE } else { STORE };
        let store =
            store.answer(args.database_api_url.as_deref(), asks, |text| check_store(text, is_shared, directory))?;
        let takes_lists = is_shared || !args.access_path.is_empty();
        let guards = if takes_lists { Guards::take_lists(args, asks) } else { Guards::take_rules(args, asks) }?;
        Ok(Self { app_name, is_shared, secrets_from, store, guards })
    }
}

impl Guards {
    fn take_rules(args: &Init, asks: bool) -> Result<Self, Failure> {
        let public = PUBLIC_PATHS
            .answer(list(&args.public_path).as_deref(), asks, |text| check_rule_paths(text, Level::Public))?;
        let master = MASTER_RULES.answer(list(&args.master_path).as_deref(), asks, |text| {
            let master = check_rule_paths(text, Level::Master)?;
            if let Some(path) = master.iter().find(|path| public.contains(path)) {
                return Err(format!("{path:?} is open to all"));
            }
            Ok(master)
        })?;
        let public = public.into_iter().map(|path| RuleEntry::new(path, Level::Public));
        let master = master.into_iter().map(|path| RuleEntry::new(path, Level::Master));
        Ok(Self::Rules(public.chain(master).collect()))
    }

    fn take_lists(args: &Init, asks: bool) -> Result<Self, Failure> {
        let access = ACCESS_PATHS.answer(list(&args.access_path).as_deref(), asks, check_access_paths)?;
        let master = MASTER_PATHS.answer(list(&args.master_path).as_deref(), asks, |text| {
            let paths = check_master_paths(text)?;
            if paths.is_empty() && access.is_empty() {
                return Err("no path would be guarded; give at least one prefix here or for access tokens".to_owned());
            }
            Ok(paths)
        })?;
        Ok(Self::Lists { access, master })
    }

    pub(super) fn rules(&self) -> Option<&[RuleEntry]> {
        match self {
            Self::Rules(rules) => Some(rules),
            Self::Lists { .. } => None,
        }
    }

    pub(super) fn access_list(&self) -> Option<&[String]> {
        match self {
            Self::Rules(_) => None,
            Self::Lists { access, .. } => Some(access),
        }
    }

    pub(super) fn master_list(&self) -> Option<&[String]> {
        match self {
            Self::Rules(_) => None,
            Self::Lists { master, .. } => Some(master),
        }
    }

    /// Returns a path that is guarded.
    pub(super) fn example(&self) -> &str {
        match self {
            Self::Rules(_) => "/hello",
            Self::Lists { access, master } => access.first().or(master.first()).map_or("/", String::as_str),
        }
    }
}

impl RuleEntry {
    fn new(path: impl Into<String>, level: Level) -> Self {
        Self { path: path.into(), extent: None, level: level.as_str() }
    }

    fn exact(path: &str, level: Level) -> Self {
        Self { extent: Some("exact"), ..Self::new(path, level) }
    }
}

impl Answers {
    /// Returns true if the store is behind HTTP.
    pub(super) fn is_served(&self) -> bool {
        !self.store.starts_with("sqlite:")
    }

    /// Returns the answers for the application of the templates.
    pub(super) fn of_application(name: &str) -> Self {
        Self {
            app_name: name.to_owned(),
            is_shared: false,
            secrets_from: None,
            store: EMBEDDED_STORE.to_owned(),
            guards: Guards::Rules(vec![
                RuleEntry::exact("/", Level::Public),
                RuleEntry::exact("/log-in", Level::Public),
                RuleEntry::new("/auth", Level::Public),
            ]),
        }
    }
}

impl Question<'_> {
    /// Returns what was given, else asks until an answer is valid, else takes the default.
    fn answer<T>(
        &self,
        given: Option<&str>,
        asks: bool,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        if given.is_some() || !asks {
            return check(given.unwrap_or(self.default)).map_err(|problem| nothing_written(&problem));
        }
        output::prompt(&format!("\n{}", output::wrapped(self.explanation)));
        loop {
            let answer = ask(&format!("{} [{}]", self.text, self.default))?;
            match check(if answer.is_empty() { self.default } else { &answer }) {
                Ok(value) => return Ok(value),
                Err(problem) => output::prompt(&format!("Not accepted: {problem}")),
            }
        }
    }
}

fn nothing_written(problem: &str) -> Failure {
    Failure::new(format!("nothing was written: {problem}"))
}

/// Returns every fault of the flags at once, before anything is asked.
fn check_flags(args: &Init, directory: &Path) -> Result<(), Failure> {
    let is_shared = args.shared_with_fastauth_api;
    let checks = [
        ("--app-name", args.app_name.as_deref().map(|name| check_app_name(name).map(drop))),
        (
            "--database-api-url",
            args.database_api_url.as_deref().map(|url| check_store(url, is_shared, directory).map(drop)),
        ),
        ("--public-path", list(&args.public_path).map(|paths| check_rule_paths(&paths, Level::Public).map(drop))),
        ("--access-path", list(&args.access_path).map(|paths| check_access_paths(&paths).map(drop))),
        (
            "--master-path",
            list(&args.master_path).map(|paths| {
                let takes_lists = is_shared || !args.access_path.is_empty();
                if takes_lists { check_master_paths(&paths) } else { check_rule_paths(&paths, Level::Master) }.map(drop)
            }),
        ),
    ];
    let problems: Vec<_> =
        checks.into_iter().filter_map(|(flag, checked)| Some(format!("\n  - {flag}: {}", checked?.err()?))).collect();
    if problems.is_empty() { Ok(()) } else { Err(nothing_written(&problems.concat())) }
}

/// Returns the name of the directory if it can be an application's.
fn directory_name(directory: &Path) -> String {
    let absolute = fs::canonicalize(directory).or_else(|_| env::current_dir()).unwrap_or_default();
    let name = absolute.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_plain { name.to_owned() } else { "fastauth".to_owned() }
}

fn list(paths: &[String]) -> Option<String> {
    (!paths.is_empty()).then(|| paths.join(" "))
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        _ => Err("answer yes or no".to_owned()),
    }
}

fn check_app_name(name: &str) -> Result<String, String> {
    check("app-name", Settings::builder().app_name(name))?;
    Ok(name.to_owned())
}

fn check_store(url: &str, is_shared: bool, directory: &Path) -> Result<String, String> {
    if is_shared && url.starts_with("sqlite:") {
        return Err(
            "fastauth-api cannot use an embedded database; give the http:// address of a store, such as that of \
                    `fastauth store serve`"
                .to_owned(),
        );
    }
    let builder = Settings::builder().database_api_url(url).directory(directory);
    let settings = check("database-api-url", builder)?;
    if let Some(missing) = settings.database_file().map(directory_of).filter(|parent| !parent.is_dir()) {
        return Err(format!("there is no directory {}; create it first, or give another file", missing.display()));
    }
    Ok(url.to_owned())
}

fn check_rule_paths(text: &str, level: Level) -> Result<Vec<String>, String> {
    let paths = paths(text);
    check("rules", Settings::builder().rules(paths.iter().map(|path| Rule::prefix(path).at(level))))?;
    Ok(paths)
}

fn check_access_paths(text: &str) -> Result<Vec<String>, String> {
    let paths = paths(text);
    check("access-token-paths", Settings::builder().access_token_paths(&paths))?;
    Ok(paths)
}

fn check_master_paths(text: &str) -> Result<Vec<String>, String> {
    let paths = paths(text);
    check("master-token-paths", Settings::builder().master_token_paths(&paths))?;
    Ok(paths)
}

fn paths(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|path| !path.is_empty() && *path != NO_PATH).map(str::to_owned).collect()
}

/// Checks that both secrets can be copied.
fn check_secrets(text: &str) -> Result<Option<PathBuf>, String> {
    if text == "none" {
        return Ok(None);
    }
    let path = PathBuf::from(text);
    if !path.is_file() {
        return Err(format!("there is no file {text}"));
    }
    let file = EnvFile::new(&path);
    let mut settings = Settings::builder();
    for name in SecretName::ALL {
        let variable = name.variable();
        let Some(secret) = file.value(variable).map_err(|error| error.to_string())? else {
            return Err(format!("{text} does not set {variable}"));
        };
        settings = match name {
            SecretName::MasterToken => settings.master_token(secret),
            SecretName::CryptographyKey => settings.cryptography_key(secret),
        };
    }
    match settings.build() {
        Ok(_) => Ok(Some(path)),
        Err(error) => Err(faults(&error, |_| true)),
    }
}

/// Checks one key of a configuration, with secrets that are valid.
fn check(key: &str, builder: SettingsBuilder) -> Result<Settings, String> {
    builder
        .master_token(Secret::generate())
        .cryptography_key(Secret::generate())
        .build()
        .map_err(|error| faults(&error, |faulty| faulty == Some(key)))
}

fn faults(error: &fastauth::config::ConfigError, of: impl Fn(Option<&str>) -> bool) -> String {
    let faults = error.faults().iter().filter(|fault| of(fault.key()));
    faults.map(|fault| format!("{}; {}", fault.problem(), fault.remedy())).collect::<Vec<_>>().join(". ")
}
