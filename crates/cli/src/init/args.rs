//! The arguments of `init`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
#[command(after_help = "\
On a terminal, it asks for what no flag gives, unless --yes is given. Nothing is written before every answer is valid. Secrets
that the .env file already has are kept. In a git repository, the files with secrets and tokens are added to .gitignore.

Examples:
  fastauth init
  fastauth init --yes --app-name shop --public-path /auth --public-path /login --master-path /admin --force
  fastauth init --yes --shared-with-fastauth-api --database-api-url http://127.0.0.1:6789 --config shared/auth.json
  fastauth init --axum shop")]
pub(crate) struct Init {
    /// The configuration file to write [env: FASTAUTH_CONFIG=] [default: fastauth.config.json]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// The file to write the secrets to [default: .env beside the configuration file, which is the one that is read]
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// The application's name [default: the name of the directory]
    #[arg(long, value_name = "NAME")]
    pub(crate) app_name: Option<String>,
    /// Where tokens are stored: "sqlite:FILE", or "http://HOST:PORT/PATH" [default: sqlite:fastauth.db]
    #[arg(long, value_name = "URL")]
    pub(crate) database_api_url: Option<String>,
    /// A path that is open to all, with the paths below it, or "none"; can be repeated. Everything else requires an access token
    /// [default: /auth, /login and /health]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["access_path", "shared_with_fastauth_api"])]
    pub(crate) public_path: Vec<String>,
    /// Guard only the paths that begin with this prefix, or "none", by an access token, as fastauth-api does, and leave all others
    /// open; can be repeated [default with --shared-with-fastauth-api: /access]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) access_path: Vec<String>,
    /// A path that requires the master token, or "none"; can be repeated [default: none; with --shared-with-fastauth-api: /master]
    #[arg(long, value_name = "PATH")]
    pub(crate) master_path: Vec<String>,
    /// Choose what the Python package fastauth-api needs to share the store and the key
    #[arg(long)]
    pub(crate) shared_with_fastauth_api: bool,
    /// Copy CRYPTOGRAPHY_KEY and MASTER_TOKEN from the .env file of fastauth-api
    #[arg(long, value_name = "FILE", requires = "shared_with_fastauth_api")]
    pub(crate) secrets_from: Option<PathBuf>,
    /// Replace an existing configuration file; the secrets in it and in the .env file are kept
    #[arg(long)]
    pub(crate) force: bool,
    /// Use the defaults without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Write an axum application with a log-in, tests and a Containerfile into this new or empty directory
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["config", "env_file", "app_name", "database_api_url", "public_path", "access_path", "master_path",
            "shared_with_fastauth_api", "force"],
    )]
    pub(crate) axum: Option<PathBuf>,
    /// The dependency of that application on the crate fastauth: the path of a clone, or a version [default: the clone that this
    /// program was built from, or else its version]
    #[arg(long, value_name = "PATH|VERSION", requires = "axum")]
    pub(crate) fastauth: Option<String>,
}
