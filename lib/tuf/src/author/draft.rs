//! Metadata on its way to enough signatures: made in one place, signed in others.

use super::root_change::Keyring;
use crate::envelope::Envelope;
use crate::error::Error;
use crate::key::Ed25519;
use crate::metadata::{Root, Targets};
use crate::role::{Metadata, Role};
use ed25519_dalek::SigningKey;
use serde::Serialize;

/// Metadata that still lacks signatures, or may lack some. What is in it has only been read, not
/// believed: [`Tally::enough`] says whether it may be.
#[derive(Clone, Debug)]
pub struct Draft<T> {
    /// What is to be signed.
    pub content: T,
    envelope: Envelope,
}

/// How far the signatures of a file have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Ids of the keys whose signature holds.
    pub signed: Vec<String>,
    /// Ids of the keys that may still sign.
    pub missing: Vec<String>,
    /// How many signatures it takes.
    pub threshold: u64,
}

impl Tally {
    /// Whether as many signed as have to.
    pub fn enough(&self) -> bool {
        self.threshold > 0 && self.signed.len() as u64 >= self.threshold
    }
}

#[allow(private_bounds)]
impl<T: Metadata + Serialize> Draft<T> {
    /// A draft that nobody has signed.
    pub fn new(content: T) -> Result<Draft<T>, Error> {
        let envelope = Envelope::sign(&content, &[])?;
        Ok(Draft { content, envelope })
    }

    /// Reads a draft, or finished metadata. `file` is its name in errors.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Draft<T>, Error> {
        let envelope = Envelope::parse(file, bytes)?;
        Ok(Draft { content: envelope.open(file)?, envelope })
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.envelope.to_bytes()
    }

    /// The file's name in the repository.
    pub fn file_name(&self) -> String {
        format!("{}.{}.json", self.content.version(), T::ROLE.name())
    }

    /// Signs with `key` under the id it has in root metadata.
    pub fn sign(&mut self, id: &str, key: &SigningKey) -> Result<(), Error> {
        self.envelope.add(id, key)
    }

    /// Signs with every key at hand that `root` lets sign for this role.
    pub fn sign_with(&mut self, keys: &Keyring, root: &Root) -> Result<(), Error> {
        for (id, key) in keys.for_role(root, T::ROLE) {
            self.sign(&id, key)?;
        }
        Ok(())
    }

    /// Which of the keys that `root` names for this role have signed.
    pub fn tally(&self, root: &Root) -> Result<Tally, Error> {
        let authority = root.authority(T::ROLE, &Ed25519)?;
        let signed = self.envelope.valid_signers(T::ROLE.name(), authority)?;
        let missing = root.ids(T::ROLE).iter().filter(|id| !signed.contains(id)).cloned().collect();
        Ok(Tally { signed, missing, threshold: authority.threshold })
    }

    /// Takes over the signatures of another copy of the same draft, as far as they are by keys
    /// that `root` names. Fails when the other one says something else.
    pub fn merge(&mut self, other: &Draft<T>, root: &Root) -> Result<(), Error> {
        if !self.envelope.says_the_same(&other.envelope) {
            return Err(Error::Malformed {
                file: self.file_name(),
                reason: "the copy that came back does not say what was handed out".into(),
            });
        }
        for id in other.tally(root)?.signed {
            self.envelope.take(&id, &other.envelope);
        }
        Ok(())
    }
}

/// Whether a root may follow `before`: signed as each of the two asks, and the next version.
/// `None` stands for the first root of a repository.
pub fn root_tallies(draft: &Draft<Root>, before: Option<&Root>) -> Result<Vec<Tally>, Error> {
    let mut tallies = vec![draft.tally(&draft.content)?];
    if let Some(before) = before {
        if Some(draft.content.version) != before.version.checked_add(1) {
            return Err(Error::WrongVersion {
                file: draft.file_name(),
                wanted: before.version.saturating_add(1),
                found: draft.content.version,
            });
        }
        tallies.push(draft.tally(before)?);
    }
    Ok(tallies)
}

/// What is left of metadata under another root: whether the file still is signed as that one asks.
pub fn still_signed(role: Role, bytes: &[u8], root: &Root) -> bool {
    let check = || -> Result<(), Error> {
        Envelope::parse(role.name(), bytes)?.check(role.name(), root.authority(role, &Ed25519)?)
    };
    check().is_ok()
}

/// The next version of targets metadata, with the same files; for `None` the first, with none.
pub fn next_targets(before: Option<&Targets>, expires: crate::Time) -> Targets {
    Targets {
        kind: Role::Targets.name().into(),
        spec_version: crate::SPEC_VERSION.into(),
        version: before.map_or(1, |before| before.version.saturating_add(1)),
        expires,
        targets: before.map(|before| before.targets.clone()).unwrap_or_default(),
        delegations: before.and_then(|before| before.delegations.clone()),
    }
}
