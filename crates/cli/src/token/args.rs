//! The arguments of `token`.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use fastauth::store::SessionStatus;

use crate::config::Config;

#[derive(Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    pub(super) command: TokenCommand,
}

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Issue an access/refresh pair, ending the client's current session unless `tokens-per-client` is "many"
    #[command(after_help = "\
Prints the pair as JSON. A message on standard error says when it expires, and how many sessions it ended.

Examples:
  fastauth token new
  fastauth token new --client-id alice")]
    New {
        /// The client id [default: a random one]
        #[arg(long, alias = "client", value_name = "ID")]
        client_id: Option<String>,
        #[command(flatten)]
        config: Config,
    },
    /// Exchange a refresh token for a new pair
    #[command(after_help = "\
Examples:
  echo \"$REFRESH_TOKEN\" | fastauth token refresh -")]
    Refresh {
        /// The token, or `-` to read it from standard input, so that other users of the machine cannot see it
        token: String,
        #[command(flatten)]
        config: Config,
    },
    /// Verify the signature and lifetime of a token and print its claims, without asking the store
    #[command(after_help = "\
The token may have been revoked or replaced: `fastauth token introspect` asks the store.

Examples:
  fastauth token decode \"$ACCESS_TOKEN\"")]
    Decode {
        /// The token, or `-` to read it from standard input, so that other users of the machine cannot see it
        token: String,
        #[command(flatten)]
        config: Config,
    },
    /// Ask the store whether a token is accepted, and print its claims if it is
    #[command(after_help = "\
Examples:
  echo \"$ACCESS_TOKEN\" | fastauth token introspect -")]
    Introspect {
        /// The token, or `-` to read it from standard input, so that other users of the machine cannot see it
        token: String,
        #[command(flatten)]
        config: Config,
    },
    /// List sessions: who is logged in, since when, and until when
    List(ListTokens),
    /// Revoke tokens
    Revoke(RevokeTokens),
}

#[derive(Args)]
#[command(after_help = "\
The table shows the sessions that are live and not expired, and shortens client ids. With --json, it is one object a line, for
every session, with times in seconds since the Unix epoch.

Examples:
  fastauth token list
  fastauth token list --client-id alice --wide
  fastauth token list --status revoked
  fastauth token list --json")]
pub(super) struct ListTokens {
    /// Only sessions of this client
    #[arg(long, alias = "client", value_name = "ID")]
    pub(super) client_id: Option<String>,
    /// Only sessions of clients whose id starts with this
    #[arg(long, value_name = "TEXT")]
    pub(super) prefix: Option<String>,
    /// Only sessions with this status, expired ones included
    #[arg(long, value_enum)]
    pub(super) status: Option<Status>,
    /// Show sessions that were revoked or have expired, too
    #[arg(long, conflicts_with = "status")]
    pub(super) all: bool,
    /// Show all columns, whole client ids and exact times
    #[arg(long)]
    pub(super) wide: bool,
    /// Print a JSON object on each line, with every session
    #[arg(long, conflicts_with_all = ["wide", "all"])]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) config: Config,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Status {
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

#[derive(Args)]
#[command(
    group = ArgGroup::new("which").required(true).multiple(true).args(["token", "client_id", "session", "all"]),
    after_help = "\
Examples:
  echo \"$ACCESS_TOKEN\" | fastauth token revoke -
  fastauth token revoke --client-id alice
  fastauth token revoke --client-id alice --access-only
  fastauth token revoke --all --yes",
)]
pub(super) struct RevokeTokens {
    /// The access or refresh token of the session to revoke, or `-` to read it from standard input
    #[arg(conflicts_with_all = ["client_id", "session", "all"])]
    pub(super) token: Option<String>,
    /// Revoke all sessions of this client, or those that --session names
    #[arg(long, alias = "client", value_name = "ID")]
    pub(super) client_id: Option<String>,
    /// Revoke one session, by its name as shown by `token list`; can be repeated
    #[arg(long, value_name = "SESSION")]
    pub(super) session: Vec<String>,
    /// Revoke the access tokens alone and keep the log-ins, so that the next refresh brings new claims
    #[arg(long, conflicts_with_all = ["token", "all"])]
    pub(super) access_only: bool,
    /// Revoke everything that was issued until now
    #[arg(long, conflicts_with_all = ["client_id", "session"])]
    pub(super) all: bool,
    /// Do not ask for confirmation before --all
    #[arg(long, short)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) config: Config,
}
