//! What goes on and what stays: RFC 9110 §7.6.1, and the `X-Forwarded-*` that an instance reads to know how it was
//! reached. Those are set by this server alone, except that the chain of addresses is prolonged.

use std::net::IpAddr;

use http::header::{
    CONNECTION, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];

/// Takes away what was meant for this hop only.
pub(super) fn for_next_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Says how the instance was reached.
pub(super) fn forwarded(headers: &mut HeaderMap, peer: Option<IpAddr>, host: Option<HeaderValue>, prefix: &str) {
    headers.remove(FORWARDED);
    if let Some(peer) = peer {
        let before = headers.get_all(&X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let chain = before.map(str::to_owned).chain([peer.to_string()]).collect::<Vec<_>>().join(", ");
        set(headers, X_FORWARDED_FOR, HeaderValue::try_from(chain).ok());
    }
    set(headers, X_FORWARDED_HOST, host);
    set(headers, X_FORWARDED_PROTO, Some(HeaderValue::from_static("http")));
    set(headers, X_FORWARDED_PREFIX, HeaderValue::try_from(prefix).ok());
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    headers.remove(&name);
    if let Some(value) = value {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_is_meant_for_this_hop_stays_here() {
        let mut seen = headers(&[
            ("connection", "keep-alive, X-Private"),
            ("keep-alive", "5"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("cookie", "theirs=1"),
            ("accept", "*/*"),
        ]);
        for_next_hop(&mut seen);
        assert_eq!(seen, headers(&[("cookie", "theirs=1"), ("accept", "*/*")]));
    }

    #[test]
    fn how_it_was_reached_is_said_by_us() {
        let mut seen = headers(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-prefix", "/evil"),
            ("forwarded", "for=evil"),
        ]);
        forwarded(&mut seen, Some([127, 0, 0, 1].into()), Some(HeaderValue::from_static("fh.example")), "/i/x");
        assert_eq!(
            seen,
            headers(&[
                ("x-forwarded-for", "10.0.0.1, 127.0.0.1"),
                ("x-forwarded-host", "fh.example"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-prefix", "/i/x"),
            ])
        );
    }
}
