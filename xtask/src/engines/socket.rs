//! One request to the socket of an engine, and its whole answer: what the stage itself does there.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an engine may take for one answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// The image that tests run: an HTTP server that says which instance it is.
pub(super) const IMAGE: &str = "localhost/freehold-test";

/// An engine's socket.
#[derive(Clone, Debug)]
pub(super) struct Socket(pub(super) PathBuf);

impl Socket {
    /// The address as the configuration has it.
    pub(super) fn host(&self) -> String {
        format!("unix://{}", self.0.display())
    }

    /// Asks, and answers the status and the body.
    pub(super) fn ask(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let mut stream = UnixStream::connect(&self.0).with_context(|| format!("connecting to {}", self.0.display()))?;
        stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
        // An answer of HTTP/1.0 comes whole, and not in chunks.
        let head = format!(
            "{method} /v1.41{path} HTTP/1.0\r\nhost: docker\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end =
            answer.windows(4).position(|four| four == b"\r\n\r\n").context("an answer without an end of its head")?;
        let head = String::from_utf8_lossy(&answer[..end]);
        let status = head.split(' ').nth(1).context("an answer without a status")?.parse()?;
        Ok((status, answer.split_off(end + 4)))
    }

    fn json(&self, path: &str) -> Result<Value> {
        let (status, body) = self.ask("GET", path, "application/json", b"")?;
        ensure!(status == 200, "{path} is answered {status}");
        serde_json::from_slice(&body).with_context(|| format!("{path} is answered with something else than JSON"))
    }

    /// Waits until the engine answers.
    pub(super) fn until_ready(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while !self.ask("GET", "/_ping", "text/plain", b"").is_ok_and(|(status, _)| status == 200) {
            ensure!(Instant::now() < deadline, "{} does not answer within {within:?}", self.0.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Makes the image of the tests.
    pub(super) fn import(&self, archive: &Path) -> Result<()> {
        let path = format!("/images/create?fromSrc=-&repo={IMAGE}&changes=CMD%20%5B%22%2Fbin%2Fserve%22%5D");
        let (status, body) = self.ask("POST", &path, "application/x-tar", &std::fs::read(archive)?)?;
        ensure!(status == 200, "the image is answered {status}: {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    /// The containers and volumes of an installation, each with whether it is a tombstone; of all with `None`.
    pub(super) fn things(&self, install: Option<&str>) -> Result<Vec<Thing>> {
        let filter = install.map_or(String::new(), |install| {
            format!("&filters=%7B%22label%22%3A%5B%22freehold_install%3D{install}%22%5D%7D")
        });
        let mut things = Vec::new();
        let mut add = |path: String, list: &Value| {
            let is_tombstone = !list["Labels"]["freehold_tombstone"].is_null();
            things.push(Thing { path, is_tombstone });
        };
        for one in self.json(&format!("/containers/json?all=1{filter}"))?.as_array().into_iter().flatten() {
            add(format!("/containers/{}", one["Id"].as_str().unwrap_or_default()), one);
        }
        for one in self.json(&format!("/volumes?all=1{filter}"))?["Volumes"].as_array().into_iter().flatten() {
            add(format!("/volumes/{}", one["Name"].as_str().unwrap_or_default()), one);
        }
        Ok(things)
    }

    /// Removes what it is given; what is in use goes later than what uses it.
    pub(super) fn remove(&self, things: &[Thing]) -> Result<()> {
        for thing in things {
            let (status, body) = self.ask("DELETE", &format!("{}?force=1", thing.path), "application/json", b"")?;
            let said = String::from_utf8_lossy(&body).into_owned();
            ensure!([204, 404].contains(&status), "removing {} is answered {status}: {said}", thing.path);
        }
        Ok(())
    }
}

/// A container or a volume.
#[derive(Debug)]
pub(super) struct Thing {
    pub(super) path: String,
    pub(super) is_tombstone: bool,
}
