//! A repository's metadata, through the whole client.

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use ed25519_dalek::{Signer, SigningKey};
use olpc_cjson::CanonicalFormatter;
use tuf::author::{first_root, RoleSigners};
use tuf::{key_id, key_object, refresh, Envelope, Fetch, FetchError, Limits, Store, Time};
use serde::Serialize;
use serde_json::{json, Value};

/// The files in the order in which the input has them.
const FILES: [(&str, u8); 4] = [
    ("metadata/2.root.json", 1),
    ("metadata/timestamp.json", 4),
    ("metadata/1.snapshot.json", 3),
    ("metadata/1.targets.json", 2),
];

/// The root metadata that the client starts from.
static ROOT: OnceLock<Vec<u8>> = OnceLock::new();

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// Four metadata files, a zero byte between them: as they are; and the signed part of each, signed
/// by the key that may, with the lengths and hashes that lead to it left out.
pub fn tuf(input: &[u8]) {
    let parts: Vec<&[u8]> = input.splitn(FILES.len(), |byte| *byte == 0).collect();
    let named = || FILES.iter().zip(&parts);
    let raw = named().map(|((name, _), bytes)| (*name, bytes.to_vec())).collect();
    run(raw);
    let signed = named().filter_map(|((name, number), bytes)| {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let signed = value.get("signed").unwrap_or(&value);
        Some((*name, sign(signed, &key(*number))?))
    });
    run(signed.collect());
}

/// An envelope around any JSON that has a canonical form.
fn sign(signed: &Value, key: &SigningKey) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let formatter = CanonicalFormatter::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut message, formatter);
    signed.serialize(&mut serializer).ok()?;
    let id = key_id(&key_object(&key.verifying_key()))?;
    let signature: String =
        key.sign(&message).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let envelope = json!({"signatures": [{"keyid": id, "sig": signature}], "signed": signed});
    serde_json::to_vec(&envelope).ok()
}

fn run(files: BTreeMap<&'static str, Vec<u8>>) {
    for bytes in files.values() {
        let _ = Envelope::parse("a file", bytes);
    }
    let root = ROOT.get_or_init(|| {
        let (root, targets, snapshot, timestamp) = (key(1), key(2), key(3), key(4));
        let signers = RoleSigners { root, targets, snapshot, timestamp };
        first_root(&signers, Time(4_000_000_000)).unwrap_or_default()
    });
    let mut store = Memory::default();
    let result = refresh(&mut Files(files), &mut store, root, Time(0), &Limits::default());
    let Ok(published) = result else { return };
    for (name, target) in &published.targets.targets {
        let _ = target.ferrite();
        if let Some(path) = tuf::target_path(true, name, target) {
            assert!(!path.split('/').any(|part| part == ".."), "{path} leads out");
        }
    }
}

struct Files(BTreeMap<&'static str, Vec<u8>>);

impl Fetch for Files {
    fn fetch(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        let bytes = self.0.get(path).ok_or(FetchError::NotFound)?;
        match bytes.len() as u64 <= max {
            true => Ok(bytes.clone()),
            false => Err(FetchError::TooLarge(max)),
        }
    }
}

#[derive(Default)]
struct Memory(BTreeMap<String, Vec<u8>>);

impl Store for Memory {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(name).cloned())
    }

    fn save(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.insert(name.into(), bytes.to_vec());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.remove(name);
        Ok(())
    }
}
