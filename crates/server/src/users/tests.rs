//! Tokens, good and bad in every way, checked with a shared secret and with keys that a small real server publishes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::get_current_timestamp;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "a secret of thirty-two bytes, or more";
const PATIENCE: Duration = Duration::from_secs(20);

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of a header and claims, signed by whatever signs.
fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64(signature))
}

fn hmac(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    move |message| ring::hmac::sign(&key, message).as_ref().to_vec()
}

fn shared(header: &Value, claims: &Value) -> String {
    token(header, claims, hmac(SECRET.as_bytes()))
}

fn good() -> Value {
    let exp = get_current_timestamp() + 600;
    json!({"iss": "https://id.test", "aud": "freehold", "sub": "alice", "orgs": ["acme", "two words"], "exp": exp})
}

fn but(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn users(keys: UserKeys) -> Users {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Users::new(UserTokens { issuer: "https://id.test".into(), audience: "freehold".into(), keys }).unwrap()
}

fn by_secret() -> Users {
    users(UserKeys::Shared(SECRET.to_owned()))
}

async fn refusal(users: &Users, token: &str) -> (Code, String) {
    let problem = users.identify(token).await.expect_err("this token is refused").0;
    assert!(!problem.detail.contains(token), "a token is not repeated");
    (problem.code, problem.detail.replace("this token is not accepted: ", ""))
}

#[tokio::test]
async fn a_good_token_speaks_for_its_user() {
    let users = by_secret();
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let user = users.identify(&shared(&header, &good())).await.unwrap();
    assert_eq!(*user, User::new("alice".parse().unwrap(), ["acme".parse().unwrap()]), "what is no id owns nothing");
    let now = get_current_timestamp();
    for claims in [
        but("aud", json!(["other", "freehold"])),
        without("orgs"),
        but("exp", json!(now - 30)),
        but("nbf", json!(now + 30)),
        but("exp", json!(now as f64 + 0.5)),
        but("email", json!("alice@example.com")),
    ] {
        users.identify(&shared(&header, &claims)).await.unwrap_or_else(|why| panic!("{claims}: {}", why.0.detail));
    }
}

#[tokio::test]
async fn every_kind_of_bad_token_is_refused_and_says_why() {
    let users = by_secret();
    let now = get_current_timestamp();
    let hs256 = json!({"alg": "HS256"});
    for (claims, why) in [
        (but("exp", json!(now - 120)), "it has expired"),
        (without("exp"), "it has no usable `exp`"),
        (but("exp", json!("tomorrow")), "it has no usable `exp`"),
        (but("exp", json!(-1)), "it has no usable `exp`"),
        (but("nbf", json!(now + 120)), "its `nbf` is still to come"),
        (but("nbf", json!("now")), "its `nbf` cannot be read"),
        (but("iss", json!("https://evil.test")), "its `iss` is another"),
        (without("iss"), "it has no usable `iss`"),
        (but("aud", json!("other")), "it is for another `aud`"),
        (but("aud", json!(["other", "freehold2"])), "it is for another `aud`"),
        (without("aud"), "it has no usable `aud`"),
        (without("sub"), "its claims cannot be read"),
        (but("sub", json!(7)), "its claims cannot be read"),
        (but("sub", json!("")), "its `sub` is no user id: the id is empty; write `user:ID` or `org:ID`"),
        (
            but("sub", json!("two words")),
            "its `sub` is no user id: an id has printable ASCII characters only, and no spaces",
        ),
        (but("orgs", json!("acme")), "its claims cannot be read"),
        (but("orgs", json!(vec!["o"; ORGS_MAX + 1])), "its `orgs` has more than 50 entries"),
        (json!([]), "its claims cannot be read"),
    ] {
        assert_eq!(refusal(&users, &shared(&hs256, &claims)).await, (Code::Unauthorized, why.to_owned()), "{claims}");
    }
    let no_alg = "it cannot be read, or its `alg` is none of ours";
    for (header, why) in [
        (json!({"alg": "none"}), no_alg),
        (json!({"alg": "None"}), no_alg),
        (json!({}), no_alg),
        (json!({"alg": "HS512"}), "its `alg` is not the one of its key"),
        (json!({"alg": "RS256"}), "its `alg` is not the one of its key"),
        (json!({"alg": "HS256", "crit": ["b64"], "b64": false}), "its `crit` asks for what is not understood here"),
    ] {
        assert_eq!(refusal(&users, &shared(&header, &good())).await.1, why, "{header}");
        let unsigned = token(&header, &good(), |_| Vec::new());
        assert_eq!(refusal(&users, &unsigned).await.1, why, "{header}, unsigned");
    }
    let whole = shared(&hs256, &good());
    let parts: Vec<&str> = whole.split('.').collect();
    let other = base64(but("sub", json!("bob")).to_string());
    let long = format!("{}{}", whole, "A".repeat(TOKEN_BYTES_MAX));
    for (bad, why) in [
        (format!("{}.{other}.{}", parts[0], parts[2]), "its signature is wrong"),
        (format!("{}.{}.", parts[0], parts[1]), "its signature is wrong"),
        (format!("{}.{}.{}", parts[0], parts[1], base64([0; 32])), "its signature is wrong"),
        (format!("{}.{}.!!", parts[0], parts[1]), "it cannot be read"),
        (token(&hs256, &good(), hmac(b"another secret of thirty-two bytes")), "its signature is wrong"),
        ("eyJ..".to_owned(), no_alg),
        ("a.b.c.d".to_owned(), no_alg),
        (long, "it is longer than 16384 bytes"),
    ] {
        assert_eq!(refusal(&users, &bad).await, (Code::Unauthorized, why.to_owned()), "{bad:.80}");
    }
}

#[test]
fn a_secret_that_can_be_guessed_and_an_address_that_is_none_are_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made =
        |keys| Users::new(UserTokens { issuer: "i".into(), audience: "a".into(), keys }).err().unwrap().to_string();
    let short = made(UserKeys::Shared("x".repeat(31)));
    assert_eq!(short, "the secret has 31 bytes, and HS256 needs 32 or more");
    let address = made(UserKeys::Published("not a url".into(), JwksTiming::default()));
    assert_eq!(address, "the address of the keys cannot be used: it is no URL");
}

/// A key that an issuer signs with.
enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("../../tests/keys/rsa.pk8")).unwrap())
    }

    fn p256() -> Self {
        let (chance, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &chance).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &chance).unwrap())
    }

    fn ed() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(key) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = key.public().into();
                json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": base64(n), "e": base64(e)})
            }
            Self::P256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": base64(x), "y": base64(y)})
            }
            Self::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": base64(key.public_key())})
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let chance = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &chance, message, &mut signed).unwrap();
                signed
            }
            Self::P256(key) => key.sign(&chance, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, kid: &str) -> String {
        token(&json!({"alg": self.algorithm(), "kid": kid}), &good(), |message| self.sign(message))
    }
}

/// What an issuer answers with, and how often it was asked.
struct Issuer {
    url: String,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(keys: &[Value]) -> Self {
        let answer = Arc::new(Mutex::new((200, json!({ "keys": keys }).to_string())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (said, counted) = (Arc::clone(&answer), Arc::clone(&asked));
        let app = Router::new().route(
            "/keys",
            get(move || async move {
                counted.fetch_add(1, Ordering::SeqCst);
                let (status, body) = said.lock().unwrap().clone();
                (http::StatusCode::from_u16(status).unwrap(), [("location", "/keys2")], body)
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let serving =
            crate::listen::serve(listener, app, crate::Bounds::default(), tokio_util::sync::CancellationToken::new());
        tokio::spawn(serving);
        Self { url, answer, asked }
    }

    fn publish(&self, keys: &[Value]) {
        self.answer(200, json!({ "keys": keys }).to_string());
    }

    fn answer(&self, status: u16, body: String) {
        *self.answer.lock().unwrap() = (status, body);
    }

    fn users(&self, refresh: Duration, unknown: Duration) -> Users {
        users(UserKeys::Published(self.url.clone(), JwksTiming { refresh, unknown }))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

const NEVER: Duration = Duration::from_secs(3600);

/// Asks until the answer is as wanted.
async fn until(users: &Users, token: &str, wanted: Option<Code>) {
    let begun = std::time::Instant::now();
    loop {
        let seen = users.identify(token).await.err().map(|refusal| refusal.0.code);
        if seen == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the answer stays {seen:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn published_keys_of_each_kind_check_their_own_tokens_and_no_others() {
    let signers = [("r", Signer::rsa()), ("p", Signer::p256()), ("e", Signer::ed())];
    let mut keys: Vec<Value> = signers.iter().map(|(kid, signer)| signer.jwk(kid)).collect();
    keys.extend([
        json!({"kty": "oct", "kid": "s", "k": base64(SECRET)}),
        json!({"kty": "EC", "crv": "P-384", "kid": "x", "x": "AA", "y": "AA"}),
        json!({"nonsense": true}),
        json!(7),
    ]);
    let issuer = Issuer::start(&keys).await;
    let users = issuer.users(NEVER, NEVER);
    for (kid, signer) in &signers {
        users.identify(&signer.token(kid)).await.unwrap_or_else(|why| panic!("{kid}: {}", why.0.detail));
        for (other, _) in signers.iter().filter(|(other, _)| other != kid) {
            assert_eq!(refusal(&users, &signer.token(other)).await.0, Code::Unauthorized, "{kid} as {other}");
        }
        // Without a name there is one that fits.
        let unnamed = token(&json!({"alg": signer.algorithm()}), &good(), |message| signer.sign(message));
        users.identify(&unnamed).await.unwrap();
    }
    assert_eq!(issuer.asked(), 1);

    let unknown = "its issuer has no such key for this `alg`";
    // A public key taken for a shared secret, in every form in which it is known, and a secret that is published.
    let Signer::Rsa(rsa) = &signers[0].1 else { panic!("the first is RSA") };
    for secret in [rsa.public().as_ref().to_vec(), keys[0].to_string().into_bytes(), SECRET.as_bytes().to_vec()] {
        for kid in ["r", "s"] {
            let confused = token(&json!({"alg": "HS256", "kid": kid}), &good(), hmac(&secret));
            assert_eq!(refusal(&users, &confused).await.1, unknown);
        }
    }
    // A key that the token brings along.
    let own = Signer::ed();
    let header = json!({"alg": "EdDSA", "kid": "mine", "jwk": own.jwk("mine"), "jku": "http://127.0.0.1:9/keys"});
    assert_eq!(refusal(&users, &token(&header, &good(), |message| own.sign(message))).await.1, unknown);
    // Another algorithm of the same family.
    let stronger = token(&json!({"alg": "RS512", "kid": "r"}), &good(), |message| signers[0].1.sign(message));
    assert_eq!(refusal(&users, &stronger).await.1, unknown);
}

#[tokio::test]
async fn a_rotation_is_noticed_by_its_first_token_and_ends_when_the_old_key_is_withdrawn() {
    let (old, new) = (Signer::ed(), Signer::p256());
    let issuer = Issuer::start(&[old.jwk("1")]).await;
    let users = issuer.users(Duration::from_millis(50), Duration::from_millis(1));
    users.identify(&old.token("1")).await.unwrap();
    assert_eq!(refusal(&users, &new.token("2")).await.0, Code::Unauthorized);
    issuer.publish(&[old.jwk("1"), new.jwk("2")]);
    until(&users, &new.token("2"), None).await;
    users.identify(&old.token("1")).await.unwrap();
    issuer.publish(&[new.jwk("2")]);
    until(&users, &old.token("1"), Some(Code::Unauthorized)).await;
    users.identify(&new.token("2")).await.unwrap();
}

#[tokio::test]
async fn made_up_keys_do_not_make_the_issuer_be_asked_each_time() {
    let signer = Signer::ed();
    let issuer = Issuer::start(&[signer.jwk("1")]).await;
    let users = issuer.users(NEVER, NEVER);
    for made_up in 0..50 {
        assert_eq!(refusal(&users, &signer.token(&made_up.to_string().repeat(2))).await.0, Code::Unauthorized);
        users.identify(&signer.token("1")).await.unwrap();
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn keys_stay_good_while_the_issuer_gives_none() {
    let (known, other) = (Signer::ed(), Signer::ed());
    let issuer = Issuer::start(&[]).await;
    let users = issuer.users(Duration::from_millis(1), Duration::from_millis(1));
    let nothing = users.identify(&known.token("1")).await.unwrap_err().0;
    assert_eq!((nothing.code, nothing.status), (Code::IssuerUnavailable, 503));
    issuer.publish(&[known.jwk("1")]);
    until(&users, &known.token("1"), None).await;
    let long = json!({"keys": [known.jwk("1")], "more": "x".repeat(JWKS_LONG)}).to_string();
    for (status, body) in [
        (500, "{}".to_owned()),
        (200, "<html>".to_owned()),
        (200, "{\"keys\":[]}".to_owned()),
        (302, String::new()),
        (200, long),
    ] {
        issuer.answer(status, body);
        let asked = issuer.asked();
        let begun = std::time::Instant::now();
        while issuer.asked() == asked {
            // A key that is not known cannot be told from one that was just published.
            assert_eq!(refusal(&users, &other.token("2")).await.0, Code::IssuerUnavailable);
            assert!(begun.elapsed() < PATIENCE, "nobody asks");
        }
        users.identify(&known.token("1")).await.unwrap();
    }
    issuer.publish(&[known.jwk("1"), other.jwk("2")]);
    until(&users, &other.token("2"), None).await;
}

const JWKS_LONG: usize = crate::limits::JWKS_BYTES_MAX;
