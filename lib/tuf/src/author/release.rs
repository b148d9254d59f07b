//! From drafts with enough signatures to the files of a publication.

use super::draft::{Draft, still_signed};
use super::root_change::Keyring;
use super::{Dates, Published, RoleSigners, next_targets};
use crate::error::Error;
use crate::metadata::{MetaFile, Root, SPEC_VERSION, Snapshot, TargetFile, Targets, Timestamp};
use crate::role::Role;
use std::collections::BTreeMap;

/// Files to write below the metadata folder, in the order to write them: whoever reads meanwhile
/// sees what was published before or all of this.
#[derive(Clone, Debug)]
pub struct Publication {
    /// File name and content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// What is signed anew although it says the same as before: it expires soon, or its keys changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// Nothing but what has to follow other changes.
    #[default]
    Nothing,
    /// The timestamp.
    Timestamp,
    /// The snapshot, and with it the timestamp.
    Snapshot,
}

/// What a release changes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// A new root.
    pub root: Option<Draft<Root>>,
    /// New targets metadata.
    pub targets: Option<Draft<Targets>>,
    /// What is renewed besides. New targets bring a new snapshot and timestamp by themselves.
    pub renew: Renew,
}

/// The files that bring `changes` about after `before` (`None`: in a new repository, which needs a
/// root and targets). Snapshot and timestamp are signed with those of `keys` that the newest root
/// names, and with those that the root before it named: devices that have not seen the newest root
/// then take them too.
///
/// Fails with [`Error::Unsigned`] when a file would have fewer signatures than it needs.
pub fn release(
    before: Option<&Published>,
    changes: Changes,
    keys: &Keyring,
    dates: &Dates,
) -> Result<Publication, Error> {
    let missing = |what: &str| Error::Malformed {
        file: "new repository".into(),
        reason: format!("it has no {what} metadata"),
    };
    let old_root = before.map(|before| &before.root);
    let root = match &changes.root {
        Some(draft) => {
            for tally in super::root_tallies(draft, old_root)? {
                needs_enough(draft.file_name(), &tally)?;
            }
            draft.content.fit_to_publish()?;
            &draft.content
        }
        None => old_root.ok_or_else(|| missing("root"))?,
    };
    let mut publication = Files { root, old_root, keys, files: Vec::new(), bridges: true };

    let mut meta = before.map(|before| before.snapshot.meta.clone()).unwrap_or_default();
    if let Some(targets) = &changes.targets {
        let described = publication.add(targets.clone(), targets.file_name())?;
        meta.insert("targets.json".into(), described);
    } else if before.is_none() {
        return Err(missing("targets"));
    }
    let snapshot = match before {
        Some(before) if changes.targets.is_none() && changes.renew != Renew::Snapshot => before
            .timestamp
            .meta
            .get("snapshot.json")
            .cloned()
            .ok_or_else(|| missing("snapshot"))?,
        _ => {
            let snapshot = Draft::new(Snapshot {
                kind: Role::Snapshot.name().into(),
                spec_version: SPEC_VERSION.into(),
                version: before.map_or(1, |before| before.snapshot.version.saturating_add(1)),
                expires: dates.snapshot,
                meta,
            })?;
            let name = snapshot.file_name();
            publication.add(snapshot, name)?
        }
    };
    let timestamp_stays =
        before.is_some() && changes.targets.is_none() && changes.renew == Renew::Nothing;
    let timestamp = Draft::new(Timestamp {
        kind: Role::Timestamp.name().into(),
        spec_version: SPEC_VERSION.into(),
        version: before.map_or(1, |before| before.timestamp.version.saturating_add(1)),
        expires: dates.timestamp,
        signed_at: Some(dates.signed_at),
        meta: BTreeMap::from([("snapshot.json".into(), snapshot)]),
    })?;
    if !timestamp_stays {
        publication.add(timestamp, "timestamp.json".into())?;
    }

    let Files { mut files, bridges, .. } = publication;
    if let Some(root) = &changes.root {
        // Devices know only the old root until the new one is there. Where the old keys signed
        // too, everything is there before anybody follows the new root. Where they are lost or
        // kept out of it, the new root has to lead the way: until the timestamp follows, a device
        // that looks just then finds a signature missing and looks again later.
        let at = if bridges && before.is_some() { files.len() } else { 0 };
        files.insert(at, (root.file_name(), root.to_bytes()));
    }
    Ok(Publication { files })
}

fn needs_enough(file: String, tally: &super::Tally) -> Result<(), Error> {
    match tally.enough() {
        true => Ok(()),
        false => {
            Err(Error::Unsigned { file, valid: tally.signed.len(), threshold: tally.threshold })
        }
    }
}

/// The files so far.
struct Files<'a> {
    root: &'a Root,
    old_root: Option<&'a Root>,
    keys: &'a Keyring,
    files: Vec<(String, Vec<u8>)>,
    /// Whether the old root's keys signed each of them too.
    bridges: bool,
}

impl Files<'_> {
    #[allow(private_bounds)]
    fn add<T>(&mut self, mut draft: Draft<T>, name: String) -> Result<MetaFile, Error>
    where
        T: crate::role::Metadata + serde::Serialize,
    {
        for root in self.old_root.into_iter().chain([self.root]) {
            draft.sign_with(self.keys, root)?;
        }
        needs_enough(name.clone(), &draft.tally(self.root)?)?;
        let bytes = draft.to_bytes();
        self.bridges &= self.old_root.is_none_or(|root| still_signed(T::ROLE, &bytes, root));
        let described = MetaFile::of(draft.content.version(), &bytes);
        self.files.push((name, bytes));
        Ok(described)
    }
}

/// A new publication that offers exactly `targets`, where one machine has all keys: new versions
/// of targets, snapshot and timestamp. Delegations stay as they are, and so does what the snapshot
/// says of their roles. `before` is what is published now, or the bytes of the first root in a new
/// repository.
pub fn publication(
    before: Result<&Published, &[u8]>,
    targets: BTreeMap<String, TargetFile>,
    signers: &RoleSigners,
    dates: &Dates,
) -> Result<Publication, Error> {
    let (before, root) = match before {
        Ok(before) => (Some(before), None),
        Err(root) => (None, Some(Draft::read("the first root metadata", root)?)),
    };
    let next = next_targets(before.map(|before| &before.targets), dates.targets);
    let targets = Some(Draft::new(Targets { targets, ..next })?);
    release(before, Changes { root, targets, renew: Renew::Snapshot }, &signers.keyring(), dates)
}
