//! The words of the command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use fastauth::{Settings, SettingsBuilder};

/// Guards tower applications by path: keys, configuration, tokens and their store.
#[derive(Parser)]
#[command(name = "fastauth", version, about, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 a fault or a refusal, told on standard error; 2 words that were not understood.
RUST_LOG sets what is logged to standard error (default: warn).";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a secret, and print it or write it into a .env file
    Keygen(Keygen),
    /// Write a working configuration file, and both secrets into a .env file
    Init(Init),
    /// Say where every value of the configuration comes from and what is wrong, and try the store
    Check(Check),
    /// Say which checks a request for a path needs, and why (minting has a guard of its own)
    Explain(Explain),
    /// Issue, renew or read tokens
    Token(Token),
    /// Serve a token store, or test one
    Store(Store),
    /// Print the completions of a shell
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
    /// Which secret it is [default with --write: CRYPTOGRAPHY_KEY]
    #[arg(long, value_enum, ignore_case = true)]
    pub(crate) name: Option<SecretName>,
    /// Write it into this file in place of printing it; other lines are kept
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = ".env")]
    pub(crate) write: Option<PathBuf>,
    /// Replace a value that is there without asking
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
    /// The file for the secrets; the program reads .env in its working directory
    #[arg(long, value_name = "FILE", default_value = ".env")]
    pub(crate) env_file: PathBuf,
    /// The application's name
    #[arg(long, value_name = "NAME")]
    pub(crate) app_name: Option<String>,
    /// Where tokens are kept: "http://HOST:PORT/PATH", or "sqlite:FILE"
    #[arg(long, value_name = "URL")]
    pub(crate) database_api_url: Option<String>,
    /// A prefix that asks for an access token; may be repeated
    #[arg(long, value_name = "PREFIX")]
    pub(crate) access_path: Vec<String>,
    /// A prefix that asks for the master token; may be repeated
    #[arg(long, value_name = "PREFIX")]
    pub(crate) master_path: Vec<String>,
    /// Take the defaults without asking
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
pub(crate) struct Token {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a pair of tokens, in place of the one that the client has
    New {
        /// Whom to issue it to [default: a random id]
        #[arg(long, value_name = "ID")]
        client_id: Option<String>,
        #[command(flatten)]
        config: Config,
    },
    /// Exchange a refresh token for a new pair
    Refresh {
        /// The token, or `-` to read it from standard input, where no other user of the machine sees it
        token: String,
        #[command(flatten)]
        config: Config,
    },
    /// Verify a token and print its claims; whether it is the client's canonical one is not asked
    Decode {
        /// The token, or `-` to read it from standard input, where no other user of the machine sees it
        token: String,
        #[command(flatten)]
        config: Config,
    },
}

#[derive(ClapArgs)]
pub(crate) struct Store {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Serve the REST store of the wire contract, in both of its versions
    Serve(Serve),
    /// Test whether a REST store keeps the promises of the wire contract
    Test(StoreTest),
}

#[derive(ClapArgs)]
#[command(after_help = "\
FASTAUTH_STORE_TOKEN, if set, is the bearer token that every call must bring. Without it, only addresses of this machine
can be listened on: whoever reads the store has every client's tokens. The applications bring it by
\"headers\": {\"Authorization\": \"Bearer ...\"} in their configuration.")]
pub(crate) struct Serve {
    /// The address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6789")]
    pub(crate) listen: SocketAddr,
    /// The database: "sqlite:FILE", or just the file
    #[arg(long, value_name = "DATABASE", default_value = "sqlite:fastauth.db")]
    pub(crate) database: String,
}

#[derive(ClapArgs)]
#[command(after_help = "\
FASTAUTH_STORE_TOKEN, if set, is sent as the bearer token. The test writes clients of its own, whose ids begin with
fastauth-test-, and revokes them in the end; of a store of the first version, which cannot delete, it voids them. It is
meant for a live store, but not for a busy one: it sends some hundred calls. What it finds is told line by line: kept,
broken, or not offered. The exit code is 1 where something is broken that the store claims to keep.")]
pub(crate) struct StoreTest {
    /// Where the store is, as in database-api-url
    pub(crate) url: String,
    /// A header that goes with every call; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
