//! The arguments of the command line.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args as ClapArgs, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use clap_complete::Shell;
use fastauth::{Settings, SettingsBuilder, config::StoreFormat, store::SessionStatus};

use crate::{
    logging::{LogFormat, Logging},
    server::{ListenAddress, SocketMode},
};

/// Manage the keys, the configuration, the tokens and the token store of FastAuth
#[derive(Parser)]
#[command(name = "fastauth", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 error (message on stderr) or failed check; 2 usage error; 141 the reader of the output closed it.
RUST_LOG sets what is logged to stderr (default: warn).";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Generate a secret, and print it or write it to a .env file
    Keygen(Keygen),
    /// Write a working configuration file, and both secrets to a .env file
    Init(Init),
    /// Show every value of the configuration, its source and all faults, and try the store
    Check(Check),
    /// Explain which tokens a request for a path requires (the token endpoints have their own checks)
    Explain(Explain),
    /// List, rotate and retire the keys that sign tokens
    Keys(Keys),
    /// Issue, refresh, decode, list or revoke tokens
    Token(Token),
    /// Serve, back up, restore, convert or test a token store
    Store(Store),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(ClapArgs)]
pub(crate) struct Config {
    /// The configuration file [default: $FASTAUTH_CONFIG, else fastauth.config.json]
    #[arg(long, short, value_name = "PATH")]
    config: Option<PathBuf>,
}

impl Command {
    /// Returns how the command logs.
    pub(crate) fn logging(&self) -> Logging {
        match self {
            Self::Store(Store { command: StoreCommand::Serve(args) }) => {
                Logging::of_server(args.log_format, args.access_log)
            }
            _ => Logging::default(),
        }
    }
}

impl Config {
    pub(crate) fn settings(self) -> SettingsBuilder {
        match self.config {
            Some(path) => Settings::builder().config_file(path),
            None => Settings::builder(),
        }
    }
}

#[derive(ClapArgs)]
pub(crate) struct Keygen {
    /// The secret to generate [default with --write: CRYPTOGRAPHY_KEY]
    #[arg(long, value_enum, ignore_case = true)]
    pub(crate) name: Option<SecretName>,
    /// Write it to this file instead of printing it; other lines are kept [default FILE: the .env that is read, beside the
    /// configuration file that FASTAUTH_CONFIG names, or else in the working directory]
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub(crate) write: Option<Option<PathBuf>>,
    /// Replace an existing value without asking
    #[arg(long, requires = "write")]
    pub(crate) force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SecretName {
    #[value(name = "CRYPTOGRAPHY_KEY")]
    CryptographyKey,
    #[value(name = "MASTER_TOKEN")]
    MasterToken,
}

impl SecretName {
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::CryptographyKey => "CRYPTOGRAPHY_KEY",
            Self::MasterToken => "MASTER_TOKEN",
        }
    }
}

#[derive(ClapArgs)]
pub(crate) struct Init {
    /// The configuration file to write
    #[arg(long, short, value_name = "PATH", default_value = "fastauth.config.json")]
    pub(crate) config: PathBuf,
    /// The file for the secrets [default: .env beside the configuration file, which is read]
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// The application's name
    #[arg(long, value_name = "NAME")]
    pub(crate) app_name: Option<String>,
    /// Where tokens are kept: "http://HOST:PORT/PATH", or "sqlite:FILE"
    #[arg(long, value_name = "URL")]
    pub(crate) database_api_url: Option<String>,
    /// A path prefix that requires an access token; may be repeated
    #[arg(long, value_name = "PREFIX")]
    pub(crate) access_path: Vec<String>,
    /// A path prefix that requires the master token; may be repeated
    #[arg(long, value_name = "PREFIX")]
    pub(crate) master_path: Vec<String>,
    /// Use the defaults without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(ClapArgs)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) config: Config,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Do not try the store
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(ClapArgs)]
pub(crate) struct Explain {
    /// The method, or `-` to read lines of METHOD and TARGET from standard input
    pub(crate) method: String,
    /// The request target, as in a request line
    pub(crate) target: Option<String>,
    #[command(flatten)]
    pub(crate) config: Config,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(ClapArgs)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Show the id and role of each key, and how many live sessions have tokens signed with it; never the keys
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

#[derive(ClapArgs)]
#[command(after_help = "\
To change the key: rotate; deploy the new key and restart every node before it signs; when `fastauth keys list` shows no \
live sessions of the earlier key, retire it. Keys from the environment are not changed: the message says what to set.")]
pub(crate) struct RotateKeys {
    /// When the new key begins to sign, from now; restart every node before then
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = delay, conflicts_with = "now")]
    pub(crate) signs_in: Duration,
    /// Let the new key sign at once; nodes refuse its tokens until they are restarted
    #[arg(long)]
    pub(crate) now: bool,
    /// Print the new settings, with the keys, and write nothing
    #[arg(long)]
    pub(crate) print: bool,
    #[command(flatten)]
    pub(crate) config: Config,
}

/// Parses a time from now. `M` is months, but most likely means minutes.
fn delay(text: &str) -> Result<Duration, String> {
    let delay = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if text.contains('M') {
        return Err(format!("it has months in it, by a capital M: minutes are {:?}", text.replace('M', "m")));
    }
    Ok(delay)
}

#[derive(ClapArgs)]
pub(crate) struct Token {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue an access/refresh pair, ending the client's current session unless `tokens-per-client` is "many"
    New {
        /// The client id [default: a random one]
        #[arg(long, alias = "client", value_name = "ID")]
        client_id: Option<String>,
        #[command(flatten)]
        config: Config,
    },
    /// Exchange a refresh token for a new pair
    Refresh {
        /// The token, or `-` to read it from standard input, so that other users of the machine cannot see it
        token: String,
        #[command(flatten)]
        config: Config,
    },
    /// Verify the signature and lifetime of a token and print its claims, without asking the store
    Decode {
        /// The token, or `-` to read it from standard input, so that other users of the machine cannot see it
        token: String,
        #[command(flatten)]
        config: Config,
    },
    /// Ask the store whether a token is accepted, and print its claims if it is
    Introspect {
        /// The token, or `-` to read it from standard input, so that other users of the machine cannot see it
        token: String,
        #[command(flatten)]
        config: Config,
    },
    /// List sessions
    List(ListTokens),
    /// Revoke tokens
    Revoke(RevokeTokens),
}

#[derive(ClapArgs)]
pub(crate) struct ListTokens {
    /// Only sessions of this client
    #[arg(long, alias = "client", value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// Only sessions of clients whose id starts with this
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Only sessions with this status; a live session may have expired
    #[arg(long, value_enum)]
    pub(crate) status: Option<Status>,
    /// Print a JSON object on each line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Status {
    Live,
    Revoked,
    Reused,
}

impl From<Status> for SessionStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Live => Self::Live,
            Status::Revoked => Self::Revoked,
            Status::Reused => Self::Reused,
        }
    }
}

#[derive(ClapArgs)]
#[command(group = ArgGroup::new("which").required(true).multiple(true).args(["token", "client_id", "session", "all"]))]
pub(crate) struct RevokeTokens {
    /// The access or refresh token of the session to revoke, or `-` to read it from standard input
    #[arg(conflicts_with_all = ["client_id", "session", "all"])]
    pub(crate) token: Option<String>,
    /// Revoke all sessions of this client, or those that --session names
    #[arg(long, alias = "client", value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// Revoke one session, by its name as `token list` shows it; may be repeated
    #[arg(long, value_name = "SESSION")]
    pub(crate) session: Vec<String>,
    /// Revoke everything that was issued until now
    #[arg(long, conflicts_with_all = ["client_id", "session"])]
    pub(crate) all: bool,
    /// Do not ask for confirmation before --all
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(ClapArgs)]
pub(crate) struct Store {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Serve an SQLite store over HTTP, by both versions of the store API
    Serve(Serve),
    /// Test whether a store behind HTTP conforms to the store API
    Test(StoreTest),
    /// Back up an SQLite store to a new file, while it is in use
    Backup(Backup),
    /// Replace an SQLite store that is not in use by a backup, and revoke all sessions in it
    Restore(Restore),
    /// Encrypt the tokens in an SQLite store, or store them as plain text again, while it is in use
    Convert(Convert),
}

#[derive(ClapArgs)]
#[command(after_help = "\
The copy is consistent, whatever is written during it, and readable by its owner alone: anyone who can read it can act as \
every client. Do not copy a file that is in use with other programs.")]
pub(crate) struct Backup {
    /// The file to create, which must not exist
    pub(crate) file: PathBuf,
    /// The database, instead of the configured one: "sqlite:FILE", or just the file
    #[arg(long, value_name = "DATABASE")]
    pub(crate) database: Option<String>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(ClapArgs)]
#[command(after_help = "\
Stop every process that uses the database first. The backup is checked before anything is replaced; the replaced database \
is kept under a name that is printed. A backup cannot know which tokens were revoked after it, so all are revoked.")]
pub(crate) struct Restore {
    /// The backup
    pub(crate) file: PathBuf,
    /// The database, instead of the configured one: "sqlite:FILE", or just the file
    #[arg(long, value_name = "DATABASE")]
    pub(crate) database: Option<String>,
    /// Keep the sessions of the backup valid, including those that were revoked after it
    #[arg(long)]
    pub(crate) keep_sessions: bool,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(ClapArgs)]
#[command(after_help = "\
Set `store-format` and restart every node first, so that all write the new format; both can be read at any time. Tokens \
encrypted with an earlier key are encrypted with the one that signs. The conversion can be stopped and run again.")]
pub(crate) struct Convert {
    /// The format to store tokens in
    #[arg(long, value_enum)]
    pub(crate) to: Format,
    /// The database, instead of the configured one: "sqlite:FILE", or just the file
    #[arg(long, value_name = "DATABASE")]
    pub(crate) database: Option<String>,
    /// Do not rewrite the file after encrypting, which delays writes, about two seconds for a hundred thousand sessions.
    /// Plain tokens may stay in free parts of the file until the command is run without this flag
    #[arg(long)]
    pub(crate) no_compact: bool,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Encrypted, as with `store-format` "fernet"
    Fernet,
    /// As plain text
    Plain,
}

impl From<Format> for StoreFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Fernet => Self::Fernet,
            Format::Plain => Self::Plain,
        }
    }
}

#[derive(ClapArgs)]
#[command(after_help = "\
Calls must send a bearer token, of at least 16 characters: set FASTAUTH_STORE_TOKEN to it, or name a file. Applications send it \
by \"headers\": {\"Authorization\": \"Bearer ...\"} in their configuration. Without one, the server listens only on addresses of \
this machine, and answers only programs that call it as localhost or by such an address: a caller can read every client's tokens.

/livez answers if the process does, /readyz if the database can be written (else 503); both without the token. SIGTERM and \
SIGINT complete the calls in progress; a second signal stops at once. SIGHUP reads the file of tokens again.

Examples:
  fastauth store serve --database sqlite:tokens.db
  fastauth store serve --listen 0.0.0.0:6789 --token-file store-token --metrics-listen 0.0.0.0:9100
  fastauth store serve --listen unix:/run/fastauth/store.sock --socket-mode 0660")]
pub(crate) struct Serve {
    /// The address to listen on: "ADDRESS:PORT", or "unix:PATH" for a Unix socket
    #[arg(
        long,
        value_name = "ADDR",
        env = "FASTAUTH_STORE_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:6789"
    )]
    pub(crate) listen: ListenAddress,
    /// The permissions of Unix sockets, as chmod takes them: who may connect
    #[arg(
        long,
        value_name = "MODE",
        env = "FASTAUTH_STORE_SOCKET_MODE",
        hide_env_values = true,
        default_value = "0600"
    )]
    pub(crate) socket_mode: SocketMode,
    /// The database: "sqlite:FILE", or just the file
    #[arg(long, env = "FASTAUTH_STORE_DATABASE", hide_env_values = true, default_value = "sqlite:fastauth.db")]
    pub(crate) database: String,
    /// A file with a bearer token on each line, each of which is accepted; SIGHUP reads it again
    #[arg(long, value_name = "FILE", env = "FASTAUTH_STORE_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// Serve /metrics, /livez and /readyz at this address, without a token. By default, /metrics is at the address of the calls,
    /// and requires what they require
    #[arg(long, value_name = "ADDR", env = "FASTAUTH_STORE_METRICS_LISTEN", hide_env_values = true)]
    pub(crate) metrics_listen: Option<ListenAddress>,
    /// The form of the log on standard error, which RUST_LOG filters
    #[arg(
        long,
        value_name = "FORMAT",
        env = "FASTAUTH_STORE_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,
    /// Log each request: method, route, status, duration, peer and X-Request-Id, never a token or a client's id
    #[arg(long, env = "FASTAUTH_STORE_ACCESS_LOG", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub(crate) access_log: bool,
}

#[derive(ClapArgs)]
#[command(after_help = "\
FASTAUTH_STORE_TOKEN, if set, or else the first line of the file that FASTAUTH_STORE_TOKEN_FILE names, is sent as the bearer token. The test creates clients whose ids begin with fastauth-test-, and
revokes them at the end; in a store of the first version, which cannot delete, it overwrites their tokens. It can run on a live
store, but not on a busy one: it sends several hundred calls. It prints a line per promise: kept, broken, or not offered. The exit
code is 1 if a promise is broken.")]
pub(crate) struct StoreTest {
    /// The URL of the store, as in database-api-url
    pub(crate) url: String,
    /// A header to send with every call; can be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
