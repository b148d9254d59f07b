//! What a power cut makes a device fetch again, counted at the server: the real client fetches from
//! a real server, the power goes at some byte of it, and with it all that was written since the last
//! flush. What the server sends over all attempts, less what one undisturbed update takes, is at
//! most 1 MiB for each cut.
//!
//! The moment is the worst there is: the server has sent the byte, and whatever the client had not
//! yet flushed then is lost, bytes on their way to it too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use formats::Slot;
use ota::daemon::{Daemon, Heart};

use crate::board::{Board, Root, Scenario, shipped};
use crate::cuts::Dice;
use crate::disk::{Event, Image, Moment};
use crate::loader::Loader;
use crate::support::{Delta, Recipe, Server, Update, publish_beside, recipe, timeouts};

/// What may be fetched twice for each cut, in bytes.
const TWICE: u64 = 1 << 20;
/// As `imager` cuts payloads.
const CHUNK: u64 = 256 << 10;
/// What `ota` keeps of heads and indexes between two flushes, in bytes: a cut may lose so much.
const KEPT_STEP: usize = 128 << 10;
/// Updates that are cut once, on each scenario.
const ONCE: usize = 16;
/// Updates that are cut three times.
const THRICE: usize = 4;

/// An update, what runs before it, and what lies beside it.
struct Offered {
    old: Update,
    new: Update,
    delta: Option<Delta>,
    index: Option<Vec<u8>>,
}

fn large(sequence: u64) -> Recipe {
    Recipe { boot_size: 1 << 20, root_size: 5 << 20, chunk_size: CHUNK, ..recipe(sequence) }
}

/// Numbers that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    (0..length).map(|_| dice.below(256) as u8).collect()
}

/// Every fourth 64 KiB are new.
fn partly_new(mut stream: Vec<u8>) -> Vec<u8> {
    for (index, piece) in stream.chunks_mut(64 << 10).enumerate().filter(|(n, _)| n % 4 == 1) {
        piece.copy_from_slice(&noise(1000 + index as u64, piece.len()));
    }
    stream
}

fn payload() -> Offered {
    let length = (6 << 20) as usize;
    let (old, new) = (large(1).build_of(noise(1, length)), large(2).build_of(noise(2, length)));
    Offered { old, new, delta: None, index: None }
}

/// A quarter of each MiB comes as chunks, the rest lies elsewhere in the running slot.
fn chunks() -> Offered {
    let first = noise(1, 6 << 20);
    let mut moved = first.clone();
    moved.rotate_right(4096);
    for (index, piece) in moved.chunks_mut(256 << 10).enumerate().filter(|(n, _)| n % 3 == 1) {
        piece.copy_from_slice(&noise(2000 + index as u64, piece.len()));
    }
    let (old, new) = (large(1).build_of(first), large(2).build_of(moved));
    let index = Some(new.index());
    Offered { old, new, delta: None, index }
}

fn delta() -> Offered {
    let first = noise(1, 6 << 20);
    let mut changed = partly_new(first.clone());
    changed.iter_mut().skip(500).step_by(3000).for_each(|byte| *byte ^= 0x55);
    let (old, new) = (large(1).build_of(first), large(2).build_of(changed));
    let delta = Some(Delta::of(&old, &new));
    Offered { old, new, delta, index: None }
}

/// The files in a folder and below it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        match path.is_dir() {
            true => {
                let below = files(&path).into_iter();
                found.extend(below.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
            }
            // One that is being replaced may be gone by now.
            false => found.extend(fs::read(path).ok().map(|bytes| (name, bytes))),
        }
    }
    found
}

/// Puts them back as the only ones there.
fn put_back(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A device on its way to an update, and the server that counts.
struct World<'a> {
    scenario: Scenario<'a>,
    root: Root,
    server: Server,
}

/// What a power cut finds.
struct Cut {
    events: usize,
    files: BTreeMap<String, Vec<u8>>,
}

impl World<'_> {
    /// Starts the board and updates it. What was found at the byte `cut` of all that the server
    /// sends, if it came to that.
    fn update(&self, image: Image, cut: Option<u64>) -> (Board<'_>, Option<Cut>) {
        let board = Board::new(&self.root, image);
        let context = board.boot(&self.scenario).expect("what runs is whole");
        // `init`, once all is healthy.
        board.change_boot(|state| state.strikes = 0).unwrap();
        let found = Arc::new(Mutex::new(None));
        if let Some(sent) = cut {
            let (disk, data) = (board.disk.clone(), board.handle.data().to_owned());
            let found = found.clone();
            self.server.cut_at(sent, move || {
                let cut = Cut { events: disk.record().len(), files: files(&data) };
                *found.lock().unwrap() = Some(cut);
            });
        }
        let result = Daemon::new(&context, timeouts(), &Heart::new()).unwrap().update();
        self.server.heal();
        let found = found.lock().unwrap().take();
        if found.is_none() {
            result.expect("nothing was cut");
        }
        (board, found)
    }
}

/// Whether the medium does what it is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flushes {
    Kept,
    Ignored,
}

/// Updates a new device with the power cut at these bytes of what the server sends. Bytes sent in all.
fn run(offered: &Offered, cuts: &[u64], flushes: Flushes, dice: &mut Dice) -> u64 {
    let root = Root::new(Loader::Uboot);
    let repository = publish_beside(&offered.new, offered.delta.as_ref(), offered.index.as_deref());
    root.put("etc/ferrite/tuf-root.json", &repository["metadata/1.root.json"]);
    let server = Server::of_files(repository).unwrap();
    root.put(
        "etc/ferrite/ota.json",
        format!(
            r#"{{"url": "{}", "name": "demo", "poll_seconds": 1, "jitter_seconds": 0,
            "commit_after_seconds": 0, "tries": 3, "reboot": "manual"}}"#,
            server.url()
        )
        .as_bytes(),
    );
    let versions = [&offered.old, &offered.new];
    let scenario = Scenario { versions: &versions, offered: &offered.new, offered_is_bad: false };
    let world = World { scenario, root, server };
    let mut image = shipped(Loader::Uboot, &offered.old, |_| ());
    for cut in cuts {
        let (board, found) = world.update(image.clone(), Some(*cut));
        let Some(found) = found else { break };
        let mut moment = Moment::start(image);
        let ignored = |event: &Event| match event {
            Event::Flush { label } => flushes == Flushes::Ignored && label.ends_with("-b"),
            _ => false,
        };
        let record = board.disk.record();
        let kept = record[..found.events].iter().filter(|event| !ignored(event));
        kept.for_each(|event| moment.apply(event));
        // All of it lost, or some.
        let all = flushes == Flushes::Ignored || dice.below(2) == 0;
        image = moment.left(|contents| if all { 0 } else { dice.below(contents) });
        let mut files = found.files;
        // The file of heads and indexes that was being written; which one is not known, so all.
        let torn = dice.below(KEPT_STEP + 1);
        for (_, bytes) in files.iter_mut().filter(|(name, _)| name.starts_with("kept/")) {
            let flushed = bytes.len() / KEPT_STEP * KEPT_STEP;
            bytes.truncate(flushed.max(bytes.len().saturating_sub(torn)));
        }
        put_back(board.handle.data(), &files);
    }
    let (board, _) = world.update(image, None);
    let whole = world.scenario.in_slot(&board.disk.image(), Slot::B);
    assert!(whole.is_some_and(|version| version.manifest == offered.new.manifest));
    world.server.sent()
}

fn at_most_a_mebibyte_twice(scenario: &str, offered: &Offered) {
    let mut dice = Dice::seeded();
    let whole = run(offered, &[], Flushes::Kept, &mut dice);
    let mut worst = (0, 0);
    for round in 0..ONCE + THRICE {
        let cuts = if round < ONCE { 1 } else { 3 };
        let part = whole as usize / ONCE;
        let mut points: Vec<u64> = match cuts {
            1 => vec![(round * part + dice.below(part)) as u64],
            _ => (0..cuts).map(|_| dice.below(whole as usize) as u64).collect(),
        };
        points.sort_unstable();
        let sent = run(offered, &points, Flushes::Kept, &mut dice);
        let twice = sent.saturating_sub(whole);
        let allowed = points.len() as u64 * TWICE;
        assert!(
            twice <= allowed,
            "{scenario}, cut at {points:?} of {whole} bytes: {twice} bytes were sent twice"
        );
        worst = worst.max((twice / points.len() as u64, points[0]));
    }
    println!(
        "{scenario}: {whole} bytes; {} power cuts; at most {} bytes sent twice for a cut (at byte {})",
        ONCE + 3 * THRICE,
        worst.0,
        worst.1
    );
}

#[test]
fn a_power_cut_makes_little_of_a_payload_come_twice() {
    at_most_a_mebibyte_twice("payload", &payload());
}

#[test]
fn a_power_cut_makes_few_chunks_come_twice() {
    at_most_a_mebibyte_twice("chunks", &chunks());
}

#[test]
fn a_power_cut_makes_little_of_a_delta_come_twice() {
    at_most_a_mebibyte_twice("delta", &delta());
}

/// What is flushed, and when, is the same with a socket between fetching and writing.
#[test]
fn a_power_cut_makes_little_come_twice_when_two_halves_install() {
    crate::board::IN_TWO_HALVES.set(true);
    at_most_a_mebibyte_twice("payload, by two halves", &payload());
    at_most_a_mebibyte_twice("delta, by two halves", &delta());
}

/// And that is seen: on a medium that ignores flushes, a late cut costs nearly all that was fetched.
#[test]
fn a_medium_that_ignores_flushes_makes_much_come_twice() {
    let (offered, mut dice) = (payload(), Dice::seeded());
    let whole = run(&offered, &[], Flushes::Kept, &mut dice);
    let sent = run(&offered, &[whole / 4 * 3], Flushes::Ignored, &mut dice);
    assert!(sent - whole > 3 * TWICE, "only {} bytes came twice", sent - whole);
}
