//! Where a database is: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require&sslrootcert=FILE`.
//!
//! TLS, where it is used, is always verified: who signed the server's certificate, and that it is for the host's name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Why a place cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none. It is not repeated, for it may have a password.
    #[error(
        "not a PostgreSQL URL ({0}): write postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require, with special \
         characters percent-encoded"
    )]
    Url(&'static str),
    /// The file of `sslrootcert` cannot be used.
    #[error("cannot read certificates from {}: {why}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The machine trusts nobody.
    #[error("this machine has no trusted certificates: name a file of them with sslrootcert, or say sslmode=disable")]
    NoRoots,
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// A parsed URL. What is shown of it has no password.
#[derive(Clone)]
pub struct Url {
    pub(super) config: Config,
    /// Who may sign the server's certificate; `None` for whom the machine trusts.
    pub(super) roots: Option<PathBuf>,
}

impl FromStr for Url {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let scheme = ["postgres://", "postgresql://"].into_iter().find(|scheme| text.starts_with(scheme));
        let scheme = scheme.ok_or(ConnectError::Url("it begins with something else"))?;
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        if !place[scheme.len()..].contains('/') {
            return Err(ConnectError::Url("it names no database"));
        }
        let mut sslmode = SslMode::Prefer;
        let mut roots = None;
        let mut rest = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("sslmode", mode)) => {
                    sslmode = match mode {
                        "disable" => SslMode::Disable,
                        "prefer" => SslMode::Prefer,
                        "require" | "verify-ca" | "verify-full" => SslMode::Require,
                        _ => return Err(ConnectError::Url("sslmode is disable, prefer or require")),
                    }
                }
                Some(("sslrootcert", file)) => roots = Some(PathBuf::from(decoded(file)?)),
                Some(_) => rest.push(option),
                None => return Err(ConnectError::Url("an option behind the `?` has no value")),
            }
        }
        let unknown = ConnectError::Url("a part or an option of it is not known");
        let mut config: Config = format!("{place}?{}", rest.join("&")).parse().map_err(|_| unknown)?;
        if config.get_hosts().is_empty() {
            return Err(ConnectError::Url("it names no host"));
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(ConnectError::Url("it names no database"));
        }
        if config.get_user().is_none_or(str::is_empty) {
            return Err(ConnectError::Url("it names no user"));
        }
        config.ssl_mode(sslmode);
        if config.get_hosts().len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            // Of several the one that takes writes: what a standby says may be old.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_application_name().is_none() {
            config.application_name("freehold");
        }
        Ok(Self { config, roots })
    }
}

impl Url {
    /// Whether there is a password in it.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }
}

fn decoded(text: &str) -> Result<String, ConnectError> {
    let wrong = ConnectError::Url("a character is not percent-encoded as it should be");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|digit| (digit as char).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else { return Err(wrong) };
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgreSQL at ")?;
        for (number, host) in self.config.get_hosts().iter().enumerate() {
            let ports = self.config.get_ports();
            let port = ports.get(number).or(ports.first()).copied().unwrap_or(5432);
            let comma = if number == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                Host::Unix(folder) => write!(f, "{comma}{}/.s.PGSQL.{port}", folder.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let url: Url = "postgres://app:s%40cret@db.example:6432/shop?sslmode=require".parse().expect("a URL");
        assert_eq!(url.to_string(), "PostgreSQL at db.example:6432/shop");
        assert_eq!(format!("{url:?}"), url.to_string());
        assert_eq!(url.config.get_password(), Some(&b"s@cret"[..]));
        assert_eq!(url.config.get_ssl_mode(), SslMode::Require);
        let two: Url = "postgresql://app@a:1,b:2/shop?target_session_attrs=read-write".parse().expect("a URL");
        assert_eq!(two.to_string(), "PostgreSQL at a:1,b:2/shop");
        let socket: Url = "postgres://app@%2Frun%2Fpg/shop".parse().expect("a URL");
        assert_eq!(socket.to_string(), "PostgreSQL at /run/pg/.s.PGSQL.5432/shop");
    }

    #[test]
    fn tls_is_as_strict_as_it_can_be() {
        for (mode, parsed) in [
            ("?sslmode=disable", SslMode::Disable),
            ("?sslmode=prefer", SslMode::Prefer),
            ("", SslMode::Prefer),
            ("?sslmode=require", SslMode::Require),
            ("?sslmode=verify-ca", SslMode::Require),
            ("?sslmode=verify-full&connect_timeout=3", SslMode::Require),
        ] {
            let url: Url = format!("postgres://app@db/shop{mode}").parse().expect("a URL");
            assert_eq!(url.config.get_ssl_mode(), parsed, "{mode}");
        }
        let url: Url = "postgres://app@db/shop?sslrootcert=%2Fetc%2Fmy%20ca.pem".parse().expect("a URL");
        assert_eq!(url.roots, Some(PathBuf::from("/etc/my ca.pem")));
    }

    #[test]
    fn what_is_wrong_is_said_and_no_password_is() {
        for wrong in [
            "",
            "mysql://app:hunter2@db/shop",
            "postgres://app:hunter2@db",
            "postgres://app:hunter2@db/",
            "postgres://:hunter2@db/shop",
            "postgres:///shop",
            "postgres://app:hunter2@db:port/shop",
            "postgres://app:hunter2@db/shop?sslmode=allow",
            "postgres://app:pass?hunter2@db/shop",
            "postgres://app:pass?hunter2=@db/shop",
            "postgres://app:hunter2@db/shop?hunter2=x",
            "postgres://app:hunter2@db/shop?sslrootcert=%zz",
            "host=db user=app password=hunter2 dbname=shop",
        ] {
            let error = wrong.parse::<Url>().expect_err(wrong);
            let said = format!("{error} {error:?}");
            assert!(said.contains("not a PostgreSQL URL") && !said.contains("hunter2"), "{wrong}: {said}");
        }
    }
}
