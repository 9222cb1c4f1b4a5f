//! A small HTTP/1.1 client for measuring and for crash tests: one connection, one request at a time, nothing pooled, so
//! that what is measured is the server. It reads bodies by `content-length` or in chunks, and nothing else.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest answer that is read, in bytes: many times the largest page the API gives.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!("status {} with a body that is no JSON: {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }
}

/// A connection to a server.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Connects to `ADDRESS:PORT`.
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(8 * 1024) })
    }

    /// Sends a whole request as it is and reads its answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        loop {
            if let Some((answer, length)) = parse(&self.read)? {
                self.read.drain(..length);
                return Ok(answer);
            }
            if self.read.len() > ANSWER_BYTES_MAX {
                bail!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("the connection was closed before the answer was complete");
            }
        }
    }
}

/// A request's bytes. `headers` are whole lines without line ends.
pub(crate) fn request(method: &str, path: &str, key: &str, headers: &[&str], body: Option<&str>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: freehold\r\nauthorization: Bearer {key}\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if let Some(body) = body {
        text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body.unwrap_or_default());
    text.into_bytes()
}

/// The first answer in `bytes` and how long it is, if it is all there.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>> {
    let Some(head_length) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..head_length]).context("an answer's head that is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer without a status")?;
    let status = status.parse().context("a status that is no number")?;
    let (mut length, mut chunked) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>().context("a length that is no number")?);
        }
        chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked");
    }
    let rest = &bytes[head_length + 4..];
    let body = if chunked { dechunk(rest)? } else { whole(rest, length.unwrap_or(0)) };
    Ok(body.map(|(body, length)| (Answer { status, body }, head_length + 4 + length)))
}

fn whole(rest: &[u8], length: usize) -> Option<(Vec<u8>, usize)> {
    rest.get(..length).map(|body| (body.to_vec(), length))
}

fn dechunk(rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = rest[at..].windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&rest[at..at + line]).context("a chunk size that is no text")?;
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk size that is no number")?;
        let begin = at + line + 2;
        let Some(chunk) = rest.get(begin..begin + size + 2) else { return Ok(None) };
        body.extend_from_slice(&chunk[..size]);
        at = begin + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1";
        let (parsed, length) = parse(answer).expect("valid").expect("whole");
        assert_eq!((parsed.status, parsed.body.as_slice(), length), (200, &b"{}"[..], 40));
        assert!(parse(&answer[..39]).expect("valid so far").is_none());
    }

    #[test]
    fn chunks_are_put_together() {
        let answer = b"HTTP/1.1 409 Conflict\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        let (parsed, length) = parse(answer).expect("valid").expect("whole");
        assert_eq!((parsed.status, parsed.body.as_slice(), length), (409, &b"abcd"[..], answer.len()));
    }
}
