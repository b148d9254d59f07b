//! A repository, as `imager publish` lays it out.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use tuf::author::{Dates, Published, RoleSigners, first_root, publication};
use tuf::{DeltaTarget, FerriteTarget, TargetFile, Time};

use super::{Delta, Server, TestDevice, Update};

/// A repository's files by path, as `imager publish` lays them out.
pub fn publish(updates: &[(&Update, u64)]) -> BTreeMap<String, Vec<u8>> {
    let mut repository = Repository::new();
    repository.publish_with(updates, |_| ());
    repository.files
}

/// A repository with one update, a delta to it, an index of it.
pub fn publish_beside(
    update: &Update,
    delta: Option<&Delta>,
    index: Option<&[u8]>,
) -> BTreeMap<String, Vec<u8>> {
    let mut repository = Repository::new();
    let updates = [(update, update.bytes.len() as u64)];
    let mut targets = targets_of(&updates, &mut repository.files, |ferrite| {
        ferrite.index = index.map(|_| "x.index".into());
        ferrite.deltas.extend(delta.map(|delta| DeltaTarget {
            from_header_sha256: tuf::sha256_hex(&delta.from),
            target: "x.delta".into(),
            head_length: delta.head_length as u64,
            head_sha256: tuf::sha256_hex(&delta.bytes[..delta.head_length]),
        }));
    });
    for (name, bytes) in [("x.delta", delta.map(|d| &d.bytes[..])), ("x.index", index)] {
        let Some(bytes) = bytes else { continue };
        let hash = tuf::sha256_hex(bytes);
        repository.files.insert(format!("targets/{hash}.{name}"), bytes.to_vec());
        let hashes = BTreeMap::from([("sha256".into(), hash)]);
        let length = bytes.len() as u64;
        targets.insert(name.to_string(), TargetFile { length, hashes, custom: None });
    }
    repository.publish_targets(targets);
    repository.files
}

fn targets_of(
    updates: &[(&Update, u64)],
    files: &mut BTreeMap<String, Vec<u8>>,
    change: impl Fn(&mut FerriteTarget),
) -> BTreeMap<String, TargetFile> {
    let mut targets = BTreeMap::new();
    for (update, length) in updates {
        let manifest = &update.manifest;
        let mut ferrite = FerriteTarget {
            board: manifest.board.clone(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sequence: manifest.sequence,
            header_sha256: tuf::sha256_hex(&update.header),
            ..FerriteTarget::default()
        };
        change(&mut ferrite);
        let hash = tuf::sha256_hex(&update.bytes);
        let name = format!("{}-{}-{}.update", manifest.name, manifest.board, manifest.version);
        files.insert(format!("targets/{hash}.{name}"), update.bytes.clone());
        let target = TargetFile {
            length: *length,
            hashes: BTreeMap::from([("sha256".into(), hash)]),
            custom: Some(serde_json::json!({ "ferrite": ferrite })),
        };
        targets.insert(name, target);
    }
    targets
}

/// A repository that is published to again and again, and tampered with.
pub struct Repository {
    /// By path.
    pub files: BTreeMap<String, Vec<u8>>,
    pub signers: RoleSigners,
    pub dates: Dates,
    /// The root metadata that devices start from.
    pub root: Vec<u8>,
    pub before: Option<Published>,
}

pub fn role_key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub fn role_signers() -> RoleSigners {
    RoleSigners {
        root: role_key(1),
        targets: role_key(2),
        snapshot: role_key(3),
        timestamp: role_key(4),
    }
}

impl Repository {
    pub fn new() -> Repository {
        let end = Time(4_000_000_000);
        let root = first_root(&role_signers(), end).unwrap();
        Repository {
            files: BTreeMap::from([("metadata/1.root.json".into(), root.clone())]),
            signers: role_signers(),
            dates: Dates { signed_at: Time(1), targets: end, snapshot: end, timestamp: end },
            root,
            before: None,
        }
    }

    /// Publishes exactly these updates, with the next versions of all metadata.
    pub fn publish(&mut self, updates: &[&Update]) {
        let sized: Vec<_> = updates.iter().map(|u| (*u, u.bytes.len() as u64)).collect();
        self.publish_with(&sized, |_| ());
    }

    /// The same, with a say in what is said of each update.
    pub fn publish_with(
        &mut self,
        updates: &[(&Update, u64)],
        change: impl Fn(&mut FerriteTarget),
    ) {
        let targets = targets_of(updates, &mut self.files, change);
        self.publish_targets(targets);
    }

    pub fn publish_targets(&mut self, targets: BTreeMap<String, TargetFile>) {
        let before = self.before.as_ref().ok_or(&self.root[..]);
        let publication = publication(before, targets, &self.signers, &self.dates).unwrap();
        for (name, bytes) in publication.files {
            self.files.insert(format!("metadata/{name}"), bytes);
        }
        // What it is now, by the client's own steps, whatever the dates.
        let dir = tempfile::tempdir().unwrap();
        let mut store = tuf::DirStore::open(dir.path()).unwrap();
        let mut fetch = Files(&self.files);
        let limits = tuf::Limits::default();
        let now = tuf::refresh(&mut fetch, &mut store, &self.root, Time(0), &limits);
        if let Ok(now) = now {
            self.before = Some(now);
        }
    }

    pub fn serve(&self, device: &TestDevice) -> Server {
        device.put("etc/ferrite/tuf-root.json", &self.root);
        Server::of_files(self.files.clone()).unwrap()
    }
}

struct Files<'a>(&'a BTreeMap<String, Vec<u8>>);

impl tuf::Fetch for Files<'_> {
    fn fetch(&mut self, path: &str, _: u64) -> Result<Vec<u8>, tuf::FetchError> {
        self.0.get(path).cloned().ok_or(tuf::FetchError::NotFound)
    }
}
