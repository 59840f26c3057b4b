//! The database of a store that the program serves or looks after.

use std::{path::Path, sync::Arc};

use fastauth::store::{SqliteStore, TokenStore};

use crate::{
    args::{FeedArg, Serve},
    failure::{Failure, chain},
};

/// A database, by its address.
pub(crate) enum Database {
    Sqlite(String),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Postgres),
}

impl Database {
    /// Reads the address of what is to be served, without opening anything.
    pub(crate) fn served(args: &Serve) -> Result<Self, Failure> {
        let address = match &args.database_file {
            Some(path) => address_in(path)?,
            None => args.database.clone(),
        };
        if is_postgres(&address) {
            return Self::postgres(address, args.feed);
        }
        if SqliteStore::path_in_url(&address).is_none() {
            let remedy = "write sqlite:FILE with the plain path of a file, such as sqlite:tokens.db, or postgres://…";
            // What is in a file may be a secret.
            let shown = if args.database_file.is_some() { "the address".to_owned() } else { format!("{address:?}") };
            return Err(Failure::new(format!("--database: {shown} is not a database: {remedy}")));
        }
        Ok(Self::Sqlite(address))
    }

    /// Reads the address of a PostgreSQL database.
    #[cfg(feature = "postgres")]
    pub(crate) fn postgres(url: String, feed: FeedArg) -> Result<Self, Failure> {
        postgres::Postgres::new(url, feed).map(Self::Postgres)
    }

    #[cfg(not(feature = "postgres"))]
    pub(crate) fn postgres(_: String, _: FeedArg) -> Result<Self, Failure> {
        Err(Failure::new("this build of fastauth has no PostgreSQL: build it with the feature `postgres`"))
    }

    /// Returns the address for logs, without a user and a password.
    pub(crate) fn shown(&self) -> &str {
        match self {
            Self::Sqlite(address) => address,
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => database.shown(),
        }
    }

    /// Opens the store.
    pub(crate) async fn open(&self) -> Result<Arc<dyn TokenStore>, Failure> {
        match self {
            Self::Sqlite(address) => open_sqlite(address),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => database.open().await,
        }
    }
}

/// Returns true for the address of a PostgreSQL database.
pub(crate) fn is_postgres(address: &str) -> bool {
    address.starts_with("postgres://") || address.starts_with("postgresql://")
}

fn open_sqlite(address: &str) -> Result<Arc<dyn TokenStore>, Failure> {
    let path = SqliteStore::path_in_url(address).unwrap_or(Path::new(address));
    let store =
        SqliteStore::open(path).map_err(|error| Failure::new(format!("{}: {}", path.display(), chain(&error))))?;
    warn_of_exposure(path);
    Ok(Arc::new(store))
}

/// Warns if every user of the machine can read a file.
pub(crate) fn warn_of_exposure(path: &Path) {
    if let Some(warning) = fastauth::config::exposure(path) {
        tracing::warn!(target: "fastauth", "{warning}");
    }
}

/// Reads the address in a file, of which a newline at the end is no part.
fn address_in(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("--database-file: the file {shown} cannot be read: {error}")))?;
    let address = text.trim_end_matches(['\n', '\r']);
    if address.is_empty() || address.contains(['\n', '\r']) {
        return Err(Failure::new(format!("--database-file: {shown} must have one line, the address of the database")));
    }
    warn_of_exposure(path);
    Ok(address.to_owned())
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::{env, sync::Arc};

    use fastauth::{
        Secret,
        store::{PostgresOptions, PostgresStore, TokenStore},
    };

    use crate::{
        args::FeedArg,
        failure::{Failure, chain},
    };

    /// The variable that PostgreSQL's own programs take the password from.
    const PASSWORD: &str = "PGPASSWORD";

    pub(crate) struct Postgres {
        url: Secret,
        shown: String,
        options: PostgresOptions,
    }

    impl Postgres {
        pub(crate) fn new(url: String, feed: FeedArg) -> Result<Self, Failure> {
            let shown = PostgresStore::shown(&url).map_err(|error| Failure::new(chain(&error)))?;
            let mut options = PostgresOptions::default();
            options.feed = feed.into();
            options.password = match env::var(PASSWORD) {
                Ok(password) => Some(Secret::from(password)),
                Err(env::VarError::NotPresent) => None,
                Err(env::VarError::NotUnicode(_)) => return Err(Failure::new(format!("{PASSWORD} must be UTF-8"))),
            };
            Ok(Self { url: Secret::from(url), shown, options })
        }

        pub(crate) fn shown(&self) -> &str {
            &self.shown
        }

        pub(crate) async fn open(&self) -> Result<Arc<dyn TokenStore>, Failure> {
            match PostgresStore::connect(self.url.expose(), self.options.clone()).await {
                Ok(store) => Ok(Arc::new(store)),
                Err(error) => Err(Failure::new(format!("{}: {}", self.shown, chain(&error)))),
            }
        }
    }
}
