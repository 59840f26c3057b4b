//! `keys`.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use fastauth::{
    Settings,
    config::{ConfiguredKeys, KeyChange, KeyInfo, KeyRole, KeySetting, Source},
    store::{SessionEntry, SessionFilter, SessionStatus, StoreError, StoreErrorKind, TokenStore},
};
use fastauth_core::shown::shown;
use serde_json::{Value, json};

use crate::{
    config::Config,
    failure::{Failure, chain},
    output,
    runtime::block_on,
    sessions::{absent, count, existing_store, may_be_valid, pages, unix_now},
};

/// A longer time until a new key signs is most likely a slip.
const MAX_DELAY: Duration = Duration::from_secs(366 * 24 * 60 * 60);

#[derive(Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Show the id and role of each key, and how many live sessions have tokens signed with it; never the keys
    #[command(after_help = "\
Examples:
  fastauth keys list
  fastauth keys list --json")]
    List {
        #[command(flatten)]
        config: Config,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Replace the signing key by a new one; the current one keeps verifying
    Rotate(RotateKeys),
    /// Remove an earlier key from the configuration, unless live tokens need it
    #[command(after_help = "\
Examples:
  fastauth keys retire \"$KID\" --force")]
    Retire {
        /// The key's id, as `keys list` shows it
        kid: String,
        /// Remove it even if live tokens need it, or the store cannot list its tokens; they are refused from then on
        #[arg(long)]
        force: bool,
        /// Print the remaining settings, with the keys, and write nothing
        #[arg(long)]
        print: bool,
        #[command(flatten)]
        config: Config,
    },
}

#[derive(Args)]
#[command(after_help = "\
To change the key: rotate; deploy the new key and restart every node before it signs; when `fastauth keys list` shows no \
live sessions of the earlier key, retire it. Keys from the environment are not changed: the message says what to set.

Examples:
  fastauth keys rotate --signs-in 2h --print
  fastauth keys rotate
  fastauth keys rotate --now")]
struct RotateKeys {
    /// When the new key begins to sign, from now; restart every node before then
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = delay, conflicts_with = "now")]
    signs_in: Duration,
    /// Let the new key sign at once; nodes refuse its tokens until they are restarted
    #[arg(long)]
    now: bool,
    /// Print the new settings, with the keys, and write nothing
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    config: Config,
}

/// Parses a time from now. `M` is months, but most likely means minutes.
fn delay(text: &str) -> Result<Duration, String> {
    let delay = humantime::parse_duration(text).map_err(|_| "write a time such as 10m or 2h".to_owned())?;
    if text.contains('M') {
        return Err(format!("a capital M means months; write {:?} for minutes", text.replace('M', "m")));
    }
    Ok(delay)
}

pub(crate) fn run(args: Keys) -> Result<ExitCode, Failure> {
    match args.command {
        KeysCommand::List { config, json } => list(config, json),
        KeysCommand::Rotate(args) => rotate(args),
        KeysCommand::Retire { kid, force, print, config } => retire(&kid, force, print, config),
    }
}

fn rotate(args: RotateKeys) -> Result<ExitCode, Failure> {
    let report = args.config.settings().report();
    let keys = report.keys()?;
    let from = if args.now { None } else { Some(signs_from(args.signs_in)?) };
    let change = keys.rotate(from)?;
    let before = signing(keys);
    apply(keys, &change, args.print)?;
    output::note(&format!("The new key has the id {}", change.kid()));
    output::note(&match from {
        Some(from) => format!(
            "{before} keeps signing until {}. Deploy the new key and restart every node before then",
            rfc3339(from)
        ),
        None => "The new key signs at once. Deploy it and restart every node: until then, a node refuses its tokens"
            .to_owned(),
    });
    output::note(&format!("{before} keeps verifying until `fastauth keys retire {before}`"));
    Ok(ExitCode::SUCCESS)
}

/// Returns when the new key begins to sign, in whole seconds, as it is written.
fn signs_from(delay: Duration) -> Result<SystemTime, Failure> {
    if delay > MAX_DELAY {
        return Err(Failure::new("--signs-in is more than a year: give a time such as 10m or 2h"));
    }
    Ok(UNIX_EPOCH + Duration::from_secs(unix_now() + delay.as_secs() + u64::from(delay.subsec_nanos() > 0)))
}

fn signing(keys: &ConfiguredKeys) -> String {
    keys.list().into_iter().find(|key| key.role == KeyRole::Signs).map(|key| key.kid).unwrap_or_default()
}

/// Writes the change, prints it, or says what to set if it cannot be written.
fn apply(keys: &ConfiguredKeys, change: &KeyChange, print: bool) -> Result<(), Failure> {
    let settings = change.settings();
    if print {
        print_settings(&settings)?;
        output::note("Nothing was written");
    } else if matches!(keys.source(), Source::Environment(_) | Source::SecretFile(..)) {
        return Err(Failure::new(what_to_set(keys, &settings)));
    } else {
        change.write()?;
        output::note(&format!("Wrote the keys to {}", keys.source()));
    }
    Ok(())
}

fn print_settings(settings: &[KeySetting]) -> Result<(), Failure> {
    for setting in settings {
        let KeySetting { name, value, is_in_file, is_member, .. } = setting;
        match value {
            Some(value) if *is_in_file => {
                output::verbatim(&format!("# The file that {name} names:\n{}\n", value.expose()))?;
            }
            Some(value) if *is_member => output::verbatim(&format!("\"{name}\": {},\n", value.expose()))?,
            Some(value) => {
                let quoted = setting.env_value();
                output::verbatim(&format!("{name}={}\n", quoted.as_ref().unwrap_or(value).expose()))?;
                if quoted.is_none() {
                    output::note(&format!("{name} is printed without quotes: no .env file can hold it"));
                }
            }
            None => output::note(&format!("Remove {name}, if it is set")),
        }
    }
    Ok(())
}

fn what_to_set(keys: &ConfiguredKeys, settings: &[KeySetting]) -> String {
    let lines = settings.iter().map(|setting| match &setting.value {
        Some(_) if setting.is_in_file => format!("\n  {}: the path of a file with the value", setting.name),
        Some(value) if setting.is_member && !setting.is_secret => {
            format!("\n  \"{}\": {}", setting.name, value.expose())
        }
        Some(_) if setting.is_member => format!("\n  \"{}\": …", setting.name),
        Some(value) if !setting.is_secret => format!("\n  {}={}", setting.name, value.expose()),
        Some(_) => format!("\n  {}=…", setting.name),
        None => format!("\n  remove {}, if it is set", setting.name),
    });
    format!(
        "nothing was changed: the keys come from {}, which this program cannot change. Set on every node, and restart \
         it:{}\n--print prints the values",
        keys.source(),
        lines.collect::<String>()
    )
}

fn list(config: Config, as_json: bool) -> Result<ExitCode, Failure> {
    let report = config.settings().report();
    let keys = report.keys()?.list();
    let live = match report.into_settings() {
        Ok(settings) => count_live(&settings)?,
        Err(_) => Err("the configuration has faults: `fastauth check` shows them".to_owned()),
    };
    if as_json {
        output::json(&as_object(&keys, live.as_ref().ok()))?;
    } else {
        print_keys(&keys, live.as_ref().ok())?;
    }
    if let Err(why) = live {
        output::note(&format!("Live sessions were not counted: {why}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The number of live sessions by the id of the key.
type Live = BTreeMap<String, u64>;

/// Counts the live sessions, or returns why that is not possible.
fn count_live(settings: &Settings) -> Result<Result<Live, String>, Failure> {
    let store = match existing_store(settings) {
        Ok(Some(store)) => store,
        Ok(None) => {
            output::note(&format!("{}, so no session is counted", absent(settings)));
            return Ok(Ok(Live::new()));
        }
        Err(failure) => return Ok(Err(failure.to_string())),
    };
    let mut live = Live::new();
    let now = unix_now();
    let listed = block_on(pages(&*store, live_ones(), |page| {
        for entry in page.sessions.into_iter().filter(|entry| may_be_valid(entry, now)) {
            *live.entry(entry.kid).or_default() += 1;
        }
    }))?;
    Ok(listed.map(|()| live).map_err(|error| chain(&error)))
}

fn number_of(live: &Live, kid: &str) -> u64 {
    live.get(kid).copied().unwrap_or(0)
}

fn live_ones() -> SessionFilter {
    SessionFilter { status: Some(SessionStatus::Live), ..SessionFilter::default() }
}

fn print_keys(keys: &[KeyInfo], live: Option<&Live>) -> Result<(), Failure> {
    let roles: Vec<_> = keys.iter().map(|key| role(key.role)).collect();
    let width = roles.iter().map(String::len).max().unwrap_or(0);
    for (key, role) in keys.iter().zip(roles) {
        let live = live.map(|live| format!("{} live", count(number_of(live, &key.kid))));
        output::line(format!("{}  {role:width$}  {}", key.kid, live.unwrap_or_default()).trim_end())?;
    }
    let Some(live) = live else { return Ok(()) };
    for (kid, number) in live.iter().filter(|(kid, _)| !is_configured(keys, kid)) {
        let number = count(*number);
        output::note(&match kid.as_str() {
            "" => format!("{number} live whose tokens name no key"),
            kid => {
                format!("{number} live whose tokens are of {}, which is not configured here", shown(kid))
            }
        });
    }
    Ok(())
}

fn role(role: KeyRole) -> String {
    match role {
        KeyRole::Signs => "signs".to_owned(),
        KeyRole::SignsFrom(from) => format!("signs from {}", rfc3339(from)),
        KeyRole::Verifies => "verifies".to_owned(),
    }
}

fn is_configured(keys: &[KeyInfo], kid: &str) -> bool {
    keys.iter().any(|key| key.kid == kid)
}

fn as_object(keys: &[KeyInfo], live: Option<&Live>) -> Value {
    let rows = keys.iter().map(|key| {
        let (role, from) = match key.role {
            KeyRole::Signs => ("signs", None),
            KeyRole::SignsFrom(from) => ("signs-from", Some(rfc3339(from))),
            KeyRole::Verifies => ("verifies", None),
        };
        let live = live.map(|live| number_of(live, &key.kid));
        json!({ "kid": key.kid, "role": role, "signs_from": from, "live_sessions": live })
    });
    let rows: Vec<_> = rows.collect();
    let others = live.map(|live| {
        live.iter().filter(|(kid, _)| !kid.is_empty() && !is_configured(keys, kid)).collect::<BTreeMap<_, _>>()
    });
    json!({
        "keys": rows,
        "live_sessions_without_kid": live.map(|live| number_of(live, "")),
        "live_sessions_of_other_keys": others,
    })
}

fn retire(kid: &str, force: bool, print: bool, config: Config) -> Result<ExitCode, Failure> {
    let report = config.settings().report();
    let keys = report.keys()?.clone();
    let change = keys.retire(kid)?;
    if !force {
        let settings = report.into_settings()?;
        let Some(store) = existing_store(&settings)? else {
            return Err(Failure::new(format!(
                "{kid} was not retired: {}, so live tokens may still need it; name the database of the application in \
                 `database-api-url`, or remove the key by --force",
                absent(&settings)
            )));
        };
        block_on(FoundSessions::list(&*store, &keys, kid))?.map_err(|error| unlisted(kid, &error))?.refuse(kid)?;
    }
    apply(&keys, &change, print)?;
    output::note(&format!("Restart every node: then {kid} no longer verifies tokens"));
    Ok(ExitCode::SUCCESS)
}

fn unlisted(kid: &str, error: &StoreError) -> Failure {
    if error.kind() != StoreErrorKind::Unsupported {
        return Failure::new(chain(error));
    }
    Failure::new(format!(
        "{error}, so live tokens may still need {kid}; when the longest `refresh-ttl` since it signed is over, --force \
         removes it"
    ))
}

/// Live sessions that would end without a key.
#[derive(Default)]
struct FoundSessions {
    of_the_key: u64,
    /// Their tokens name no key, and may be of this one.
    unnamed: u64,
}

impl FoundSessions {
    async fn list(store: &dyn TokenStore, keys: &ConfiguredKeys, kid: &str) -> Result<Self, StoreError> {
        let mut found = Self::default();
        let now = unix_now();
        let of_the_key = SessionFilter { kid: Some(kid.to_owned()), ..live_ones() };
        pages(store, of_the_key, |page| {
            found.of_the_key += page.sessions.iter().filter(|entry| may_be_valid(entry, now)).count() as u64;
        })
        .await?;
        let mut unnamed = Vec::new();
        pages(store, SessionFilter { kid: Some(String::new()), ..live_ones() }, |page| {
            unnamed.extend(page.sessions.into_iter().filter(|entry| may_be_valid(entry, now)));
        })
        .await?;
        for entry in &unnamed {
            found.unnamed += u64::from(may_be_of(store, keys, kid, entry).await?);
        }
        Ok(found)
    }

    fn refuse(&self, kid: &str) -> Result<(), Failure> {
        let what = match (self.of_the_key, self.unnamed) {
            (0, 0) => return Ok(()),
            (0, unnamed) => format!("{} live whose tokens name no key and may be of {kid}", count(unnamed)),
            (named, 0) => format!("{} live with tokens of {kid}", count(named)),
            (named, unnamed) => {
                format!(
                    "{} live with tokens of {kid}, and {unnamed} whose tokens name no key and may be of it",
                    count(named)
                )
            }
        };
        Err(Failure::new(format!(
            "{kid} was not retired: {what}; wait until they are refreshed or have expired, or revoke them; \
             --force removes it, and their tokens are refused then"
        )))
    }
}

/// Returns true if the tokens of a session that name no key may be of this one. A store shows the newest pair of a client.
async fn may_be_of(
    store: &dyn TokenStore,
    keys: &ConfiguredKeys,
    kid: &str,
    entry: &SessionEntry,
) -> Result<bool, StoreError> {
    let pair = store.pair(&entry.client_id).await?;
    let Some(pair) = pair.filter(|pair| pair.version == Some(entry.version)) else { return Ok(true) };
    let mut kept = [pair.access_token, pair.refresh_token].into_iter().flatten();
    Ok(kept.any(|kept| keys.may_have_signed(kid, &kept)))
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
