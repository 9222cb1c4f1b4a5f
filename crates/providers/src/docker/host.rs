//! Where an engine is: a socket of this machine, or an address that is spoken to in the clear or under TLS.
//!
//! No variable of the environment is read: an engine that nobody configured is never talked to.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// The port of an engine that is spoken to in the clear, where an address names none.
const PORT: u16 = 2375;

/// The port of an engine that is spoken to under TLS, where an address names none.
const TLS_PORT: u16 = 2376;

/// Where an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerHost {
    /// A socket of this machine: `unix:///var/run/docker.sock`.
    Unix(PathBuf),
    /// In the clear: `tcp://HOST:PORT`.
    Tcp(String, u16),
    /// Under TLS: `https://HOST:PORT`.
    Tls(String, u16),
}

/// An address that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no engine's address; write unix:///PATH, tcp://HOST:PORT or https://HOST:PORT")]
pub struct InvalidHost(String);

impl FromStr for DockerHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(invalid()) };
        }
        let (address, usual, under_tls) = match (text.strip_prefix("tcp://"), text.strip_prefix("https://")) {
            (Some(address), _) => (address, PORT, false),
            (_, Some(address)) => (address, TLS_PORT, true),
            (None, None) => return Err(invalid()),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| invalid())?),
            Some(_) | None => (address, usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_name) {
            return Err(invalid());
        }
        let host = host.to_owned();
        Ok(if under_tls { Self::Tls(host, port) } else { Self::Tcp(host, port) })
    }
}

impl fmt::Display for DockerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Self::Tls(host, port) => write!(f, "https://{host}:{port}"),
        }
    }
}

/// The files of an engine that is spoken to under TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerTls {
    /// Who signs the engine's certificate: PEM.
    pub ca: Option<PathBuf>,
    /// This server's certificate: PEM.
    pub certificate: Option<PathBuf>,
    /// The key of that certificate: PEM.
    pub key: Option<PathBuf>,
}

/// Under which name the engine's certificate is checked, and how.
#[derive(Clone, Debug)]
pub(super) struct Secured {
    pub(super) name: ServerName<'static>,
    pub(super) config: Arc<ClientConfig>,
}

impl Secured {
    /// Reads the files of a TLS engine; `None` for any other.
    ///
    /// # Errors
    /// Where a file is missing, cannot be read or is no PEM, or is given for an engine that is not spoken to under TLS.
    pub(super) fn load(host: &DockerHost, tls: &DockerTls) -> io::Result<Option<Self>> {
        let DockerTls { ca, certificate, key } = tls;
        let DockerHost::Tls(name, _) = host else {
            return match (ca, certificate, key) {
                (None, None, None) => Ok(None),
                _ => Err(io::Error::other(format!("{host} is not spoken to under TLS, and files for TLS are given"))),
            };
        };
        let ca = ca.as_deref().ok_or_else(|| io::Error::other("https:// needs tls_ca, the signer of the engine"))?;
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root).map_err(|error| of(ca, error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let config = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| of(key, error))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, secret)
                    .map_err(|error| of(certificate, error))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(io::Error::other("tls_cert and tls_key go together")),
        };
        let name = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
        Ok(Some(Self { name, config: Arc::new(config) }))
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| of(path, error))?;
    let all = read.collect::<Result<Vec<_>, _>>().map_err(|error| of(path, error))?;
    if all.is_empty() {
        return Err(of(path, "there is no certificate in it"));
    }
    Ok(all)
}

fn of(path: &Path, error: impl fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_shown() {
        for text in ["unix:///run/docker.sock", "tcp://10.0.0.1:2375", "https://docker.internal:2376"] {
            assert_eq!(text.parse::<DockerHost>().expect("valid").to_string(), text);
        }
        assert_eq!("tcp://[::1]".parse(), Ok(DockerHost::Tcp("::1".to_owned(), 2375)));
        assert_eq!("tcp://[::1]:99".parse(), Ok(DockerHost::Tcp("::1".to_owned(), 99)));
        assert_eq!("https://docker/".parse(), Ok(DockerHost::Tls("docker".to_owned(), 2376)));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "docker", "unix://run/docker.sock", "tcp://", "tcp://a:b", "http://a:1", "tcp://a/b:1"] {
            assert!(text.parse::<DockerHost>().is_err(), "{text}");
        }
    }

    #[test]
    fn files_for_tls_are_asked_for_where_they_are_needed_and_nowhere_else() {
        let ca = DockerTls { ca: Some("/ca.pem".into()), ..DockerTls::default() };
        let load = |host: &str, tls: &DockerTls| {
            Secured::load(&host.parse().expect("valid"), tls).map(|secured| secured.is_some())
        };
        let none = DockerTls::default();
        assert!(!load("tcp://a:1", &none).expect("nothing to read"));
        assert!(load("tcp://a:1", &ca).is_err());
        assert!(load("https://a:1", &none).expect_err("no signer").to_string().contains("tls_ca"));
        assert!(load("https://a:1", &ca).expect_err("no file").to_string().contains("/ca.pem"));
    }
}
