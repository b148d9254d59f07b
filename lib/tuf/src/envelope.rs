//! Signatures over metadata (specification section 4.2.1).

use crate::error::Error;
use crate::key::{KeySchemes, bytes_of_hex, canonical, key_id, to_hex};
use crate::role::Metadata;
use ed25519_dalek::{Signer, SigningKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Signatures that a file may carry; the rest of a longer list would cost time for nothing.
const MAX_SIGNATURES: usize = 64;

/// Who has to sign a file, as its delegator says: root metadata for the top-level roles, targets
/// metadata for the roles it delegates to.
#[derive(Clone, Copy)]
pub(crate) struct Authority<'a> {
    /// Key objects by key id.
    pub(crate) keys: &'a BTreeMap<String, Value>,
    /// The ids among them that count.
    pub(crate) keyids: &'a [String],
    /// How many different keys it takes.
    pub(crate) threshold: u64,
    /// Which kinds of keys count.
    pub(crate) schemes: &'a dyn KeySchemes,
}

/// A metadata file: what was signed, and by whom. What was signed stays a closed box until
/// `Envelope::verify` opens it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    signatures: Vec<Signature>,
    signed: Value,
}

/// One signature.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signature {
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Reads a metadata file, looking at nothing that is signed.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Envelope, Error> {
        let malformed = |reason: String| Error::Malformed { file: file.into(), reason };
        let envelope: Envelope =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if envelope.signatures.len() > MAX_SIGNATURES {
            return Err(malformed(format!("more than {MAX_SIGNATURES} signatures")));
        }
        // 4.2.1: an id must not come twice.
        let ids = || envelope.signatures.iter().map(|signature| &signature.keyid);
        if ids().enumerate().any(|(at, id)| ids().skip(at + 1).any(|later| later == id)) {
            return Err(malformed("two signatures have the same keyid".into()));
        }
        Ok(envelope)
    }

    /// Signs `metadata` with each of `keys`. Fails when it has no canonical form.
    pub fn sign<T: Serialize>(metadata: &T, keys: &[&SigningKey]) -> Result<Envelope, Error> {
        let unsignable =
            |reason: &str| Error::Malformed { file: "new metadata".into(), reason: reason.into() };
        let signed = serde_json::to_value(metadata).map_err(|e| unsignable(&e.to_string()))?;
        let message = canonical(&signed).ok_or_else(|| unsignable("a number has a fraction"))?;
        let mut signatures = Vec::with_capacity(keys.len());
        for key in keys {
            let object = crate::key::key_object(&key.verifying_key());
            let keyid = key_id(&object).ok_or_else(|| unsignable("key without an id"))?;
            signatures.push(Signature { keyid, sig: to_hex(&key.sign(&message).to_bytes()) });
        }
        Ok(Envelope { signatures, signed })
    }

    /// Adds the signature of `key`, or replaces the one there is under this id.
    pub(crate) fn add(&mut self, keyid: &str, key: &SigningKey) -> Result<(), Error> {
        let message = canonical(&self.signed).ok_or_else(|| Error::Malformed {
            file: "new metadata".into(),
            reason: "a number has a fraction".into(),
        })?;
        let sig = to_hex(&key.sign(&message).to_bytes());
        self.put(Signature { keyid: keyid.into(), sig });
        Ok(())
    }

    /// Takes over the signature that `other` has under this id.
    pub(crate) fn take(&mut self, keyid: &str, other: &Envelope) {
        if let Some(signature) = other.signatures.iter().find(|s| s.keyid == keyid) {
            self.put(signature.clone());
        }
    }

    fn put(&mut self, signature: Signature) {
        self.signatures.retain(|known| known.keyid != signature.keyid);
        self.signatures.push(signature);
    }

    /// Whether both sign the same content.
    pub(crate) fn says_the_same(&self, other: &Envelope) -> bool {
        let form = canonical(&self.signed);
        form.is_some() && form == canonical(&other.signed)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A `Value` always serialises; an empty file would fail every check that follows.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Opens the box if it was signed as `authority` asks. `file` is its name in errors.
    pub(crate) fn verify<T: Metadata>(
        &self,
        file: &str,
        authority: Authority<'_>,
    ) -> Result<T, Error> {
        self.check(file, authority)?;
        self.open(file)
    }

    /// The threshold check alone (5.3.4, 5.4.2, 5.5.3, 5.6.3).
    pub(crate) fn check(&self, file: &str, authority: Authority<'_>) -> Result<(), Error> {
        let threshold = authority.threshold;
        if threshold == 0 {
            let reason = "its delegator asks for no signature on it".into();
            return Err(Error::Malformed { file: file.into(), reason });
        }
        let valid = self.valid_signers(file, authority)?.len();
        if (valid as u64) < threshold {
            return Err(Error::Unsigned { file: file.into(), valid, threshold });
        }
        Ok(())
    }

    /// Ids of the keys whose signature holds, one id a key.
    pub(crate) fn valid_signers(
        &self,
        file: &str,
        authority: Authority<'_>,
    ) -> Result<Vec<String>, Error> {
        let malformed =
            |reason: &str| Error::Malformed { file: file.into(), reason: reason.into() };
        let message = canonical(&self.signed)
            .ok_or_else(|| malformed("a number has a fraction, so it has no canonical form"))?;
        // Two ids may stand for objects that differ in fields without a meaning and hold the same
        // key: what is counted are keys.
        let (mut valid, mut ids) = (Vec::new(), Vec::new());
        for signature in &self.signatures {
            if !authority.keyids.contains(&signature.keyid) {
                continue;
            }
            let Some(object) = authority.keys.get(&signature.keyid) else {
                continue;
            };
            // 4.3: an id that is not the hash of its key could stand for a different key elsewhere.
            if key_id(object).as_deref() != Some(&signature.keyid) {
                continue;
            }
            let Some(bytes) = bytes_of_hex(&signature.sig) else {
                continue;
            };
            if let Some(key) = authority.schemes.verify(object, &message, &bytes)
                && !valid.contains(&key)
            {
                valid.push(key);
                ids.push(signature.keyid.clone());
            }
        }
        Ok(ids)
    }

    /// Reads what was signed. Only for after [`Envelope::check`].
    pub(crate) fn open<T: Metadata>(&self, file: &str) -> Result<T, Error> {
        let malformed = |reason: String| Error::Malformed { file: file.into(), reason };
        let metadata = T::deserialize(&self.signed).map_err(|e| malformed(e.to_string()))?;
        if metadata.kind() != T::ROLE.name() {
            return Err(malformed(format!("its _type is not {:?}", T::ROLE.name())));
        }
        if metadata.spec_version().split('.').next() != Some("1") {
            return Err(malformed("its spec_version is not 1.x".into()));
        }
        if metadata.version() == 0 {
            return Err(malformed("its version is 0".into()));
        }
        metadata.sound().map_err(malformed)?;
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::{RoleSigners, new_root};
    use crate::key::Ed25519;
    use crate::time::Time;
    use crate::{Role, Root};

    fn check(envelope: &Envelope, root: &Root) -> Result<(), Error> {
        envelope.check("f", root.authority(Role::Root, &Ed25519)?)
    }

    fn root_with(threshold: u64, keys: &[&SigningKey]) -> (Root, Envelope) {
        let signers = RoleSigners::all_from([1; 32]);
        let mut root = new_root(&signers.public_keys(), 1, Time(9)).expect("root");
        let mut ids = Vec::new();
        for key in keys {
            let object = crate::key::key_object(&key.verifying_key());
            let id = key_id(&object).expect("id");
            root.keys.insert(id.clone(), object);
            ids.push(id);
        }
        root.roles.insert("root".into(), crate::RoleKeys { keyids: ids, threshold });
        let envelope = Envelope::sign(&root, keys).expect("sign");
        (root, envelope)
    }

    #[test]
    fn threshold_counts_distinct_keys() {
        let (a, b) = (SigningKey::from_bytes(&[2; 32]), SigningKey::from_bytes(&[3; 32]));
        let (root, both) = root_with(2, &[&a, &b]);
        assert!(check(&both, &root).is_ok());
        let mut one = both.clone();
        one.signatures.truncate(1);
        assert!(matches!(check(&one, &root), Err(Error::Unsigned { valid: 1, threshold: 2, .. })));
        let mut twice = one.clone();
        twice.signatures.push(one.signatures[0].clone());
        assert!(matches!(check(&twice, &root), Err(Error::Unsigned { valid: 1, .. })));
        let parsed = Envelope::parse("f", &twice.to_bytes());
        assert!(matches!(parsed, Err(Error::Malformed { .. })), "the same id came twice");
    }

    #[test]
    fn one_key_under_two_ids_counts_once() {
        let a = SigningKey::from_bytes(&[2; 32]);
        let (mut root, mut envelope) = root_with(2, &[&a]);
        let mut object = crate::key::key_object(&a.verifying_key());
        object["note"] = "the same key again".into();
        let id = key_id(&object).expect("id");
        root.keys.insert(id.clone(), object);
        root.roles.get_mut("root").expect("role").keyids.push(id.clone());
        envelope = Envelope::sign(&root, &[&a])
            .map(|new| {
                envelope.signatures = new.signatures;
                envelope.signed = new.signed;
                envelope
            })
            .expect("sign");
        let copy = Signature { keyid: id, sig: envelope.signatures[0].sig.clone() };
        envelope.signatures.push(copy);
        assert!(matches!(check(&envelope, &root), Err(Error::Unsigned { valid: 1, .. })));
    }

    #[test]
    fn an_id_that_is_not_its_keys_hash_does_not_count() {
        let a = SigningKey::from_bytes(&[2; 32]);
        let (mut root, mut envelope) = root_with(1, &[&a]);
        let object = root.keys.get(&envelope.signatures[0].keyid).expect("key").clone();
        root.keys.insert("made-up".into(), object);
        root.roles.get_mut("root").expect("role").keyids = vec!["made-up".into()];
        envelope.signatures[0].keyid = "made-up".into();
        assert!(matches!(check(&envelope, &root), Err(Error::Unsigned { valid: 0, .. })));
    }

    #[test]
    fn a_threshold_of_nothing_is_refused() {
        let (root, envelope) = root_with(0, &[]);
        assert!(matches!(check(&envelope, &root), Err(Error::Malformed { .. })));
    }
}
