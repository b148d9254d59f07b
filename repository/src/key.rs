//! Public keys and their ids (specification section 4.2).

use crate::metadata::sha256_hex;
use ed25519_dalek::VerifyingKey;
use serde_json::{json, Value};

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
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(bytes)
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
}
