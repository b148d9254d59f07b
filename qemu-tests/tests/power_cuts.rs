//! Twenty power cuts at random moments of updates: the device always starts again, with the old
//! version or the new one, and the update is complete in the end.
//!
//! A moment follows something seen (a line, bytes served, bytes on the disk) by a random time, so
//! that the cuts fall where they are meant to on a slow machine too. FERRITE_SEED repeats a run.

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use qemu_tests::fixture::{Built, Lane, Repository, Variant};
use qemu_tests::{wait_until, Disk, Machine, Options, Random};
use slot::manifest::HEADER_SIZE;
use slot::Slot;

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);
/// Enough for the cuts that fall into a trial.
const TRIES: u8 = 6;
/// Bytes of the download that a cut may fall into.
const DOWNLOAD: u64 = 12 << 20;

/// What an update goes through.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Download,
    Write,
    Arm,
    FirstBoot,
    Commit,
}

const PHASES: [Phase; 5] =
    [Phase::Download, Phase::Write, Phase::Arm, Phase::FirstBoot, Phase::Commit];

/// A device on its way from one version to the next.
struct Update<'a> {
    disk: &'a Disk,
    repository: &'a Repository,
    old: &'a Built,
    new: &'a Built,
    /// The slot for the new version.
    slot: Slot,
}

impl Update<'_> {
    /// Starts the device and sees that one of the two versions comes up.
    fn start(&self, name: &str) -> Result<Machine> {
        let mut machine = Machine::start(name, self.disk, &Options::default())?;
        let versions = [&self.old.version, &self.new.version];
        let lines = versions.map(|version| format!(" of demo {version} (sequence "));
        let console = &mut machine.console;
        console.wait_for_any(&[&lines[0], &lines[1]], TO_BOOT)?;
        Ok(machine)
    }

    /// Waits for a moment within `phase`.
    fn wait(&self, machine: &mut Machine, phase: Phase, random: &mut Random) -> Result<()> {
        let console = &mut machine.console;
        let served = || self.repository.server.served_of(".update").bytes;
        let mut pause = |milliseconds: u64| {
            std::thread::sleep(Duration::from_millis(random.below(milliseconds)));
        };
        match phase {
            Phase::Download => {
                console.wait_for("ota: found ", TO_INSTALL)?;
                let until = served() + random.below(DOWNLOAD);
                wait_until("so much served", TO_INSTALL, || Ok(served() >= until))?;
            }
            // Reading, writing, flushing, reading back: several seconds.
            Phase::Write => {
                console.wait_for("ota: found ", TO_INSTALL)?;
                pause(6000);
            }
            // The header is the last that is written before the trial is armed.
            Phase::Arm => {
                let label = self.slot.root_label();
                let range = self.disk.partition(label)?;
                let at = range.end - range.start - HEADER_SIZE as u64;
                wait_until("the slot header is written", TO_INSTALL, || {
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
                machine.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
                pause(5000);
            }
        }
        Ok(())
    }

    /// The new version's turn, which may have begun already.
    fn wait_for_trial(&self, machine: &mut Machine) -> Result<()> {
        let trial = format!("ferrite: slot {} (trial, ", self.slot);
        if machine.console.has(&trial) || self.is_committed()? {
            return Ok(());
        }
        machine.console.wait_for(&trial, TO_INSTALL).map(drop)
    }

    fn is_committed(&self) -> Result<bool> {
        // While the guest writes one copy the other one is whole.
        let state = self.disk.boot_state()?.context("both copies of the boot state are spoilt")?;
        Ok(state.active == self.slot && state.trial.is_none())
    }
}

/// A cut in each phase of an update, for each version in turn.
fn cut_through(name: &str, rounds: u64) -> Result<()> {
    let mut random = Random::new(name);
    let lane = Lane::take()?;
    let repository = lane.repository()?;
    let version = |sequence| {
        let variant = Variant { label: "sturdy", tries: Some(TRIES), ..Variant::good(sequence) };
        lane.build(&variant)
    };
    let mut old = version(1)?;
    let mut slot = Slot::B;
    let disk = Disk::copy_of(&old.img)?;
    let mut cuts = 0;
    for round in 0..rounds {
        let new = version(round + 2)?;
        repository.publish(&new)?;
        // Two versions differ little: without this there would be hardly anything to download.
        disk.write(slot.boot_label(), 0, &vec![0; 48 << 20])?;
        let update = Update { disk: &disk, repository: &repository, old: &old, new: &new, slot };
        for phase in PHASES {
            cuts += 1;
            let mut machine = update.start(&format!("{name}-{cuts}"))?;
            update
                .wait(&mut machine, phase, &mut random)
                .with_context(|| format!("cut {cuts}, {phase:?}"))?;
            let lines = machine.console.lines();
            let last = lines.last().map_or("", |line| line.text.get(..60).unwrap_or(&line.text));
            println!("cut {cuts}, {phase:?}, after: {last}");
            let bad = ["cannot boot", "Kernel panic", "boot state lost", "fell back"];
            let said = lines.iter().find(|line| bad.iter().any(|bad| line.text.contains(bad)));
            ensure!(said.is_none(), "before cut {cuts}: {said:?}");
            machine.power_cut()?;
            disk.boot_state()?.with_context(|| format!("cut {cuts} spoilt the boot state"))?;
        }
        // Left alone, it gets there.
        let machine = update.start(&format!("{name}-{cuts}-whole"))?;
        wait_until("the new version is committed", TO_INSTALL, || update.is_committed())?;
        machine.power_cut()?;
        old = new;
        slot = slot.other();
    }
    Ok(())
}

#[test]
fn ten_power_cuts_end_in_an_old_or_a_new_version() -> Result<()> {
    cut_through("power-cuts", 2)
}

#[test]
fn ten_more_power_cuts_end_in_an_old_or_a_new_version() -> Result<()> {
    cut_through("more-power-cuts", 2)
}
