//! Sections 5.2 and 5.3: the trusted root, and the way from it to the newest.

use super::{Client, SNAPSHOT, TARGETS, TIMESTAMP, check_version};
use crate::client::search::stored_name;
use crate::envelope::Envelope;
use crate::error::Error;
use crate::fetch::FetchError;
use crate::key::{Ed25519, KeySchemes};
use crate::metadata::{Root, Snapshot, Timestamp};
use crate::role::Role;
use crate::time::Time;

const INITIAL: &str = "the image's root metadata";

/// 5.2: what an image carries as its first root, which is trusted and may have expired, but has to
/// be sound in itself: signed by enough of the keys that it names. Fails on what no device could
/// start from.
pub fn check_initial_root(initial: &[u8]) -> Result<(), Error> {
    initial_root(initial, &Ed25519).map(drop)
}

fn initial_root(initial: &[u8], schemes: &dyn KeySchemes) -> Result<Root, Error> {
    let envelope = Envelope::parse(INITIAL, initial)?;
    let root: Root = envelope.open(INITIAL)?;
    envelope.check(INITIAL, root.authority(Role::Root, schemes)?)?;
    Ok(root)
}

impl Client<'_> {
    /// The newest root that is known without asking anybody.
    fn known_root(&self, initial: &[u8]) -> Result<Root, Error> {
        let mut root = initial_root(initial, self.schemes)?;

        // Roots fetched earlier are walked again from the image's root, not believed: the store
        // lies on a partition that nothing verifies.
        while let Some(next) = self.stored_root(&root)? {
            root = next;
        }
        Ok(root)
    }

    /// When the timestamp that is stored says it was signed: by keys of the newest root known, and
    /// as far as that is believed. `None` without one.
    pub fn signed_at(&self, initial_root: &[u8]) -> Result<Option<Time>, Error> {
        let root = self.known_root(initial_root)?;
        let authority = root.authority(Role::Timestamp, self.schemes)?;
        let timestamp = self.trusted::<Timestamp>(TIMESTAMP, authority)?;
        let signed_at = timestamp.and_then(|(timestamp, _)| timestamp.signed_at);
        Ok(signed_at.filter(|at| *at <= self.believable))
    }

    pub(super) fn update_root(&mut self, initial: &[u8]) -> Result<Root, Error> {
        let mut root = self.known_root(initial)?;

        // 5.3.1, and 5.3.9 for the repetition.
        let mut new_roots = 0;
        loop {
            // 5.3.2
            let version = next_version(&root)?;
            // 5.3.3
            let name = format!("{version}.root.json");
            let bytes = match self.get(&name, self.limits.root) {
                Ok(bytes) => bytes,
                // An object store in S3's manner answers 403 for what is not there to who may not list
                // it. That says no more than a 404 does: nobody signs either, and what follows has
                // to be fresh all the same.
                Err(Error::Fetch {
                    source: FetchError::NotFound | FetchError::Forbidden, ..
                }) => break,
                Err(other) => return Err(other),
            };
            // Stricter than the specification, which would go on with a root that is known not to
            // be the last one. The next refresh goes on from here instead.
            if new_roots == self.limits.new_roots {
                return Err(Error::TooManyRoots { limit: self.limits.new_roots });
            }
            new_roots += 1;
            let next = successor(&root, &name, &bytes, self.schemes)?;
            // 5.3.11, here rather than after 5.3.10: were the power cut, or the root expired,
            // between the saving of a root and the forgetting, then no later refresh would see a
            // rotation.
            if rotated(&root, &next) {
                self.forget_versions(&root)?;
            }
            // 5.3.6: an expired root still leads to the next one.
            // 5.3.8
            self.save(&name, &bytes)?;
            // 5.3.7
            root = next;
        }

        // A time that only keys signed which are trusted no longer would not be found here.
        let authority = root.authority(Role::Timestamp, self.schemes)?;
        if let Some((timestamp, _)) = self.trusted::<Timestamp>(TIMESTAMP, authority)? {
            self.learn_time(&timestamp);
        }
        // 5.3.10: only the last root has to be fresh, and only against what is certain: what a
        // timestamp said may be taken back by the next one, which comes after this.
        self.check_expiry_at(self.now, "root.json", &root)?;
        // 5.3.12: `root.consistent_snapshot` is asked wherever a file's name is made.
        Ok(root)
    }

    fn stored_root(&self, root: &Root) -> Result<Option<Root>, Error> {
        let name = format!("{}.root.json", next_version(root)?);
        let next = self.load(&name)?.map(|bytes| successor(root, &name, &bytes, self.schemes));
        Ok(next.and_then(Result::ok))
    }

    /// 5.3.11: keys that are trusted no longer may have pushed versions to the top. What they
    /// signed goes, and with the snapshot the roles that only it listed.
    fn forget_versions(&mut self, before: &Root) -> Result<(), Error> {
        let snapshot: Option<(Snapshot, _)> =
            self.trusted(SNAPSHOT, before.authority(Role::Snapshot, self.schemes)?)?;
        for file in snapshot.iter().flat_map(|(snapshot, _)| snapshot.meta.keys()) {
            if let Some(name) = file.strip_suffix(".json").filter(|_| file != TARGETS) {
                self.remove(&stored_name(name))?;
            }
        }
        self.remove(TIMESTAMP)?;
        self.remove(SNAPSHOT)
    }
}

/// Whether other keys than before sign the timestamp or the snapshot, in whatever order.
fn rotated(before: &Root, after: &Root) -> bool {
    let ids = |root: &Root, role: Role| -> Vec<String> {
        let mut ids = root.roles.get(role.name()).map_or(Vec::new(), |role| role.keyids.clone());
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    [Role::Timestamp, Role::Snapshot].into_iter().any(|role| ids(before, role) != ids(after, role))
}

/// 5.3.4 and 5.3.5: a root is followed by one that it signed, that signed itself, and that has the
/// next version.
fn successor(
    root: &Root,
    file: &str,
    bytes: &[u8],
    schemes: &dyn KeySchemes,
) -> Result<Root, Error> {
    let envelope = Envelope::parse(file, bytes)?;
    let next: Root = envelope.verify(file, root.authority(Role::Root, schemes)?)?;
    envelope.check(file, next.authority(Role::Root, schemes)?)?;
    check_version(file, next_version(root)?, next.version)?;
    Ok(next)
}

fn next_version(root: &Root) -> Result<u64, Error> {
    root.version.checked_add(1).ok_or_else(|| Error::Malformed {
        file: "root.json".into(),
        reason: "its version cannot grow any more".into(),
    })
}
