//! The three kinds of keys that the specification recommends (section 4.2.2): ed25519, as on a
//! device, and ECDSA on P-256 and RSA-PSS, which the suite signs with too.

use p256::ecdsa::signature::Verifier;
use p256::pkcs8::DecodePublicKey;
use repository::{Ed25519, KeySchemes};
use rsa::pkcs8::EncodePublicKey;
use rsa::traits::PublicKeyParts;
use serde_json::Value;

/// Shortest RSA modulus (4.2.2), in bytes.
const MIN_RSA_BYTES: usize = 2048 / 8;

/// Takes ed25519, ECDSA and RSA keys.
pub struct AllSchemes;

impl KeySchemes for AllSchemes {
    fn verify(&self, object: &Value, message: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
        let field = |name: &str| object.get(name).and_then(Value::as_str);
        match (field("keytype")?, field("scheme")?) {
            ("ed25519", "ed25519") => Ed25519.verify(object, message, signature),
            ("ecdsa", "ecdsa-sha2-nistp256") => ecdsa(pem(object)?, message, signature),
            ("rsa", "rsassa-pss-sha256") => rsa_pss(pem(object)?, message, signature),
            _ => None,
        }
    }
}

fn pem(object: &Value) -> Option<&str> {
    object.get("keyval")?.get("public")?.as_str()
}

fn ecdsa(pem: &str, message: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
    let key = p256::ecdsa::VerifyingKey::from_public_key_pem(pem).ok()?;
    let signature = p256::ecdsa::DerSignature::try_from(signature).ok()?;
    key.verify(message, &signature).ok()?;
    Some(key.to_encoded_point(true).as_bytes().to_vec())
}

fn rsa_pss(pem: &str, message: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
    let key = rsa::RsaPublicKey::from_public_key_pem(pem).ok()?;
    if key.size() < MIN_RSA_BYTES {
        return None;
    }
    let identity = key.to_public_key_der().ok()?.into_vec();
    let signature = rsa::pss::Signature::try_from(signature).ok()?;
    rsa::pss::VerifyingKey::<rsa::sha2::Sha256>::new(key).verify(message, &signature).ok()?;
    Some(identity)
}
