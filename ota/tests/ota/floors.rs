//! A version below the floor never boots through an update, whatever was lost.

use crate::support::{Recipe, TestDevice, Update, recipe};
use formats::Slot;
use formats::boot_state::STRIKES_PER_TURN;
use ota::commands::{Command, run};

fn with_floor(sequence: u64, rollback_floor: u64) -> Update {
    Recipe { rollback_floor, ..recipe(sequence) }.build()
}

/// Installs, boots and commits.
fn commit(device: &TestDevice, slot: Slot, update: &Update) {
    device.install_file(&update.bytes).unwrap();
    device.boot_into(slot, &update.manifest, true, false);
    run(Command::Commit, &device.handle).unwrap();
    device.boot_into(slot, &update.manifest, false, false);
}

/// Version 5 asked for nothing below 4, version 6 forgot to: it runs in slot a now.
fn device_with_a_floor() -> TestDevice {
    let device = TestDevice::new();
    let five = with_floor(5, 4);
    let six = with_floor(6, 0);
    device.place(Slot::B, &five);
    device.set_boot(|boot| boot.fallback = Some(Slot::B));
    device.place(Slot::A, &six);
    // A sequence that a repository with a stolen key might start again from.
    let low = Recipe { rollback_floor: 0, ..recipe(1) }.build();
    device.place(Slot::A, &low);
    device.boot_into(Slot::A, &low.manifest, false, false);
    device
}

#[test]
fn the_floor_of_what_was_committed_in_the_other_slot_holds_without_any_state() {
    let device = device_with_a_floor();
    std::fs::remove_dir_all(device.handle.data()).unwrap();
    std::fs::create_dir(device.handle.data()).unwrap();
    let error = device.refused(|| device.install_file(&recipe(3).build().bytes));
    assert!(error.contains("its sequence 3 is below the floor 4"), "{error}");
    device.install_file(&recipe(4).build().bytes).unwrap();
}

#[test]
fn the_floor_of_what_never_was_committed_counts_for_nothing() {
    let device = device_with_a_floor();
    device.set_boot(|boot| boot.fallback = None);
    device.install_file(&recipe(3).build().bytes).unwrap();
}

#[test]
fn a_floor_is_written_down_at_the_commit_and_outlives_the_version() {
    let device = TestDevice::new();
    commit(&device, Slot::B, &with_floor(3, 3));
    assert_eq!(device.state().rollback_floor, 3);
    commit(&device, Slot::A, &with_floor(4, 0));
    assert_eq!(device.state().rollback_floor, 3);
    // Back to the beginning, as with a whole-disk image written over the slots only.
    let one = recipe(1).build();
    device.place(Slot::A, &one);
    device.boot_into(Slot::A, &one.manifest, false, false);
    device.set_boot(|boot| boot.fallback = None);
    let error = device.refused(|| device.install_file(&recipe(2).build().bytes));
    assert!(error.contains("below the floor 3"), "{error}");
}

#[test]
fn a_cut_between_the_commit_and_writing_it_down_loses_no_floor() {
    let device = TestDevice::new();
    let two = with_floor(2, 2);
    device.install_file(&two.bytes).unwrap();
    device.boot_into(Slot::B, &two.manifest, true, false);
    device.set_boot(|boot| boot.commit(Slot::B));
    device.settle().unwrap();
    assert_eq!((device.state().rollback_floor, device.state().pending), (2, None));
}

#[test]
fn a_commit_above_the_old_slot_takes_the_way_back_to_it() {
    for (floor, fallback) in [(0, Some(Slot::A)), (1, Some(Slot::A)), (2, None)] {
        let device = TestDevice::new();
        commit(&device, Slot::B, &with_floor(2, floor));
        assert_eq!(device.boot().fallback, fallback, "floor {floor}");
        let mut boot = device.boot();
        boot.strikes = STRIKES_PER_TURN;
        let next = if fallback.is_some() { Slot::A } else { Slot::B };
        assert_eq!(boot.next().0, next, "floor {floor}");
        if fallback.is_none() {
            let error = run(Command::Rollback, &device.handle).unwrap_err().to_string();
            assert!(error.contains("no version before"), "{error}");
        }
    }
}
