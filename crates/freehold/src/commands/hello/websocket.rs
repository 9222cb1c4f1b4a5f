//! A WebSocket that echoes: RFC 6455, as much of it as an echo needs.
//!
//! Frames come masked and go back unmasked, with the same opcode and the same end mark, so that fragments stay
//! fragments. A ping is answered, a close is answered and ends it, and so does anything that is no frame.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Body, full};

/// The longest frame that is echoed, in bytes.
const FRAME_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a key is hashed with, to show that the handshake was understood (RFC 6455, section 1.3).
const HANDSHAKE_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Whether a request asks for a WebSocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let says = |name: HeaderName, word: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    says(UPGRADE, "websocket") && says(CONNECTION, "upgrade")
}

/// Accepts the handshake, and echoes once the connection is handed over.
pub(super) fn accept(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY).cloned() else {
        let mut refusal = Response::new(full("Sec-WebSocket-Key is missing\n"));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return refusal;
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(connection) = upgrade.await {
            // A connection that breaks has nobody left to tell.
            let _ = echo(TokioIo::new(connection)).await;
        }
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accepted) = HeaderValue::from_str(&accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    }
    response
}

fn accept_key(key: &[u8]) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(HANDSHAKE_GUID.as_bytes());
    STANDARD.encode(hash.finish())
}

async fn echo(mut connection: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    loop {
        let (first, second) = (connection.read_u8().await?, connection.read_u8().await?);
        let length = match second & !MASKED {
            126 => u64::from(connection.read_u16().await?),
            127 => connection.read_u64().await?,
            short => u64::from(short),
        };
        if second & MASKED == 0 || length > FRAME_BYTES_MAX {
            return Ok(());
        }
        let mut mask = [0; 4];
        connection.read_exact(&mut mask).await?;
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        connection.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        match first & 0x0F {
            PONG => {}
            PING => send(&mut connection, FIN | PONG, &payload).await?,
            CLOSE => {
                send(&mut connection, FIN | CLOSE, &payload).await?;
                return connection.shutdown().await;
            }
            _ => send(&mut connection, first, &payload).await?,
        }
    }
}

async fn send(connection: &mut (impl AsyncWrite + Unpin), first: u8, payload: &[u8]) -> std::io::Result<()> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(u8::try_from(short).unwrap_or_default()),
        middle @ 126..0x1_0000 => {
            frame.push(126);
            frame.extend_from_slice(&u16::try_from(middle).unwrap_or_default().to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    connection.write_all(&frame).await?;
    connection.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_that_of_the_standard() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    /// A frame as a client sends it.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(MASKED | u8::try_from(short).unwrap()),
            middle => {
                frame.push(MASKED | 126);
                frame.extend_from_slice(&u16::try_from(middle).unwrap().to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[tokio::test]
    async fn frames_come_back_and_a_close_ends_it() {
        let (mut client, server) = tokio::io::duplex(4096);
        let served = tokio::spawn(echo(server));
        client.write_all(&masked(FIN | 1, b"hello")).await.unwrap();
        client.write_all(&masked(FIN | 2, &[7; 300])).await.unwrap();
        client.write_all(&masked(FIN | PING, b"x")).await.unwrap();
        client.write_all(&masked(FIN | CLOSE, &[3, 232])).await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        let mut expected = b"\x81\x05hello\x82\x7e\x01\x2c".to_vec();
        expected.extend([7; 300]);
        expected.extend(b"\x8a\x01x\x88\x02\x03\xe8");
        assert_eq!(all, expected);
        served.await.unwrap().unwrap();
    }
}
