//! The uboot chooser on a real U-Boot: which slot has its turn when, and what is written.
//!
//! No slot on these disks can be loaded, so every boot shows the chooser's whole order of choices
//! and then resets: a few seconds a boot, and no kernel is needed. What is expected is worked out
//! with `BootState::next`, so that every test on the host that asks it which slot boots next asks
//! the real loader.

use std::time::Duration;

use anyhow::{Context, Result};
use formats::Slot;
use formats::boot_state::{Boot, BootState};
use formats::layout::FIRMWARE;
use qemu_tests::fixture::TestSlot;
use qemu_tests::{Disk, Machine, Options, Random};

const TO_BOOT: Duration = Duration::from_secs(60);
/// States compared in one run of the test with many of them; each costs a boot.
const STATES: usize = 24;
const END: &str = "ferrite: no slot can be loaded, resetting";

/// The demo's disk without anything to boot on it.
fn bare_disk() -> Result<Disk> {
    let disk = Disk::copy_of(&TestSlot::take()?.base()?.img)?;
    for slot in [Slot::A, Slot::B] {
        disk.write(slot.boot_label(), 0, &[0; 4096])?;
    }
    Ok(disk)
}

fn options() -> Options {
    Options { board: Some("qemu-arm64".into()), ..Options::default() }
}

fn state() -> BootState {
    BootState {
        generation: 7,
        active: Slot::B,
        trial: None,
        tries: 0,
        strikes: 0,
        fallback: None,
        note: String::new(),
    }
}

/// What `boot.scr` should do with `state` when nothing can be loaded: the slots in their order,
/// as it names them, and the state it leaves.
fn expected(state: &mut BootState) -> Vec<String> {
    let mut lines = Vec::new();
    let missed =
        |state: &mut BootState, slot: Slot| state.note = format!("boot-{slot}-not-loadable");
    let (mut slot, mut boot) = state.next();
    if boot == Boot::Trial {
        state.count(boot);
        state.generation += 1;
        lines.push(format!("slot {slot} (trial, {:x} tries left)", state.tries));
        missed(state, slot);
        (slot, boot) = state.turn();
    }
    state.count(boot);
    state.generation += 1;
    let order = if boot == Boot::Fallback { [true, false] } else { [false, true] };
    assert!(boot == Boot::Fallback || slot == state.active);
    for is_fallback in order {
        let strike = format!("strike {:x})", state.strikes);
        if !is_fallback {
            lines.push(format!("slot {} (active, {strike}", state.active));
            let active = state.active;
            missed(state, active);
        } else if let Some(fallback) = state.fallback {
            lines.push(format!("slot {fallback} (fallback, {strike}"));
            missed(state, fallback);
        }
    }
    lines
}

/// Waits for one whole round of choices and compares it with the rules.
fn one_round(machine: &mut Machine, state: &mut BootState) -> Result<()> {
    for line in expected(state) {
        let (which, said) = machine.console.wait_for_any(&["ferrite: slot ", END], TO_BOOT)?;
        assert!(which == 0 && said.text.contains(&line), "expected {line:?}, got {:?}", said.text);
        let slot = &line[..6];
        machine.console.wait_for(&format!("ferrite: {slot} cannot be loaded"), TO_BOOT)?;
    }
    machine.console.wait_for(END, TO_BOOT).map(drop)
}

/// The notes are written with the next state only, so they are not compared.
fn assert_written(disk: &Disk, expected: &BootState) -> Result<()> {
    let found = disk.boot_state()?.context("both copies are spoilt")?;
    assert_eq!(BootState { note: expected.note.clone(), ..found }, *expected);
    Ok(())
}

#[test]
fn tries_are_counted_down_then_strikes_up_then_the_fallback_has_its_turn() -> Result<()> {
    let disk = bare_disk()?;
    let mut state = BootState {
        trial: Some(Slot::A),
        tries: 2,
        strikes: 7,
        fallback: Some(Slot::A),
        ..state()
    };
    disk.set_boot_state(&state)?;
    let mut machine = Machine::start("chooser-counts", &disk, &options())?;
    for _ in 0..3 {
        one_round(&mut machine, &mut state)?;
    }
    assert!(machine.console.has("ferrite: watchdog armed, 60 s"));
    machine.power_cut()?;
    assert_written(&disk, &state)
}

#[test]
fn the_newer_valid_copy_rules_and_a_spoilt_one_is_written_over() -> Result<()> {
    let newer = BootState { generation: 9, strikes: 1, ..state() };
    for copies in [[Some(&newer), None], [None, Some(&newer)], [Some(&newer), Some(&state())]] {
        let disk = bare_disk()?;
        disk.set_boot_state_copies(copies)?;
        let mut expected = newer.clone();
        let mut machine = Machine::start("chooser-copies", &disk, &options())?;
        one_round(&mut machine, &mut expected)?;
        machine.power_cut()?;
        assert_written(&disk, &expected)?;
        let [a, b] = disk.boot_state_copies()?;
        for copy in [a, b] {
            BootState::from_blob(&copy).context("a copy is still spoilt")?;
        }
    }
    Ok(())
}

#[test]
fn a_lost_boot_state_starts_afresh_and_counts() -> Result<()> {
    let disk = bare_disk()?;
    disk.set_boot_state_copies([None, None])?;
    let before = disk.read(FIRMWARE, 0, 512)?;
    let mut machine = Machine::start("chooser-lost", &disk, &options())?;
    machine.console.wait_for("ferrite: boot state lost", TO_BOOT)?;
    let mut state = BootState { generation: 0, fallback: Some(Slot::B), ..BootState::fresh() };
    one_round(&mut machine, &mut state)?;
    one_round(&mut machine, &mut state)?;
    machine.power_cut()?;
    assert_written(&disk, &state)?;
    assert_eq!(disk.read(FIRMWARE, 0, 512)?, before, "the FAT beside it is untouched");
    Ok(())
}

/// A state of any kind: what the slots write into it and what they never would.
fn any_state(random: &mut Random) -> BootState {
    let mut one_of = |numbers: &[u32]| numbers[random.below(numbers.len() as u64) as usize];
    let slot = |number| [None, Some(Slot::A), Some(Slot::B)][number as usize];
    BootState {
        generation: one_of(&[1, 9, 0xF, 0x10, 0x9F, 0xFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0]),
        active: slot(one_of(&[1, 2])).unwrap_or(Slot::A),
        trial: slot(one_of(&[0, 1, 2])),
        tries: one_of(&[0, 1, 2, 0x10, 0xFF]) as u8,
        strikes: one_of(&[0, 6, 7, 8, 9, 0xE, 0xF, 0x10, 0xFF]) as u8,
        fallback: slot(one_of(&[0, 1, 2])),
        note: String::new(),
    }
}

#[test]
fn any_state_is_chosen_from_as_the_rules_in_rust_say() -> Result<()> {
    let mut random = Random::new("chooser-states");
    let disk = bare_disk()?;
    let mut machine = Machine::start("chooser-states", &disk, &options())?;
    for number in 0..STATES {
        let mut state = any_state(&mut random);
        let older = BootState { generation: state.generation - 1, ..any_state(&mut random) };
        let copies = match random.below(5) {
            0 => [Some(&state), None],
            1 => [None, Some(&state)],
            2 => [Some(&older), Some(&state)],
            3 => [Some(&state), Some(&BootState { generation: state.generation, ..older.clone() })],
            _ => [Some(&state), Some(&older)],
        };
        println!("{number}: {copies:?}");
        // The guest stands still while its disk changes, and knows nothing of before afterwards.
        machine.pause()?;
        disk.set_boot_state_copies(copies)?;
        machine.reset()?;
        machine.resume()?;
        one_round(&mut machine, &mut state).with_context(|| format!("state {number}"))?;
        assert_written(&disk, &state).with_context(|| format!("state {number}"))?;
    }
    machine.power_cut()
}
