//! Power cuts at random moments of updates: the device always starts again, with the old version
//! or the new one, and the update is complete in the end. Twenty in CI, `just power-cuts` makes
//! as many as one likes.
//!
//! A moment follows something seen (a line, bytes on the disk) by a random time, so that the cuts
//! fall where they are meant to on a slow machine too. After each cut the disk is looked at while
//! the machine is off: the slot whose turn is next holds, to the byte, one of the two versions.
//! FERRITE_SEED repeats a run.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use formats::Slot;
use formats::boot_state::BootState;
use formats::manifest::{HEADER_SIZE, Manifest};
use formats::payload::{self, ChunkTable};
use qemu_tests::fixture::{Built, TestSlot, Variant};
use qemu_tests::videocore::{self, Model, Reset};
use qemu_tests::{Board, Disk, Machine, Options, Random, wait_until};
use sha2::{Digest, Sha256};

use crate::signed::head;

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);
/// Enough for the cuts that fall into a trial.
const TRIES: u8 = 6;
/// Where it is looked at to see how far an update is: once in each MiB.
const PROBE: u64 = 1 << 20;
/// Cuts that each device goes through: two updates, so that both slots are written.
const CUTS_OF_A_DEVICE: u64 = 2 * PHASES.len() as u64;

/// What an update goes through.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Bring,
    Finish,
    Arm,
    FirstBoot,
    Commit,
}

const PHASES: [Phase; 5] =
    [Phase::Bring, Phase::Finish, Phase::Arm, Phase::FirstBoot, Phase::Commit];

/// Bytes at the start of the idle boot partition that are spoilt before an update: two versions
/// differ little, and without this there would be hardly anything to bring. A PC's kernel is packed,
/// and a Raspberry Pi takes its time.
fn spoilt(board: Board) -> u64 {
    match board {
        Board::QemuArm64 | Board::QemuArm64Efi => 48 << 20,
        Board::Pc | Board::Rpi3 => 16 << 20,
    }
}

/// How many of the places looked at are not zeros in any version, at least: a kernel has long runs of
/// zeros, but few.
fn probes(board: Board) -> u64 {
    spoilt(board) / PROBE / 2
}

/// A device on its way from one version to the next.
struct Update<'a> {
    board: Board,
    disk: &'a Disk,
    old: &'a Built,
    new: &'a Built,
    /// The slot for the new version.
    slot: Slot,
}

impl Update<'_> {
    /// Starts the device and sees that one of the two versions comes up.
    fn start(&self, name: &str) -> Result<Machine> {
        let mut machine = self.board.start(name, self.disk, self.old, Options::default())?;
        let versions = [&self.old.version, &self.new.version];
        let lines = versions.map(|version| format!(" of demo {version} (sequence "));
        let console = &mut machine.console;
        console.wait_for_any(&[&lines[0], &lines[1]], self.board.patience(TO_BOOT))?;
        Ok(machine)
    }

    /// Waits for a moment within `phase`.
    fn wait(&self, machine: &mut Machine, phase: Phase, random: &mut Random) -> Result<()> {
        let console = &mut machine.console;
        let (board, to_install) = (self.board, self.board.patience(TO_INSTALL));
        let until = random.below(probes(board));
        let mut pause = |milliseconds: u64| {
            std::thread::sleep(board.patience(Duration::from_millis(random.below(milliseconds))));
        };
        match phase {
            Phase::Bring => {
                console.wait_for("ota: found ", to_install)?;
                let written = || self.probes_written();
                wait_until("so much written", to_install, || Ok(written()? >= until))?;
                pause(200);
            }
            // More of the same, flushing, reading back: several seconds.
            Phase::Finish => {
                console.wait_for("ota: found ", to_install)?;
                pause(6000);
            }
            // The header is the last that is written before the trial is armed.
            Phase::Arm => {
                let label = self.slot.root_label();
                let range = self.disk.partition(label)?;
                let at = range.end - range.start - HEADER_SIZE as u64;
                wait_until("the slot header is written", to_install, || {
                    Ok(self.disk.read(label, at, 8)? == b"FERRSLOT")
                })?;
                pause(60);
            }
            // From the loader over kernel and both lives to the workloads.
            Phase::FirstBoot => {
                self.wait_for_trial(machine)?;
                pause(14_000);
            }
            Phase::Commit => {
                self.wait_for_trial(machine)?;
                let healthy = "ferrite: all vital workloads healthy";
                machine.console.wait_for(healthy, board.patience(TO_BOOT))?;
                pause(5000);
            }
        }
        Ok(())
    }

    /// Starts the device, cuts its power within `phase`, and looks at what is left.
    fn cut(&self, name: &str, phase: Phase, random: &mut Random) -> Result<()> {
        let mut machine = self.start(name)?;
        self.wait(&mut machine, phase, random)?;
        let lines = machine.console.lines();
        let last = lines.last().map_or("", |line| line.text.get(..60).unwrap_or(&line.text));
        println!("{name}, {phase:?}, after: {last}");
        let bad = ["cannot boot", "Kernel panic", "boot state lost", "fell back"];
        let said = lines.iter().find(|line| bad.iter().any(|bad| line.text.contains(bad)));
        ensure!(said.is_none(), "before the cut: {said:?}");
        machine.power_cut()?;
        self.ensure_next_is_whole()
    }

    /// In how many of the places looked at there is something again.
    fn probes_written(&self) -> Result<u64> {
        let label = self.slot.boot_label();
        let mut written = 0;
        for at in (0..spoilt(self.board)).step_by(PROBE as usize) {
            written += u64::from(self.disk.read(label, at, 4096)?.iter().any(|byte| *byte != 0));
        }
        Ok(written)
    }

    /// The machine is off. The boot state is readable and the slot that it names next is whole:
    /// header, boot partition, root and hash tree are those of one of the two versions.
    fn ensure_next_is_whole(&self) -> Result<()> {
        let state = self.disk.boot_state()?.context("both copies of the boot state are spoilt")?;
        self.ensure_whole(state.next().0)?;
        if self.board == Board::Rpi3 {
            // Until an initrd has had its say, its firmware goes by a pointer of its own.
            let pointed = videocore::boot(self.disk, Model::Pi3, Reset::default())?.partition;
            self.ensure_whole(if pointed == 2 { Slot::A } else { Slot::B })?;
        }
        Ok(())
    }

    /// The slot holds one of the two versions, to the byte.
    fn ensure_whole(&self, slot: Slot) -> Result<()> {
        let root = self.disk.partition(slot.root_label())?;
        let at = payload::header_offset(root.end - root.start)?;
        let header = self.disk.read(slot.root_label(), at, HEADER_SIZE)?;
        for built in [self.old, self.new] {
            let (signed, manifest, table) = head(built)?;
            if header == signed {
                return ensure_chunks(self.disk, slot, &manifest, &table);
            }
        }
        bail!("slot {slot}, which is next, has the header of neither version")
    }

    /// The new version's turn, which may have begun already.
    fn wait_for_trial(&self, machine: &mut Machine) -> Result<()> {
        let trial = format!("ferrite: slot {} (trial, ", self.slot);
        if machine.console.has(&trial) || self.is_committed()? {
            return Ok(());
        }
        machine.console.wait_for(&trial, self.board.patience(TO_INSTALL)).map(drop)
    }

    fn is_committed(&self) -> Result<bool> {
        // While the guest writes one copy the other one is whole.
        let state = self.disk.boot_state()?.context("both copies of the boot state are spoilt")?;
        Ok(state.active == self.slot && state.trial.is_none())
    }
}

fn ensure_chunks(disk: &Disk, slot: Slot, manifest: &Manifest, table: &ChunkTable) -> Result<()> {
    for (index, chunk) in table.chunks().iter().enumerate() {
        let mut hash = Sha256::new();
        for piece in payload::pieces(manifest, slot, table.stream_range(index)) {
            hash.update(disk.read(piece.label, piece.offset, piece.length as usize)?);
        }
        let right = hash.finalize()[..] == chunk.sha256;
        ensure!(right, "slot {slot}, which is next, differs from what was signed in chunk {index}");
    }
    Ok(())
}

fn version(test_slot: &TestSlot, board: Board, sequence: u64) -> Result<Built> {
    let variant = Variant { label: "sturdy", tries: Some(TRIES), ..Variant::good(sequence) };
    test_slot.build(&board.variant(variant))
}

/// So many cuts, one in each phase of an update, on as many devices as that takes.
fn cut_through(name: &str, board: Board, cuts: u64) -> Result<()> {
    let mut random = Random::new(name);
    let test_slot = TestSlot::take()?;
    let version = |sequence| version(&test_slot, board, sequence);
    let versions = [version(1)?, version(2)?, version(3)?];
    let mut done = 0;
    while done < cuts {
        let on_this = CUTS_OF_A_DEVICE.min(cuts - done);
        cut_device((name, board), &test_slot, &versions, done..done + on_this, &mut random)?;
        done += on_this;
        println!("{name}: {done} of {cuts} cuts, every one survived");
    }
    Ok(())
}

/// A new device on its way from the first version to the last one, cut this often.
fn cut_device(
    (name, board): (&str, Board),
    test_slot: &TestSlot,
    versions: &[Built; 3],
    cuts: std::ops::Range<u64>,
    random: &mut Random,
) -> Result<()> {
    let repository = test_slot.repository()?;
    let disk = board.disk(&versions[0])?;
    let numbers: Vec<u64> = cuts.collect();
    for (round, numbers) in numbers.chunks(PHASES.len()).enumerate() {
        let (old, new) = (&versions[round], &versions[round + 1]);
        let slot = if round == 0 { Slot::B } else { Slot::A };
        board.publish(&repository, old, new)?;
        disk.write(slot.boot_label(), 0, &vec![0; spoilt(board) as usize])?;
        let update = Update { board, disk: &disk, old, new, slot };
        for (number, phase) in numbers.iter().zip(PHASES) {
            let cut = number + 1;
            update
                .cut(&format!("{name}-{cut}"), phase, random)
                .with_context(|| format!("cut {cut}, {phase:?}"))?;
        }
        // Left alone, it gets there.
        let machine = update.start(&format!("{name}-{}-whole", numbers[0] + 1))?;
        let patience = board.patience(TO_INSTALL);
        wait_until("the new version is committed", patience, || update.is_committed())?;
        machine.power_cut()?;
        update.ensure_next_is_whole()?;
    }
    Ok(())
}

#[test]
fn ten_power_cuts_end_in_an_old_or_a_new_version() -> Result<()> {
    cut_through("power-cuts", Board::QemuArm64, 10)
}

#[test]
fn ten_more_power_cuts_end_in_an_old_or_a_new_version() -> Result<()> {
    cut_through("more-power-cuts", Board::QemuArm64, 10)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn ten_power_cuts_under_edk2_end_in_an_old_or_a_new_version() -> Result<()> {
    Board::QemuArm64Efi.run(|board| cut_through("power-cuts-efi", board, 10))
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn ten_power_cuts_on_a_pc_end_in_an_old_or_a_new_version() -> Result<()> {
    Board::Pc.run(|board| cut_through("power-cuts-pc", board, 10))
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn five_power_cuts_on_a_raspberry_pi_3_end_in_an_old_or_a_new_version() -> Result<()> {
    cut_through("power-cuts-rpi3", Board::Rpi3, 5)
}

/// The look at the disk after each cut would see what a cut must never leave.
#[test]
fn a_slot_that_is_next_and_not_whole_is_found() -> Result<()> {
    let test_slot = TestSlot::take()?;
    let board = Board::QemuArm64;
    let (old, new) = (version(&test_slot, board, 1)?, version(&test_slot, board, 2)?);
    let disk = Disk::copy_of(&old.img)?;
    let update = Update { board, disk: &disk, old: &old, new: &new, slot: Slot::B };
    update.ensure_next_is_whole()?;
    let (_, manifest, _) = head(&old)?;
    let root = disk.partition("root-a")?;
    let header = payload::header_offset(root.end - root.start)?;
    let places = [
        ("boot-a", manifest.boot_size - 1),
        ("root-a", manifest.root_size / 2),
        ("root-a", manifest.root_size + manifest.root_hash_size - 1),
        ("root-a", header + 30),
    ];
    for (label, offset) in places {
        disk.flip_bit(label, offset, 0)?;
        ensure!(update.ensure_next_is_whole().is_err(), "a bit of {label} at {offset} was missed");
        disk.flip_bit(label, offset, 0)?;
    }
    update.ensure_next_is_whole()?;
    let armed = BootState { trial: Some(Slot::B), tries: 1, ..BootState::fresh() };
    disk.set_boot_state(&armed)?;
    ensure!(update.ensure_next_is_whole().is_err(), "an empty slot on trial was missed");
    disk.set_boot_state_copies([None, None])?;
    ensure!(update.ensure_next_is_whole().is_err(), "a lost boot state was missed");
    Ok(())
}

#[test]
#[ignore = "takes hours; `just power-cuts N` runs it"]
fn as_many_power_cuts_as_asked_for_end_in_an_old_or_a_new_version() -> Result<()> {
    let cuts = std::env::var("FERRITE_POWER_CUTS").context("FERRITE_POWER_CUTS says how many")?;
    let cuts = cuts.parse().with_context(|| format!("FERRITE_POWER_CUTS={cuts}"))?;
    cut_through("many-power-cuts", Board::QemuArm64, cuts)
}
