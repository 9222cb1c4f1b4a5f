//! The web application under Node.js, and the key that it has and no browser may see.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{http, workspace};

/// A running web tier. Dropping it ends it.
pub(super) struct Tier {
    child: Child,
    pub(super) url: String,
    log: PathBuf,
}

impl Drop for Tier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A platform key that nobody else has, in a file that the configuration names.
pub(super) fn key(folder: &Path) -> Result<String> {
    let mut chance = [0; 24];
    File::open("/dev/urandom")?.read_exact(&mut chance)?;
    let key: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join("platform.key"))?;
    file.write_all(key.as_bytes())?;
    Ok(key)
}

impl Tier {
    /// Starts it and waits until it listens.
    pub(super) fn start(freehold: &str, key: &str, folder: &Path) -> Result<Self> {
        let log = folder.join("tier.log");
        let mut child = Command::new("node")
            .arg(workspace::root().join("examples/webapp/server.mjs"))
            .env("FREEHOLD_URL", format!("http://{freehold}"))
            .env("FREEHOLD_PLATFORM_KEY", key)
            .env("PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("starting node")?;
        let stdout = child.stdout.take().context("a web tier without a standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let mut tier = Self { child, url: String::new(), log };
        match line.trim().strip_prefix("listening on ") {
            Some(url) => tier.url = url.to_owned(),
            None => bail!("the web tier did not come up:\n{}", tier.log()),
        }
        Ok(tier)
    }

    /// What it complained about.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Knocks as other sites and forgers would, and answers what it was told. Each is refused before Freehold hears of it.
    pub(super) async fn refuses_strangers(&self) -> Result<String> {
        let json = "content-type: application/json";
        let forged = "cookie: session=alice.9999999999.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let knocks: [(&str, &str, &[&str], u16); 6] = [
            ("GET", "/api/instance", &[], 401),
            ("GET", "/api/instance", &[forged], 401),
            ("POST", "/api/instance", &[forged, json], 401),
            ("POST", "/api/session", &["content-type: text/plain"], 403),
            ("POST", "/api/session", &[json, "origin: https://elsewhere.example"], 403),
            ("POST", "/api/session", &[json, "sec-fetch-site: cross-site"], 403),
        ];
        let address = self.url.trim_start_matches("http://");
        for (method, path, headers, expected) in knocks {
            let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
            let body = if method == "POST" { r#"{"user":"mallory"}"# } else { "" };
            let length = body.len();
            let request =
                format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n{lines}content-length: {length}\r\n\r\n{body}");
            let answer = http::Connection::open(address).await?.send(request.as_bytes()).await?;
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            ensure!(
                answer.status == expected,
                "{method} {path} with {headers:?} is answered {}: {said}",
                answer.status
            );
        }
        Ok(format!("{} requests of strangers, all refused", knocks.len()))
    }
}
