//! The cheapest chunk source, and the falls from one to the next: what the server sent is counted.

use crate::support::{CHUNK, Delta, Fault, Server, TestDevice, Update, publish_beside, recipe};
use formats::Slot;
use ota::context::Context;
use ota::install::progress::InstallProgress;

/// Version 2 with small changes in every second chunk of version 1.
fn small_changes() -> (Update, Update) {
    let old = recipe(1).build();
    let mut stream = old.covered().to_vec();
    for at in (9_000..stream.len()).step_by(2 * CHUNK as usize) {
        stream[at..at + 40].iter_mut().for_each(|byte| *byte = byte.wrapping_add(3));
    }
    (old, recipe(2).build_of(stream))
}

/// Version 2 is version 1 with one more block in front of the root's content: everything behind it
/// moves by 4 KiB.
fn shifted() -> (Update, Update) {
    let old = recipe(1).build();
    let mut stream = old.covered().to_vec();
    let boot = old.manifest.boot_size as usize;
    stream.truncate(stream.len() - 4096);
    let block: Vec<u8> = (0..4096u32).map(|n| (n * 7 % 253) as u8).collect();
    stream.splice(boot..boot, block);
    (old, recipe(2).build_of(stream))
}

/// A device that runs the old version, and a repository for it.
struct World {
    device: TestDevice,
    server: Server,
    new: Update,
}

impl World {
    fn new(new: Update, delta: Option<&Delta>, index: Option<&[u8]>) -> World {
        let device = TestDevice::new();
        let files = publish_beside(&new, delta, index);
        device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
        World { device, server: Server::of_files(files).unwrap(), new }
    }

    /// Installs, and gives the bytes sent by the end of the path, and the report.
    fn update(&self) -> InstallProgress {
        assert!(self.device.update_from(&self.server.url()).unwrap());
        assert!(self.device.holds(Slot::B, &self.new));
        assert_eq!(self.device.boot().trial, Some(Slot::B));
        let report = InstallProgress::load(&self.device.handle).unwrap();
        assert!(report.done);
        assert_eq!(report.percent(), 100);
        report
    }

    fn sent(&self, end: &str) -> u64 {
        self.server.served_of(end).bytes
    }
}

/// What comes of a header that is blank behind its manifest, and the chunk table.
fn head_size(update: &Update) -> u64 {
    4096 + 36 * update.table.chunks().len() as u64
}

#[test]
fn the_delta_brings_what_changed_and_the_tree_is_computed() {
    let (old, new) = small_changes();
    let delta = Delta::of(&old, &new);
    let world = World::new(new, Some(&delta), Some(&[]));
    let report = world.update();
    assert_eq!(world.sent(".update"), head_size(&world.new), "header and table only");
    assert!(world.sent(".delta") <= delta.bytes.len() as u64 + 300);
    assert_eq!(world.sent(".index"), 0);
    assert_eq!(report.fetched.delta, world.sent(".delta"));
    assert_eq!((report.fetched.payload, report.fetched.index), (0, 0));
    assert!(
        report.chunks.delta > 5 && report.chunks.local_copy > 5 && report.chunks.tree > 0,
        "{report:?}"
    );
    assert_eq!(report.saved(), report.payload_bytes - world.sent(".update") - world.sent(".delta"));
    assert!(report.notes.is_empty(), "{report:?}");
}

#[test]
fn the_status_says_what_was_fetched_how_and_what_that_saved() {
    let (old, new) = small_changes();
    let delta = Delta::of(&old, &new);
    let world = World::new(new, Some(&delta), None);
    let none = ota::status::collect(&Context::load(&world.device.handle).unwrap()).unwrap();
    assert!(none.install.is_none() && !none.to_text().contains("saved"));
    world.server.spoil(".update", Fault::Status(503));
    world.device.update_from(&world.server.url()).unwrap_err();
    world.server.heal();
    let report = world.update();
    let status = ota::status::collect(&Context::load(&world.device.handle).unwrap()).unwrap();
    let line =
        format!("installed 1.0.2: fetched {:.2} MB (delta", report.fetched_in_all() as f64 / 1e6);
    assert!(status.to_text().contains(&line), "{}", status.to_text());
    let json = serde_json::to_value(&status).unwrap();
    let install = &json["install"];
    assert_eq!(install["version"], "1.0.2");
    assert_eq!(install["fetched"]["delta"], world.sent(".delta"));
    assert_eq!(install["fetched_bytes"], world.sent(".delta") + world.sent(".update"));
    assert_eq!(install["saved_bytes"], report.saved());
    assert_eq!((&install["percent"], &install["done"]), (&100.into(), &true.into()));
}

#[test]
fn content_that_moved_by_a_block_is_put_together_from_blocks() {
    let (_, new) = shifted();
    let index = new.index();
    let world = World::new(new, None, Some(&index));
    let report = world.update();
    assert_eq!(world.sent(".index"), index.len() as u64);
    // The chunk with the new block has to come; nothing else does.
    let payload = world.sent(".update") - head_size(&world.new);
    assert!((1..=CHUNK + 1000).contains(&payload), "{payload}");
    assert!(report.chunks.blocks > 15, "{report:?}");
}

#[test]
fn a_delta_from_another_version_is_not_for_this_device() {
    let (_, new) = small_changes();
    let delta = Delta::of(&recipe(7).build(), &new);
    let world = World::new(new, Some(&delta), None);
    world.update();
    assert_eq!(world.sent(".delta"), 0);
}

/// Whatever is wrong with the delta, the payload brings what it does not, and what changed only.
#[test]
fn whatever_is_wrong_with_the_delta_the_payload_takes_over() {
    let (old, new) = small_changes();
    let delta = Delta::of(&old, &new);
    let last = delta.bytes.len() as u64 - 1;
    let faults = [
        (Fault::Status(404), "no such file"),
        (Fault::Status(500), "answered 500"),
        (Fault::Truncated(delta.head_length as u64 / 2), ""),
        (Fault::Altered(3), "arrived altered"),
        (Fault::Altered(delta.head_length as u64 - 1), "arrived altered"),
        (Fault::Altered(last), "did not come out right"),
        (Fault::NoRange, ""),
    ];
    for (fault, note) in faults {
        let (_, new) = small_changes();
        let world = World::new(new, Some(&delta), None);
        world.server.spoil(".delta", fault);
        let report = world.update();
        let payload = world.sent(".update") - head_size(&world.new);
        let changed = world.new.table.chunks().len() as u64 / 2 + 2;
        assert!(payload <= changed * (CHUNK + 200), "{fault:?}: {payload}");
        if !note.is_empty() {
            assert!(payload > 0, "{fault:?}");
            assert!(report.notes[0].contains(note), "{fault:?}: {report:?}");
        }
        if fault == Fault::Altered(last) {
            assert!(report.chunks.delta > 0, "the other group was good: {report:?}");
        }
    }
}

#[test]
fn whatever_is_wrong_with_the_index_the_payload_takes_over() {
    let (_, new) = shifted();
    let index = new.index();
    let last = index.len() as u64 - 1;
    for fault in
        [Fault::Status(404), Fault::Altered(10), Fault::Altered(last), Fault::Truncated(100)]
    {
        let (_, new) = shifted();
        let world = World::new(new, None, Some(&index));
        world.server.spoil(".index", fault);
        let report = world.update();
        assert_eq!(report.chunks.blocks, 0, "{fault:?}");
        assert!(report.notes[0].starts_with("blocks: "), "{fault:?}: {report:?}");
    }
}

#[test]
fn a_signed_delta_that_makes_other_bytes_costs_a_fall_and_nothing_else() {
    let (old, new) = small_changes();
    // Signed, and made for another new version of the same sizes.
    let delta = Delta::of(&old, &recipe(2).build_of(old.covered().to_vec()));
    let world = World::new(new, Some(&delta), None);
    let report = world.update();
    assert!(report.notes[0].contains("did not come out right"), "{report:?}");
    assert!(report.chunks.payload > 5);
}

#[test]
fn one_decayed_block_of_the_running_slot_costs_one_chunk() {
    let (old, new) = small_changes();
    let delta = Delta::of(&old, &new);
    let world = World::new(new, Some(&delta), None);
    // In the second changed chunk: boot image, 163840 bytes, then the root.
    let at = 9_000 + 2 * CHUNK + 5_000;
    world.device.flip("boot-a", &[at]);
    let report = world.update();
    let payload = world.sent(".update") - head_size(&world.new);
    assert!((CHUNK..=CHUNK + 1000).contains(&payload), "{payload} {report:?}");
    assert_eq!(report.chunks.payload, 1, "{report:?}");
}

#[test]
fn a_decayed_block_of_the_running_slot_makes_no_chunk_of_blocks() {
    let (_, new) = shifted();
    let index = new.index();
    let world = World::new(new, None, Some(&index));
    world.device.flip("root-a", &[10 * CHUNK]);
    let report = world.update();
    assert_eq!(report.chunks.payload, 2, "the new block's and the decayed one's: {report:?}");
}

#[test]
fn a_running_slot_that_cannot_be_read_leaves_the_payload() {
    let (old, new) = small_changes();
    let delta = Delta::of(&old, &new);
    let index = new.index();
    let world = World::new(new, Some(&delta), Some(&index));
    let root = world.device.handle.device("root-a");
    std::fs::rename(&root, root.with_extension("gone")).unwrap();
    let report = world.update();
    assert_eq!((world.sent(".delta"), world.sent(".index")), (0, 0));
    assert_eq!(report.chunks.payload, world.new.table.chunks().len() as u64 - 1, "{report:?}");
}

#[test]
fn an_altered_chunk_of_the_payload_ends_the_install_and_keeps_what_is_there() {
    let (old, new) = small_changes();
    let mut delta = Delta::of(&old, &new);
    // Group 1 is broken for good, so chunks of it come from the payload.
    let last = delta.bytes.len() - 1;
    delta.bytes[last] ^= 1;
    let world = World::new(new, Some(&delta), None);
    let at = world.new.table.file_range(20).start + 50;
    world.server.spoil(".update", Fault::Altered(at));
    let error = world.device.update_from(&world.server.url()).unwrap_err().to_string();
    assert!(error.contains("arrived altered"), "{error}");
    assert_eq!(world.device.boot().trial, None);
    let report = InstallProgress::load(&world.device.handle).unwrap();
    assert!(!report.done && report.percent() < 100);
    world.server.heal();
    let before = world.sent(".delta");
    world.update();
    // The group that is good is in place, and the head is kept.
    let again = world.sent(".delta") - before;
    assert!(again < delta.head_length as u64, "{again}");
}
