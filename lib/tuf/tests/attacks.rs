//! What the specification's attacks (section 1.5.2) come to, as far as `workflow.rs` and
//! `delegations.rs` and `signatures.rs` do not show them already. Whoever holds some keys signs with them here.

mod support;

use serde_json::json;
use std::io;
use support::graph::{Graph, targets, to};
use support::{
    Device, NOW, Server, key, names, published, put_changed_root, put_root, refused, signers,
};
use tuf::author::RoleSigners;
use tuf::{Client, DirStore, Error, Fetch, FetchError, Limits, Root, Store, Time, refresh};

const TOP: u64 = u32::MAX as u64;

// Rollback.

#[test]
fn a_root_with_another_version_than_its_files_is_refused() {
    for version in [1, 3, TOP] {
        let mut server = published();
        let device = Device::new(&server);
        put_root(&mut server, &signers(), version, &[]);
        let file = format!("metadata/{version}.root.json");
        let bytes = server.files[&file].clone();
        server.files.insert("metadata/2.root.json".into(), bytes);
        let error = refused(device.refresh(&mut server));
        assert!(
            matches!(error, Error::WrongVersion { wanted: 2, found, .. } if found == version),
            "{error}"
        );
        assert_eq!(device.stored("2.root.json"), None);
    }
}

#[test]
fn the_snapshots_version_in_the_timestamp_does_not_go_back_even_before_it_was_fetched() {
    let mut graph = Graph::new(&[]);
    graph.publish();
    let device = graph.device();
    graph.server.files.remove("metadata/3.snapshot.json");
    refused(device.refresh(&mut graph.server));
    assert_eq!((device.stored("timestamp.json"), device.stored("snapshot.json")), (Some(3), None));
    graph.server.resign("timestamp.json", &[&key(4)], |signed| {
        signed["version"] = json!(4);
        signed["meta"]["snapshot.json"] = json!({"version": 2});
    });
    let error = refused(device.refresh(&mut graph.server));
    assert!(matches!(error, Error::Rollback { trusted: 3, offered: 2, .. }), "{error}");
    assert_eq!(device.stored("timestamp.json"), Some(3));
}

#[test]
fn expired_metadata_still_guards_against_rollback() {
    let mut graph = Graph::new(&[]);
    let device = graph.device();
    graph.server.resign("timestamp.json", &[&key(4)], |signed| {
        signed["version"] = json!(9);
        signed["expires"] = json!(NOW.plus_days(1).to_string());
    });
    device.refresh(&mut graph.server).expect("refresh");
    graph.publish();
    let error = refused(device.refresh_at(&mut graph.server, NOW.plus_days(2)));
    assert!(matches!(error, Error::Rollback { trusted: 9, offered: 3, .. }), "{error}");
}

#[test]
fn one_version_of_the_timestamp_has_one_content() {
    let mut graph = Graph::new(&[]);
    let device = graph.device();
    device.refresh(&mut graph.server).expect("refresh");
    graph.server.take_asked();
    graph.server.resign("timestamp.json", &[&key(4)], |signed| {
        signed["meta"]["snapshot.json"] = json!({"version": 100});
    });
    let again = device.refresh(&mut graph.server).expect("the one that is trusted");
    assert_eq!(again.timestamp.meta["snapshot.json"].version, 2);
    assert_eq!(graph.server.take_asked(), ["2.root.json", "timestamp.json"]);
}

// Freeze.

#[test]
fn each_role_expires_when_fetched_and_when_stored() {
    for role in ["timestamp", "snapshot", "targets"] {
        let mut graph = Graph::new(&[]);
        let mut top = targets("targets", 2, &["x"], &[]);
        if role == "targets" {
            top["expires"] = json!(NOW.plus_days(1).to_string());
        }
        graph.signed("targets", &top, &[&key(2)]);
        graph.publish();
        let soon = json!(NOW.plus_days(1).to_string());
        if role == "snapshot" {
            graph.server.resign("3.snapshot.json", &[&key(3)], |s| s["expires"] = soon.clone());
        }
        let described = graph.server.described("3.snapshot.json", 3);
        graph.server.resign("timestamp.json", &[&key(4)], |signed| {
            signed["meta"]["snapshot.json"] = described;
            if role == "timestamp" {
                signed["expires"] = soon;
            }
        });
        let (fresh, known) = (graph.device(), graph.device());
        known.refresh(&mut graph.server).expect("not yet");
        // The very second is too late: the expiry has to be higher than the time.
        for device in [fresh, known] {
            let error = refused(device.refresh_at(&mut graph.server, NOW.plus_days(1)));
            let name = format!("{role}.json");
            assert!(matches!(&error, Error::Expired { file, .. } if *file == name), "{error}");
        }
    }
}

#[test]
fn an_expired_root_leads_to_a_fresh_one_and_is_not_enough_by_itself() {
    let mut server = published();
    let device = Device::new(&server);
    put_changed_root(&mut server, &signers(), 2, &[], |root| root.expires = NOW);
    let error = refused(device.refresh(&mut server));
    assert!(matches!(&error, Error::Expired { file, .. } if file == "root.json"), "{error}");
    assert_eq!((device.stored("2.root.json"), device.stored("timestamp.json")), (Some(2), None));
    put_root(&mut server, &signers(), 3, &[]);
    assert_eq!(device.refresh(&mut server).expect("fresh again").root.version, 3);
}

// Fast-forward, and the way back (5.3.11).

/// The thief has the keys of timestamp and snapshot; a device has seen what they signed.
fn fast_forwarded() -> (Graph, Device) {
    let mut graph = Graph::new(&[("targets", &[], &[to("a", &["*"])]), ("a", &["x"], &[])]);
    let device = graph.device();
    let targets = graph.server.files["metadata/2.targets.json"].clone();
    graph.server.files.insert(format!("metadata/{TOP}.targets.json"), targets);
    graph.server.resign(&format!("{TOP}.targets.json"), &[&key(2)], |s| s["version"] = json!(TOP));
    let described = graph.server.described(&format!("{TOP}.targets.json"), TOP);
    let snapshot = graph.server.files["metadata/2.snapshot.json"].clone();
    graph.server.files.insert(format!("metadata/{TOP}.snapshot.json"), snapshot);
    graph.server.resign(&format!("{TOP}.snapshot.json"), &[&key(3)], |signed| {
        signed["version"] = json!(TOP);
        signed["meta"]["targets.json"] = described;
    });
    let described = graph.server.described(&format!("{TOP}.snapshot.json"), TOP);
    graph.server.resign("timestamp.json", &[&key(4)], |signed| {
        signed["version"] = json!(TOP);
        signed["meta"]["snapshot.json"] = described;
    });
    device.with_client(&mut graph.server, |client, published| {
        assert_eq!(published.targets.version, TOP);
        client.find_target(published, "x").expect("search").expect("found");
    });
    assert_eq!(device.stored("delegated.a.json"), Some(1));
    (graph, device)
}

/// The owner's next publication, signed with new keys for timestamp and snapshot.
fn recover(graph: &mut Graph) -> RoleSigners {
    let owner = RoleSigners { snapshot: key(13), timestamp: key(14), ..signers() };
    graph.publish_as(|meta| drop(meta.as_object_mut().expect("an object").remove("a.json")));
    graph.server.resign("3.snapshot.json", &[&key(13)], |_| {});
    let described = graph.server.described("3.snapshot.json", 3);
    graph.server.resign("timestamp.json", &[&key(14)], |signed| {
        signed["meta"]["snapshot.json"] = described;
    });
    owner
}

#[test]
fn new_keys_bring_every_version_back_from_the_top() {
    let (mut graph, device) = fast_forwarded();
    let owner = recover(&mut graph);
    refused(device.refresh(&mut graph.server));
    put_root(&mut graph.server, &owner, 2, &[]);
    let after = device.refresh(&mut graph.server).expect("recovered");
    let versions = (after.timestamp.version, after.snapshot.version, after.targets.version);
    assert_eq!(versions, (3, 3, 2));
    // The role that the new snapshot does not list is not kept for ever.
    assert_eq!(device.stored("delegated.a.json"), None);
}

#[test]
fn a_time_that_a_stolen_key_signed_goes_with_the_key() {
    let mut server = published();
    let device = Device::new(&server);
    let first = device.refresh_at(&mut server, Time(0)).expect("refresh");
    // Far behind the end of all that the owner has signed, the root aside.
    let far = NOW.plus_days(3000).to_string();
    server.resign("timestamp.json", &[&key(4)], |signed| {
        signed["signed_at"] = json!(far);
        signed["expires"] = json!(NOW.plus_days(9000).to_string());
        signed["version"] = json!(2);
    });
    let error = refused(device.refresh_at(&mut server, Time(0)));
    assert!(matches!(error, Error::Expired { .. }), "{error}");
    // The owner's next publication would take that back; the thief has the next version ready.
    let thief = server.clone();
    server.publish(Some(&first), &["one", "two"], &signers(), 30);
    server.resign("timestamp.json", &[&key(4)], |signed| signed["version"] = json!(3));
    assert_eq!(names(&device.refresh_at(&mut server, Time(0)).expect("taken back")).len(), 2);
    let mut thief = thief;
    thief.resign("timestamp.json", &[&key(4)], |signed| signed["version"] = json!(4));
    refused(device.refresh_at(&mut thief, Time(0)));
    // That ends with the key.
    let owner = RoleSigners { timestamp: key(14), ..signers() };
    put_root(&mut server, &owner, 2, &[]);
    server.resign("timestamp.json", &[&key(14)], |_| {});
    assert_eq!(names(&device.refresh_at(&mut server, Time(0)).expect("recovered")).len(), 2);
}

#[test]
fn without_new_keys_there_is_no_way_back() {
    let (mut graph, device) = fast_forwarded();
    // The same keys in a new root, and other keys for other roles, are no rotation of these.
    put_root(&mut graph.server, &RoleSigners { targets: key(12), ..signers() }, 2, &[]);
    graph.publish();
    let error = refused(device.refresh(&mut graph.server));
    assert!(matches!(error, Error::Rollback { trusted: TOP, offered: 3, .. }), "{error}");
}

/// A store that loses power at the first write of one file.
struct Cut<'a>(&'a mut DirStore, &'a str);

impl Store for Cut<'_> {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.load(name)
    }
    fn save(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if name == self.1 {
            return Err(io::Error::other("power cut"));
        }
        self.0.save(name, bytes)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        if name == self.1 {
            return Err(io::Error::other("power cut"));
        }
        self.0.remove(name)
    }
}

#[test]
fn a_power_cut_at_any_step_of_the_recovery_does_not_lose_it() {
    for step in ["timestamp.json", "snapshot.json", "2.root.json", "delegated.a.json"] {
        let (mut graph, device) = fast_forwarded();
        // Both the old and the new keys count: nothing but the rotation itself ends the old
        // versions.
        recover(&mut graph);
        let both = |root: &mut Root| {
            for (role, n) in [("snapshot", 13), ("timestamp", 14)] {
                let object = tuf::key_object(&key(n).verifying_key());
                let id = tuf::key_id(&object).expect("id");
                root.keys.insert(id.clone(), object);
                root.roles.get_mut(role).expect("role").keyids.push(id);
            }
        };
        put_changed_root(&mut graph.server, &signers(), 2, &[], both);
        let mut store = DirStore::open(device.dir.path()).expect("store");
        let mut cut = Cut(&mut store, step);
        let result = refresh(&mut graph.server, &mut cut, &device.root, NOW, &Limits::default());
        assert!(matches!(refused(result), Error::Store { .. }), "{step}");
        let after = device.refresh(&mut graph.server).expect("recovered");
        assert_eq!(after.snapshot.version, 3, "{step}");
    }
}

#[test]
fn an_expired_root_with_new_keys_is_a_rotation_all_the_same() {
    let (mut graph, device) = fast_forwarded();
    let owner = recover(&mut graph);
    put_changed_root(&mut graph.server, &owner, 2, &[], |root| root.expires = NOW);
    refused(device.refresh(&mut graph.server));
    put_root(&mut graph.server, &owner, 3, &[]);
    let after = device.refresh(&mut graph.server).expect("recovered");
    assert_eq!((after.root.version, after.snapshot.version), (3, 3));
}

// Endless data.

/// A server that sends more than it was asked for.
struct Deluge(Server, &'static str);

impl Fetch for Deluge {
    fn fetch(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        if path.ends_with(self.1) {
            return Ok(vec![b' '; max as usize + 1]);
        }
        self.0.fetch(path, max)
    }
}

#[test]
fn more_than_the_limit_is_refused_whoever_fetches() {
    for file in ["2.root.json", "timestamp.json", "snapshot.json", "targets.json", "a.json"] {
        let graph = Graph::new(&[("targets", &[], &[to("a", &["*"])]), ("a", &[], &[])]);
        let device = graph.device();
        let mut store = DirStore::open(device.dir.path()).expect("store");
        let mut deluge = Deluge(graph.server, file);
        let mut client = Client::new(&mut deluge, &mut store, NOW, Limits::default());
        let result =
            client.refresh(&device.root).and_then(|published| client.find_target(&published, "x"));
        let error = result.expect_err("too much");
        assert!(
            matches!(&error, Error::Fetch { path, source: FetchError::TooLarge(_) } if path.ends_with(file)),
            "{error}"
        );
    }
}

#[test]
fn a_length_in_signed_metadata_does_not_lift_the_limit() {
    let mut graph = Graph::new(&[]);
    graph.publish_as(|meta| meta["targets.json"] = json!({"version": 1, "length": 1u64 << 40}));
    refused(graph.device().refresh(&mut graph.server));
    let (_, max) =
        graph.server.asked.iter().find(|(path, _)| path.ends_with("targets.json")).expect("asked");
    assert_eq!(*max, Limits::default().targets);
}

#[test]
fn a_chain_of_roots_without_an_end_is_walked_in_bounded_steps() {
    let mut server = published();
    let device = Device::new(&server);
    for version in 2..=10 {
        put_root(&mut server, &signers(), version, &[]);
    }
    let limits = Limits { new_roots: 4, ..Limits::default() };
    let mut store = DirStore::open(device.dir.path()).expect("store");
    for reached in [5, 9] {
        let result = refresh(&mut server, &mut store, &device.root, NOW, &limits);
        assert!(matches!(refused(result), Error::TooManyRoots { limit: 4 }));
        assert_eq!(device.stored(&format!("{reached}.root.json")), Some(reached));
        assert_eq!(device.stored(&format!("{}.root.json", reached + 1)), None);
    }
    let last = refresh(&mut server, &mut store, &device.root, NOW, &limits).expect("the rest");
    assert_eq!(last.root.version, 10);
}

#[test]
fn a_list_of_signatures_is_bounded() {
    let mut server = published();
    let device = Device::new(&server);
    server.edit("timestamp.json", |value| {
        let more = (0..64).map(|n| json!({"keyid": n.to_string(), "sig": ""}));
        value["signatures"].as_array_mut().expect("an array").extend(more);
    });
    let error = refused(device.refresh(&mut server));
    assert!(error.to_string().contains("more than 64 signatures"), "{error}");
}

// Snapshots without versions in the files' names.

#[test]
fn files_without_versions_in_their_names_are_checked_as_well() {
    let mut graph = Graph::new(&[("targets", &[], &[to("a/b", &["*"])]), ("a/b", &["x"], &[])]);
    put_changed_root(&mut graph.server, &signers(), 2, &[], |root| {
        root.consistent_snapshot = false;
    });
    for (with, without) in [
        ("2.snapshot.json", "snapshot.json"),
        ("2.targets.json", "targets.json"),
        ("1.a%2Fb.json", "a%2Fb.json"),
    ] {
        let bytes = graph.server.files[&format!("metadata/{with}")].clone();
        graph.server.files.insert(format!("metadata/{without}"), bytes);
    }
    graph.server.files.insert("targets/x".into(), b"a/b:x".to_vec());
    let device = graph.device();
    device.with_client(&mut graph.server, |client, published| {
        assert_eq!(client.fetch_target(published, "x").expect("fetch"), b"a/b:x");
    });
    let names = ["targets.json", "a%2Fb.json"].map(String::from);
    let asked = graph.server.take_asked();
    assert!(names.iter().all(|name| asked.contains(name)), "{asked:?}");

    // An older role in the place of the new one, without lengths and hashes.
    graph.role("a/b", &["x"], &[]);
    graph.publish_as(|meta| meta["a/b.json"] = json!({"version": 2}));
    let snapshot = graph.server.files["metadata/3.snapshot.json"].clone();
    graph.server.files.insert("metadata/snapshot.json".into(), snapshot);
    let error = device.with_client(&mut graph.server, |client, published| {
        client.find_target(published, "x").expect_err("mix and match")
    });
    assert!(matches!(error, Error::WrongVersion { wanted: 2, found: 1, .. }), "{error}");
}
