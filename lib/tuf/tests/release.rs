//! What a publisher's release consists of, in which order its files appear, and what it refuses.

mod support;

use ed25519_dalek::SigningKey;
use support::{Device, NOW, Server, dates, key, published, signers};
use tuf::author::{Changes, Draft, Keyring, Published, Tally, next_targets, release};
use tuf::{Error, Role, Root};

fn start() -> (Server, Device, Published) {
    let mut server = published();
    let device = Device::new(&server);
    let before = device.refresh(&mut server).expect("refresh");
    (server, device, before)
}

/// The next root, in which `new` signs timestamps instead of `old`.
fn rotated(before: &Published, old: &SigningKey, new: &SigningKey) -> Draft<Root> {
    let mut root = before.root.next(NOW.plus_days(3650));
    let id = root.id_of(Role::Timestamp, &old.verifying_key()).expect("the old key signs");
    root.remove_key(Role::Timestamp, &id).expect("removed");
    root.add_key(Role::Timestamp, &new.verifying_key()).expect("added");
    let mut draft = Draft::new(root).expect("a draft");
    draft.sign_with(&signers().keyring(), &before.root).expect("signed");
    draft
}

fn names(changes: Changes, before: &Published, keys: &Keyring) -> Vec<String> {
    let files = release(Some(before), changes, keys, &dates(30)).expect("a release").files;
    files.into_iter().map(|(name, _)| name).collect()
}

fn with_timestamp(root: Draft<Root>) -> Changes {
    let renew = tuf::author::Renew::Timestamp;
    Changes { root: Some(root), renew, ..Changes::default() }
}

#[test]
fn the_root_comes_last_where_the_old_keys_sign_too() {
    let (_, _, before) = start();
    let root = rotated(&before, &key(4), &key(9));
    let both = Keyring::new([key(4), key(9)]);
    assert_eq!(names(with_timestamp(root), &before, &both), ["timestamp.json", "2.root.json"]);
}

#[test]
fn the_root_comes_first_where_the_old_key_is_lost() {
    let (_, _, before) = start();
    let root = rotated(&before, &key(4), &key(9));
    let new = Keyring::new([key(9)]);
    assert_eq!(names(with_timestamp(root), &before, &new), ["2.root.json", "timestamp.json"]);
}

#[test]
fn after_each_file_of_a_rotation_a_device_finds_its_way() {
    let (server, _, before) = start();
    let changes = with_timestamp(rotated(&before, &key(4), &key(9)));
    let both = Keyring::new([key(4), key(9)]);
    let files = release(Some(&before), changes, &both, &dates(30)).expect("a release").files;
    let mut server = server;
    for (name, bytes) in files {
        server.files.insert(format!("metadata/{name}"), bytes);
        let fresh = Device { root: server.root(), ..Device::new(&server) };
        fresh.refresh(&mut server).unwrap_or_else(|error| panic!("after {name}: {error}"));
    }
}

#[test]
fn a_root_alone_changes_nothing_else() {
    let (_, _, before) = start();
    let mut root = before.root.next(NOW.plus_days(3650));
    root.add_key(Role::Root, &key(9).verifying_key()).expect("added");
    let mut draft = Draft::new(root).expect("a draft");
    draft.sign_with(&signers().keyring(), &before.root).expect("signed");
    let changes = Changes { root: Some(draft), ..Changes::default() };
    assert_eq!(names(changes, &before, &Keyring::default()), ["2.root.json"]);
}

#[test]
fn too_few_signatures_make_no_release() {
    let (_, _, before) = start();
    let targets = || Draft::new(next_targets(Some(&before.targets), NOW)).expect("a draft");
    let try_with = |changes: Changes, keys: &Keyring| {
        release(Some(&before), changes, keys, &dates(30)).expect_err("released")
    };
    let unsigned = |error: Error, name: &str| matches!(&error, Error::Unsigned { file, valid: 0, .. } if file == name);
    for (without, file) in [(2, "2.targets.json"), (3, "2.snapshot.json"), (4, "timestamp.json")] {
        let keys = Keyring::new([2, 3, 4].into_iter().filter(|n| *n != without).map(key));
        let changes = Changes { targets: Some(targets()), ..Changes::default() };
        assert!(unsigned(try_with(changes, &keys), file), "{file}");
    }
    let root = Draft::new(before.root.next(NOW)).expect("a draft");
    let changes = Changes { root: Some(root), ..Changes::default() };
    assert!(unsigned(try_with(changes, &Keyring::default()), "2.root.json"));
    // A version is not left out: devices ask for each.
    let mut skipped = before.root.next(NOW).next(NOW);
    skipped.set_threshold(Role::Root, 1);
    let mut draft = Draft::new(skipped).expect("a draft");
    draft.sign_with(&signers().keyring(), &before.root).expect("signed");
    let changes = Changes { root: Some(draft), ..Changes::default() };
    let error = try_with(changes, &Keyring::default());
    assert!(matches!(error, Error::WrongVersion { wanted: 2, found: 3, .. }), "{error}");
}

#[test]
fn signatures_of_two_copies_come_together_and_those_of_strangers_do_not() {
    let mut root = Root::empty(NOW.plus_days(30));
    for role in Role::ALL {
        root.add_key(role, &key(1).verifying_key()).expect("added");
        root.add_key(role, &key(2).verifying_key()).expect("added");
        root.set_threshold(role, 2);
    }
    let draft = Draft::new(next_targets(None, NOW)).expect("a draft");
    let (mut first, mut second, mut third) = (draft.clone(), draft.clone(), draft.clone());
    first.sign_with(&Keyring::new([key(1)]), &root).expect("signed");
    second.sign_with(&Keyring::new([key(2)]), &root).expect("signed");
    third.sign(&root.ids(Role::Targets)[1], &key(66)).expect("signed with another's id");
    first.merge(&third, &root).expect("merged");
    let one = first.tally(&root).expect("tally");
    let missing = vec![root.ids(Role::Targets)[1].clone()];
    let signed = vec![root.ids(Role::Targets)[0].clone()];
    assert_eq!(one, Tally { signed, missing, threshold: 2 });
    first.merge(&second, &root).expect("merged");
    assert!(first.tally(&root).expect("tally").enough());
    let read = Draft::<tuf::Targets>::read("copy", &first.to_bytes()).expect("read");
    assert!(read.tally(&root).expect("tally").enough());

    let other = Draft::new(next_targets(None, NOW.plus_days(1))).expect("a draft");
    assert!(first.merge(&other, &root).is_err(), "it says something else");
}
