//! The publisher's side: new metadata from old metadata and the targets wanted.
//!
//! Targets and root metadata begin as a [`Draft`], which people may sign in different places; with
//! enough signatures [`release`] makes snapshot and timestamp for it and says in which order the
//! files have to appear. Where one machine has all keys, [`publication`] does both.

mod draft;
mod release;
mod root_change;

pub use draft::{Draft, Tally, next_targets, root_tallies, still_signed};
pub use release::{Changes, Publication, Renew, publication, release};
pub use root_change::{Keyring, id_of_key};

use crate::envelope::Envelope;
use crate::error::Error;
use crate::key::{PublicKey, key_id, key_object};
use crate::metadata::{RoleKeys, Root, SPEC_VERSION, Snapshot, Targets, Timestamp};
use crate::role::Role;
use crate::time::Time;
use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;

/// One signing key for each role.
pub struct RoleSigners {
    /// Signs root metadata.
    pub root: SigningKey,
    /// Signs targets metadata.
    pub targets: SigningKey,
    /// Signs snapshot metadata.
    pub snapshot: SigningKey,
    /// Signs timestamp metadata.
    pub timestamp: SigningKey,
}

impl RoleSigners {
    /// All of them, for whatever they may sign.
    pub fn keyring(&self) -> Keyring {
        let keys = [&self.root, &self.targets, &self.snapshot, &self.timestamp];
        Keyring::new(keys.into_iter().cloned())
    }

    /// The public halves.
    pub fn public_keys(&self) -> RolePublicKeys {
        RolePublicKeys {
            root: self.root.verifying_key(),
            targets: self.targets.verifying_key(),
            snapshot: self.snapshot.verifying_key(),
            timestamp: self.timestamp.verifying_key(),
        }
    }

    #[cfg(test)]
    pub(crate) fn all_from(seed: [u8; 32]) -> RoleSigners {
        let key = |n: u8| {
            let mut seed = seed;
            seed[0] ^= n;
            SigningKey::from_bytes(&seed)
        };
        RoleSigners { root: key(16), targets: key(32), snapshot: key(48), timestamp: key(64) }
    }
}

/// One public key for each role.
pub struct RolePublicKeys {
    /// Of root metadata.
    pub root: PublicKey,
    /// Of targets metadata.
    pub targets: PublicKey,
    /// Of snapshot metadata.
    pub snapshot: PublicKey,
    /// Of timestamp metadata.
    pub timestamp: PublicKey,
}

impl RolePublicKeys {
    fn of(&self, role: Role) -> &PublicKey {
        match role {
            Role::Root => &self.root,
            Role::Targets => &self.targets,
            Role::Snapshot => &self.snapshot,
            Role::Timestamp => &self.timestamp,
        }
    }
}

/// When new metadata is signed, and until when each role's is good.
#[derive(Clone, Copy, Debug)]
pub struct Dates {
    /// Now, by the publisher's clock: written into the timestamp.
    pub signed_at: Time,
    /// Of targets metadata.
    pub targets: Time,
    /// Of snapshot metadata.
    pub snapshot: Time,
    /// Of timestamp metadata.
    pub timestamp: Time,
}

/// Root metadata with one key a role, not signed yet.
pub fn new_root(keys: &RolePublicKeys, version: u64, expires: Time) -> Result<Root, Error> {
    let mut objects = BTreeMap::new();
    let mut roles = BTreeMap::new();
    for role in Role::ALL {
        let object = key_object(keys.of(role));
        let id = key_id(&object).ok_or_else(|| Error::Malformed {
            file: "new root metadata".into(),
            reason: "key without an id".into(),
        })?;
        roles.insert(role.name().to_string(), RoleKeys { keyids: vec![id.clone()], threshold: 1 });
        objects.insert(id, object);
    }
    Ok(Root {
        kind: Role::Root.name().into(),
        spec_version: SPEC_VERSION.into(),
        consistent_snapshot: true,
        version,
        expires,
        keys: objects,
        roles,
    })
}

/// The first root metadata of a repository, signed by its root key: what devices are made with
/// and what is published as `1.root.json`.
pub fn first_root(signers: &RoleSigners, expires: Time) -> Result<Vec<u8>, Error> {
    let root = new_root(&signers.public_keys(), 1, expires)?;
    Ok(Envelope::sign(&root, &[&signers.root])?.to_bytes())
}

/// The newest metadata of a repository, each verified against its root.
#[derive(Clone, Debug)]
pub struct Published {
    /// The newest root.
    pub root: Root,
    /// The newest timestamp.
    pub timestamp: Timestamp,
    /// The snapshot it names.
    pub snapshot: Snapshot,
    /// The targets that one names.
    pub targets: Targets,
}
