//! The client's workflow (specification section 5), step by step with its numbers.
//!
//! | section | here |
//! |---|---|
//! | 5.1 fixed update start time | the caller's `now`, and no earlier than the trusted timestamp's `signed_at`, as far as the caller believes that |
//! | 5.2, 5.3 root | `root.rs` |
//! | 5.4 timestamp, 5.5 snapshot, 5.6.1 to 5.6.6 targets | `top_level.rs` |
//! | 5.6.7 search through delegations, 5.7 fetching a target | `search.rs` |

mod root;
mod search;
mod top_level;

use crate::author::Published;
use crate::envelope::{Authority, Envelope};
use crate::error::Error;
use crate::fetch::{Fetch, FetchError};
use crate::key::{Ed25519, KeySchemes};
use crate::metadata::{METADATA_DIR, MetaFile, Timestamp};
use crate::role::Metadata;
use crate::store::Store;
use crate::time::Time;
use std::collections::BTreeMap;

pub use root::check_initial_root;
pub use search::Found;

const TIMESTAMP: &str = "timestamp.json";
const SNAPSHOT: &str = "snapshot.json";
const TARGETS: &str = "targets.json";

/// Bounds on what a server can make a client read and do, in bytes where a length.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Each root file (W in the specification).
    pub root: u64,
    /// The timestamp (X).
    pub timestamp: u64,
    /// The snapshot (Y); a smaller length in the timestamp rules.
    pub snapshot: u64,
    /// The targets metadata of each role (Z); a smaller length in the snapshot rules.
    pub targets: u64,
    /// New root versions in one refresh (Y again, in 5.3.3).
    pub new_roots: u32,
    /// Roles that one search for a target visits, the top-level one among them (5.6.7.1).
    pub roles: u32,
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
            roles: 32,
        }
    }
}

/// Brings the trusted metadata up to date and returns it: [`Client::refresh`] with ed25519 keys.
pub fn refresh(
    fetch: &mut dyn Fetch,
    store: &mut dyn Store,
    initial_root: &[u8],
    now: Time,
    limits: &Limits,
) -> Result<Published, Error> {
    Client::new(fetch, store, now, *limits).refresh(initial_root)
}

/// One update cycle: refresh, then find and fetch as many targets as wanted.
pub struct Client<'a> {
    fetch: &'a mut dyn Fetch,
    store: &'a mut dyn Store,
    /// Has certainly passed.
    now: Time,
    /// What the trusted timestamp says of when it was signed.
    claimed: Option<Time>,
    /// A later claim is not believed.
    believable: Time,
    limits: Limits,
    schemes: &'a dyn KeySchemes,
}

impl<'a> Client<'a> {
    /// `now` is a time that has certainly passed (5.1); a device that cannot be sure of its clock
    /// passes what it is sure of, 1970 if nothing. What the timestamp says of when it was signed
    /// is added here, as long as the root trusts the key that signed it.
    pub fn new(
        fetch: &'a mut dyn Fetch,
        store: &'a mut dyn Store,
        now: Time,
        limits: Limits,
    ) -> Client<'a> {
        let (claimed, believable) = (None, Time::MAX);
        Client { fetch, store, now, claimed, believable, limits, schemes: &Ed25519 }
    }

    /// Believes no timestamp that says it was signed after `latest`: such a one is taken like one
    /// that says nothing of the time. One online key, or the clock of the PC that it lies on, then
    /// lets nothing expire that will be good for long.
    pub fn believing_until(self, latest: Time) -> Client<'a> {
        Client { believable: latest, ..self }
    }

    /// Takes signatures of other kinds than ed25519.
    pub fn with_schemes(self, schemes: &'a dyn KeySchemes) -> Client<'a> {
        Client { schemes, ..self }
    }

    /// Sections 5.2 to 5.6.6: brings the trusted metadata up to date and returns it.
    ///
    /// `initial_root` is the root metadata that the caller trusts by other means (it lies in the
    /// verified image).
    ///
    /// On an error everything that was trusted before still is, and what verified on the way is
    /// kept, so that a later refresh cannot be led back behind it.
    pub fn refresh(&mut self, initial_root: &[u8]) -> Result<Published, Error> {
        let root = self.update_root(initial_root)?;
        let timestamp = self.update_timestamp(&root)?;
        let snapshot = self.update_snapshot(&root, &timestamp)?;
        let targets = self.update_targets(&root, &snapshot)?;
        Ok(Published { root, timestamp, snapshot, targets })
    }

    /// Fetches what signed metadata describes: length and hash, then signature, then version.
    /// `name` is the file's without a version.
    fn fetch_described<T: Metadata>(
        &mut self,
        name: &str,
        consistent_snapshot: bool,
        wanted: &MetaFile,
        authority: Authority<'_>,
        limit: u64,
    ) -> Result<(T, Vec<u8>), Error> {
        // 5.5.1, 5.6.1
        let file = match consistent_snapshot {
            true => format!("{}.{name}", wanted.version),
            false => name.to_string(),
        };
        let bytes = self.get(&file, wanted.length.unwrap_or(limit).min(limit))?;
        // 5.5.2, 5.6.2
        if !wanted.matches(&bytes) {
            return Err(Error::Altered { file });
        }
        // 5.5.3, 5.6.3
        let metadata: T = Envelope::parse(&file, &bytes)?.verify(&file, authority)?;
        // 5.5.4, 5.6.4
        check_version(&file, wanted.version, metadata.version())?;
        Ok((metadata, bytes))
    }

    fn get(&mut self, file: &str, limit: u64) -> Result<Vec<u8>, Error> {
        self.get_path(format!("{METADATA_DIR}/{file}"), limit)
    }

    /// At most `limit` bytes, whatever the one who fetches makes of it.
    fn get_path(&mut self, path: String, limit: u64) -> Result<Vec<u8>, Error> {
        let bytes = match self.fetch.fetch(&path, limit) {
            Ok(bytes) if bytes.len() as u64 > limit => Err(FetchError::TooLarge(limit)),
            other => other,
        };
        bytes.map_err(|source| Error::Fetch { path, source })
    }

    /// What was trusted before, if it is signed as it would have to be today. It may have expired:
    /// its version numbers count all the same.
    fn trusted<T: Metadata>(
        &self,
        name: &str,
        authority: Authority<'_>,
    ) -> Result<Option<(T, Vec<u8>)>, Error> {
        let Some(bytes) = self.load(name)? else {
            return Ok(None);
        };
        let metadata = Envelope::parse(name, &bytes).and_then(|e| e.verify(name, authority));
        Ok(metadata.ok().map(|metadata| (metadata, bytes)))
    }

    /// A signed time that holds is not in the future: from here on it counts as past. So a device
    /// without a clock knows at least when the repository was last looked after. The newest version
    /// speaks: an older one that said more was wrong, and nobody can bring it back.
    fn learn_time(&mut self, timestamp: &Timestamp) {
        self.claimed = timestamp.signed_at.filter(|at| *at <= self.believable);
    }

    /// What has passed: for certain, and by the trusted timestamp.
    fn passed(&self) -> Time {
        self.claimed.map_or(self.now, |at| self.now.max(at))
    }

    fn check_expiry<T: Metadata>(&self, file: &str, metadata: &T) -> Result<(), Error> {
        self.check_expiry_at(self.passed(), file, metadata)
    }

    fn check_expiry_at<T: Metadata>(
        &self,
        now: Time,
        file: &str,
        metadata: &T,
    ) -> Result<(), Error> {
        match metadata.expires() {
            expires if expires <= now => Err(Error::Expired { file: file.into(), expires, now }),
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

/// What `file` says of the metadata file `name`.
fn entry<'a>(
    file: &str,
    meta: &'a BTreeMap<String, MetaFile>,
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
