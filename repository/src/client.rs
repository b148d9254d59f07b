//! The client's workflow (specification section 5), step by step with its numbers.

use crate::author::Published;
use crate::envelope::Envelope;
use crate::error::Error;
use crate::fetch::{Fetch, FetchError};
use crate::metadata::{MetaFile, Metadata, Role, Root, Snapshot, Targets, Timestamp, METADATA_DIR};
use crate::store::Store;
use crate::time::Time;

const TIMESTAMP: &str = "timestamp.json";
const SNAPSHOT: &str = "snapshot.json";
const TARGETS: &str = "targets.json";

/// Bounds on what a server can make a client read and do, in bytes where a length.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Each root file.
    pub root: u64,
    /// The timestamp.
    pub timestamp: u64,
    /// The snapshot; a smaller length in the timestamp rules.
    pub snapshot: u64,
    /// The targets; a smaller length in the snapshot rules.
    pub targets: u64,
    /// New root versions in one refresh.
    pub new_roots: u32,
}

impl Default for Limits {
    /// Room for thousands of targets, and little enough for a device with 16 MB to spare.
    fn default() -> Limits {
        Limits {
            root: 256 << 10,
            timestamp: 16 << 10,
            snapshot: 256 << 10,
            targets: 2 << 20,
            new_roots: 256,
        }
    }
}

/// Brings the trusted metadata up to date and returns it.
///
/// `initial_root` is the root metadata that the caller trusts by other means (it lies in the
/// verified image). `now` is the latest time the caller knows of; a device without a clock passes
/// the largest of what it last wrote down, its image's build and the network's answer.
///
/// On an error everything that was trusted before still is, and what verified on the way is kept,
/// so that a later refresh cannot be led back behind it.
pub fn refresh(
    fetch: &mut dyn Fetch,
    store: &mut dyn Store,
    initial_root: &[u8],
    now: Time,
    limits: &Limits,
) -> Result<Published, Error> {
    let mut client = Client { fetch, store, now, limits };
    let root = client.update_root(initial_root)?;
    let timestamp = client.update_timestamp(&root)?;
    let snapshot = client.update_snapshot(&root, &timestamp)?;
    let targets = client.update_targets(&root, &snapshot)?;
    Ok(Published { root, timestamp, snapshot, targets })
}

struct Client<'a> {
    fetch: &'a mut dyn Fetch,
    store: &'a mut dyn Store,
    now: Time,
    limits: &'a Limits,
}

impl Client<'_> {
    /// Section 5.2 and 5.3: load the trusted root, update it.
    fn update_root(&mut self, initial: &[u8]) -> Result<Root, Error> {
        // 5.2: the image's root is trusted, but has to be sound in itself.
        let envelope = Envelope::parse("the image's root metadata", initial)?;
        let mut root: Root = envelope.open("the image's root metadata")?;
        envelope.check("the image's root metadata", &root, Role::Root.name())?;

        // Roots fetched earlier are walked again from the image's root, not believed: the store
        // lies on a partition that nothing verifies.
        while let Some(next) = self.stored_root(&root)? {
            root = next;
        }
        let before = root.clone();

        // 5.3.2 to 5.3.9
        let mut new_roots = 0;
        loop {
            // 5.3.3
            let version = next_version(&root)?;
            let name = format!("{version}.root.json");
            let path = format!("{METADATA_DIR}/{name}");
            let bytes = match self.fetch.fetch(&path, self.limits.root) {
                Ok(bytes) => bytes,
                Err(FetchError::NotFound) => break,
                Err(source) => return Err(Error::Fetch { path, source }),
            };
            if new_roots == self.limits.new_roots {
                return Err(Error::TooManyRoots { limit: self.limits.new_roots });
            }
            new_roots += 1;
            root = successor(&root, &name, &bytes)?;
            // 5.3.8
            self.save(&name, &bytes)?;
        }

        // 5.3.10: only the last root has to be fresh.
        self.check_expiry("root.json", &root)?;

        // 5.3.11: recover from versions pushed to the top by keys that are trusted no longer.
        for role in [Role::Timestamp, Role::Snapshot] {
            if before.roles.get(role.name()) != root.roles.get(role.name()) {
                self.remove(TIMESTAMP)?;
                self.remove(SNAPSHOT)?;
            }
        }
        Ok(root)
    }

    fn stored_root(&self, root: &Root) -> Result<Option<Root>, Error> {
        let name = format!("{}.root.json", next_version(root)?);
        Ok(self.load(&name)?.and_then(|bytes| successor(root, &name, &bytes).ok()))
    }

    /// Section 5.4.
    fn update_timestamp(&mut self, root: &Root) -> Result<Timestamp, Error> {
        let trusted: Option<Timestamp> = self.trusted(TIMESTAMP, root)?.map(|(t, _)| t);

        // 5.4.1
        let bytes = self.get(TIMESTAMP, self.limits.timestamp)?;
        // 5.4.2
        let new: Timestamp = Envelope::parse(TIMESTAMP, &bytes)?.verify(TIMESTAMP, root)?;
        let snapshot = entry(TIMESTAMP, &new.meta, SNAPSHOT)?;
        if let Some(trusted) = trusted {
            // 5.4.3.1
            no_rollback(TIMESTAMP, trusted.version, new.version)?;
            if trusted.version == new.version {
                // The same version: what is trusted stays, so that one version has one content.
                self.check_expiry(TIMESTAMP, &trusted)?;
                return Ok(trusted);
            }
            // 5.4.3.2
            if let Some(before) = trusted.meta.get(SNAPSHOT) {
                no_rollback("snapshot.json in timestamp.json", before.version, snapshot.version)?;
            }
        }
        // 5.4.4
        self.check_expiry(TIMESTAMP, &new)?;
        // 5.4.5
        self.save(TIMESTAMP, &bytes)?;
        Ok(new)
    }

    /// Section 5.5.
    fn update_snapshot(&mut self, root: &Root, timestamp: &Timestamp) -> Result<Snapshot, Error> {
        let wanted = entry(TIMESTAMP, &timestamp.meta, SNAPSHOT)?;
        let trusted: Option<(Snapshot, Vec<u8>)> = self.trusted(SNAPSHOT, root)?;
        if let Some((snapshot, bytes)) = &trusted {
            if snapshot.version == wanted.version && wanted.matches(bytes) {
                self.check_expiry(SNAPSHOT, snapshot)?;
                return Ok(snapshot.clone());
            }
        }
        // 5.5.1 to 5.5.4
        let (new, bytes): (Snapshot, _) =
            self.get_verified(SNAPSHOT, wanted, root, self.limits.snapshot)?;
        entry(SNAPSHOT, &new.meta, TARGETS)?;
        // 5.5.5
        for (name, before) in trusted.iter().flat_map(|(trusted, _)| &trusted.meta) {
            let offered = new.meta.get(name).map_or(0, |file| file.version);
            no_rollback(&format!("{name} in snapshot.json"), before.version, offered)?;
        }
        // 5.5.6
        self.check_expiry(SNAPSHOT, &new)?;
        // 5.5.7
        self.save(SNAPSHOT, &bytes)?;
        Ok(new)
    }

    /// Section 5.6, for the top-level targets.
    fn update_targets(&mut self, root: &Root, snapshot: &Snapshot) -> Result<Targets, Error> {
        let wanted = entry(SNAPSHOT, &snapshot.meta, TARGETS)?;
        if let Some((targets, bytes)) = self.trusted::<Targets>(TARGETS, root)? {
            if targets.version == wanted.version && wanted.matches(&bytes) {
                self.check_expiry(TARGETS, &targets)?;
                return Ok(targets);
            }
        }
        // 5.6.1 to 5.6.4
        let (new, bytes): (Targets, _) =
            self.get_verified(TARGETS, wanted, root, self.limits.targets)?;
        // 5.6.5
        self.check_expiry(TARGETS, &new)?;
        // 5.6.6
        self.save(TARGETS, &bytes)?;
        Ok(new)
    }

    /// Fetches what signed metadata describes: length and hash, then signature, then version.
    fn get_verified<T: Metadata>(
        &mut self,
        name: &str,
        wanted: &MetaFile,
        root: &Root,
        limit: u64,
    ) -> Result<(T, Vec<u8>), Error> {
        let file = match root.consistent_snapshot {
            true => format!("{}.{name}", wanted.version),
            false => name.to_string(),
        };
        let bytes = self.get(&file, wanted.length.unwrap_or(limit).min(limit))?;
        if !wanted.matches(&bytes) {
            return Err(Error::Altered { file });
        }
        let metadata: T = Envelope::parse(&file, &bytes)?.verify(&file, root)?;
        check_version(&file, wanted.version, metadata.version())?;
        Ok((metadata, bytes))
    }

    fn get(&mut self, file: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let path = format!("{METADATA_DIR}/{file}");
        let bytes = match self.fetch.fetch(&path, limit) {
            Ok(bytes) if bytes.len() as u64 > limit => Err(FetchError::TooLarge(limit)),
            other => other,
        };
        bytes.map_err(|source| Error::Fetch { path, source })
    }

    /// What was trusted before, if the keys of today's root still sign it.
    fn trusted<T: Metadata>(&self, name: &str, root: &Root) -> Result<Option<(T, Vec<u8>)>, Error> {
        let Some(bytes) = self.load(name)? else {
            return Ok(None);
        };
        let metadata = Envelope::parse(name, &bytes).and_then(|e| e.verify(name, root));
        Ok(metadata.ok().map(|metadata| (metadata, bytes)))
    }

    fn check_expiry<T: Metadata>(&self, file: &str, metadata: &T) -> Result<(), Error> {
        match metadata.expires() {
            expires if expires <= self.now => {
                Err(Error::Expired { file: file.into(), expires, now: self.now })
            }
            _ => Ok(()),
        }
    }

    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.store.load(name).map_err(|source| Error::Store { name: name.into(), source })
    }

    fn save(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.store.save(name, bytes).map_err(|source| Error::Store { name: name.into(), source })
    }

    fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.store.remove(name).map_err(|source| Error::Store { name: name.into(), source })
    }
}

/// 5.3.4 to 5.3.6: a root is followed by one that it signed, that signed itself, and that has the
/// next version.
fn successor(root: &Root, file: &str, bytes: &[u8]) -> Result<Root, Error> {
    let envelope = Envelope::parse(file, bytes)?;
    let next: Root = envelope.verify(file, root)?;
    envelope.check(file, &next, Role::Root.name())?;
    check_version(file, next_version(root)?, next.version)?;
    Ok(next)
}

fn next_version(root: &Root) -> Result<u64, Error> {
    root.version.checked_add(1).ok_or_else(|| Error::Malformed {
        file: "root.json".into(),
        reason: "its version cannot grow any more".into(),
    })
}

fn entry<'a>(
    file: &str,
    meta: &'a std::collections::BTreeMap<String, MetaFile>,
    name: &str,
) -> Result<&'a MetaFile, Error> {
    meta.get(name).ok_or_else(|| Error::Malformed {
        file: file.into(),
        reason: format!("it does not list {name}"),
    })
}

fn no_rollback(file: &str, trusted: u64, offered: u64) -> Result<(), Error> {
    if offered < trusted {
        return Err(Error::Rollback { file: file.into(), trusted, offered });
    }
    Ok(())
}

fn check_version(file: &str, wanted: u64, found: u64) -> Result<(), Error> {
    if wanted != found {
        return Err(Error::WrongVersion { file: file.into(), wanted, found });
    }
    Ok(())
}
