//! Tokens of end users, as an issuer with a shared secret mints them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use freehold_server::{UserKeys, UserTokens};
use ring::hmac;
use serde_json::json;

const SECRET: &str = "a secret of thirty-two bytes, or more";
const ISSUER: &str = "https://id.test";

/// What the servers of these tests take.
pub(crate) fn taken() -> UserTokens {
    UserTokens { issuer: ISSUER.into(), audience: "freehold".into(), keys: UserKeys::Shared(SECRET.into()) }
}

/// A token of a user in organisations, good for some minutes.
pub(crate) fn of(sub: &str, orgs: &[&str]) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    signed(sub, orgs, now + 600)
}

/// A token that was good an hour ago.
pub(crate) fn expired(sub: &str) -> String {
    signed(sub, &[], 1_700_000_000)
}

fn signed(sub: &str, orgs: &[&str], exp: u64) -> String {
    let claims = json!({"iss": ISSUER, "aud": "freehold", "sub": sub, "orgs": orgs, "exp": exp});
    let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(json!({"alg": "HS256", "typ": "JWT"})), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
}
