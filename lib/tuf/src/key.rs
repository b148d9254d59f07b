//! Public keys, their ids and what counts as a signature by them (specification section 4.2).

use ed25519_dalek::VerifyingKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An ed25519 public key that can verify.
pub type PublicKey = VerifyingKey;

/// The key object that stands for `key` in root metadata.
pub fn key_object(key: &PublicKey) -> Value {
    json!({
        "keytype": "ed25519",
        "scheme": "ed25519",
        "keyval": { "public": to_hex(key.as_bytes()) },
    })
}

/// The key id: SHA-256, in hex, of the canonical form of the key object. `None` when the object
/// has no canonical form (it holds a fraction).
pub fn key_id(object: &Value) -> Option<String> {
    canonical(object).map(|bytes| sha256_hex(&bytes))
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

/// Which kinds of keys count. Handed to the client rather than switched on when it is built: what
/// a device runs cannot take more than [`Ed25519`] because some other tool in the same build does.
pub trait KeySchemes {
    /// When `signature` over `message` is by the key that `object` describes: the bytes that make
    /// it this key and no other, so that one key under two ids counts once. `None` for a signature
    /// that does not hold and for kinds of keys that are not known.
    fn verify(&self, object: &Value, message: &[u8], signature: &[u8]) -> Option<Vec<u8>>;
}

/// The scheme that Ferrite signs with, and the only one that a device takes.
#[derive(Clone, Copy, Debug)]
pub struct Ed25519;

impl KeySchemes for Ed25519 {
    fn verify(&self, object: &Value, message: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
        let key = public_key(object)?;
        let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
        key.verify_strict(message, &signature).ok()?;
        Some(key.as_bytes().to_vec())
    }
}

/// The ed25519 key of a key object; `None` for other types and schemes (such a key never counts
/// towards a threshold) and for a value that is not a point of the curve.
pub(crate) fn public_key(object: &Value) -> Option<PublicKey> {
    if object.get("keytype")?.as_str()? != "ed25519" || object.get("scheme")?.as_str()? != "ed25519"
    {
        return None;
    }
    let hex = object.get("keyval")?.get("public")?.as_str()?;
    PublicKey::from_bytes(&from_hex(hex)?).ok()
}

/// Canonical JSON as OLPC defines it; `None` when the value holds a number with a fraction.
pub(crate) fn canonical(value: &Value) -> Option<Vec<u8>> {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, olpc_cjson::CanonicalFormatter::new());
    value.serialize(&mut serializer).ok()?;
    Some(bytes)
}

/// Lower-case hex.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Exactly N bytes of hex.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    bytes_of_hex(text)?.try_into().ok()
}

/// Bytes of hex, of any length.
pub(crate) fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |d: u8| char::from(d).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    #[test]
    fn canonical_form_sorts_and_escapes_only_what_it_must() {
        let value: Value = serde_json::from_str("{ \"b\": [1, true, null], \"a\": \"x\\n\\\"\" }")
            .expect("test input");
        assert_eq!(
            canonical(&value).as_deref(),
            Some(&b"{\"a\":\"x\n\\\"\",\"b\":[1,true,null]}"[..])
        );
        assert_eq!(canonical(&json!(1.5)), None);
    }

    #[test]
    fn only_ed25519_keys_count() {
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        let good = key_object(&key);
        assert_eq!(public_key(&good), Some(key));
        for (pointer, value) in [
            ("/keytype", json!("rsa")),
            ("/scheme", json!("rsassa-pss-sha256")),
            ("/keyval/public", json!("00")),
            ("/keyval/public", json!(3)),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).expect("field exists") = value;
            assert_eq!(public_key(&bad), None);
        }
    }

    #[test]
    fn a_signature_of_another_length_or_over_something_else_does_not_hold() {
        use ed25519_dalek::Signer;
        let key = SigningKey::from_bytes(&[7; 32]);
        let object = key_object(&key.verifying_key());
        let signature = key.sign(b"message").to_bytes();
        let verify = |message: &[u8], sig: &[u8]| Ed25519.verify(&object, message, sig);
        assert_eq!(verify(b"message", &signature), Some(key.verifying_key().as_bytes().to_vec()));
        assert_eq!(verify(b"massage", &signature), None);
        assert_eq!(verify(b"message", &signature[..63]), None);
        assert_eq!(verify(b"message", b""), None);
    }

    #[test]
    fn hex_is_whole_bytes_of_hex_digits() {
        assert_eq!(bytes_of_hex("00fFa1"), Some(vec![0, 255, 161]));
        assert_eq!(bytes_of_hex(""), Some(vec![]));
        assert_eq!(from_hex::<2>("00ff"), Some([0, 255]));
        for bad in ["0", "0g", "+1", "\u{e9}"] {
            assert_eq!(bytes_of_hex(bad), None, "{bad:?}");
        }
        assert_eq!(from_hex::<2>("00ff00"), None);
    }
}
