//! The publisher's side: new metadata from old metadata and the targets wanted.

use crate::envelope::Envelope;
use crate::error::Error;
use crate::key::{key_id, key_object, PublicKey};
use crate::metadata::{
    MetaFile, Role, RoleKeys, Root, Snapshot, TargetFile, Targets, Timestamp, SPEC_VERSION,
};
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

/// Whether the newest root lets each of `keys` sign for its role; the first role that it does not
/// is the error.
pub fn root_trusts(root: &Root, keys: &RolePublicKeys) -> Result<(), Role> {
    for role in Role::ALL {
        let id = key_id(&key_object(keys.of(role)));
        let known = root.roles.get(role.name());
        if !known.is_some_and(|known| id.is_some_and(|id| known.keyids.contains(&id))) {
            return Err(role);
        }
    }
    Ok(())
}

/// Files to write below the metadata folder, in the order to write them: readers that follow
/// `timestamp.json`, which comes last, never see half of a publication.
#[derive(Clone, Debug)]
pub struct Publication {
    /// File name and content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// A new publication that offers exactly `targets`: new versions of targets, snapshot and
/// timestamp. Delegations stay as they are, and so does what the snapshot says of their roles. `before` is what is published now, or the bytes of [`first_root`] in a new repository.
pub fn publication(
    before: Result<&Published, &[u8]>,
    targets: BTreeMap<String, TargetFile>,
    signers: &RoleSigners,
    dates: &Dates,
) -> Result<Publication, Error> {
    let mut files = Vec::new();
    if let Err(first_root) = before {
        files.push(("1.root.json".to_string(), first_root.to_vec()));
    }
    let before = before.ok();
    let after = |version: Option<u64>| version.unwrap_or(0) + 1;

    let version = after(before.map(|b| b.targets.version));
    let targets = Targets {
        kind: Role::Targets.name().into(),
        spec_version: SPEC_VERSION.into(),
        version,
        expires: dates.targets,
        targets,
        delegations: before.and_then(|b| b.targets.delegations.clone()),
    };
    let bytes = Envelope::sign(&targets, &[&signers.targets])?.to_bytes();
    let described = MetaFile::of(version, &bytes);
    files.push((format!("{version}.targets.json"), bytes));

    let version = after(before.map(|b| b.snapshot.version));
    let mut meta = before.map(|b| b.snapshot.meta.clone()).unwrap_or_default();
    meta.insert("targets.json".into(), described);
    let snapshot = Snapshot {
        kind: Role::Snapshot.name().into(),
        spec_version: SPEC_VERSION.into(),
        version,
        expires: dates.snapshot,
        meta,
    };
    let bytes = Envelope::sign(&snapshot, &[&signers.snapshot])?.to_bytes();
    let described = MetaFile::of(version, &bytes);
    files.push((format!("{version}.snapshot.json"), bytes));

    let timestamp = Timestamp {
        kind: Role::Timestamp.name().into(),
        spec_version: SPEC_VERSION.into(),
        version: after(before.map(|b| b.timestamp.version)),
        expires: dates.timestamp,
        signed_at: Some(dates.signed_at),
        meta: BTreeMap::from([("snapshot.json".into(), described)]),
    };
    let bytes = Envelope::sign(&timestamp, &[&signers.timestamp])?.to_bytes();
    files.push(("timestamp.json".into(), bytes));
    Ok(Publication { files })
}
