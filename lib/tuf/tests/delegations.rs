//! The search for a target through delegations (5.6.7), and fetching it (5.7).

mod support;

use serde_json::json;
use std::collections::BTreeMap;
use support::graph::{Graph, content, delegations, id_of, only_to, role_key, targets, to};
use support::{Device, NOW, key, signers};
use tuf::author::{Dates, publication};
use tuf::{Client, DirStore, Error, FetchError, Found, Limits};

/// Searches on a fresh device; also tells which delegated roles were fetched, in order.
fn search(graph: &mut Graph, target: &str) -> (Result<Option<Found>, Error>, Vec<String>) {
    let device = graph.device();
    search_on(&device, graph, target)
}

fn search_on(
    device: &Device,
    graph: &mut Graph,
    target: &str,
) -> (Result<Option<Found>, Error>, Vec<String>) {
    device.refresh(&mut graph.server).expect("refresh");
    graph.server.asked.clear();
    let found = device
        .with_client(&mut graph.server, |client, published| client.find_target(published, target));
    let fetched = graph.server.take_asked().split_off(2);
    (found, fetched)
}

fn role_of(found: Result<Option<Found>, Error>) -> Option<String> {
    found.expect("a search without an error").map(|found| found.role)
}

#[test]
fn roles_are_visited_in_preorder_and_the_first_that_lists_the_target_rules() {
    let mut graph = Graph::new(&[
        ("targets", &[], &[to("a", &["*"]), to("b", &["*"])]),
        ("a", &[], &[to("c", &["*"]), to("d", &["*"])]),
        ("b", &["x"], &[]),
        ("c", &[], &[]),
        ("d", &[], &[]),
    ]);
    let (found, fetched) = search(&mut graph, "x");
    assert_eq!(role_of(found).as_deref(), Some("b"));
    assert_eq!(fetched, ["1.a.json", "1.c.json", "1.d.json", "1.b.json"]);

    graph.role("c", &["x"], &[]);
    graph.publish();
    let (found, fetched) = search(&mut graph, "x");
    assert_eq!(role_of(found).as_deref(), Some("c"));
    assert_eq!(fetched, ["1.a.json", "2.c.json"]);

    graph.role("targets", &["x"], &[to("a", &["*"])]);
    graph.publish();
    let (found, fetched) = search(&mut graph, "x");
    assert_eq!(role_of(found).as_deref(), Some("targets"));
    assert_eq!(fetched, [""; 0]);
}

#[test]
fn nobody_is_asked_after_a_terminating_delegation_and_its_descendants() {
    let mut graph = Graph::new(&[
        ("targets", &[], &[to("a", &["*"]), to("b", &["*"])]),
        ("a", &[], &[to("c", &["*"]), only_to("d", &["*"]), to("e", &["*"])]),
        ("b", &["x"], &[]),
        ("c", &[], &[]),
        ("d", &[], &[to("f", &["*"])]),
        ("e", &["x"], &[]),
        ("f", &[], &[]),
    ]);
    let (found, fetched) = search(&mut graph, "x");
    assert_eq!(role_of(found), None);
    assert_eq!(fetched, ["1.a.json", "1.c.json", "1.d.json", "1.f.json"]);
}

#[test]
fn a_terminating_delegation_of_other_paths_terminates_nothing() {
    let mut graph = Graph::new(&[
        ("targets", &[], &[only_to("a", &["*.txt"]), to("b", &["*"])]),
        ("a", &[], &[]),
        ("b", &["x"], &[]),
    ]);
    let (found, fetched) = search(&mut graph, "x");
    assert_eq!(role_of(found).as_deref(), Some("b"));
    assert_eq!(fetched, ["1.b.json"]);
}

#[test]
fn every_link_of_the_chain_has_to_speak_for_the_target() {
    let mut graph = Graph::new(&[
        ("targets", &[], &[to("a", &["a/*"])]),
        ("a", &["b/x"], &[to("b", &["*/*"])]),
        ("b", &["a/x", "b/x"], &[]),
    ]);
    assert_eq!(role_of(search(&mut graph, "a/x").0).as_deref(), Some("b"));
    let (found, fetched) = search(&mut graph, "b/x");
    assert_eq!(role_of(found), None);
    assert_eq!(fetched, [""; 0]);
}

#[test]
fn bins_by_hash_prefix() {
    let first = tuf::sha256_hex(b"x")[..1].to_string();
    let others: Vec<String> =
        "0123456789abcdef".chars().map(String::from).filter(|digit| *digit != first).collect();
    let bin = |name: &str, prefixes: &[String]| {
        let mut role = to(name, &[]);
        role["path_hash_prefixes"] = json!(prefixes);
        role.as_object_mut().expect("an object").remove("paths");
        role
    };
    let mut graph = Graph::new(&[
        ("targets", &[], &[bin("others", &others), bin("first", &[first])]),
        ("others", &["x"], &[]),
        ("first", &["x"], &[]),
    ]);
    let (found, fetched) = search(&mut graph, "x");
    assert_eq!(role_of(found).as_deref(), Some("first"));
    assert_eq!(fetched, ["1.first.json"]);
}

#[test]
fn a_cycle_is_walked_once() {
    let mut graph = Graph::new(&[
        ("targets", &[], &[to("a", &["*"])]),
        ("a", &[], &[to("b", &["*"]), to("a", &["*"])]),
        ("b", &[], &[to("a", &["*"]), to("c", &["*"])]),
        ("c", &[], &[to("b", &["*"])]),
    ]);
    let (found, fetched) = search(&mut graph, "x");
    assert_eq!(role_of(found), None);
    assert_eq!(fetched, ["1.a.json", "1.b.json", "1.c.json"]);
}

#[test]
fn a_search_visits_a_bounded_number_of_roles() {
    let names: Vec<String> = (0..40).map(|n| format!("r{n}")).collect();
    for deep in [false, true] {
        let mut graph = Graph::new(&[]);
        let all: Vec<_> = names.iter().map(|name| to(name, &["*"])).collect();
        graph.role("targets", &[], if deep { &all[..1] } else { &all });
        for (n, name) in names.iter().enumerate() {
            let next = all.get(n + 1).filter(|_| deep);
            let last: &[&str] = if n == 39 { &["x"] } else { &[] };
            graph.role(name, last, next.map(std::slice::from_ref).unwrap_or_default());
        }
        graph.publish();
        let (found, fetched) = search(&mut graph, "x");
        let error = found.expect_err("forty roles were visited");
        assert!(matches!(error, Error::TooManyRoles { limit: 32, .. }), "{error}");
        assert_eq!(fetched.len(), 31);

        // With more patience it is there.
        let device = graph.device();
        let mut store = DirStore::open(device.dir.path()).expect("store");
        let limits = Limits { roles: 41, ..Limits::default() };
        let mut client = Client::new(&mut graph.server, &mut store, NOW, limits);
        let published = client.refresh(&device.root).expect("refresh");
        assert_eq!(role_of(client.find_target(&published, "x")).as_deref(), Some("r39"));
    }
}

#[test]
fn a_delegated_role_needs_the_threshold_of_its_delegators_keys() {
    let (own, second) = (role_key("a"), role_key("second"));
    let mut role = to("a", &["*"]);
    role["keyids"] = json!([id_of(&own), id_of(&second)]);
    role["threshold"] = json!(2);
    let mut top = targets("targets", 2, &[], &[role]);
    top["delegations"]["keys"][id_of(&second)] = tuf::key_object(&second.verifying_key());
    let mut graph = Graph::new(&[]);
    graph.signed("targets", &top, &[&key(2)]);
    for (signers, valid) in [
        (vec![&own, &second], None),
        (vec![&own], Some(1)),
        (vec![&role_key("b"), &key(2)], Some(0)),
        (vec![], Some(0)),
    ] {
        graph.signed("a", &targets("a", 1, &["x"], &[]), &signers);
        graph.publish();
        let (found, _) = search(&mut graph, "x");
        match (valid, found) {
            (None, found) => assert_eq!(role_of(found).as_deref(), Some("a")),
            (Some(valid), Err(Error::Unsigned { valid: v, threshold: 2, .. })) if v == valid => {}
            (_, other) => panic!("{} signers: {other:?}", signers.len()),
        }
    }
}

#[test]
fn one_key_under_two_ids_counts_once_for_a_delegated_role() {
    let own = role_key("a");
    let mut again = tuf::key_object(&own.verifying_key());
    again["note"] = json!("the same key");
    let other_id = tuf::key_id(&again).expect("id");
    let mut role = to("a", &["*"]);
    role["keyids"] = json!([id_of(&own), other_id]);
    role["threshold"] = json!(2);
    let mut top = targets("targets", 2, &[], &[role]);
    top["delegations"]["keys"][&other_id] = again;
    let mut graph = Graph::new(&[]);
    graph.signed("targets", &top, &[&key(2)]);
    graph.signed("a", &targets("a", 1, &["x"], &[]), &[&own]);
    graph.server.edit("1.a.json", |value| {
        let sig = value["signatures"][0]["sig"].clone();
        let copy = json!({"keyid": other_id, "sig": sig});
        value["signatures"].as_array_mut().expect("an array").push(copy);
    });
    graph.publish();
    let error = search(&mut graph, "x").0.expect_err("one key met a threshold of two");
    assert!(matches!(error, Error::Unsigned { valid: 1, threshold: 2, .. }), "{error}");
}

/// `shared` is signed for its delegator `a`, not for `b`, which gave it another key.
#[test]
fn a_role_is_verified_for_each_delegator_anew() {
    let mut for_b = to("shared", &["b/*"]);
    for_b["keyids"] = json!([id_of(&role_key("elsewhere"))]);
    let mut b = targets("b", 1, &[], &[for_b]);
    let elsewhere = tuf::key_object(&role_key("elsewhere").verifying_key());
    b["delegations"]["keys"][id_of(&role_key("elsewhere"))] = elsewhere;
    let mut graph = Graph::new(&[
        ("targets", &[], &[to("a", &["a/*"]), to("b", &["b/*"])]),
        ("a", &[], &[to("shared", &["a/*"])]),
        ("shared", &["a/x", "b/x"], &[]),
    ]);
    graph.signed("b", &b, &[&role_key("b")]);
    graph.publish();
    let device = graph.device();
    device.with_client(&mut graph.server, |client, published| {
        assert_eq!(role_of(client.find_target(published, "a/x")).as_deref(), Some("shared"));
        let error = client.find_target(published, "b/x").expect_err("trusted through another path");
        assert!(matches!(error, Error::Unsigned { valid: 0, .. }), "{error}");
    });
}

/// Else whoever keeps a role's file away could have one that is trusted less heard instead.
#[test]
fn a_role_that_does_not_come_or_does_not_verify_ends_the_search() {
    let graph = || {
        Graph::new(&[
            ("targets", &[], &[to("a", &["*"]), to("b", &["*"])]),
            ("a", &["x"], &[]),
            ("b", &["x"], &[]),
        ])
    };
    let mut missing = graph();
    missing.server.files.remove("metadata/1.a.json");
    let (found, fetched) = search(&mut missing, "x");
    assert!(matches!(found, Err(Error::Fetch { source: FetchError::NotFound, .. })));
    assert_eq!(fetched, ["1.a.json"]);

    let mut unlisted = graph();
    unlisted.publish_as(|meta| drop(meta.as_object_mut().expect("an object").remove("a.json")));
    let (found, fetched) = search(&mut unlisted, "x");
    let error = found.expect_err("a role outside the snapshot was heard");
    assert!(error.to_string().contains("does not list a.json"), "{error}");
    assert_eq!(fetched, [""; 0]);

    let mut altered = graph();
    altered.server.edit("1.a.json", |value| value["signed"]["version"] = json!(1.5));
    assert!(search(&mut altered, "x").0.is_err());

    let mut other_version = graph();
    other_version.publish_as(|meta| meta["a.json"] = json!({"version": 2}));
    let old = other_version.server.files["metadata/1.a.json"].clone();
    other_version.server.files.insert("metadata/2.a.json".into(), old);
    let error = search(&mut other_version, "x").0.expect_err("mix and match");
    assert!(matches!(error, Error::WrongVersion { wanted: 2, found: 1, .. }), "{error}");

    let mut expired = graph();
    let mut a = targets("a", 2, &["x"], &[]);
    a["expires"] = json!(NOW.to_string());
    expired.signed("a", &a, &[&role_key("a")]);
    expired.publish();
    let error = search(&mut expired, "x").0.expect_err("expired");
    assert!(matches!(&error, Error::Expired { file, .. } if file == "a.json"), "{error}");

    let mut unsound = graph();
    let mut a = targets("a", 2, &["x"], &[]);
    a["delegations"] = json!({"keys": {}, "roles": [{"name": "timestamp"}]});
    unsound.signed("a", &a, &[&role_key("a")]);
    unsound.publish();
    let error = search(&mut unsound, "x").0.expect_err("unsound");
    assert!(matches!(&error, Error::Malformed { file, .. } if file == "2.a.json"), "{error}");
}

#[test]
fn a_delegated_role_does_not_go_back_or_away() {
    let mut graph = Graph::new(&[("targets", &[], &[to("a", &["*"])]), ("a", &["x"], &[])]);
    graph.role("a", &["x"], &[]);
    graph.publish();
    let device = graph.device();
    device.refresh(&mut graph.server).expect("refresh");
    graph.publish_as(|meta| meta["a.json"]["version"] = json!(1));
    let error = device.refresh(&mut graph.server).expect_err("a role went back");
    assert!(matches!(error, Error::Rollback { trusted: 2, offered: 1, .. }), "{error}");
    graph.publish_as(|meta| drop(meta.as_object_mut().expect("an object").remove("a.json")));
    let error = device.refresh(&mut graph.server).expect_err("a role went away");
    assert!(matches!(error, Error::Rollback { trusted: 2, offered: 0, .. }), "{error}");
}

#[test]
fn a_role_that_is_stored_is_fetched_again_only_when_it_changed() {
    let mut graph = Graph::new(&[("targets", &[], &[to("a", &["*"])]), ("a", &["x"], &[])]);
    let device = graph.device();
    assert_eq!(search_on(&device, &mut graph, "x").1, ["1.a.json"]);
    assert_eq!(search_on(&device, &mut graph, "x").1, [""; 0]);
    graph.role("a", &["x", "y"], &[]);
    graph.publish();
    let (found, fetched) = search_on(&device, &mut graph, "y");
    assert_eq!(role_of(found).as_deref(), Some("a"));
    assert_eq!(fetched, ["2.a.json"]);
    assert_eq!(device.stored("delegated.a.json"), Some(2));

    let at = device.dir.path().join("delegated.a.json");
    std::fs::write(at, b"{\"signatures\":[]").expect("write");
    assert_eq!(search_on(&device, &mut graph, "y").1, ["2.a.json"]);
}

#[test]
fn no_name_of_a_role_reaches_another_file() {
    for name in ["?", "#", "/r", "../r", "2.root", "timestamp.json", "a/../../r", "."] {
        let mut graph = Graph::new(&[("targets", &[], &[to(name, &["*"])]), (name, &["x"], &[])]);
        let device = graph.device();
        let (found, fetched) = search_on(&device, &mut graph, "x");
        assert_eq!(role_of(found).as_deref(), Some(name));
        assert_eq!(fetched, [Graph::file(name, 1)], "{name:?}");
        let mut files: Vec<String> = std::fs::read_dir(device.dir.path())
            .expect("list")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
            .collect();
        files.sort();
        assert_eq!(files.len(), 4, "{name:?}: {files:?}");
        assert!(files[0].starts_with("delegated."), "{name:?}: {files:?}");
        device.refresh(&mut graph.server).expect("the other roles are as they were");
    }
}

#[test]
fn targets_are_what_their_role_says_they_are() {
    let mut graph =
        Graph::new(&[("targets", &["top"], &[to("a", &["a/*"])]), ("a", &["a/b c"], &[])]);
    let path = format!("targets/a/{}.b c", tuf::sha256_hex(&content("a", "a/b c")));
    let bytes = graph.server.files.remove(&path).expect("the target");
    let path = path.replace(' ', "%20");
    graph.server.files.insert(path.clone(), bytes.clone());
    let device = graph.device();
    let fetch = |graph: &mut Graph, target: &str| {
        device.with_client(&mut graph.server, |client, published| {
            client.fetch_target(published, target)
        })
    };
    assert_eq!(fetch(&mut graph, "top").expect("fetch"), content("targets", "top"));
    assert_eq!(fetch(&mut graph, "a/b c").expect("fetch"), bytes);
    assert!(matches!(fetch(&mut graph, "b/x"), Err(Error::NoSuchTarget { .. })));

    let mut other = bytes.clone();
    other[0] ^= 1;
    graph.server.files.insert(path.clone(), other);
    assert!(matches!(fetch(&mut graph, "a/b c"), Err(Error::Altered { .. })));
    graph.server.files.insert(path.clone(), bytes[1..].to_vec());
    assert!(matches!(fetch(&mut graph, "a/b c"), Err(Error::Altered { .. })));
    graph.server.files.insert(path, [&bytes[..], b"!"].concat());
    let error = fetch(&mut graph, "a/b c").expect_err("longer than signed");
    let length = bytes.len() as u64;
    assert!(
        matches!(error, Error::Fetch { source: FetchError::TooLarge(max), .. } if max == length),
        "{error}"
    );
}

#[test]
fn publishing_again_keeps_what_others_were_trusted_with() {
    let mut graph = Graph::new(&[("targets", &[], &[to("a", &["*"])]), ("a", &["x"], &[])]);
    let device = graph.device();
    let before = device.refresh(&mut graph.server).expect("refresh");
    let end = NOW.plus_days(30);
    let dates = Dates { signed_at: NOW, targets: end, snapshot: end, timestamp: end };
    let files = publication(Ok(&before), BTreeMap::new(), &signers(), &dates).expect("publish");
    for (name, bytes) in files.files {
        graph.server.files.insert(format!("metadata/{name}"), bytes);
    }
    let after = device.refresh(&mut graph.server).expect("refresh");
    assert_eq!(after.targets.version, before.targets.version + 1);
    assert_eq!(after.targets.delegations, Some(delegations(&[to("a", &["*"])])));
    assert_eq!(role_of(search_on(&device, &mut graph, "x").0).as_deref(), Some("a"));
}
