//! The attacks of the TUF specification (section 1.5.2), by a server over HTTP through the steps that
//! the daemon takes: what it refuses, and that the slots stay as they were. `lib/tuf/tests` has
//! the finer cases.

use std::collections::BTreeMap;

use crate::support::{
    Fault, Recipe, Repository, Server, TestDevice, recipe, role_key, role_signers,
};
use formats::Slot;
use formats::network_time::NetworkTime;
use serde_json::{Value, json};
use tuf::author::{RoleSigners, new_root};
use tuf::{Envelope, Root, Time, sha256_hex};

const END: Time = Time(4_000_000_000);

fn offering(sequence: u64) -> Repository {
    let mut repository = Repository::new();
    repository.publish(&[&recipe(sequence).build()]);
    repository
}

/// The error of a round that must not have touched a slot.
fn refused(device: &TestDevice, server: &Server) -> String {
    let before = device.medium();
    let error = device.update_from(&server.url()).expect_err("was taken").to_string();
    assert!(device.medium() == before, "a slot was touched: {error}");
    assert!(!error.contains('\n'), "{error}");
    error
}

fn takes(device: &TestDevice, server: &Server, sequence: u64) {
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(Slot::B, &recipe(sequence).build()));
}

/// Changes signed metadata and signs it again.
fn resign(
    files: &mut BTreeMap<String, Vec<u8>>,
    file: &str,
    key: u8,
    change: impl FnOnce(&mut Value),
) {
    let bytes = files.get_mut(&format!("metadata/{file}")).unwrap();
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    change(&mut value["signed"]);
    *bytes = Envelope::sign(&value["signed"], &[&role_key(key)]).unwrap().to_bytes();
}

/// Root version 2 with these keys, signed by the root key of old and new alike.
fn rotate(repository: &mut Repository, signers: RoleSigners, change: impl FnOnce(&mut Root)) {
    let mut root = new_root(&signers.public_keys(), 2, END).unwrap();
    change(&mut root);
    let bytes = Envelope::sign(&root, &[&signers.root]).unwrap().to_bytes();
    repository.files.insert("metadata/2.root.json".into(), bytes);
    repository.signers = signers;
    // Whom the publisher asks whether these keys may sign. One who signs with too few does not ask.
    if let Some(before) = &mut repository.before
        && root.roles.values().all(|role| role.threshold == 1)
    {
        before.root = root;
    }
}

#[test]
fn freeze() {
    let device = TestDevice::new();
    let mut repository = Repository::new();
    repository.dates.timestamp = Time(1_700_000_000);
    repository.publish(&[&recipe(1).build()]);
    let server = repository.serve(&device);
    assert_eq!(device.update_from(&server.url()), Ok(false));
    // The mirror goes on with what it has, long after the owner published more.
    let said = NetworkTime { unix: 1_700_000_000, boot_ms: 0 };
    device.put("run/ferrite/network-time", said.to_text());
    let error = refused(&device, &server);
    assert!(error.contains("timestamp.json: expired at 2023-11-14T22:13:20Z"), "{error}");
}

#[test]
fn rollback() {
    let device = TestDevice::new();
    let mut repository = Repository::new();
    repository.publish(&[&recipe(2).build()]);
    let old = repository.files.clone();
    repository.publish(&[]);
    let server = repository.serve(&device);
    assert_eq!(device.update_from(&server.url()), Ok(false));
    server.put(old);
    let error = refused(&device, &server);
    assert!(error.contains("timestamp.json: version 1 is older than version 2"), "{error}");
}

#[test]
fn mix_and_match() {
    let device = TestDevice::new();
    let mut repository = offering(2);
    let one = repository.files.clone();
    repository.publish(&[&recipe(3).build()]);
    for role in ["snapshot", "targets"] {
        let mut mixed = repository.files.clone();
        let old = one[&format!("metadata/1.{role}.json")].clone();
        mixed.insert(format!("metadata/2.{role}.json"), old);
        device.put("etc/ferrite/tuf-root.json", &repository.root);
        let error = refused(&device, &Server::of_files(mixed).unwrap());
        assert!(error.contains(&format!("2.{role}.json")), "{error}");
    }
    takes(&device, &repository.serve(&device), 3);
}

#[test]
fn fast_forward() {
    let device = TestDevice::new();
    let mut repository = offering(1);
    let mut thief = repository.files.clone();
    resign(&mut thief, "timestamp.json", 4, |signed| {
        signed["version"] = json!(u32::MAX);
        signed["signed_at"] = json!("2096-01-01T00:00:00Z");
    });
    let server = repository.serve(&device);
    server.put(thief);
    assert_eq!(device.update_from(&server.url()), Ok(false));
    // The owner's next one looks old now, until the stolen key is taken away.
    repository.publish(&[&recipe(2).build()]);
    server.put(repository.files.clone());
    let error = refused(&device, &server);
    assert!(error.contains("is older than version 4294967295"), "{error}");
    rotate(&mut repository, RoleSigners { timestamp: role_key(14), ..role_signers() }, |_| ());
    repository.publish(&[&recipe(2).build()]);
    server.put(repository.files.clone());
    takes(&device, &server, 2);
}

#[test]
fn endless_data() {
    for file in ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", ".update"] {
        let device = TestDevice::new();
        let server = offering(2).serve(&device);
        server.spoil(file, Fault::Endless);
        let error = refused(&device, &server);
        let told = ["longer than its limit", "no slot header", "header is not the one"];
        assert!(told.iter().any(|told| error.contains(told)), "{file}: {error}");
    }
}

#[test]
fn slow_retrieval() {
    for file in ["timestamp.json", "1.snapshot.json", "1.targets.json", ".update"] {
        let device = TestDevice::new();
        let server = offering(2).serve(&device);
        server.spoil(file, Fault::Paced(10));
        let error = refused(&device, &server);
        // On a machine with much to do a byte may come later than the longest silence.
        let told = ["the server sends less than", "nothing came for"];
        assert!(told.iter().any(|told| error.contains(told)), "{file}: {error}");
    }
}

#[test]
fn wrong_keys() {
    for (file, stranger) in [
        ("timestamp.json", 66),
        ("1.snapshot.json", 4),
        ("1.targets.json", 3),
        ("1.targets.json", 66),
    ] {
        let device = TestDevice::new();
        let mut repository = offering(2);
        let files = &mut repository.files;
        resign(files, file, stranger, |_| ());
        // Those who sign what points to it have been taken in.
        for (of, by, key) in
            [("1.targets.json", "1.snapshot.json", 3), ("1.snapshot.json", "timestamp.json", 4)]
        {
            if file == of || (file == "1.targets.json" && of == "1.snapshot.json") {
                let bytes = files[&format!("metadata/{of}")].clone();
                let name = of.trim_start_matches("1.");
                resign(files, by, key, |signed| {
                    signed["meta"][name] = json!({"version": 1, "length": bytes.len(),
                        "hashes": {"sha256": sha256_hex(&bytes)}});
                });
            }
        }
        let error = refused(&device, &repository.serve(&device));
        assert!(error.contains(file) && error.contains("0 valid signatures"), "{file}: {error}");
    }
}

#[test]
fn a_repository_of_somebody_else() {
    let device = TestDevice::new();
    let repository = offering(2);
    device.put("etc/ferrite/tuf-root.json", {
        let stranger = RoleSigners {
            root: role_key(61),
            targets: role_key(62),
            snapshot: role_key(63),
            timestamp: role_key(64),
        };
        tuf::author::first_root(&stranger, END).unwrap()
    });
    let server = Server::of_files(repository.files.clone()).unwrap();
    let error = refused(&device, &server);
    assert!(error.contains("0 valid signatures"), "{error}");
}

#[test]
fn below_the_threshold() {
    let device = TestDevice::new();
    let mut repository = offering(1);
    let second = role_key(22);
    // From root 2 on, two keys have to sign the targets.
    rotate(&mut repository, role_signers(), |root| {
        let object = tuf::key_object(&second.verifying_key());
        let id = tuf::key_id(&object).unwrap();
        root.keys.insert(id.clone(), object);
        let targets = root.roles.get_mut("targets").unwrap();
        targets.keyids.push(id);
        targets.threshold = 2;
    });
    repository.publish(&[&recipe(2).build()]);
    let error = refused(&device, &repository.serve(&device));
    assert!(
        error.contains("targets.json: 1 valid signatures") && error.contains("2 needed"),
        "{error}"
    );
    let path = "metadata/2.targets.json";
    let path = if repository.files.contains_key(path) { path } else { "metadata/1.targets.json" };
    let value: Value = serde_json::from_slice(&repository.files[path]).unwrap();
    let both = Envelope::sign(&value["signed"], &[&role_key(2), &second]).unwrap().to_bytes();
    let version = value["signed"]["version"].clone();
    let described = json!({"version": version, "length": both.len(),
        "hashes": {"sha256": sha256_hex(&both)}});
    repository.files.insert(path.into(), both);
    let snapshot = path.trim_start_matches("metadata/").replace("targets", "snapshot");
    resign(&mut repository.files, &snapshot, 3, |signed| {
        signed["version"] = version.clone();
        signed["meta"]["targets.json"] = described;
    });
    let bytes = repository.files[&format!("metadata/{snapshot}")].clone();
    resign(&mut repository.files, "timestamp.json", 4, |signed| {
        signed["version"] = json!(9);
        signed["meta"]["snapshot.json"] = json!({"version": version, "length": bytes.len(),
            "hashes": {"sha256": sha256_hex(&bytes)}});
    });
    takes(&device, &repository.serve(&device), 2);
}

#[test]
fn key_compromise_and_rotation() {
    let device = TestDevice::new();
    let mut repository = offering(1);
    let server = repository.serve(&device);
    assert_eq!(device.update_from(&server.url()), Ok(false));
    // All online keys are stolen. Without the image key nothing of the thief's boots …
    let stranger = Recipe { key: role_key(66), ..recipe(7) }.build();
    let mut thief = offering(1);
    thief.publish(&[]);
    thief.publish(&[&stranger]);
    server.put(thief.files.clone());
    let error = refused(&device, &server);
    assert!(error.contains("not signed by a trusted key"), "{error}");
    // … and once the owner has taken the keys away, the thief is not even heard.
    let owner = RoleSigners {
        root: role_key(1),
        targets: role_key(12),
        snapshot: role_key(13),
        timestamp: role_key(14),
    };
    rotate(&mut repository, owner, |_| ());
    repository.publish(&[&recipe(2).build()]);
    let mut mixed = thief.files.clone();
    mixed.insert("metadata/2.root.json".into(), repository.files["metadata/2.root.json"].clone());
    server.put(mixed);
    let error = refused(&device, &server);
    assert!(error.contains("timestamp.json: 0 valid signatures"), "{error}");
    server.put(repository.files.clone());
    takes(&device, &server, 2);
}
