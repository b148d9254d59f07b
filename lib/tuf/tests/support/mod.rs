//! A server and a device made of memory and a temporary folder, and a repository that says
//! whatever a test wants it to say, signed by whomever.

// Each test file takes what it needs.
#![allow(dead_code, missing_docs)]

pub mod graph;

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tuf::author::{Dates, Published, RoleSigners, first_root, new_root, publication};
use tuf::{
    Client, DirStore, Envelope, Error, Fetch, FetchError, Limits, Root, TargetFile, Time, refresh,
};

pub const NOW: Time = Time(1_800_000_000);

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub fn signers() -> RoleSigners {
    RoleSigners { root: key(1), targets: key(2), snapshot: key(3), timestamp: key(4) }
}

pub fn dates(days: u64) -> Dates {
    let t = NOW.plus_days(days);
    Dates { signed_at: NOW, targets: t, snapshot: t, timestamp: t }
}

/// A server: files by path, and what it was asked for.
#[derive(Clone, Default)]
pub struct Server {
    pub files: BTreeMap<String, Vec<u8>>,
    pub asked: Vec<(String, u64)>,
    pub endless: Option<String>,
    /// As an object store does: what is not there is forbidden.
    pub forbids: bool,
}

impl Fetch for Server {
    fn fetch(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        self.asked.push((path.into(), max));
        if self.endless.as_deref() == Some(path) {
            return Err(FetchError::TooLarge(max));
        }
        let missing = if self.forbids { FetchError::Forbidden } else { FetchError::NotFound };
        let bytes = self.files.get(path).ok_or(missing)?;
        if bytes.len() as u64 > max {
            return Err(FetchError::TooLarge(max));
        }
        Ok(bytes.clone())
    }
}

impl Server {
    pub fn publish(
        &mut self,
        before: Option<&Published>,
        names: &[&str],
        signers: &RoleSigners,
        days: u64,
    ) {
        let target = |name: &&str| {
            let hash = tuf::sha256_hex(name.as_bytes());
            let hashes = BTreeMap::from([("sha256".to_string(), hash)]);
            (name.to_string(), TargetFile { length: 1, hashes, custom: None })
        };
        let targets = names.iter().map(target).collect();
        let root = first_root(signers, NOW.plus_days(3650)).expect("root");
        let files = publication(before.ok_or(&root[..]), targets, signers, &dates(days))
            .expect("publication")
            .files;
        for (name, bytes) in files {
            self.files.insert(format!("metadata/{name}"), bytes);
        }
    }

    pub fn root(&self) -> Vec<u8> {
        self.files["metadata/1.root.json"].clone()
    }

    pub fn edit(&mut self, file: &str, change: impl FnOnce(&mut Value)) {
        let bytes = self.files.get_mut(&format!("metadata/{file}")).expect("file exists");
        let mut value: Value = serde_json::from_slice(bytes).expect("metadata is JSON");
        change(&mut value);
        *bytes = serde_json::to_vec(&value).expect("JSON");
    }

    /// Puts a metadata file there, signed.
    pub fn put(&mut self, file: &str, signed: &Value, keys: &[&SigningKey]) {
        let bytes = Envelope::sign(signed, keys).expect("sign").to_bytes();
        self.files.insert(format!("metadata/{file}"), bytes);
    }

    /// What signed metadata says of the file, with its length and hash.
    pub fn described(&self, file: &str, version: u64) -> Value {
        let bytes = &self.files[&format!("metadata/{file}")];
        let hash = tuf::sha256_hex(bytes);
        json!({"version": version, "length": bytes.len(), "hashes": {"sha256": hash}})
    }

    /// What was asked for below `metadata/` since the last call.
    pub fn take_asked(&mut self) -> Vec<String> {
        let asked = std::mem::take(&mut self.asked);
        asked.into_iter().map(|(path, _)| path.replacen("metadata/", "", 1)).collect()
    }

    /// Changes what is signed, and signs it again.
    pub fn resign(&mut self, file: &str, keys: &[&SigningKey], change: impl FnOnce(&mut Value)) {
        self.edit(file, |value| {
            change(&mut value["signed"]);
            let new = Envelope::sign(&value["signed"], keys).expect("sign");
            *value = serde_json::from_slice(&new.to_bytes()).expect("JSON");
        });
    }
}

pub struct Device {
    pub dir: tempfile::TempDir,
    pub root: Vec<u8>,
}

impl Device {
    pub fn new(server: &Server) -> Device {
        Device { dir: tempfile::tempdir().expect("temporary folder"), root: server.root() }
    }

    pub fn refresh_at(&self, server: &mut Server, now: Time) -> Result<Published, Error> {
        let mut store = DirStore::open(self.dir.path()).expect("store");
        refresh(server, &mut store, &self.root, now, &Limits::default())
    }

    pub fn refresh(&self, server: &mut Server) -> Result<Published, Error> {
        self.refresh_at(server, NOW)
    }

    /// Refreshes with a client and goes on with it.
    pub fn with_client<T>(
        &self,
        server: &mut Server,
        then: impl FnOnce(&mut Client<'_>, &Published) -> T,
    ) -> T {
        let mut store = DirStore::open(self.dir.path()).expect("store");
        let mut client = Client::new(server, &mut store, NOW, Limits::default());
        let published = client.refresh(&self.root).expect("refresh");
        then(&mut client, &published)
    }

    /// The version that is trusted and stored as `name`.
    pub fn stored(&self, name: &str) -> Option<u64> {
        let bytes = std::fs::read(self.dir.path().join(name)).ok()?;
        let value: Value = serde_json::from_slice(&bytes).expect("stored metadata is JSON");
        value["signed"]["version"].as_u64()
    }
}

pub fn published() -> Server {
    let mut server = Server::default();
    server.publish(None, &["one"], &signers(), 30);
    server
}

pub fn names(published: &Published) -> Vec<&str> {
    published.targets.targets.keys().map(String::as_str).collect()
}

/// A root that is signed by the first root key and by `also`.
pub fn put_root(server: &mut Server, keys: &RoleSigners, version: u64, also: &[&SigningKey]) {
    put_changed_root(server, keys, version, also, |_| {});
}

pub fn put_changed_root(
    server: &mut Server,
    keys: &RoleSigners,
    version: u64,
    also: &[&SigningKey],
    change: impl FnOnce(&mut Root),
) {
    let mut root = new_root(&keys.public_keys(), version, NOW.plus_days(3650)).expect("a new root");
    change(&mut root);
    let value = serde_json::to_value(&root).expect("JSON");
    let first = key(1);
    let all: Vec<&SigningKey> = [&[&first][..], also].concat();
    server.put(&format!("{version}.root.json"), &value, &all);
}

pub fn refused(result: Result<Published, Error>) -> Error {
    result.expect_err("an attack went through")
}
