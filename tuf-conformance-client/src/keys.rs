//! The three kinds of keys that the specification recommends (section 4.2.2): ed25519, as on a
//! device, and ECDSA on P-256 and RSA-PSS, which the suite signs with too.

use p256::ecdsa::signature::Verifier;
use p256::pkcs8::DecodePublicKey;
use rsa::pkcs8::EncodePublicKey;
use rsa::traits::PublicKeyParts;
use serde_json::Value;
use tuf::{Ed25519, KeySchemes};

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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // Keys and signatures over `a message` by openssl 3: `openssl dgst -sha256 -sign`, for RSA with
    // `-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest`.
    const EC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEdYIVGGo4QvihtrWSAUQKZ++6nsuV\n\
        zVNK/dK0wPGvQ1vKN2L6GDFjxHis+RmFCFWCRZPiJNNRXIGV+iLf3fnshg==\n\
        -----END PUBLIC KEY-----\n";
    const EC_SIGNATURE: &str = "3045022100fdbf61f49541ad3a9a64970c939e5b42eb2533e889abe470b28db6288ea8cb07022019667f\
        34c27efaab6ae5c6c2a2bf7ca17451fcc6c72b7fa2606ed2b9bbeacfa6";
    const RSA: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA2AIemoWV0P+qZll0rKNa\n\
        9zFus2DUK5GheGO6XrYpCuc+CQJ02pm5v/olrgJxQMF5x8PnUfTS6+yTdCehp/c4\n\
        eEG7gbDBqcpm1ufQxu5XltQ9uLXi8SMq7lJhhaTM0snK3N+OwHjMqJJUbbc6Aexb\n\
        7dVfV9Kcw2NSo/2EzUNU7ZqFrKc/kIO9HIbdo7nzG8gRJAZNCVyItdtEL7vWnbkO\n\
        otPRL0xiEwC2w8K0ws+dmBarZuJ0T/9QrTOY+Z5f2xXes+Mgcj3ZOpr0sd68LG7j\n\
        O+5rhnhIiF0S0vwCT75RQPOhX3+jXLzGwqnQz459b0P+sDUpH6SboBk2QeUU95AP\n\
        HwIDAQAB\n\
        -----END PUBLIC KEY-----\n";
    const RSA_SIGNATURE: &str = "8bce36d772c236eb7be4d169d2c7bff47799746bdfb78a919754233670d525fe1ec73a6273dfb968d0dd\
        9d0b3ba597994b53ab958bfbb490de1ddafc2a2dcb69ed68846472afb2579f97bc5019755115e28bfa33\
        9cde573cf56a3bbb8eeeefeb7f56bc851f1dc32b23f21de2792618283ab2ed8519469b7e5b7495c7fb06\
        793a52f41ef843b98cee6c5f670bfed732ac6ac1cfeff75ffdde7ae98473a44baba8650ef29a831570c8\
        2342c955ff12d56d1f61cb9f5e82cc9fe1b227b473b734319877337b7b3d354c7c028b7cf983d2b64c34\
        42d522e34690df8cdfe77aacedc0b792db310c9ed8ad62f16129b013a73597cf15f3338af4e8c7121661\
        c4ccbc72";
    const SHORT_RSA: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDVtvTA+vngOJ8/1dZtXACA6yE9\n\
        /9rj0Sf92Fgd6vL8kgsfiGNYMSApXYH0Q9gTmPLaKcP6Gh1LLjG2kBJdgMH4n01i\n\
        u95/DZTMTmFeZG1sIIHUiAUJJPz7xvbQPiyWd/g05mnFpmD4iVlsZli9htsFfE47\n\
        wfyIyC0GovqETO2WMQIDAQAB\n\
        -----END PUBLIC KEY-----\n";
    const SHORT_RSA_SIGNATURE: &str = "230477864c90735be06771c5d99df532bef313ca949384a3e0a9ed09c03784832a8cfcafd6b2aff7ad5a\
        a374c318e315c0979523219ba0689f398c5000159ceb94da1f2ce709889f2bbc5791117e20b5c2e4a2dd\
        cc3f222ebe39c568b5214bb5cc4aec39aa7e5430cc5ccbd980b4142c0f855778bdcdd8dd704dd0e8f85e\
        31ce";

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |d: &u8| char::from(*d).to_digit(16).expect("hex");
        hex.as_bytes().chunks(2).map(|p| (digit(&p[0]) * 16 + digit(&p[1])) as u8).collect()
    }

    fn object(keytype: &str, scheme: &str, pem: &str) -> Value {
        json!({"keytype": keytype, "scheme": scheme, "keyval": {"public": pem}})
    }

    #[test]
    fn what_openssl_signed_holds_and_nothing_else() {
        for (object, signature) in [
            (object("ecdsa", "ecdsa-sha2-nistp256", EC), bytes(EC_SIGNATURE)),
            (object("rsa", "rsassa-pss-sha256", RSA), bytes(RSA_SIGNATURE)),
        ] {
            let verify = |message: &[u8], sig: &[u8]| AllSchemes.verify(&object, message, sig);
            assert!(verify(b"a message", &signature).is_some());
            assert_eq!(verify(b"another", &signature), None);
            assert_eq!(verify(b"a message", &signature[1..]), None);
            assert_eq!(verify(b"a message", b""), None);
            let mut other = signature.clone();
            *other.last_mut().expect("not empty") ^= 1;
            assert_eq!(verify(b"a message", &other), None);
        }
    }

    #[test]
    fn short_rsa_keys_do_not_count() {
        let key = object("rsa", "rsassa-pss-sha256", SHORT_RSA);
        assert_eq!(AllSchemes.verify(&key, b"a message", &bytes(SHORT_RSA_SIGNATURE)), None);
    }

    #[test]
    fn a_key_counts_only_as_what_it_says_it_is() {
        for (keytype, scheme) in [
            ("ecdsa", "rsassa-pss-sha256"),
            ("ecdsa", "ecdsa-sha2-nistp384"),
            ("ed25519", "ed25519"),
            ("rsa", "rsassa-pss-sha256"),
        ] {
            let key = object(keytype, scheme, EC);
            assert_eq!(AllSchemes.verify(&key, b"a message", &bytes(EC_SIGNATURE)), None);
        }
        assert_eq!(AllSchemes.verify(&json!({}), b"a message", b""), None);
    }

    #[test]
    fn a_key_is_itself_however_its_pem_is_wrapped() {
        let verify = |pem: &str| {
            let key = object("ecdsa", "ecdsa-sha2-nistp256", pem);
            AllSchemes.verify(&key, b"a message", &bytes(EC_SIGNATURE))
        };
        let once = verify(EC);
        assert!(once.is_some());
        assert_eq!(verify(EC.trim_end()), once);
    }
}
