//! A medium that decays under a version that was committed: it is found, before it is needed if there
//! is time, and neither the version nor the device suffers for it.

use std::io;
use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Recipe, Repository, TestDevice, Update, recipe};
use formats::Slot;
use formats::boot_state::BootState;
use formats::layout::FIRMWARE;
use formats::manifest::{FileHash, HEADER_SIZE};
use formats::medium::{Access, Medium, Partitions};
use ota::context::Context;
use ota::daemon::scrub::Scrub;
use ota::data_folder::Folder;
use ota::install::InstallerLock;
use ota::state::State;
use sha2::{Digest, Sha256};

/// A version with a real FAT volume as its boot image, and the files on it in its manifest. Gives
/// the offset of the kernel's first byte, too.
fn with_boot_files(sequence: u64) -> (Update, u64) {
    let mut recipe = recipe(sequence);
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(recipe.boot_size).unwrap();
    let run = |program: &mut Program| assert!(program.output().unwrap().status.success());
    run(Program::new("/sbin/mkfs.fat").args(["-F", "12", "-s", "1"]).arg(&image));
    let mut kernel = Vec::new();
    for (name, seed) in [("kernel", 3u32), ("initrd", 5)] {
        let bytes: Vec<u8> = (0..30_000u32).map(|n| (n * seed % 251) as u8).collect();
        let file = dir.path().join(name);
        std::fs::write(&file, &bytes).unwrap();
        run(Program::new("mcopy").arg("-i").arg(&image).arg(&file).arg("::"));
        let sha256 = Sha256::digest(&bytes).into();
        recipe.boot_files.push(FileHash { sha256, size: bytes.len() as u64, name: name.into() });
        if name == "kernel" {
            kernel = bytes;
        }
    }
    let boot = std::fs::read(&image).unwrap();
    let at = boot.windows(512).position(|window| window == &kernel[..512]).unwrap();
    let mut stream = recipe.stream();
    stream[..boot.len()].copy_from_slice(&boot);
    (Recipe { ..recipe }.build_of(stream), at as u64)
}

/// How version 2 came into slot b.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Came {
    /// With the device: nothing but the partition is there.
    Shipped,
    /// By an install, which kept the chunk table.
    Installed,
}

/// A device that runs version 1 in slot a; version 2, in slot b, was committed once.
fn device_with(two: &Update, came: Came, boot: impl FnOnce(&mut BootState)) -> TestDevice {
    let device = TestDevice::new();
    match came {
        Came::Shipped => device.place(Slot::B, two),
        Came::Installed => drop(device.install_file(&two.bytes).unwrap()),
    }
    State::change(&device.handle, |state| state.pending = None).unwrap();
    device.set_boot(|state| {
        *state = BootState { generation: state.generation, ..BootState::fresh() };
        boot(state);
    });
    device.boot_into(Slot::A, &recipe(1).build().manifest, false, true);
    device
}

/// As many steps as there may be on this day, or until something is said.
fn scrub(device: &TestDevice, scrub: &mut Scrub, today: u64, steps: usize) -> Option<String> {
    let context = Context::load(&device.handle).unwrap();
    (0..steps).find_map(|_| scrub.step(&context, today, &|| ()).unwrap())
}

const DAY: u64 = 20_000;

#[test]
#[ignore = "needs dosfstools: `just unit`"]
fn a_decayed_boot_partition_bans_nobody() {
    let (two, kernel) = with_boot_files(2);
    for came in [Came::Shipped, Came::Installed] {
        for at in [510, kernel, kernel + 29_999] {
            for settled in [false, true] {
                let device = device_with(&two, came, |boot| match settled {
                    true => boot.fallback = Some(Slot::B),
                    false => boot.commit(Slot::B),
                });
                device.flip("boot-b", &[at]);
                device.put(
                    "run/ferrite/last-failure",
                    "ferrite-last-failure 1\nslot b\nreason boot-b-not-loadable\n",
                );
                let said = device.settle().unwrap().unwrap();
                let case = format!("{came:?}, byte {at}, settled {settled}: {said}");
                assert_eq!(
                    said, "slot b has decayed on the medium; its version may be fetched again",
                    "{case}"
                );
                let state = device.state();
                assert_eq!((state.failed.len(), state.retrial), (0, None), "{case}");
                if !settled {
                    // What `init` does when this boot is healthy: it cannot know.
                    device.set_boot(|boot| {
                        boot.active = Slot::A;
                        boot.fallback = Some(Slot::B);
                    });
                    assert!(device.settle().unwrap().unwrap().contains("has decayed"), "{case}");
                }
                assert_eq!(device.boot().fallback, None, "{case}");
                let mut repository = Repository::new();
                repository.publish(&[&two]);
                let server = repository.serve(&device);
                assert_eq!(device.update_from(&server.url()), Ok(true), "{case}");
                assert!(device.holds(Slot::B, &two), "{case}");
            }
        }
    }
}

#[test]
fn a_committed_version_whose_root_decayed_is_installed_again() {
    let two = recipe(2).build();
    let (size, tree) = (two.manifest.root_size, two.manifest.root_hash_size);
    for offset in [0, size / 2, size, size + tree - 1, size + tree] {
        let device = device_with(&two, Came::Shipped, |boot| boot.commit(Slot::B));
        device.flip("root-b", &[offset]);
        device.settle().unwrap();
        assert!(device.state().failed.is_empty());
        // The last one is past what is verified.
        let waits = device.state().retrial.is_some();
        assert_eq!(waits, offset == size + tree, "flipped at {offset} of {size}");
    }
}

/// Free clusters and the second copy of the file allocation table are nobody's: where only the files
/// are known, they are not decay.
#[test]
#[ignore = "needs dosfstools: `just unit`"]
fn what_nobody_reads_is_no_decay_without_a_chunk_table() {
    let (two, _) = with_boot_files(2);
    let last = two.manifest.boot_size - 1;
    for (came, decayed) in [(Came::Shipped, false), (Came::Installed, true)] {
        let device = device_with(&two, came, |boot| boot.commit(Slot::B));
        device.flip("boot-b", &[last]);
        device.settle().unwrap();
        assert_eq!(device.state().retrial.is_none(), decayed, "{came:?}");
    }
}

/// A trial whose slot decayed before it could be booted says nothing of its version: it waits, so
/// that a medium that cannot hold it is no loop of reboots.
#[test]
fn a_trial_whose_slot_decayed_is_put_off_and_fetched_again() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let mut repository = Repository::new();
    repository.publish(&[&two]);
    let server = repository.serve(&device);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    device.flip("boot-b", &[4711]);
    device.set_boot(|boot| boot.tries = 0);
    let said = device.settle().unwrap().unwrap();
    assert!(said.contains("fell back from 1.0.2") && said.contains("after 60 min"), "{said}");
    assert_eq!(device.state().failed, []);
    assert_eq!(device.update_from(&server.url()), Ok(false));
    State::change(&device.handle, |state| ota::policy::retrial::count(state, 3600)).unwrap();
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(Slot::B, &two));
}

#[test]
#[ignore = "needs dosfstools: `just unit`"]
fn the_idle_slot_is_looked_through_and_a_whole_one_is_left_alone() {
    let (two, _) = with_boot_files(2);
    for came in [Came::Shipped, Came::Installed] {
        let device = device_with(&two, came, |boot| boot.fallback = Some(Slot::B));
        let before = device.medium();
        assert_eq!(scrub(&device, &mut Scrub::new(), DAY, 100), None);
        assert!(device.medium() == before);
        let progress = device.state().scrub.unwrap();
        assert_eq!((progress.finished, progress.next), (Some(DAY), 0));
        assert!(progress.bytes > 1 << 20, "{}", progress.bytes);
    }
}

#[test]
#[ignore = "needs dosfstools: `just unit`"]
fn decay_of_any_part_is_found_and_nothing_falls_back_to_it() {
    let (two, kernel) = with_boot_files(2);
    let (root, tree) = (two.manifest.root_size, two.manifest.root_hash_size);
    let partition = std::fs::metadata(TestDevice::new().handle.device("root-b")).unwrap().len();
    let places = [
        ("boot-b", 510),
        ("boot-b", kernel + 17),
        ("root-b", 5),
        ("root-b", root - 1),
        ("root-b", root + tree - 1),
        ("root-b", partition - HEADER_SIZE as u64 + 1030),
    ];
    for came in [Came::Shipped, Came::Installed] {
        for (label, at) in places {
            let device = device_with(&two, came, |boot| boot.fallback = Some(Slot::B));
            device.flip(label, &[at]);
            let said = scrub(&device, &mut Scrub::new(), DAY, 100);
            let said = said.unwrap_or_else(|| panic!("{came:?}: {label} at {at} was not found"));
            assert!(said.contains("slot b has decayed"), "{said}");
            assert_eq!((device.boot().fallback, device.boot().active), (None, Slot::A));
            let mut repository = Repository::new();
            repository.publish(&[&two]);
            let server = repository.serve(&device);
            assert_eq!(device.update_from(&server.url()), Ok(true), "{label} at {at}");
            assert!(device.holds(Slot::B, &two));
        }
    }
}

/// Nothing older than what runs is installed, whoever asks: the device says once that it has nothing
/// to fall back to, goes on saying so in its status, and the next update takes the place.
#[test]
fn an_older_fallback_that_decayed_is_told_and_not_fetched_again() {
    let (one, two) = (recipe(1).build(), recipe(2).build());
    for (label, at) in [("boot-a", 4711), ("root-a", 5)] {
        let device = TestDevice::new();
        device.place(Slot::B, &two);
        device.set_boot(|boot| boot.commit(Slot::B));
        device.boot_into(Slot::B, &two.manifest, false, false);
        // Its table is what the boot partition of a version without files is compared with.
        let tables = device.handle.data().join("kept");
        std::fs::create_dir_all(&tables).unwrap();
        let table = one.table.to_bytes();
        std::fs::write(tables.join(tuf::sha256_hex(&table)), table).unwrap();
        let status = || ota::status::collect(&Context::load(&device.handle).unwrap()).unwrap();
        assert_eq!((status().fallback.as_deref(), status().decayed), (Some("a"), None));
        device.flip(label, &[at]);
        let mut scrubber = Scrub::new();
        let said = scrub(&device, &mut scrubber, DAY, 100).expect("it was not found");
        assert!(
            said.contains("1.0.1 is older") && said.contains("nothing to fall back to"),
            "{said}"
        );
        assert_eq!(device.boot().fallback, None);
        assert_eq!(scrub(&device, &mut scrubber, DAY + 30, 100), None, "once");
        assert_eq!(device.settle(), Ok(None));
        let text = status().to_text();
        assert!(text.contains("fallback: none: 1.0.1 decayed on the medium"), "{text}");
        // Offered still, and not taken: no server leads the device back.
        let mut repository = Repository::new();
        repository.publish(&[&one, &two]);
        let server = repository.serve(&device);
        assert_eq!(device.update_from(&server.url()), Ok(false));
        assert!(device.install_file(&one.bytes).unwrap_err().to_string().contains("not above 2"));
        let three = recipe(3).build();
        repository.publish(&[&one, &two, &three]);
        let server = repository.serve(&device);
        assert_eq!(device.update_from(&server.url()), Ok(true));
        assert!(device.holds(Slot::A, &three));
        assert_eq!(status().decayed, None);
    }
}

#[test]
fn it_goes_on_where_it_was_and_not_while_somebody_installs() {
    let two = recipe(2).build();
    let device = device_with(&two, Came::Shipped, |boot| boot.fallback = Some(Slot::B));
    let end = two.manifest.root_size - 1;
    let mut first = Scrub::new();
    assert_eq!(scrub(&device, &mut first, DAY, 2), None);
    device.flip("root-b", &[end]);
    let lock = InstallerLock::take(&device.handle).unwrap();
    assert_eq!(scrub(&device, &mut first, DAY, 100), None, "somebody installs");
    drop(lock);
    // Begun with an install meanwhile: nothing can be fallen back to, nothing is to look at.
    device.set_boot(BootState::begin_install);
    assert_eq!(scrub(&device, &mut first, DAY, 100), None);
    device.set_boot(|boot| boot.fallback = Some(Slot::B));
    // Where it was: what was written down of it before the power went.
    State::change(&device.handle, |state| {
        let header_sha256 = tuf::sha256_hex(&two.header);
        let progress = ota::state::scrub_progress::ScrubProgress {
            header_sha256,
            next: 2,
            ..Default::default()
        };
        state.scrub = Some(progress);
    })
    .unwrap();
    assert!(scrub(&device, &mut Scrub::new(), DAY, 1).is_some(), "the next step finds it");
}

#[test]
fn a_day_has_its_share_and_a_pass_its_rest() {
    let two = recipe(2).build();
    let device = device_with(&two, Came::Shipped, |boot| boot.fallback = Some(Slot::B));
    assert_eq!(scrub(&device, &mut Scrub::new(), DAY, 100), None);
    device.flip("root-b", &[0]);
    assert_eq!(scrub(&device, &mut Scrub::new(), DAY + 6, 100), None, "it rests");
    assert!(scrub(&device, &mut Scrub::new(), DAY + 7, 100).is_some());
    // A day whose share is used up.
    let device = device_with(&two, Came::Shipped, |boot| boot.fallback = Some(Slot::B));
    device.flip("root-b", &[0]);
    State::change(&device.handle, |state| {
        let header_sha256 = tuf::sha256_hex(&two.header);
        let used = ota::state::scrub_progress::ScrubProgress {
            header_sha256,
            day: DAY,
            bytes: 1 << 30,
            ..Default::default()
        };
        state.scrub = Some(used);
    })
    .unwrap();
    assert_eq!(scrub(&device, &mut Scrub::new(), DAY, 100), None);
    assert!(scrub(&device, &mut Scrub::new(), DAY + 1, 100).is_some());
}

/// Partitions that count how often somebody asks for the boot state.
#[derive(Debug)]
struct Counted(Arc<dyn Partitions>, Arc<AtomicUsize>);

impl Partitions for Counted {
    fn open(&self, label: &str, access: Access) -> io::Result<Box<dyn Medium>> {
        if label == FIRMWARE {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
        self.0.open(label, access)
    }

    fn path(&self, label: &str) -> PathBuf {
        self.0.path(label)
    }
}

/// PID 1 forks for each question about the boot state.
#[test]
fn nobody_is_asked_for_the_boot_state_while_it_rests() {
    let two = recipe(2).build();
    let mut device = device_with(&two, Came::Shipped, |boot| boot.fallback = Some(Slot::B));
    let asked = Arc::new(AtomicUsize::new(0));
    let partitions = Arc::new(Counted(device.handle.partitions().clone(), asked.clone()));
    let folder = Arc::new(Folder::new(device.handle.data()));
    device.handle = device.handle.clone().on(partitions, folder);
    let mut looks = Scrub::new();
    assert_eq!(scrub(&device, &mut looks, DAY, 100), None);
    assert!(asked.swap(0, Ordering::SeqCst) > 0, "it looked");
    assert_eq!(scrub(&device, &mut looks, DAY + 1, 100), None);
    assert_eq!(asked.swap(0, Ordering::SeqCst), 0, "the pass is done");
    // Started again meanwhile: what is in the slot has to be known once.
    assert_eq!(scrub(&device, &mut Scrub::new(), DAY + 1, 100), None);
    assert_eq!(asked.swap(0, Ordering::SeqCst), 1, "started again");
    assert_eq!(scrub(&device, &mut looks, DAY + 7, 1), None);
    assert_eq!(asked.swap(0, Ordering::SeqCst), 1, "the next pass");
    // Nothing to fall back to: nothing to look at for a good while.
    device.set_boot(|boot| boot.fallback = None);
    assert_eq!(scrub(&device, &mut looks, DAY + 7, 1), None);
    assert!(looks.due_in() > Duration::from_secs(300), "{:?}", looks.due_in());
}

/// The partitions as the fetching half has them: no node of a slot can be opened for writing.
#[derive(Debug)]
struct SlotsToRead(Arc<dyn Partitions>);

impl Partitions for SlotsToRead {
    fn open(&self, label: &str, access: Access) -> io::Result<Box<dyn Medium>> {
        let is_slot =
            [Slot::A, Slot::B].iter().any(|s| [s.boot_label(), s.root_label()].contains(&label));
        match is_slot && access.writes() {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => self.0.open(label, access),
        }
    }

    fn path(&self, label: &str) -> PathBuf {
        self.0.path(label)
    }
}

#[test]
fn the_half_that_cannot_write_looks_at_the_idle_slot_too() {
    let two = recipe(2).build();
    for decayed in [false, true] {
        let cannot_write = |boot: fn(&mut BootState)| {
            let mut device = device_with(&two, Came::Installed, boot);
            let partitions = Arc::new(SlotsToRead(device.handle.partitions().clone()));
            let folder = Arc::new(Folder::new(device.handle.data()));
            device.handle = device.handle.clone().on(partitions, folder);
            if decayed {
                device.flip("root-b", &[4711]);
            }
            device
        };
        let device = cannot_write(|boot| boot.commit(Slot::B));
        device.settle().unwrap();
        assert_eq!(device.state().retrial.is_none(), decayed, "the fall back, or its retrial");
        let device = cannot_write(|boot| boot.fallback = Some(Slot::B));
        assert_eq!(scrub(&device, &mut Scrub::new(), DAY, 100).is_some(), decayed);
    }
}
