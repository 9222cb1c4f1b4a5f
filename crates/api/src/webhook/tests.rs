//! Both directions, against the crate of the specification's authors, and everything that is refused.

use standardwebhooks::Webhook;

use super::*;

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const BODY: &[u8] = br#"{"type":"subscription.suspended","data":{"instance_id":"x"}}"#;

fn secrets(text: &str) -> Secrets {
    text.parse().unwrap()
}

fn verify(secrets: &Secrets, signed: &Signed, body: &[u8], now: i64) -> Result<String, Refused> {
    let header = |name| signed.headers().into_iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    secrets.verify(header, body, now).map(str::to_owned)
}

/// The oracle goes by the machine's clock.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[test]
fn the_specifications_own_crate_accepts_what_is_signed_here_with_either_secret() {
    let signed = secrets(&format!("{OLD} {NEW}")).sign("msg_1", now(), BODY).unwrap();
    let mut headers = http::HeaderMap::new();
    for (name, value) in signed.headers() {
        headers.insert(name, value.parse().unwrap());
    }
    for secret in [OLD, NEW] {
        Webhook::new(secret).unwrap().verify(BODY, &headers).unwrap();
    }
    assert!(Webhook::new(OLD).unwrap().verify(b"{}", &headers).is_err());
    assert!(Webhook::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap().verify(BODY, &headers).is_err());
}

#[test]
fn what_the_specifications_own_crate_signs_is_accepted_here() {
    let now = now();
    let signature = Webhook::new(NEW).unwrap().sign("msg_2", now, BODY).unwrap();
    let signed = Signed { id: "msg_2".into(), timestamp: now.to_string(), signature };
    assert_eq!(verify(&secrets(&format!("{OLD} {NEW}")), &signed, BODY, now), Ok("msg_2".into()));
    assert_eq!(verify(&secrets(OLD), &signed, BODY, now), Err(Refused::Signature));
}

#[test]
fn the_specifications_example_has_the_signature_that_it_says() {
    let signed = secrets(OLD).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#).unwrap();
    assert_eq!(signed.signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn nothing_of_a_message_can_be_changed() {
    let secrets = secrets(OLD);
    let signed = secrets.sign("msg_1", 1000, BODY).unwrap();
    assert_eq!(verify(&secrets, &signed, BODY, 1000), Ok("msg_1".into()));
    let refused = |signed: Signed, body: &[u8]| verify(&secrets, &signed, body, 1000).unwrap_err();
    let mut body = BODY.to_vec();
    body.push(b' ');
    assert_eq!(refused(signed.clone(), &body), Refused::Signature);
    assert_eq!(refused(Signed { id: "msg_2".into(), ..signed.clone() }, BODY), Refused::Signature);
    assert_eq!(refused(Signed { timestamp: "1001".into(), ..signed.clone() }, BODY), Refused::Signature);
    for timestamp in ["+1000", "01000", "1000.0", "soon", ""] {
        assert_eq!(refused(Signed { timestamp: timestamp.into(), ..signed.clone() }, BODY), Refused::Timestamp);
    }
    for signature in ["", "v1,", "v1,AAAA", "v1a,AAAA", "v2,AAAA", "v1,not base64"] {
        assert_eq!(refused(Signed { signature: signature.into(), ..signed.clone() }, BODY), Refused::Signature);
    }
}

#[test]
fn a_full_stop_cannot_move_from_the_body_into_the_id() {
    let secrets = secrets(OLD);
    // `msg_1.1000.2000.x` is the text of both.
    let signed = secrets.sign("msg_1", 1000, b"2000.x").unwrap();
    let forged = Signed { id: "msg_1.1000".into(), timestamp: "2000".into(), ..signed };
    assert_eq!(verify(&secrets, &forged, b"x", 2000), Err(InvalidMessageId.into()));
    for id in ["", "a.b", "a b", "\u{e4}", &"x".repeat(ID_BYTES_MAX + 1)] {
        assert_eq!(secrets.sign(id, 1, b""), Err(InvalidMessageId), "{id:?}");
    }
}

#[test]
fn a_message_is_good_for_five_minutes_either_way() {
    let secrets = secrets(OLD);
    let signed = secrets.sign("msg_1", 10_000, BODY).unwrap();
    for (now, expected) in [
        (10_000 + TOLERANCE_SECONDS, Ok("msg_1".to_owned())),
        (10_000 + TOLERANCE_SECONDS + 1, Err(Refused::TooOld)),
        (10_000 - TOLERANCE_SECONDS, Ok("msg_1".to_owned())),
        (10_000 - TOLERANCE_SECONDS - 1, Err(Refused::TooNew)),
    ] {
        assert_eq!(verify(&secrets, &signed, BODY, now), expected, "{now}");
    }
    assert_eq!(secrets.verify(|_| None, BODY, 0), Err(Refused::Header(ID)));
}

#[test]
fn secrets_that_cannot_be_used_are_told_by_their_place_and_never_shown() {
    let long = format!("whsec_{}", STANDARD.encode([7; 65]));
    for (text, error) in [
        ("  ", InvalidSecrets::None),
        ("hunter2", InvalidSecrets::Prefix(1)),
        (&format!("{OLD} whsec_!"), InvalidSecrets::Base64(2)),
        ("whsec_aHVudGVyMg==", InvalidSecrets::Length { place: 1, bytes: 7 }),
        (&long, InvalidSecrets::Length { place: 1, bytes: 65 }),
        (&[OLD; 9].join("\n"), InvalidSecrets::TooMany),
    ] {
        let seen = text.parse::<Secrets>().unwrap_err();
        assert_eq!(seen, error);
        assert!(!seen.to_string().contains("hunter2") && !seen.to_string().contains("aHVu"));
    }
    assert_eq!(format!("{:?}", secrets(OLD)), "Secrets(1)");
}
