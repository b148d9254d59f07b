//! The four top-level roles (specification sections 4.3 to 4.6).

use crate::delegation::Delegations;
use crate::envelope::Authority;
use crate::error::Error;
use crate::ferrite::FerriteTarget;
use crate::key::{KeySchemes, sha256_hex, to_hex};
use crate::role::{Metadata, Role};
use crate::time::Time;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha512};
use std::collections::BTreeMap;

/// The version of the specification written into metadata; any 1.x is read.
pub const SPEC_VERSION: &str = "1.0.31";
/// Folder of the metadata below the repository's URL.
pub const METADATA_DIR: &str = "metadata";
/// Folder of the targets below the repository's URL.
pub const TARGETS_DIR: &str = "targets";

macro_rules! metadata {
    ($($type:ident),*) => {$(
        impl Metadata for $type {
            const ROLE: Role = Role::$type;
            fn kind(&self) -> &str { &self.kind }
            fn spec_version(&self) -> &str { &self.spec_version }
            fn version(&self) -> u64 { self.version }
            fn expires(&self) -> Time { self.expires }
            fn sound(&self) -> Result<(), String> { self.check_content() }
        }
    )*};
}
metadata!(Root, Targets, Snapshot, Timestamp);

/// Root metadata: the keys of every role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Root {
    #[serde(rename = "_type")]
    pub(crate) kind: String,
    pub(crate) spec_version: String,
    /// Whether file names carry versions and hashes. Old metadata may leave it out.
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// Grows by one with every root.
    pub version: u64,
    /// Not to be trusted for anything from then on.
    pub expires: Time,
    /// Key objects by key id. Kept as they came: the id is a hash over all of the object.
    pub keys: BTreeMap<String, Value>,
    /// Who signs for each role.
    pub roles: BTreeMap<String, RoleKeys>,
}

impl Root {
    /// 4.3: the four roles are there and somebody has to sign for each.
    fn check_content(&self) -> Result<(), String> {
        for role in Role::ALL {
            let name = role.name();
            match self.roles.get(name) {
                None => return Err(format!("it names no keys for the role {name}")),
                Some(keys) if keys.threshold == 0 => {
                    return Err(format!("it asks for no signature by the role {name}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Who signs for `role`.
    pub(crate) fn authority<'a>(
        &'a self,
        role: Role,
        schemes: &'a dyn KeySchemes,
    ) -> Result<Authority<'a>, Error> {
        let keys = self.roles.get(role.name()).ok_or_else(|| Error::Malformed {
            file: "root.json".into(),
            reason: format!("it names no keys for the role {}", role.name()),
        })?;
        Ok(Authority { keys: &self.keys, keyids: &keys.keyids, threshold: keys.threshold, schemes })
    }
}

/// Keys of one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Ids of the keys.
    pub keyids: Vec<String>,
    /// How many different keys have to sign.
    pub threshold: u64,
}

/// Says which snapshot is the newest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timestamp {
    #[serde(rename = "_type")]
    pub(crate) kind: String,
    pub(crate) spec_version: String,
    /// Grows with every publication.
    pub version: u64,
    /// Not to be trusted from then on.
    pub expires: Time,
    /// When it was signed, which the specification has no field for. `None` when it does not say,
    /// or when the field is somebody else's and holds something else.
    #[serde(
        default,
        deserialize_with = "time_if_it_is_one",
        skip_serializing_if = "Option::is_none"
    )]
    pub signed_at: Option<Time>,
    /// Holds `snapshot.json` only.
    pub meta: BTreeMap<String, MetaFile>,
}

impl Timestamp {
    fn check_content(&self) -> Result<(), String> {
        check_meta(&self.meta)
    }
}

/// Says which targets metadata belongs to this publication.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    #[serde(rename = "_type")]
    pub(crate) kind: String,
    pub(crate) spec_version: String,
    /// Grows with every publication.
    pub version: u64,
    /// Not to be trusted from then on.
    pub expires: Time,
    /// All targets metadata, by file name without version.
    pub meta: BTreeMap<String, MetaFile>,
}

impl Snapshot {
    fn check_content(&self) -> Result<(), String> {
        check_meta(&self.meta)
    }
}

/// Fields that the specification does not know may hold anything.
fn time_if_it_is_one<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Time>, D::Error> {
    Ok(Value::deserialize(value)?.as_str().and_then(|text| text.parse().ok()))
}

/// A version of 0 would be one that nothing can fall behind (4.3: greater than 0).
fn check_meta(meta: &BTreeMap<String, MetaFile>) -> Result<(), String> {
    match meta.iter().find(|(_, file)| file.version == 0) {
        Some((name, _)) => Err(format!("it lists version 0 of {name}")),
        None => Ok(()),
    }
}

/// Version, and if given length and hashes, of a metadata file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFile {
    /// The version that the file holds.
    pub version: u64,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Hex by algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<BTreeMap<String, String>>,
}

impl MetaFile {
    /// Describes a file that holds `version`.
    pub fn of(version: u64, bytes: &[u8]) -> MetaFile {
        MetaFile {
            version,
            length: Some(bytes.len() as u64),
            hashes: Some(BTreeMap::from([("sha256".into(), sha256_hex(bytes))])),
        }
    }

    /// Whether `bytes` are what this describes, as far as it says.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        self.length.is_none_or(|length| length == bytes.len() as u64)
            && self.hashes.as_ref().is_none_or(|hashes| hashes_match(hashes, bytes))
    }
}

/// Whether every hash of a known algorithm is that of `bytes`. Where none is known nothing is
/// proven: that does not match.
fn hashes_match(hashes: &BTreeMap<String, String>, bytes: &[u8]) -> bool {
    let mut known = false;
    for (algorithm, hash) in hashes {
        let actual = match algorithm.as_str() {
            "sha256" => sha256_hex(bytes),
            "sha512" => to_hex(&Sha512::digest(bytes)),
            _ => continue,
        };
        if !hash.eq_ignore_ascii_case(&actual) {
            return false;
        }
        known = true;
    }
    known
}

/// Says which files the repository offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    #[serde(rename = "_type")]
    pub(crate) kind: String,
    pub(crate) spec_version: String,
    /// Grows with every change.
    pub version: u64,
    /// Not to be trusted from then on.
    pub expires: Time,
    /// The files, by path.
    pub targets: BTreeMap<String, TargetFile>,
    /// The roles that speak for some of the paths, as it came: who writes the metadata again must
    /// not lose fields of it. [`Targets::delegations`] reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Value>,
}

impl Targets {
    fn check_content(&self) -> Result<(), String> {
        self.delegations().map(|_| ())
    }

    /// The roles that speak for some of the paths. Metadata whose signature was verified has been
    /// checked for this; the error is for people.
    pub fn delegations(&self) -> Result<Delegations, String> {
        self.delegations.as_ref().map_or(Ok(Delegations::default()), Delegations::read)
    }
}

/// One file that the repository offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Bytes.
    pub length: u64,
    /// Hex by algorithm; `sha256` is always among what Ferrite writes.
    pub hashes: BTreeMap<String, String>,
    /// What the repository's owner adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
}

impl TargetFile {
    /// The Ferrite part of `custom`; `None` when it is missing, is not one, or goes beyond the
    /// bounds that [`FerriteTarget::check`] knows.
    pub fn ferrite(&self) -> Option<FerriteTarget> {
        let value = self.custom.as_ref()?.get("ferrite")?.clone();
        let ferrite: FerriteTarget = serde_json::from_value(value).ok()?;
        ferrite.check().ok().map(|()| ferrite)
    }

    /// Whether `bytes` are this file: its length, and every hash of an algorithm that is known
    /// (SHA-256, SHA-512), of which there has to be one.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.length == bytes.len() as u64 && hashes_match(&self.hashes, bytes)
    }

    /// SHA-256 of the file, in hex.
    pub fn sha256(&self) -> Option<&str> {
        self.hashes.get("sha256").map(String::as_str)
    }
}

/// Where the target called `name` lies below the repository's URL: with consistent snapshots the
/// last part of the path gets a hash of the file in front (specification section 6.2), SHA-256
/// where there is one, otherwise SHA-512. `None` when the target has neither or its name would
/// leave the folder.
pub fn target_path(consistent_snapshot: bool, name: &str, target: &TargetFile) -> Option<String> {
    let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !name.split('/').all(sound) {
        return None;
    }
    if !consistent_snapshot {
        return Some(format!("{TARGETS_DIR}/{name}"));
    }
    let (hash, digits) = match target.sha256() {
        Some(hash) => (hash, 64),
        None => (target.hashes.get("sha512")?.as_str(), 128),
    };
    if hash.len() != digits || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some(match name.rsplit_once('/') {
        Some((folder, file)) => format!("{TARGETS_DIR}/{folder}/{hash}.{file}"),
        None => format!("{TARGETS_DIR}/{hash}.{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_paths_stay_in_their_folder() {
        let hash = "ab".repeat(32);
        let target = TargetFile {
            length: 1,
            hashes: BTreeMap::from([("sha256".into(), hash.clone())]),
            custom: None,
        };
        let path = |name: &str| target_path(true, name, &target);
        assert_eq!(path("a.update"), Some(format!("targets/{hash}.a.update")));
        assert_eq!(path("x/a"), Some(format!("targets/x/{hash}.a")));
        assert_eq!(target_path(false, "a", &target), Some("targets/a".into()));
        for bad in ["", "../a", "x/../a", "/a", "a/", "x//a", "."] {
            assert_eq!(path(bad), None, "{bad:?}");
        }
        let mut odd = target.clone();
        odd.hashes.insert("sha256".into(), "../../etc".into());
        assert_eq!(target_path(true, "a", &odd), None);
        odd.hashes = BTreeMap::from([("sha512".into(), "cd".repeat(64))]);
        assert_eq!(target_path(true, "a", &odd), Some(format!("targets/{}.a", "cd".repeat(64))));
        odd.hashes = BTreeMap::from([("md5".into(), "cd".repeat(16))]);
        assert_eq!(target_path(true, "a", &odd), None);
    }

    #[test]
    fn every_known_hash_has_to_match_and_one_has_to_be_known() {
        let sha512 = to_hex(&Sha512::digest(b"x"));
        let with = |hashes: &[(&str, &str)]| TargetFile {
            length: 1,
            hashes: hashes.iter().map(|(a, h)| (a.to_string(), h.to_string())).collect(),
            custom: None,
        };
        let sha256 = sha256_hex(b"x");
        assert!(with(&[("sha256", &sha256)]).matches(b"x"));
        assert!(with(&[("sha512", &sha512.to_uppercase())]).matches(b"x"));
        assert!(with(&[("sha256", &sha256), ("sha512", &sha512), ("new", "?")]).matches(b"x"));
        assert!(!with(&[("sha256", &sha256), ("sha512", &sha256)]).matches(b"x"));
        assert!(!with(&[("sha256", &sha256)]).matches(b"y"));
        assert!(!with(&[("new", &sha256)]).matches(b"x"));
        assert!(!with(&[]).matches(b"x"));
        assert!(!TargetFile { length: 2, ..with(&[("sha256", &sha256)]) }.matches(b"x"));
    }
}
