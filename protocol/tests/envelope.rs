//! The signed envelope: the protocol's examples, what is malformed, and what no change survives.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use infini_protocol::envelope::{self, EnvelopeError, Key, Opened};
use proptest::prelude::*;
use serde_json::{Value, json};

const TS: u64 = 1_767_225_600_000;
const EXAMPLES: [(u64, &str, &str, &str); 2] = [
    (
        TS,
        "6f1c1b1e-2f7e-4a55-9f0e-3a2f6d1c9b10",
        r#"{"type":"Metrics"}"#,
        "f739f5a524f69a30d0b6bfef52b985e4a57f277ee4c61f471b6d197c534ee237",
    ),
    (
        TS + 1,
        "n-2",
        r#"{"type":"UnsafeCommand","id":"é1","raw_command":"printf 'a\nb'"}"#,
        "e8210d39d0e04166ae25125b0dc02e671cc8a3cf53341b9cf3da2891fb6571d8",
    ),
];

fn key() -> Key {
    Key::new("0123456789abcdef".repeat(4)).unwrap()
}

/// The envelope of the first example with one key changed, or taken out where the value is `None`.
fn changed(name: &str, value: Option<Value>) -> Vec<u8> {
    let (ts, nonce, payload, _) = EXAMPLES[0];
    let line = envelope::seal(&key(), ts, nonce, payload).unwrap();
    let mut envelope: serde_json::Map<String, Value> = serde_json::from_str(&line).unwrap();
    match value {
        Some(value) => envelope.insert(name.to_owned(), value),
        None => envelope.remove(name),
    };
    serde_json::to_vec(&envelope).unwrap()
}

/// The first example with one piece of its text replaced.
fn respelt(from: &str, to: &str) -> String {
    let (ts, nonce, payload, _) = EXAMPLES[0];
    let line = envelope::seal(&key(), ts, nonce, payload).unwrap();
    assert!(line.contains(from), "{line}");
    line.replacen(from, to, 1)
}

fn is_malformed(line: impl AsRef<[u8]>) -> bool {
    matches!(envelope::open(&key(), line.as_ref()), Err(EnvelopeError::Malformed(_)))
}

#[test]
fn the_protocols_examples() {
    for (ts, nonce, payload, sig) in EXAMPLES {
        let line = envelope::seal(&key(), ts, nonce, payload).unwrap();
        let written: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            written,
            json!({ "type": "signed", "v": 1, "ts": ts, "nonce": nonce, "payload": payload, "sig": sig })
        );
        let opened = envelope::open(&key(), line.as_bytes()).unwrap();
        assert_eq!(opened, Opened { ts, nonce: nonce.into(), payload: payload.into() });
    }
}

#[test]
fn a_signature_in_capitals_is_one() {
    let line = changed("sig", Some(EXAMPLES[0].3.to_uppercase().into()));
    assert_eq!(envelope::open(&key(), &line).unwrap().payload, EXAMPLES[0].2);
}

#[test]
fn a_key_is_the_secrets_ascii() {
    let hex = Key::new("00ff").unwrap();
    assert_eq!(hex.expose(), b"00ff");
    let line = envelope::seal(&hex, TS, "n", "{}").unwrap();
    let bytes = Key::new([0x00, 0xff]).unwrap();
    assert!(matches!(envelope::open(&bytes, line.as_bytes()), Err(EnvelopeError::WrongSignature)));
    assert!(Key::new("").is_err());
    assert_eq!(format!("{hex:?}"), "Key(..)");
}

#[test]
fn a_derived_key_is_the_hex_of_an_hmac() {
    // RFC 4231, test case 2.
    let derived = Key::new("Jefe").unwrap().derive("what do ya want for nothing?");
    assert_eq!(derived.expose(), b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

#[test]
fn numbers_are_plain_integers() {
    for spelling in ["1.0", "1e0", "+1", "-1", "01", "\"1\"", "true", "null", "[1]"] {
        assert!(is_malformed(respelt("\"v\":1", &format!("\"v\":{spelling}"))), "v {spelling}");
    }
    let ts = TS.to_string();
    for spelling in [
        format!("{ts}.0"),
        format!("{ts}e0"),
        "17672256e5".to_owned(),
        format!("-{ts}"),
        format!("+{ts}"),
        format!("0{ts}"),
        format!("\"{ts}\""),
        "-0".to_owned(),
        "18446744073709551616".to_owned(),
    ] {
        assert!(is_malformed(respelt(&ts, &spelling)), "ts {spelling}");
    }
}

#[test]
fn another_version_is_told_apart() {
    let opened = envelope::open(&key(), &changed("v", Some(json!(2)))).map(|_| ());
    assert!(matches!(opened, Err(EnvelopeError::UnknownVersion(2))), "{opened:?}");
}

#[test]
fn nonces() {
    let longest = "n".repeat(128);
    for nonce in ["a", "Z9_.:-", &longest] {
        let line = envelope::seal(&key(), TS, nonce, "{}").unwrap();
        assert_eq!(envelope::open(&key(), line.as_bytes()).unwrap().nonce, nonce);
    }
    let too_long = "n".repeat(129);
    for nonce in ["", "a b", "a/b", "é", "a\n", &too_long] {
        assert!(matches!(envelope::seal(&key(), TS, nonce, "{}"), Err(EnvelopeError::InvalidNonce)), "{nonce:?}");
        assert!(is_malformed(changed("nonce", Some(nonce.into()))), "{nonce:?}");
    }
}

#[test]
fn whatever_else_is_malformed() {
    let sig = EXAMPLES[0].3;
    for (name, value) in [
        ("type", Some(json!("Signed"))),
        ("type", None),
        ("v", None),
        ("ts", None),
        ("nonce", None),
        ("payload", None),
        ("sig", None),
        ("payload", Some(json!({ "type": "Metrics" }))),
        ("sig", Some(json!(sig[..62]))),
        ("sig", Some(json!(format!("{sig}00")))),
        ("sig", Some(json!(format!("{}zz", &sig[..62])))),
        ("sig", Some(json!(format!("{}+f", &sig[..62])))),
    ] {
        assert!(is_malformed(changed(name, value.clone())), "{name} {value:?}");
    }
    let line = respelt("\"v\":1", "\"v\":1");
    for bad in ["", "{", "[]", "null", "\"signed\"", &line[1..], &format!("{line}{line}"), &format!("{line}x")] {
        assert!(is_malformed(bad), "{bad}");
    }
    // Twice the same key: nobody may choose which is meant.
    for twice in ["\"v\":1,\"v\":1", "\"v\":1,\"nonce\":\"n\"", "\"v\":1,\"payload\":\"{}\""] {
        assert!(is_malformed(respelt("\"v\":1", twice)), "{twice}");
    }
    let mut bytes = respelt("\"v\":1", "\"v\":1,\"x\":\"?\"").into_bytes();
    assert!(envelope::open(&key(), &bytes).is_ok(), "unknown keys are ignored");
    let mark = bytes.iter().position(|&byte| byte == b'?').unwrap();
    bytes[mark] = 0xff;
    assert!(is_malformed(&bytes), "not UTF-8");
}

#[test]
fn every_bit_counts() {
    let (ts, nonce, payload, _) = EXAMPLES[1];
    let line = envelope::seal(&key(), ts, nonce, payload).unwrap();
    let whole = envelope::open(&key(), line.as_bytes()).unwrap();
    for index in 0..line.len() {
        for bit in 0..8 {
            let mut bytes = line.clone().into_bytes();
            bytes[index] ^= 1 << bit;
            // A signature's letter may change its case; nothing else may change and pass.
            if let Ok(opened) = envelope::open(&key(), &bytes) {
                assert_eq!(opened, whole, "byte {index}, bit {bit}");
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        payload in prop_oneof![any::<String>(), "[\"\\\\\n\r\t\u{0}é🦀{}:]{0,40}"],
        ts: u64,
        nonce in "[A-Za-z0-9_.:-]{1,128}",
        secret in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        let key = Key::new(secret).unwrap();
        let line = envelope::seal(&key, ts, &nonce, &payload).unwrap();
        prop_assert!(!line.contains('\n'));
        let opened = envelope::open(&key, line.as_bytes()).unwrap();
        prop_assert_eq!(opened, Opened { ts, nonce: nonce.into(), payload: payload.into() });
    }

    #[test]
    fn no_change_passes(payload: String, index: prop::sample::Index, byte: u8) {
        let line = envelope::seal(&key(), TS, "n-1", &payload).unwrap();
        let mut bytes = line.into_bytes();
        let index = index.index(bytes.len());
        bytes[index] = byte;
        if let Ok(opened) = envelope::open(&key(), &bytes) {
            prop_assert_eq!(opened, Opened { ts: TS, nonce: "n-1".into(), payload: payload.into() });
        }
    }
}

#[test]
fn one_line_end_after_a_provisioned_secret_is_not_part_of_it() {
    let secret = |bytes: &[u8]| Key::from_provisioned(bytes).map(|key| key.expose().to_vec());
    for (bytes, expected) in [
        (&b"abc"[..], &b"abc"[..]),
        (b"abc\n", b"abc"),
        (b"abc\r\n", b"abc"),
        (b"abc\n\n", b"abc\n"),
        (b"abc\r", b"abc\r"),
        (b"abc\n\r\n", b"abc\n"),
        (b" abc ", b" abc "),
    ] {
        assert_eq!(secret(bytes).unwrap(), expected, "{bytes:?}");
    }
    for nothing in [&b""[..], b"\n", b"\r\n"] {
        assert!(secret(nothing).is_err(), "{nothing:?}");
    }
}
