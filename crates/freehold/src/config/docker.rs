//! `[providers.NAME]` with `kind = "docker"`: an engine, and how containers are made there.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_providers::docker::{DockerHost, DockerOptions, DockerTls, InvalidHost};
use serde::Serialize;

use super::duration::Period;

/// The keys of the kind.
pub(super) const KEYS: &[&str] = &[
    "kind",
    "host",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "request_timeout",
    "pull_timeout",
    "stop_grace",
    "settle_horizon",
    "port",
    "volume_path",
    "network",
    "publish_address",
    "init",
];

/// `kind = "docker"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DockerConfig {
    /// The engine's address.
    pub(crate) host: String,
    /// The file with the signer of the engine's certificate; empty for none.
    pub(crate) tls_ca: PathBuf,
    /// The file with this server's certificate; empty for none.
    pub(crate) tls_cert: PathBuf,
    /// The file with its key; empty for none.
    pub(crate) tls_key: PathBuf,
    /// When a call counts as unanswered.
    pub(crate) request_timeout: Period,
    /// How long an image may take to be fetched.
    pub(crate) pull_timeout: Period,
    /// How long a program may take to end when asked.
    pub(crate) stop_grace: Period,
    /// The longest time after which an unanswered call may still take effect.
    pub(crate) settle_horizon: Period,
    /// The port that programs are told to listen on.
    pub(crate) port: u16,
    /// Where a container has its volume.
    pub(crate) volume_path: String,
    /// The engine's network that containers are in, and reached in; empty: a published port.
    pub(crate) network: String,
    /// The address at which ports are published.
    pub(crate) publish_address: String,
    /// Whether a small first process passes signals on.
    pub(crate) init: bool,
}

impl Default for DockerConfig {
    fn default() -> Self {
        let usual = DockerOptions::new(DockerHost::Unix("/var/run/docker.sock".into()));
        Self {
            host: usual.host.to_string(),
            tls_ca: PathBuf::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            request_timeout: whole(usual.request_timeout),
            pull_timeout: whole(usual.pull_timeout),
            stop_grace: whole(usual.stop_grace),
            settle_horizon: whole(usual.settle_horizon),
            port: usual.port,
            volume_path: usual.volume_path,
            network: String::new(),
            publish_address: usual.publish_address.to_string(),
            init: usual.init,
        }
    }
}

fn whole(span: Duration) -> Period {
    Period::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// A path that may be empty for none.
fn path(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

impl DockerConfig {
    /// The settings as the adapter has them.
    ///
    /// # Errors
    /// An engine's address that is none. What else can be wrong, [`wrong`](Self::wrong) finds.
    pub(crate) fn options(&self) -> Result<DockerOptions, InvalidHost> {
        let usual = DockerOptions::new(self.host.parse()?);
        Ok(DockerOptions {
            tls: DockerTls { ca: path(&self.tls_ca), certificate: path(&self.tls_cert), key: path(&self.tls_key) },
            request_timeout: self.request_timeout.get(),
            pull_timeout: self.pull_timeout.get(),
            stop_grace: self.stop_grace.get(),
            settle_horizon: self.settle_horizon.get(),
            port: self.port,
            volume_path: self.volume_path.clone(),
            network: (!self.network.is_empty()).then(|| self.network.clone()),
            publish_address: self.publish_address.parse().unwrap_or(usual.publish_address),
            init: self.init,
            ..usual
        })
    }

    /// What does not fit: the key, what is wrong, and what would be right.
    pub(super) fn wrong(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut found = Vec::new();
        match self.host.parse::<DockerHost>() {
            Err(_) => found.push((
                "host",
                format!("`{}` is no engine's address", self.host),
                "write unix:///PATH, tcp://HOST:PORT or https://HOST:PORT",
            )),
            Ok(DockerHost::Tls(..)) if self.tls_ca.as_os_str().is_empty() => found.push((
                "tls_ca",
                "nothing says who signs the engine's certificate".to_owned(),
                "name the file with the signer's certificate",
            )),
            Ok(_) => {}
        }
        if self.tls_cert.as_os_str().is_empty() != self.tls_key.as_os_str().is_empty() {
            found.push(("tls_cert", "a certificate and its key go together".to_owned(), "set tls_cert and tls_key"));
        }
        if self.request_timeout.get() < Duration::from_secs(1) {
            found.push(("request_timeout", format!("{} is too short", self.request_timeout), "write 1s or more"));
        }
        if 2 * self.stop_grace.get() > self.request_timeout.get() {
            let message = format!("{} leaves a call of {} no time", self.stop_grace, self.request_timeout);
            found.push(("stop_grace", message, "make it at most half of request_timeout"));
        }
        if self.port == 0 {
            found.push(("port", "programs cannot listen on port 0".to_owned(), "write a port, such as 8080"));
        }
        let is_folder = self.volume_path.starts_with('/') && self.volume_path.len() > 1;
        if !is_folder || self.volume_path.contains(['\0', ':']) {
            let message = format!("`{}` is no folder of a container", self.volume_path);
            found.push(("volume_path", message, "write a path that begins with /, such as /data"));
        }
        let is_somewhere = |address: IpAddr| !address.is_unspecified();
        if !self.publish_address.parse().is_ok_and(is_somewhere) {
            let message = format!("`{}` is no address at which a port can be reached", self.publish_address);
            found.push(("publish_address", message, "write one address of the engine's machine, such as 127.0.0.1"));
        }
        found
    }
}
