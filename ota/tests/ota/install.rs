//! Installing into a device made of files.

use std::sync::Arc;

use crate::support::{CHUNK, Fault, Recipe, TestDevice, recipe};
use formats::Slot;
use formats::boot_state::Boot;
use formats::manifest::HEADER_SIZE;
use formats::payload::ENTRY_SIZE;
use ota::context::Context;
use ota::data_folder::{DataFolder, Folder};
use ota::fetch::resource::Resource;
use ota::install::{InstallerLock, UpdateSource, install};

/// Room for one chunk and what the sockets between had in flight.
const ONE_CHUNK: u64 = CHUNK + 1024;

fn head_size(update: &crate::support::Update) -> u64 {
    (HEADER_SIZE + update.table.chunks().len() * ENTRY_SIZE) as u64
}

#[test]
fn an_install_is_whole_verified_and_armed() {
    let device = TestDevice::new();
    let before = device.medium();
    let update = recipe(2).build();
    let (server, url) = update.serve();
    let pending = device.install_url(&url).unwrap();
    assert!(device.holds(Slot::B, &update));
    let boot = device.boot();
    assert_eq!((boot.active, boot.trial, boot.tries), (Slot::A, Some(Slot::B), 3));
    assert_eq!((pending.sequence, pending.slot.as_str()), (2, "b"));
    assert_eq!(device.state().pending, Some(pending));
    let after = device.medium();
    for label in ["boot-a", "root-a"] {
        assert!(before[label] == after[label], "{label} was written");
    }
    let (served, requests) = (server.sent(), server.take_requests());
    assert_eq!(served, update.bytes.len() as u64);
    assert!(requests.len() < 10, "{requests:?}");
}

#[test]
fn a_local_file_is_installed_too() {
    let device = TestDevice::new();
    let update = recipe(2).build();
    device.install_file(&update.bytes).unwrap();
    assert!(device.holds(Slot::B, &update));
}

#[test]
fn chunks_that_are_there_already_are_not_fetched() {
    let device = TestDevice::new();
    let update = recipe(2).build();
    device.place(Slot::B, &update);
    let (server, url) = update.serve();
    device.install_url(&url).unwrap();
    let (served, requests) = (server.sent(), server.take_requests());
    assert_eq!((served, requests.len()), (head_size(&update), 2), "{requests:?}");
    assert!(device.holds(Slot::B, &update));
}

#[test]
fn a_dropped_connection_costs_at_most_one_chunk() {
    let device = TestDevice::new();
    let update = recipe(2).build();
    let (server, url) = update.serve();
    server.spoil_times(".update", Fault::DropAfter(300_000), 5);
    device.install_url(&url).unwrap();
    assert!(device.holds(Slot::B, &update));
    let (served, requests) = (server.sent(), server.take_requests());
    assert!(requests.len() > 4, "{requests:?}");
    assert_eq!(served, update.bytes.len() as u64, "bytes were fetched twice");
}

#[test]
fn an_install_that_was_cut_off_goes_on_where_it_was() {
    let device = TestDevice::new();
    let update = recipe(2).build();
    let (server, url) = update.serve();
    server.spoil(".update", Fault::Truncated(700_000));
    device.install_url(&url).unwrap_err();
    assert!(device.header_is_zero(Slot::B));
    let boot = device.boot();
    assert_eq!((boot.trial, boot.fallback), (None, None));
    server.heal();
    device.install_url(&url).unwrap();
    let again = server.sent() - update.bytes.len() as u64;
    assert!(again <= head_size(&update) + ONE_CHUNK, "{again} bytes were fetched twice");
    assert!(device.holds(Slot::B, &update));
}

#[test]
fn stopped_at_any_chunk_the_old_version_boots_and_the_next_install_finishes() {
    let update = recipe(2).build();
    let steps = 3 * update.table.chunks().len();
    for stop in (0..steps).step_by(5) {
        let device = TestDevice::new();
        // Once committed, the slot to be overwritten could be booted as the fallback.
        device.set_boot(|boot| boot.fallback = Some(Slot::B));
        device.put("stick.update", &update.bytes);
        let resource = Resource::File(device.path("stick.update"));
        let offer = UpdateSource { resource, signed: None };
        let count = std::cell::Cell::new(0);
        let beat = || {
            count.set(count.get() + 1);
            assert!(count.get() <= stop, "the test stops it here");
        };
        let stopped = std::panic::AssertUnwindSafe(|| {
            install(&Context::load(&device.handle).unwrap(), &offer, 3, &beat)
        });
        if std::panic::catch_unwind(stopped).is_ok() {
            // The other reading thread had taken all that was left.
            assert!(device.holds(Slot::B, &update), "step {stop}");
            continue;
        }
        let mut boot = device.boot();
        boot.strikes = 9;
        assert_eq!(boot.next(), (Slot::A, Boot::Active), "step {stop}");
        assert!(device.header_is_zero(Slot::B), "step {stop}");
        device.install_file(&update.bytes).unwrap();
        assert!(device.holds(Slot::B, &update), "step {stop}");
    }
}

#[test]
fn a_server_without_ranges_will_do() {
    let device = TestDevice::new();
    let update = recipe(2).build();
    let (server, url) = update.serve();
    server.spoil(".update", Fault::NoRange);
    device.install_url(&url).unwrap();
    assert!(device.holds(Slot::B, &update));
}

/// An install that lacks four chunks far apart, against a server with this habit. Gives the bytes
/// sent behind the head, and how many ranges each request for them named.
fn four_chunks_from(fault: Option<Fault>) -> (u64, Vec<usize>) {
    let device = TestDevice::new();
    let update = recipe(2).build();
    device.place(Slot::B, &update);
    device.flip("root-b", &[0, 7, 11, 15].map(|chunk| chunk * CHUNK));
    let (server, url) = update.serve();
    if let Some(fault) = fault {
        server.spoil(".update", fault);
    }
    device.install_url(&url).unwrap();
    assert!(device.holds(Slot::B, &update));
    let served = server.served_of(".update");
    (served.bytes - head_size(&update), served.ranges_each[2..].to_vec())
}

#[test]
fn scattered_chunks_come_by_one_request_for_several_ranges() {
    let (served, requests) = four_chunks_from(None);
    // The boot image ends in the middle of a chunk: each flip lies in a chunk of its own.
    assert!((4 * CHUNK..4 * CHUNK + 1000).contains(&served), "{served}");
    assert_eq!(requests.len(), 2, "256 KiB at a time: {requests:?}");
    assert_eq!(requests[0], 4, "{requests:?}");
}

#[test]
fn a_server_that_takes_one_range_at_a_time_is_asked_for_one_at_a_time() {
    for fault in [Fault::SingleRangeOnly, Fault::FirstRangeOnly] {
        let (served, requests) = four_chunks_from(Some(fault));
        assert!(requests[1..].iter().all(|ranges| *ranges <= 4), "{requests:?}");
        match fault {
            // Hung up on after the head; sockets take some of what it had begun to send.
            Fault::SingleRangeOnly => assert!(requests.len() >= 5, "{requests:?}"),
            _ => assert!((4 * CHUNK..4 * CHUNK + 1000).contains(&served), "{served}"),
        }
    }
}

#[test]
fn an_altered_payload_is_never_armed() {
    let update = recipe(2).build();
    let last = update.bytes.len() as u64 - 1;
    let size = head_size(&update);
    for at in [size, size + CHUNK, last] {
        let device = TestDevice::new();
        let (server, url) = update.serve();
        server.spoil(".update", Fault::Altered(at));
        let error = device.install_url(&url).unwrap_err().to_string();
        assert!(error.contains("arrived altered"), "byte {at}: {error}");
        assert_eq!(device.boot().trial, None);
        assert!(device.header_is_zero(Slot::B));
        assert_eq!(device.state().pending, None);
    }
}

#[test]
fn what_is_wrong_with_the_head_is_found_before_the_slot_is_touched() {
    let update = recipe(2).build();
    for at in [0, 21, 1030, HEADER_SIZE as u64 + 5] {
        let device = TestDevice::new();
        let (server, url) = update.serve();
        server.spoil(".update", Fault::Altered(at));
        device.refused(|| device.install_url(&url));
    }
    for length in [0, 100, HEADER_SIZE as u64, head_size(&update) - 1] {
        let device = TestDevice::new();
        let error = device.refused(|| device.install_file(&update.bytes[..length as usize]));
        assert!(error.contains("the file is cut off"), "{error}");
    }
}

#[test]
fn wrong_updates_are_refused_before_the_slot_is_touched() {
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[66; 32]);
    let cases: Vec<(Recipe, &str)> = vec![
        (Recipe { board: "raspi", ..recipe(2) }, "it is for board raspi, this is qemu-arm64"),
        (Recipe { name: "other", ..recipe(2) }, "it is an image named other, this runs demo"),
        (recipe(1), "its sequence 1 is not above 1, which runs"),
        (recipe(0), "its sequence 0 is not above 1, which runs"),
        (Recipe { root_size: 4 << 20, ..recipe(2) }, "its root is larger than the root partition"),
        (Recipe { key: stranger, ..recipe(2) }, "not signed by a trusted key"),
    ];
    for (recipe, reason) in cases {
        let device = TestDevice::new();
        let error = device.refused(|| device.install_file(&recipe.build().bytes));
        assert!(error.starts_with("refused ") && error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn below_the_floor_is_refused() {
    let device = TestDevice::new();
    let running = Recipe { rollback_floor: 5, ..recipe(1) }.build();
    device.place(Slot::A, &running);
    device.boot_into(Slot::A, &running.manifest, false, false);
    let error = device.refused(|| device.install_file(&recipe(4).build().bytes));
    assert!(error.contains("below the floor 5"), "{error}");
    device.install_file(&recipe(5).build().bytes).unwrap();
}

#[test]
fn nothing_is_installed_over_the_slot_to_come_back_to_during_a_trial() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    device.boot_into(Slot::B, &two.manifest, true, false);
    let error = device.refused(|| device.install_file(&recipe(3).build().bytes));
    assert!(error.contains("ota commit"), "{error}");
}

#[test]
fn a_newer_version_replaces_one_that_is_armed() {
    let device = TestDevice::new();
    device.install_file(&recipe(2).build().bytes).unwrap();
    let three = recipe(3).build();
    device.install_file(&three.bytes).unwrap();
    assert!(device.holds(Slot::B, &three));
    assert_eq!(device.state().pending.unwrap().sequence, 3);
}

#[test]
fn one_installer_at_a_time() {
    let device = TestDevice::new();
    let held = InstallerLock::take(&device.handle).unwrap();
    let error = device.refused(|| device.install_file(&recipe(2).build().bytes));
    assert!(error.contains("another installer is at work"), "{error}");
    drop(held);
    device.install_file(&recipe(2).build().bytes).unwrap();
}

/// A data partition on which nothing finds room any more.
#[derive(Debug)]
struct Full(Folder);

impl DataFolder for Full {
    fn read(&self, name: &str, max: u64) -> std::io::Result<Vec<u8>> {
        self.0.read(name, max)
    }

    fn replace(&self, _: &str, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn require_room(&self, _: usize) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_full_data_partition_is_refused_before_the_slot_is_touched() {
    let mut device = TestDevice::new();
    let roomy = device.handle.clone();
    let full = Arc::new(Full(Folder::new(roomy.data())));
    device.handle = roomy.clone().on(roomy.partitions().clone(), full);
    let error = device.refused(|| device.install_file(&recipe(2).build().bytes));
    assert!(error.contains("the data partition is full; free some space"), "{error}");
    device.handle = roomy;
    device.install_file(&recipe(2).build().bytes).unwrap();
}

#[test]
fn a_missing_partition_or_file_is_named() {
    let device = TestDevice::new();
    std::fs::remove_file(device.handle.device("root-b")).unwrap();
    let error = device.install_file(&recipe(2).build().bytes).unwrap_err().to_string();
    assert!(error.contains("root-b"), "{error}");
    let resource = Resource::File("/nonexistent.update".into());
    let offer = UpdateSource { resource, signed: None };
    let error = install(&Context::load(&device.handle).unwrap(), &offer, 3, &|| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nonexistent.update"), "{error}");
}
