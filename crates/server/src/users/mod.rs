//! End users: who a token speaks for, and what that one may see.
//!
//! A token counts only if one key of the configured issuer signed it with the one algorithm of that key, and it is from
//! that issuer, for us, and of this moment. Nothing in a token chooses how it is checked: its header may name a key and
//! no more. A token is never logged, kept or repeated.

mod crypto;
mod jwks;
mod scope;

use std::sync::Arc;
use std::time::Duration;

use freehold_api::{Code, Problem};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;

pub use self::jwks::JwksTiming;
use self::jwks::{Jwks, Lookup};
pub(crate) use self::scope::{Scope, User};
use crate::limits::{ORGS_MAX, TOKEN_BYTES_MAX};
use crate::problems::Refusal;

/// How far the issuer's clock and ours may be apart.
const LEEWAY: Duration = Duration::from_secs(60);

/// The shortest secret of HS256, in bytes: RFC 7518 §3.2 asks for as many as the hash has.
pub const SECRET_BYTES_MIN: usize = 32;

/// Which tokens speak for end users.
pub struct UserTokens {
    /// Who issues them: `iss`.
    pub issuer: String,
    /// Whom they are for: one of `aud`.
    pub audience: String,
    /// What they are signed with.
    pub keys: UserKeys,
}

/// What end users' tokens are signed with.
pub enum UserKeys {
    /// HS256 with a secret that the issuer shares with us, as its bytes.
    Shared(String),
    /// RS256, ES256 or EdDSA with the keys that the issuer publishes at this address.
    Published(String, JwksTiming),
}

/// Why tokens cannot be checked in this way.
#[derive(Debug, thiserror::Error)]
pub enum UnusableKeys {
    /// Shorter than [`SECRET_BYTES_MIN`].
    #[error("the secret has {0} bytes, and HS256 needs {SECRET_BYTES_MIN} or more")]
    ShortSecret(usize),
    /// No address that can be asked.
    #[error("the address of the keys cannot be used: {0}")]
    Address(String),
}

/// Checks end users' tokens.
pub(crate) struct Users {
    expected: Validation,
    keys: Keys,
}

enum Keys {
    Shared(DecodingKey),
    Published(Arc<Jwks>),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    orgs: Vec<String>,
}

impl Users {
    pub(crate) fn new(tokens: UserTokens) -> Result<Self, UnusableKeys> {
        let UserTokens { issuer, audience, keys } = tokens;
        crypto::install();
        let mut expected = Validation::new(Algorithm::HS256);
        expected.set_issuer(&[issuer]);
        expected.set_audience(&[audience]);
        expected.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        expected.validate_nbf = true;
        expected.leeway = LEEWAY.as_secs();
        let keys = match keys {
            UserKeys::Shared(secret) if secret.len() < SECRET_BYTES_MIN => {
                return Err(UnusableKeys::ShortSecret(secret.len()));
            }
            UserKeys::Shared(secret) => Keys::Shared(DecodingKey::from_secret(secret.as_bytes())),
            UserKeys::Published(url, timing) => {
                Keys::Published(Arc::new(Jwks::new(&url, timing).map_err(UnusableKeys::Address)?))
            }
        };
        Ok(Self { expected, keys })
    }

    /// Whom a token speaks for.
    ///
    /// # Errors
    /// `unauthorized`, saying what is wrong with it; `issuer_unavailable` if its key is not known and cannot be asked for.
    pub(crate) async fn identify(&self, token: &str) -> Result<Arc<User>, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused(format_args!("it is longer than {TOKEN_BYTES_MAX} bytes")));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| refused("it cannot be read, or its `alg` is none of ours"))?;
        if header.crit.is_some() {
            return Err(refused("its `crit` asks for what is not understood here"));
        }
        let claims = match &self.keys {
            Keys::Shared(key) => self.check(token, key, Algorithm::HS256)?,
            Keys::Published(jwks) => {
                let key = published(jwks, &header).await?;
                self.check(token, &key.decoding, key.algorithm)?
            }
        };
        let Claims { sub, orgs } = claims;
        if orgs.len() > ORGS_MAX {
            return Err(refused(format_args!("its `orgs` has more than {ORGS_MAX} entries")));
        }
        let sub = sub.parse().map_err(|why| refused(format_args!("its `sub` is no user id: {why}")))?;
        // What is no id of ours owns nothing here.
        Ok(Arc::new(User::new(sub, orgs.iter().filter_map(|org| org.parse().ok()))))
    }

    fn check(&self, token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Claims, Refusal> {
        let expected = Validation { algorithms: vec![algorithm], ..self.expected.clone() };
        jsonwebtoken::decode(token, key, &expected).map(|token| token.claims).map_err(|error| refused(wrong(&error)))
    }
}

async fn published(jwks: &Arc<Jwks>, header: &Header) -> Result<Arc<jwks::Key>, Refusal> {
    match jwks.find(header.kid.as_deref(), header.alg).await {
        Lookup::Found(key) => Ok(key),
        Lookup::Unknown => Err(refused("its issuer has no such key for this `alg`")),
        Lookup::Unavailable(wait) => {
            let detail = "the keys of the issuer of end users' tokens cannot be had; nothing was changed, try again";
            Err(Problem::new(Code::IssuerUnavailable, detail).retry_after(wait).into())
        }
    }
}

fn refused(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Unauthorized, format!("this token is not accepted: {why}"))
}

/// What is wrong with a token, without a word of what is in it.
fn wrong(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired".to_owned(),
        ErrorKind::ImmatureSignature => "its `nbf` is still to come".to_owned(),
        ErrorKind::InvalidIssuer => "its `iss` is another".to_owned(),
        ErrorKind::InvalidAudience => "it is for another `aud`".to_owned(),
        ErrorKind::InvalidAlgorithm => "its `alg` is not the one of its key".to_owned(),
        ErrorKind::InvalidSignature => "its signature is wrong".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it has no usable `{claim}`"),
        ErrorKind::InvalidClaimFormat(claim) => format!("its `{claim}` cannot be read"),
        ErrorKind::Json(_) => "its claims cannot be read".to_owned(),
        _ => "it cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests;
