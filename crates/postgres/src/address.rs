//! The URL of a database, and what its parameters ask for.

use std::{fmt, path::PathBuf, str::FromStr};

use fastauth_core::{secret::Secret, store::StoreError};
use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

use super::error::failed;

/// The form of a URL. The text of a URL that cannot be read is not shown, for a password may be anywhere in it.
const FORM: &str = "the URL of the database cannot be read: write postgres://USER@HOST:PORT/DATABASE, with special characters \
     of a password as %XX; the parameters are those of tokio-postgres, sslmode and sslrootcert";

/// How the certificate of a server is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verification {
    /// Not at all, as `prefer` and `require` of libpq have it.
    None,
    /// It is issued by a trusted authority.
    Authority,
    /// It is issued by a trusted authority for this host.
    Full,
}

/// The address of a database.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) verification: Verification,
    pub(crate) authorities: Option<PathBuf>,
}

impl Address {
    /// Reads a URL. `password` stands in if the URL has none.
    pub(crate) fn parse(url: &str, password: Option<&Secret>) -> Result<Self, StoreError> {
        if !is_url(url) {
            return Err(failed(FORM));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = None;
        let mut authorities = None;
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", path)) => authorities = Some(PathBuf::from(decoded(path)?)),
                _ => others.push(pair),
            }
        }
        let mut config = Config::from_str(&format!("{base}?{}", others.join("&"))).map_err(|_| failed(FORM))?;
        let (mode, verification) = match (mode, &authorities) {
            (Some("disable"), _) => (SslMode::Disable, Verification::None),
            (None | Some("prefer" | "allow"), _) => (SslMode::Prefer, Verification::None),
            (Some("require"), None) => (SslMode::Require, Verification::None),
            (Some("verify-ca"), _) | (Some("require"), Some(_)) => (SslMode::Require, Verification::Authority),
            (Some("verify-full"), _) => (SslMode::Require, Verification::Full),
            _ => {
                return Err(failed(
                    "sslmode of the database's URL must be disable, prefer, require, verify-ca or verify-full",
                ));
            }
        };
        // Sockets of this machine have no TLS, and need none.
        let is_local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        config.ssl_mode(if is_local { SslMode::Disable } else { mode });
        if config.get_password().is_none()
            && let Some(password) = password
        {
            config.password(password.expose());
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(failed("the URL of the database names no host: write postgres://USER@HOST/DATABASE"));
        }
        // A standby answers with what was current a moment ago.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("fastauth");
        }
        Ok(Self { config, verification, authorities })
    }

    /// Returns the hosts and the database, without the user and the password.
    pub(crate) fn shown(&self) -> String {
        let ports = self.config.get_ports();
        let port = |place: usize| ports.get(place).or(ports.first()).map_or(String::new(), |port| format!(":{port}"));
        let hosts = self.config.get_hosts().iter().enumerate().map(|(place, host)| match host {
            Host::Tcp(host) => format!("{host}{}", port(place)),
            #[cfg(unix)]
            Host::Unix(path) => format!("{}{}", path.display(), port(place)),
        });
        let hosts: Vec<_> = hosts.collect();
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("postgres://{}/{database}", hosts.join(","))
    }
}

/// Returns true for the URL of a PostgreSQL database.
pub(crate) fn is_url(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

fn decoded(text: &str) -> Result<String, StoreError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().unwrap_or_default(), rest.next().unwrap_or_default()];
        let digits = std::str::from_utf8(&digits).map_err(|_| failed(FORM))?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| failed(FORM))?);
    }
    String::from_utf8(bytes).map_err(|_| failed(FORM))
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(url, Some(&Secret::from("from-elsewhere"))).unwrap()
    }

    #[test]
    fn sslmode_says_what_is_verified() {
        use SslMode::{Disable, Prefer, Require};
        for (parameters, mode, verification) in [
            ("", Prefer, Verification::None),
            ("?sslmode=disable", Disable, Verification::None),
            ("?sslmode=prefer", Prefer, Verification::None),
            ("?sslmode=require", Require, Verification::None),
            ("?sslmode=require&sslrootcert=ca.pem", Require, Verification::Authority),
            ("?sslrootcert=%2Fetc%2Fca.pem&sslmode=verify-ca", Require, Verification::Authority),
            ("?sslmode=verify-full&connect_timeout=2", Require, Verification::Full),
        ] {
            let address = address(&format!("postgres://u@db.example/x{parameters}"));
            assert_eq!((address.config.get_ssl_mode(), address.verification), (mode, verification), "{parameters}");
        }
        assert_eq!(address("postgres://u@h/x?sslrootcert=%2Fca.pem").authorities, Some("/ca.pem".into()));
        assert_eq!(address("postgres://u@%2Frun%2Fpg/x?sslmode=require").config.get_ssl_mode(), Disable);
        for url in
            ["postgres://u@h/x?sslmode=of", "postgres://u@h/x?sslrootcert=%zz", "postgres://u@h/x?hush=1", "mysql://h"]
        {
            let error = Address::parse(url, None).unwrap_err().with_causes();
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn password_of_the_url_comes_first_and_is_not_shown() {
        let with = address("postgres://u:hush@h:1234/x");
        assert_eq!(with.config.get_password(), Some(&b"hush"[..]));
        assert_eq!(with.shown(), "postgres://h:1234/x");
        assert_eq!(address("postgres://u@a,b:2/x").shown(), "postgres://a:5432,b:2/x");
        assert!(!format!("{with:?}").contains("hush"));
        assert_eq!(address("postgres://u@h/x").config.get_password(), Some(&b"from-elsewhere"[..]));
    }
}
