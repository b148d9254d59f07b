//! Who signed an archive's `InRelease`: OpenPGP clear-signed text (RFC 9580, section 7) against a
//! keyring file.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail};
use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Timestamp, VerifyingKey};

/// Public keys that are trusted to sign an archive.
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
    path: String,
}

impl Keyring {
    /// Reads a keyring file, binary or armored. Keys that cannot be read are passed over; fails
    /// when none is left.
    pub fn read(path: &Path) -> Result<Self> {
        let named = || format!("keyring {}", path.display());
        let file = File::open(path).with_context(|| {
            format!(
                "{}: cannot be read; install the package debian-archive-keyring or give --keyring FILE",
                named()
            )
        })?;
        let (found, _) = SignedPublicKey::from_reader_many_buf(BufReader::new(file))
            .with_context(|| format!("{}: is not an OpenPGP keyring", named()))?;
        let keys: Vec<_> = found.filter_map(Result::ok).collect();
        if keys.is_empty() {
            bail!("{}: has no public key", named());
        }
        Ok(Self { keys, path: path.display().to_string() })
    }

    /// Checks the clear signature around `signed` and returns exactly the text it covers. At least
    /// one signature must be by a key of the ring that is neither revoked nor, at `now` (seconds
    /// since 1970), expired; its hash must be of the SHA-2 family or newer.
    pub fn verify(&self, signed: &str, now: u64) -> Result<String> {
        if !signed.trim_start().starts_with("-----BEGIN PGP SIGNED MESSAGE-----") {
            bail!("is not signed");
        }
        let (message, _) = CleartextSignedMessage::from_string(signed)
            .context("its OpenPGP signature cannot be read")?;
        let text = message.signed_text();
        let mut refused = Vec::new();
        for signature in message.signatures().iter().filter(|s| is_acceptable(s)) {
            for key in &self.keys {
                match self.check_signature(key, signature, &text, now) {
                    Outcome::NotTheSigner => {}
                    Outcome::Refused(why) => refused.push(why),
                    Outcome::Valid => return Ok(text.replace("\r\n", "\n")),
                }
            }
        }
        if refused.is_empty() {
            bail!(
                "is signed by none of the keys in {} (by {})",
                self.path,
                signers(message.signatures())
            );
        }
        bail!("its signature is not valid: {}", refused.join("; "))
    }

    fn check_signature(
        &self,
        key: &SignedPublicKey,
        signature: &Signature,
        text: &str,
        now: u64,
    ) -> Outcome {
        let id = key.fingerprint();
        let primary = is_issuer(signature, key);
        let subkey = key.public_subkeys.iter().find(|s| is_issuer(signature, *s));
        let holds = match (primary, subkey) {
            (true, _) => signature.verify(key, text.as_bytes()),
            (false, Some(subkey)) => signature.verify(subkey, text.as_bytes()),
            (false, None) => return Outcome::NotTheSigner,
        };
        if let Err(e) = holds {
            return Outcome::Refused(format!("key {id}: {e}"));
        }
        match check_key(key, subkey.filter(|_| !primary), now) {
            Ok(()) => Outcome::Valid,
            Err(why) => Outcome::Refused(format!("key {id} {why}")),
        }
    }
}

enum Outcome {
    NotTheSigner,
    Refused(String),
    Valid,
}

fn is_issuer(signature: &Signature, key: &impl VerifyingKey) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().contains(&&key.legacy_key_id());
    }
    fingerprints.contains(&&key.fingerprint())
}

/// Only signatures over a document count, made with a hash that nobody can collide.
fn is_acceptable(signature: &Signature) -> bool {
    let over_document =
        matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text));
    let strong = matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    );
    over_document && strong
}

/// Whether the key, and the subkey if one signed, may still sign at `now`.
fn check_key(
    key: &SignedPublicKey,
    subkey: Option<&SignedPublicSubKey>,
    now: u64,
) -> Result<(), String> {
    let is_self = |s: &&Signature| is_issuer(s, key);
    if key.details.revocation_signatures.iter().any(|s| s.verify_key(&key.primary_key).is_ok()) {
        return Err("is revoked".to_owned());
    }
    let users = key.details.users.iter().flat_map(|u| {
        u.signatures.iter().filter(is_self).filter(|s| {
            s.verify_certification(&key.primary_key, pgp::types::Tag::UserId, &u.id).is_ok()
        })
    });
    let direct = key
        .details
        .direct_signatures
        .iter()
        .filter(is_self)
        .filter(|s| s.verify_key(&key.primary_key).is_ok());
    let newest = users.chain(direct).max_by_key(|s| s.created().map(Timestamp::as_secs));
    let newest = newest.ok_or("has no valid self-signature")?;
    check_expiry(newest, key.created_at(), now)?;
    let Some(subkey) = subkey else {
        return Ok(());
    };
    let by_type = |typ| subkey.signatures.iter().filter(move |s| s.typ() == Some(typ));
    let bound = |s: &&Signature| s.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok();
    if by_type(SignatureType::SubkeyRevocation).any(|s| bound(&s)) {
        return Err("has revoked the subkey that signed".to_owned());
    }
    let binding = by_type(SignatureType::SubkeyBinding)
        .filter(bound)
        .max_by_key(|s| s.created().map(Timestamp::as_secs))
        .ok_or("does not own the subkey that signed")?;
    // The subkey must agree to belong to the key, else anybody could adopt its signatures.
    let back = binding
        .embedded_signature()
        .is_some_and(|b| b.verify_primary_key_binding(&subkey.key, &key.primary_key).is_ok());
    if !binding.key_flags().sign() || !back {
        return Err("did not give that subkey the right to sign".to_owned());
    }
    check_expiry(binding, subkey.created_at(), now)
}

fn check_expiry(signature: &Signature, created: Timestamp, now: u64) -> Result<(), String> {
    match signature.key_expiration_time() {
        Some(span) if span.as_secs() > 0 => {
            let end = u64::from(created.as_secs()) + u64::from(span.as_secs());
            if now < end {
                return Ok(());
            }
            Err("has expired: update the package debian-archive-keyring".to_owned())
        }
        _ => Ok(()),
    }
}

fn signers(signatures: &[Signature]) -> String {
    let ids: Vec<String> = signatures
        .iter()
        .map(|s| match (s.issuer_fingerprint().first(), s.issuer_key_id().first()) {
            (Some(fingerprint), _) => fingerprint.to_string(),
            (None, Some(id)) => id.to_string(),
            (None, None) => "an unnamed key".to_owned(),
        })
        .collect();
    if ids.is_empty() {
        return "nobody".to_owned();
    }
    ids.join(", ")
}
