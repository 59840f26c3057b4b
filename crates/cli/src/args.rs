//! The arguments of the command line. Those of a command stand in its module.

use std::{num::NonZeroU32, path::PathBuf};

use clap::{ArgAction, Args as ClapArgs, ColorChoice, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use fastauth::config::StoreFormat;

use crate::{
    check::Check,
    config::Config,
    explain::Explain,
    init::args::Init,
    keygen::Keygen,
    keys::Keys,
    logging::{LogFormat, Logging},
    pages::{Completions, Man},
    routes::Routes,
    schema::Schema,
    server::{ListenAddress, SocketMode},
    token::args::Token,
};

/// Manage the keys, the configuration, the tokens and the token store of FastAuth
#[derive(Parser)]
#[command(name = "fastauth", version, after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) display: Display,
}

const AFTER_HELP: &str = "\
Examples:
  fastauth init
  fastauth check
  fastauth explain GET /access/hello
  fastauth token new --client-id alice

Exit codes:
  0    done
  1    an error, with a message on standard error, or a failed check
  2    a usage error
  141  the reader of the output closed it";

/// How every command prints.
#[derive(ClapArgs)]
#[command(next_help_heading = "Output")]
pub(crate) struct Display {
    /// Print results, warnings and errors only
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more, and log at level info (-vv: debug, -vvv: trace; without it, RUST_LOG or else warn)
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
}

impl Display {
    /// Returns the level that is logged to standard error, if a flag sets it.
    pub(crate) fn log_level(&self) -> Option<&'static str> {
        match self.verbose {
            0 => self.quiet.then_some("error"),
            1 => Some("info"),
            2 => Some("debug"),
            _ => Some("trace"),
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write a configuration file, and both secrets to a .env file
    Init(Init),
    /// Check the configuration and the store: faults, warnings and suggestions, and a summary
    Check(Check),
    /// Print the JSON Schema of the configuration file, by which editors complete and check it
    Schema(Schema),
    /// Explain which credential a request requires, and why
    Explain(Explain),
    /// Show what guards each operation of an application, and by which rule
    Routes(Routes),
    /// Issue, refresh, decode, list or revoke tokens
    Token(Token),
    /// List, rotate and retire the keys that sign tokens
    Keys(Keys),
    /// Generate a secret, and print it or write it to a .env file
    Keygen(Keygen),
    /// Serve, back up, restore, convert or test a token store
    Store(Store),
    /// Print or install the completion script of a shell
    Completions(Completions),
    /// Write the manual pages of all commands
    Man(Man),
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

#[derive(ClapArgs)]
pub(crate) struct Store {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Serve an SQLite or PostgreSQL store over HTTP, by both versions of the store API
    Serve(Serve),
    /// Test whether a store behind HTTP conforms to the store API
    Test(StoreTest),
    /// Back up an SQLite store to a new file, while it is in use
    Backup(Backup),
    /// Replace an SQLite store that is not in use by a backup, and revoke all sessions in it
    Restore(Restore),
    /// Tell all nodes that follow a store to forget what they know, after its database was restored by other means
    ResetFeed(ResetFeed),
    /// Encrypt the tokens in an SQLite store, or store them as plain text again, while it is in use
    Convert(Convert),
}

#[derive(ClapArgs)]
#[command(after_help = "\
The copy is consistent, whatever is written during it, and readable by its owner alone: anyone who can read it can act as \
every client. Do not copy a file that is in use with other programs.

Examples:
  fastauth store backup tokens-backup.db")]
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
is kept under a name that is printed. A backup cannot know which tokens were revoked after it, so all are revoked.

Examples:
  fastauth store restore tokens-backup.db")]
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
Nodes keep what they were told of changes. If a database is put back to an earlier state, by a snapshot of its disk or a copy of its file, \
they cannot see that: run this before the first process starts, or while it runs. `fastauth store restore` does it by itself.

Examples:
  fastauth store reset-feed")]
pub(crate) struct ResetFeed {
    /// The database, instead of the configured one: "sqlite:FILE", just the file, or "postgres://USER@HOST/DATABASE"
    #[arg(long, value_name = "DATABASE")]
    pub(crate) database: Option<String>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(ClapArgs)]
#[command(after_help = "\
Set `store-format` and restart every node first, so that all write the new format; both can be read at any time. Tokens \
encrypted with an earlier key are encrypted with the one that signs. The conversion can be stopped and run again.

Examples:
  fastauth store convert --to fernet")]
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

/// How changes by other servers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FeedArg {
    Listen,
    Poll,
    Auto,
}

#[cfg(feature = "postgres")]
impl From<FeedArg> for fastauth::store::Feed {
    fn from(feed: FeedArg) -> Self {
        match feed {
            FeedArg::Listen => Self::Listen,
            FeedArg::Poll => Self::Poll,
            FeedArg::Auto => Self::Auto,
        }
    }
}

#[derive(ClapArgs)]
#[command(after_help = "\
Calls must send a bearer token, of at least 16 characters: set FASTAUTH_STORE_TOKEN to it, or name a file. Applications send it \
by \"headers\": {\"Authorization\": \"Bearer ...\"} in their configuration. Without one, the server listens only on addresses of \
this machine, and answers only programs that call it as localhost or by such an address: a caller can read every client's tokens.

/livez answers if the process does, /readyz if the database can be written and its changes can be read (else 503); both without the \
token. SIGTERM and SIGINT complete the calls in progress, and tell the readers of the change feed to go to another server; a second \
signal stops at once. SIGHUP reads the file of tokens again.

Examples:
  fastauth store serve --database sqlite:tokens.db
  fastauth store serve --database postgres://fastauth@db.example/fastauth?sslmode=verify-full
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
    /// The database: "sqlite:FILE", just the file, or "postgres://USER@HOST/DATABASE", whose password may be in PGPASSWORD
    #[arg(long, env = "FASTAUTH_STORE_DATABASE", hide_env_values = true, default_value = "sqlite:fastauth.db")]
    pub(crate) database: String,
    /// A file with the address of the database, as for an address with a password
    #[arg(
        long,
        value_name = "FILE",
        env = "FASTAUTH_STORE_DATABASE_FILE",
        hide_env_values = true,
        conflicts_with = "database"
    )]
    pub(crate) database_file: Option<PathBuf>,
    /// How changes by other servers on a PostgreSQL database are found: by LISTEN, or by asking ten times a second, as behind a
    /// pooler that shares out connections; auto tries it
    #[arg(long, value_enum, env = "FASTAUTH_STORE_FEED", hide_env_values = true, default_value = "auto")]
    pub(crate) feed: FeedArg,
    /// A file with a bearer token on each line, each of which is accepted; SIGHUP reads it again
    #[arg(long, value_name = "FILE", env = "FASTAUTH_STORE_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// Serve /metrics, /livez and /readyz at this address, without a token. By default, /metrics is at the address of the calls,
    /// and requires what they require
    #[arg(long, value_name = "ADDR", env = "FASTAUTH_STORE_METRICS_LISTEN", hide_env_values = true)]
    pub(crate) metrics_listen: Option<ListenAddress>,
    /// The largest number of readers of the change feed
    #[arg(
        long,
        value_name = "COUNT",
        env = "FASTAUTH_STORE_MAX_FEED_READERS",
        hide_env_values = true,
        default_value_t = 1024
    )]
    pub(crate) max_feed_readers: usize,
    /// How often a minute a client is issued or refreshed tokens, over all nodes (else 429). By default, there is no limit
    #[arg(long, value_name = "COUNT", env = "FASTAUTH_STORE_RATE_LIMIT_PER_MINUTE", hide_env_values = true)]
    pub(crate) rate_limit_per_minute: Option<NonZeroU32>,
    /// How often at once; needs --rate-limit-per-minute
    #[arg(
        long,
        value_name = "COUNT",
        env = "FASTAUTH_STORE_RATE_LIMIT_BURST",
        hide_env_values = true,
        default_value = "10",
        requires = "rate_limit_per_minute"
    )]
    pub(crate) rate_limit_burst: NonZeroU32,
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
code is 1 if a promise is broken.

Examples:
  fastauth store test http://127.0.0.1:6789")]
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
