//! The client's workflow against repositories that are in order, stale or mixed up. What somebody
//! does on purpose is in `attacks.rs`, delegations are in `delegations.rs`.

mod support;

use ed25519_dalek::SigningKey;
use serde_json::json;
use support::{Device, NOW, key, names, published, signers};
use tuf::author::{Draft, Published, RoleSigners, new_root};
use tuf::{Envelope, Error, FetchError, RoleKeys, Time};

#[test]
fn finds_targets_and_follows_a_newer_publication() {
    let mut server = published();
    let device = Device::new(&server);
    let first = device.refresh(&mut server).expect("first refresh");
    assert_eq!(names(&first), ["one"]);
    server.publish(Some(&first), &["one", "two"], &signers(), 30);
    let second = device.refresh(&mut server).expect("second refresh");
    assert_eq!(names(&second), ["one", "two"]);
    assert_eq!(second.timestamp.version, 2);
}

#[test]
fn a_timestamp_says_when_it_was_signed() {
    let mut server = published();
    let device = Device::new(&server);
    assert_eq!(device.refresh(&mut server).expect("refresh").timestamp.signed_at, Some(NOW));
    server
        .edit("timestamp.json", |file| file["signed"]["signed_at"] = json!("2099-01-01T00:00:00Z"));
    let error =
        Device::new(&server).refresh(&mut server).expect_err("it is part of what is signed");
    assert!(matches!(error, Error::Unsigned { .. }), "{error}");
}

#[test]
fn a_timestamp_by_others_need_not_say_when_it_was_signed() {
    for theirs in [json!(null), json!(1_800_000_000), json!("yesterday"), json!({"by": ["x"]})] {
        let mut server = published();
        server.resign("timestamp.json", &[&key(4)], |signed| signed["signed_at"] = theirs.clone());
        let read = Device::new(&server).refresh(&mut server).expect("refresh");
        assert_eq!(read.timestamp.signed_at, None, "{theirs}");
    }
    let mut server = published();
    server.resign("timestamp.json", &[&key(4)], |signed| {
        signed.as_object_mut().expect("an object").remove("signed_at").expect("was there");
    });
    let read = Device::new(&server).refresh(&mut server).expect("refresh");
    assert_eq!(read.timestamp.signed_at, None);
}

/// The server's timestamp, of this version, as if it had been signed at this time.
fn signed_at(server: &mut support::Server, version: u64, at: Time) {
    server.resign("timestamp.json", &[&key(4)], |signed| {
        signed["signed_at"] = json!(at.to_string());
        signed["version"] = json!(version);
    });
}

#[test]
fn a_publisher_whose_clock_was_ahead_takes_it_back_with_the_next_version() {
    let mut server = published();
    let device = Device::new(&server);
    signed_at(&mut server, 2, NOW.plus_days(29));
    device.refresh_at(&mut server, Time(0)).expect("as good as its snapshot");
    // What was good for 30 days is renewed for ten, by a clock that is right.
    server.resign("timestamp.json", &[&key(4)], |signed| {
        signed["signed_at"] = json!(NOW.to_string());
        signed["expires"] = json!(NOW.plus_days(10).to_string());
        signed["version"] = json!(3);
    });
    device.refresh_at(&mut server, Time(0)).expect("the newest version speaks");
}

#[test]
fn a_time_that_is_not_believed_lets_nothing_expire() {
    let mut server = published();
    let device = Device::new(&server);
    let far = NOW.plus_days(400);
    signed_at(&mut server, 2, far);
    server.resign("timestamp.json", &[&key(4)], |signed| {
        signed["expires"] = json!(NOW.plus_days(900).to_string());
    });
    for (believed, taken) in [(far, false), (NOW.plus_days(366), true)] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut store = tuf::DirStore::open(dir.path()).expect("a store");
        let limits = tuf::Limits::default();
        let mut client =
            tuf::Client::new(&mut server, &mut store, Time(0), limits).believing_until(believed);
        assert_eq!(client.refresh(&device.root).is_ok(), taken, "{believed}");
        let said = (!taken).then_some(far);
        assert_eq!(client.signed_at(&device.root).expect("read"), said);
    }
}

#[test]
fn no_timestamp_keeps_a_device_from_the_newest_root() {
    let mut server = published();
    // The image's root lasts for ten more days; by the timestamp they are over.
    let soon = NOW.plus_days(10);
    let root = new_root(&signers().public_keys(), 1, soon).expect("root");
    let root = Envelope::sign(&root, &[&key(1)]).expect("signed").to_bytes();
    signed_at(&mut server, 2, NOW.plus_days(20));
    let dir = tempfile::tempdir().expect("a folder");
    let mut store = tuf::DirStore::open(dir.path()).expect("a store");
    for _ in 0..2 {
        let limits = tuf::Limits::default();
        tuf::refresh(&mut server, &mut store, &root, NOW, &limits).expect("not certain");
        let mut client = tuf::Client::new(&mut server, &mut store, NOW, tuf::Limits::default());
        assert_eq!(client.refresh(&root).expect("again").root.version, 1);
        assert_eq!(client.signed_at(&root).expect("read"), Some(NOW.plus_days(20)));
    }
}

#[test]
fn nothing_new_costs_two_requests() {
    let mut server = published();
    let device = Device::new(&server);
    device.refresh(&mut server).expect("refresh");
    server.asked.clear();
    device.refresh(&mut server).expect("refresh");
    let asked: Vec<_> = server.asked.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(asked, ["metadata/2.root.json", "metadata/timestamp.json"]);
}

#[test]
fn a_store_that_forbids_what_is_not_there_has_no_new_root_and_nothing_else_is_let_pass() {
    let mut server = published();
    server.forbids = true;
    let device = Device::new(&server);
    device.refresh(&mut server).expect("no 2.root.json");
    for path in ["metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json"] {
        let mut server = published();
        server.forbids = true;
        server.files.remove(path).expect("was there");
        let error = Device::new(&server).refresh(&mut server).expect_err(path);
        assert!(
            matches!(&error, Error::Fetch { source: FetchError::Forbidden, .. }),
            "{path}: {error}"
        );
        assert_eq!(error.to_string(), format!("{path}: the server answered 403"));
    }
}

#[test]
fn an_error_says_what_it_came_from_once() {
    let error = Error::Fetch { path: "a.json".into(), source: FetchError::NotFound };
    assert!(std::error::Error::source(&error).is_none());
    assert_eq!(error.to_string(), "a.json: the repository has no such file");
}

#[test]
fn lengths_from_signed_metadata_bound_what_is_read() {
    let mut server = published();
    let device = Device::new(&server);
    device.refresh(&mut server).expect("refresh");
    for (path, max) in &server.asked {
        let length = server.files.get(path).map(|bytes| bytes.len() as u64);
        if path.ends_with("snapshot.json") || path.ends_with("targets.json") {
            assert_eq!(Some(*max), length, "{path}");
        } else {
            assert!(*max <= 256 << 10, "{path}");
        }
    }
}

#[test]
fn rollback_of_the_timestamp_is_refused() {
    let mut server = published();
    let old = server.clone();
    let device = Device::new(&server);
    let first = device.refresh(&mut server).expect("refresh");
    server.publish(Some(&first), &["two"], &signers(), 30);
    device.refresh(&mut server).expect("refresh");
    let error = device.refresh(&mut old.clone()).expect_err("an old repository was taken");
    assert!(matches!(error, Error::Rollback { trusted: 2, offered: 1, .. }), "{error}");
}

#[test]
fn rollback_of_snapshot_and_targets_is_refused_under_a_new_timestamp() {
    let mut server = published();
    let device = Device::new(&server);
    let first = device.refresh(&mut server).expect("refresh");
    server.publish(Some(&first), &["two"], &signers(), 30);
    device.refresh(&mut server).expect("refresh");

    let mut back = server.clone();
    let one = back.files["metadata/1.snapshot.json"].clone();
    back.resign("timestamp.json", &[&key(4)], |signed| {
        signed["version"] = json!(3);
        signed["meta"]["snapshot.json"] =
            json!({"version": 1, "length": one.len(), "hashes": {"sha256": tuf::sha256_hex(&one)}});
    });
    let error = device.refresh(&mut back).expect_err("an old snapshot was taken");
    assert!(matches!(error, Error::Rollback { trusted: 2, offered: 1, .. }), "{error}");

    let mut back = server.clone();
    let targets = &back.files["metadata/1.targets.json"];
    let meta = json!({"version": 1, "length": targets.len(), "hashes": {"sha256": tuf::sha256_hex(targets)}});
    let two = back.files["metadata/2.snapshot.json"].clone();
    back.files.insert("metadata/3.snapshot.json".into(), two);
    back.resign("3.snapshot.json", &[&key(3)], |signed| {
        signed["version"] = json!(3);
        signed["meta"]["targets.json"] = meta;
    });
    back.resign("timestamp.json", &[&key(4)], |signed| {
        signed["version"] = json!(3);
        signed["meta"]["snapshot.json"] = json!({"version": 3});
    });
    let error = device.refresh(&mut back).expect_err("old targets were taken");
    assert!(matches!(error, Error::Rollback { trusted: 2, offered: 1, .. }), "{error}");
}

#[test]
fn a_frozen_repository_is_noticed_when_it_expires() {
    let mut server = published();
    let device = Device::new(&server);
    device.refresh(&mut server).expect("refresh");
    device.refresh_at(&mut server, NOW.plus_days(29)).expect("not yet");
    let error = device.refresh_at(&mut server, NOW.plus_days(31)).expect_err("expired");
    assert!(matches!(&error, Error::Expired { file, .. } if file == "timestamp.json"), "{error}");
    let error = device.refresh_at(&mut server, NOW.plus_days(4000)).expect_err("expired root");
    assert!(matches!(&error, Error::Expired { file, .. } if file == "root.json"), "{error}");
}

#[test]
fn snapshot_and_targets_of_different_publications_do_not_mix() {
    let mut server = published();
    let device = Device::new(&server);
    let first = device.refresh(&mut server).expect("refresh");
    server.publish(Some(&first), &["two"], &signers(), 30);
    let one = server.files["metadata/1.targets.json"].clone();
    server.files.insert("metadata/2.targets.json".into(), one);
    let error = device.refresh(&mut server).expect_err("mixed");
    assert!(matches!(error, Error::Altered { .. } | Error::Fetch { .. }), "{error}");

    // The same without lengths and hashes: the version inside tells.
    server.resign("2.snapshot.json", &[&key(3)], |signed| {
        signed["meta"]["targets.json"] = json!({"version": 2});
    });
    server.resign("timestamp.json", &[&key(4)], |signed| {
        signed["meta"]["snapshot.json"] = json!({"version": 2});
        signed["version"] = json!(3);
    });
    let error = Device::new(&server).refresh(&mut server).expect_err("mixed");
    assert!(matches!(error, Error::WrongVersion { wanted: 2, found: 1, .. }), "{error}");
}

#[test]
fn every_role_needs_its_own_key() {
    for (file, wrong) in [("timestamp.json", 3), ("1.snapshot.json", 4), ("1.targets.json", 4)] {
        let mut server = published();
        let device = Device::new(&server);
        server.resign(file, &[&key(wrong)], |_| {});
        if file != "timestamp.json" {
            server.resign(
                "1.snapshot.json",
                &[&key(if file == "1.snapshot.json" { 4 } else { 3 })],
                |signed| {
                    signed["meta"]["targets.json"] = json!({"version": 1});
                },
            );
            server.resign("timestamp.json", &[&key(4)], |signed| {
                signed["meta"]["snapshot.json"] = json!({"version": 1});
            });
        }
        let error = device.refresh(&mut server).expect_err("wrong key was taken");
        assert!(matches!(&error, Error::Unsigned { file: f, .. } if f == file), "{file}: {error}");
    }
}

#[test]
fn a_changed_field_breaks_the_signature() {
    let mut server = published();
    let device = Device::new(&server);
    server.edit("timestamp.json", |value| value["signed"]["version"] = json!(7));
    let error = device.refresh(&mut server).expect_err("altered");
    assert!(matches!(error, Error::Unsigned { valid: 0, threshold: 1, .. }), "{error}");
}

#[test]
fn too_much_data_is_not_taken() {
    for path in ["metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/2.root.json"] {
        let mut server = published();
        let device = Device::new(&server);
        server.endless = Some(path.into());
        let error = device.refresh(&mut server).expect_err("endless");
        assert!(
            matches!(&error, Error::Fetch { source: FetchError::TooLarge(_), .. }),
            "{path}: {error}"
        );
    }
}

/// Root version 2 with a new timestamp key and two root keys, signed by `keys`.
fn rotated(keys: &[&SigningKey]) -> Vec<u8> {
    let new = RoleSigners { timestamp: key(9), ..signers() };
    let mut root = new_root(&new.public_keys(), 2, NOW.plus_days(3650)).expect("root");
    let object = tuf::key_object(&key(8).verifying_key());
    let id = tuf::key_id(&object).expect("id");
    root.keys.insert(id.clone(), object);
    let mut keyids = root.roles["root"].keyids.clone();
    keyids.push(id);
    root.roles.insert("root".into(), RoleKeys { keyids, threshold: 2 });
    Envelope::sign(&root, keys).expect("sign").to_bytes()
}

#[test]
fn roots_are_walked_and_rotated_keys_lose_their_say() {
    let mut server = published();
    let device = Device::new(&server);
    let first = device.refresh(&mut server).expect("refresh");

    // A thief of the timestamp key pushes the version to the top.
    server.resign("timestamp.json", &[&key(4)], |signed| signed["version"] = json!(u32::MAX));
    device.refresh(&mut server).expect("a valid timestamp");

    // The owner rotates the key: devices recover.
    let root = rotated(&[&key(1), &key(8)]);
    let first =
        Published { root: Draft::read("2.root.json", &root).expect("root").content, ..first };
    server.files.insert("metadata/2.root.json".into(), root);
    let owner = RoleSigners { timestamp: key(9), ..signers() };
    server.publish(Some(&first), &["after"], &owner, 30);
    let after = device.refresh(&mut server).expect("recovered");
    assert_eq!((after.root.version, names(&after)), (2, vec!["after"]));

    // The chain is walked from the store on the next refresh.
    server.asked.clear();
    device.refresh(&mut server).expect("refresh");
    assert_eq!(server.asked[0].0, "metadata/3.root.json");

    // The old key counts for nothing now.
    server.resign("timestamp.json", &[&key(4)], |signed| signed["version"] = json!(99));
    assert!(matches!(device.refresh(&mut server), Err(Error::Unsigned { .. })));
}

#[test]
fn a_new_root_needs_old_and_new_thresholds() {
    for keys in [&[&key(1)][..], &[&key(8)], &[&key(8), &key(7)]] {
        let mut server = published();
        let device = Device::new(&server);
        server.files.insert("metadata/2.root.json".into(), rotated(keys));
        let error = device.refresh(&mut server).expect_err("a root without enough signatures");
        assert!(matches!(&error, Error::Unsigned { file, .. } if file == "2.root.json"), "{error}");
        assert_eq!(device.stored("2.root.json"), None);
    }
}

#[test]
fn a_stored_root_that_was_tampered_with_is_not_believed() {
    let mut server = published();
    let device = Device::new(&server);
    device.refresh(&mut server).expect("refresh");
    std::fs::write(device.dir.path().join("2.root.json"), rotated(&[&key(8)])).expect("write");
    let after = device.refresh(&mut server).expect("refresh");
    assert_eq!(after.root.version, 1);
}

#[test]
fn garbage_is_refused_in_one_line() {
    for garbage in [
        &b""[..],
        b"<html>404</html>",
        b"{}",
        b"[[[[[[[[",
        b"\xff\xfe",
        b"{\"signatures\":[],\"signed\":1.5}",
    ] {
        let mut server = published();
        let device = Device::new(&server);
        server.files.insert("metadata/timestamp.json".into(), garbage.to_vec());
        let error = device.refresh(&mut server).expect_err("garbage");
        let text = error.to_string();
        assert!(text.starts_with("timestamp.json") && !text.contains('\n'), "{text}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// One flipped byte anywhere in any file: an error, or (in whitespace or the spelling of the
    /// JSON) the same targets. Never other targets.
    #[test]
    fn a_flipped_byte_never_changes_what_is_trusted(file in 0usize..3, at in 0usize..4096, bit in 0u8..8) {
        let mut server = published();
        let device = Device::new(&server);
        let want = device.refresh(&mut server).expect("refresh").targets;
        let fresh = Device::new(&server);
        let name = ["metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json"][file];
        let bytes = server.files.get_mut(name).expect("file exists");
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(got) = fresh.refresh(&mut server) {
            proptest::prop_assert_eq!(got.targets, want);
        }
    }
}
