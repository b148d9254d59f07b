//! Who has to sign what, keys that are stolen and replaced, and metadata that is signed and still
//! not what it should be.

mod support;

use serde_json::{Value, json};
use support::graph::{Graph, role_key};
use support::{
    Device, Server, key, names, published, put_changed_root, put_root, refused, signers,
};
use tuf::author::RoleSigners;
use tuf::{Envelope, Error, RoleKeys};

/// A root in which each role but root needs two of three keys.
fn two_of_three(server: &mut Server) {
    put_changed_root(server, &signers(), 2, &[], |root| {
        for (role, n) in [("targets", 2), ("snapshot", 3), ("timestamp", 4)] {
            let mut keyids = Vec::new();
            for key in [key(n), key(n + 20), key(n + 30)] {
                let object = tuf::key_object(&key.verifying_key());
                let id = tuf::key_id(&object).expect("id");
                root.keys.insert(id.clone(), object);
                keyids.push(id);
            }
            root.roles.insert(role.into(), RoleKeys { keyids, threshold: 2 });
        }
    });
}

#[test]
fn each_role_needs_its_threshold() {
    for lacking in ["none", "timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut server = published();
        let device = Device::new(&server);
        two_of_three(&mut server);
        for (file, n) in [("1.targets.json", 2), ("1.snapshot.json", 3), ("timestamp.json", 4)] {
            let (one, two, stranger) = (key(n), key(n + 30), key(99));
            let second = if file == lacking { &stranger } else { &two };
            let (snapshot, targets) = ("1.snapshot.json", "1.targets.json");
            let described = match file {
                "timestamp.json" => server.described(snapshot, 1),
                _ => server.described(targets, 1),
            };
            server.resign(file, &[&one, second], |signed| match file {
                "timestamp.json" => signed["meta"]["snapshot.json"] = described,
                "1.snapshot.json" => signed["meta"]["targets.json"] = described,
                _ => {}
            });
        }
        match (lacking, device.refresh(&mut server)) {
            ("none", result) => assert_eq!(names(&result.expect("signed by two")), ["one"]),
            (_, Err(Error::Unsigned { file, valid: 1, threshold: 2 })) => assert_eq!(file, lacking),
            (_, other) => panic!("{lacking}: {other:?}"),
        }
    }
}

#[test]
fn the_same_signature_twice_is_refused() {
    for file in ["timestamp.json", "2.root.json"] {
        let mut server = published();
        let device = Device::new(&server);
        put_root(&mut server, &signers(), 2, &[]);
        server.edit(file, |value| {
            let first = value["signatures"][0].clone();
            value["signatures"].as_array_mut().expect("an array").push(first);
        });
        let error = refused(device.refresh(&mut server));
        assert!(matches!(&error, Error::Malformed { file: f, .. } if f == file), "{error}");
    }
}

#[test]
fn a_broken_signature_beside_enough_good_ones_does_no_harm() {
    let mut server = published();
    let device = Device::new(&server);
    server.edit("timestamp.json", |value| {
        let broken = ["", "zz", "00", &"00".repeat(64)];
        let broken = broken.iter().enumerate();
        let more = broken.map(|(n, sig)| json!({"keyid": n.to_string(), "sig": sig}));
        value["signatures"].as_array_mut().expect("an array").extend(more);
    });
    device.refresh(&mut server).expect("one good signature is enough");
}

#[test]
fn a_stolen_key_ends_with_the_root_that_drops_it() {
    for (role, file) in [("targets", "2.targets.json"), ("snapshot", "2.snapshot.json")] {
        let mut graph = Graph::new(&[("targets", &["x"], &[])]);
        let device = graph.device();
        device.refresh(&mut graph.server).expect("refresh");
        let owner = match role {
            "targets" => RoleSigners { targets: key(12), ..signers() },
            _ => RoleSigners { snapshot: key(13), ..signers() },
        };
        put_root(&mut graph.server, &owner, 2, &[]);
        // What the old key signed is not believed any more, stored or served.
        let error = refused(device.refresh(&mut graph.server));
        assert!(matches!(&error, Error::Unsigned { file: f, .. } if f == file), "{error}");
    }
}

#[test]
fn a_stolen_root_key_alone_makes_no_root() {
    let mut server = published();
    let device = Device::new(&server);
    let owner = RoleSigners { root: key(11), ..signers() };
    put_root(&mut server, &owner, 2, &[&key(11)]);
    device.refresh(&mut server).expect("rotated by the owner");
    put_root(&mut server, &signers(), 3, &[]);
    let error = refused(device.refresh(&mut server));
    assert!(matches!(error, Error::Unsigned { valid: 0, threshold: 1, .. }), "{error}");
    // Nor does it on a device that never saw the owner's root, as long as that one is served.
    let error = refused(Device::new(&server).refresh(&mut server));
    assert!(matches!(error, Error::Unsigned { .. }), "{error}");
}

// Metadata that is signed and still not what it should be.

#[test]
fn one_roles_metadata_does_not_pass_for_anothers() {
    let mut server = published();
    let device = Device::new(&server);
    // The snapshot lists what a timestamp would, and one key signs for both.
    let bytes = &server.files["metadata/1.snapshot.json"];
    let mut value: Value = serde_json::from_slice(bytes).expect("JSON");
    value["signed"]["meta"] = json!({"snapshot.json": {"version": 1}});
    server.put("timestamp.json", &value["signed"], &[&key(4)]);
    let error = refused(device.refresh(&mut server));
    assert!(error.to_string().contains("_type"), "{error}");
}

#[test]
fn unsound_content_is_refused_though_it_is_signed() {
    type Change = fn(&mut Value);
    let cases: &[(&str, u8, Change)] = &[
        ("timestamp.json", 4, |s| s["spec_version"] = json!("2.0.0")),
        ("timestamp.json", 4, |s| s["version"] = json!(0)),
        ("timestamp.json", 4, |s| s["version"] = json!(-1)),
        ("timestamp.json", 4, |s| s["meta"] = json!({})),
        ("timestamp.json", 4, |s| s["meta"]["snapshot.json"] = json!({"version": 0})),
        ("timestamp.json", 4, |s| s["expires"] = json!("never")),
        ("2.root.json", 1, |s| drop(s["roles"].as_object_mut().map(|r| r.remove("targets")))),
        ("2.root.json", 1, |s| s["roles"]["timestamp"]["threshold"] = json!(0)),
        ("2.root.json", 1, |s| s["consistent_snapshot"] = json!("yes")),
    ];
    for (n, (file, by, change)) in cases.iter().enumerate() {
        let mut server = published();
        let device = Device::new(&server);
        put_root(&mut server, &signers(), 2, &[]);
        server.resign(file, &[&key(*by)], change);
        let error = refused(device.refresh(&mut server));
        assert!(matches!(&error, Error::Malformed { file: f, .. } if f == file), "{n}: {error}");
    }
}

#[test]
fn a_hash_of_an_unknown_algorithm_proves_nothing() {
    let mut graph = Graph::new(&[]);
    let device = graph.device();
    let hash = graph.server.described("1.targets.json", 1)["hashes"]["sha256"].clone();
    graph.publish_as(|meta| {
        meta["targets.json"] = json!({"version": 1, "hashes": {"md4": hash}});
    });
    let error = refused(device.refresh(&mut graph.server));
    assert!(matches!(&error, Error::Altered { file } if file == "1.targets.json"), "{error}");
}

#[test]
fn an_initial_root_is_sound_in_itself_before_anything_is_asked() {
    let mut server = published();
    let good: Value = serde_json::from_slice(&server.root()).expect("JSON");
    let unsigned = Envelope::sign(&good["signed"], &[&role_key("x")]).expect("sign").to_bytes();
    let mut versionless = good["signed"].clone();
    versionless.as_object_mut().expect("an object").remove("version");
    let versionless = Envelope::sign(&versionless, &[&key(1)]).expect("sign").to_bytes();
    for root in [unsigned, versionless, b"{}".to_vec()] {
        let device = Device { root, ..Device::new(&server) };
        refused(device.refresh(&mut server));
        assert_eq!(server.take_asked(), [""; 0]);
    }
}
