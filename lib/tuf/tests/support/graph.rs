//! A repository of delegations.

use super::{Device, NOW, Server, key, published};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tuf::{key_id, key_object, sha256_hex};

/// The key of a targets role: its own for each name.
pub fn role_key(name: &str) -> SigningKey {
    if name == "targets" {
        return key(2);
    }
    let mut seed = [0x55; 32];
    seed.iter_mut().zip(sha256_hex(name.as_bytes()).bytes()).for_each(|(to, from)| *to = from);
    SigningKey::from_bytes(&seed)
}

pub fn id_of(key: &SigningKey) -> String {
    key_id(&key_object(&key.verifying_key())).expect("id")
}

/// A delegation to `name`, which speaks for what fits `paths`.
pub fn to(name: &str, paths: &[&str]) -> Value {
    json!({"name": name, "keyids": [id_of(&role_key(name))], "threshold": 1,
        "terminating": false, "paths": paths})
}

/// The same, and nobody is asked after it.
pub fn only_to(name: &str, paths: &[&str]) -> Value {
    let mut role = to(name, paths);
    role["terminating"] = json!(true);
    role
}

/// `delegations` of targets metadata, with the keys of those it delegates to.
pub fn delegations(roles: &[Value]) -> Value {
    let keys: BTreeMap<String, Value> = roles
        .iter()
        .map(|role| key_object(&role_key(role["name"].as_str().expect("name")).verifying_key()))
        .map(|object| (key_id(&object).expect("id"), object))
        .collect();
    json!({"keys": keys, "roles": roles})
}

/// Targets metadata, signed by nobody yet. A target's content is `<role>:<target>`.
pub fn targets(role: &str, version: u64, names: &[&str], roles: &[Value]) -> Value {
    let files: BTreeMap<&str, Value> = names
        .iter()
        .map(|name| {
            let content = content(role, name);
            let hash = sha256_hex(&content);
            (*name, json!({"length": content.len(), "hashes": {"sha256": hash}}))
        })
        .collect();
    json!({"_type": "targets", "spec_version": "1.0.34", "version": version,
        "expires": NOW.plus_days(30).to_string(), "targets": files,
        "delegations": delegations(roles)})
}

pub fn content(role: &str, target: &str) -> Vec<u8> {
    format!("{role}:{target}").into_bytes()
}

/// Signed targets roles behind a snapshot and a timestamp.
pub struct Graph {
    pub server: Server,
    versions: BTreeMap<String, u64>,
    publications: u64,
}

impl Graph {
    /// Roles by name, each with the targets it lists and the roles it delegates to.
    pub fn new(roles: &[(&str, &[&str], &[Value])]) -> Graph {
        let mut graph = Graph { server: published(), versions: BTreeMap::new(), publications: 1 };
        graph.versions.insert("targets".into(), 1);
        for (name, names, delegated) in roles {
            graph.role(name, names, delegated);
        }
        graph.publish();
        graph
    }

    /// The next version of a role.
    pub fn role(&mut self, name: &str, names: &[&str], delegated: &[Value]) {
        let version = self.versions.get(name).map_or(1, |version| version + 1);
        self.signed(name, &targets(name, version, names, delegated), &[&role_key(name)]);
        for target in names {
            let content = content(name, target);
            let (folder, file) = target.rsplit_once('/').unwrap_or(("", target));
            let slash = if folder.is_empty() { "" } else { "/" };
            let path = format!("targets/{folder}{slash}{}.{file}", sha256_hex(&content));
            self.server.files.insert(path, content);
        }
    }

    /// The next version of a role, as it is, signed by `keys`.
    pub fn signed(&mut self, name: &str, signed: &Value, keys: &[&SigningKey]) {
        let version = signed["version"].as_u64().expect("a version");
        self.server.put(&Graph::file(name, version), signed, keys);
        self.versions.insert(name.into(), version);
    }

    /// A role's file, as the client asks for it.
    pub fn file(name: &str, version: u64) -> String {
        let name = name.replace('/', "%2F").replace('?', "%3F").replace('#', "%23");
        format!("{version}.{name}.json")
    }

    /// A new snapshot of all roles and a new timestamp.
    pub fn publish(&mut self) {
        self.publish_as(|_| {});
    }

    /// The same, with what the snapshot says changed.
    pub fn publish_as(&mut self, change: impl FnOnce(&mut Value)) {
        self.publications += 1;
        let version = self.publications;
        let mut meta = json!({});
        for (name, version) in &self.versions {
            meta[format!("{name}.json")] =
                self.server.described(&Graph::file(name, *version), *version);
        }
        change(&mut meta);
        let expires = NOW.plus_days(30).to_string();
        let snapshot = json!({"_type": "snapshot", "spec_version": "1.0.34", "version": version,
            "expires": expires, "meta": meta});
        let file = format!("{version}.snapshot.json");
        self.server.put(&file, &snapshot, &[&key(3)]);
        let timestamp = json!({"_type": "timestamp", "spec_version": "1.0.34", "version": version,
            "expires": expires, "meta": {"snapshot.json": self.server.described(&file, version)}});
        self.server.put("timestamp.json", &timestamp, &[&key(4)]);
    }

    pub fn device(&self) -> Device {
        Device::new(&self.server)
    }
}
