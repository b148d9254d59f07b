//! Faults of all kinds at random moments, one after another, on a device that nobody helps: power,
//! cable, wrong clocks, a workload that takes all the room it gets, a damaged data partition, decay,
//! other disks, hostile pictures, a killed and a stopped `ota`, servers that go wrong, and updates
//! through all of it. After each the newest good version is healthy and answers.
//!
//! `just soak` makes 500, `just boot-all` six. FERRITE_SEED repeats a run.

use std::time::Duration;

use anyhow::{Context, Result};
use formats::Slot;
use formats::boot_state::BLOB_SIZE;
use formats::layout::{BOOT_STATE_OFFSETS, DATA, FIRMWARE};
use formats::manifest::HEADER_SIZE;
use formats::payload;
use qemu_tests::fixture::{Built, Repository, TestSlot, Variant};
use qemu_tests::{Board, Disk, Fault as Wrong, Machine, Options, Random, wait_until};

use crate::face::{PICTURE, assert_one_face, post};
use crate::greedy::bomb;
use crate::signed::head;

const BOARD: Board = Board::QemuArm64;
/// Long enough for a stopped `ota` to be missed, a check of the data partition, and a whole update.
const TO_GET_WELL: Duration = Duration::from_secs(600);
const TO_BOOT: Duration = Duration::from_secs(90);
/// Versions that a device goes through, the one it begins with included.
const VERSIONS: u64 = 5;
/// Faults that a device goes through.
const FAULTS_OF_A_DEVICE: u64 = 25;
/// Enough for the power cuts that fall into a trial.
const TRIES: u8 = 6;

/// Takes all the room it can get, in bytes and in files, again and again.
const HOG: &str = r#"
    [[workload]]
    name = "hog"
    vital = false
    data = true
    command = ["/usr/bin/busybox", "sh", "-c", "while :; do busybox dd if=/dev/zero of=/data/fill bs=64k; n=0; while busybox touch /data/$n; do n=$((n+1)); done; busybox sleep 60; busybox rm -rf /data/*; done"]
"#;

/// What happens to it.
#[derive(Debug, Clone, Copy)]
enum Fault {
    PowerCut,
    CableOut,
    WrongClock,
    DamagedData,
    SpoiltBootState,
    DecayedIdleSlot,
    OtherDisks,
    HostilePicture,
    KilledOta,
    StoppedOta,
    WrongServer,
}

const FAULTS: [Fault; 11] = [
    Fault::PowerCut,
    Fault::CableOut,
    Fault::WrongClock,
    Fault::DamagedData,
    Fault::SpoiltBootState,
    Fault::DecayedIdleSlot,
    Fault::OtherDisks,
    Fault::HostilePicture,
    Fault::KilledOta,
    Fault::StoppedOta,
    Fault::WrongServer,
];

struct Device<'a> {
    versions: &'a [Built],
    /// Index of the newest one that is published.
    newest: usize,
    repository: Repository,
    disk: Disk,
    /// A copy of the device's disk, made byte by byte when it was new.
    twin: Disk,
    twin_is_in: bool,
    machine: Option<Machine>,
    random: &'a mut Random,
}

impl Device<'_> {
    fn start(&mut self, name: &str) -> Result<()> {
        let mut options = Options { ports: vec![8080], ..Options::default() };
        if self.twin_is_in {
            options.behind = vec![self.twin.path().to_owned()];
        }
        self.machine = Some(BOARD.start(name, &self.disk, &self.versions[0], options)?);
        Ok(())
    }

    fn machine(&mut self) -> Result<&mut Machine> {
        self.machine.as_mut().context("the machine is off")
    }

    fn power_cut(&mut self) -> Result<()> {
        self.machine.take().map_or(Ok(()), Machine::power_cut)
    }

    fn pause(&mut self, seconds: u64) {
        std::thread::sleep(Duration::from_millis(self.random.below(1000 * seconds)));
    }

    /// The next version is there, if there is one.
    fn publish(&mut self) -> Result<()> {
        if let Some(next) = self.versions.get(self.newest + 1) {
            BOARD.publish(&self.repository, &self.versions[0], next)?;
            self.newest += 1;
            println!("  published {}", next.version);
        }
        Ok(())
    }

    /// Types a command, which a device that is just starting does not take: then it is reset instead.
    fn shell_or_reset(&mut self, command: &str) -> Result<()> {
        let machine = self.machine()?;
        match machine.console.shell(command) {
            Ok(_) => Ok(()),
            Err(_) => machine.reset(),
        }
    }

    /// Sends a signal to one of the two halves of `ota`.
    fn signal_ota(&mut self, signal: &str) -> Result<()> {
        let name = ["ota", "ota-writer"][self.random.below(2) as usize];
        let status = self.machine()?.console.shell_json("ctl status --json");
        let workloads = status.as_ref().ok().and_then(|status| status["workloads"].as_array());
        let ota = workloads.into_iter().flatten().find(|workload| workload["name"] == name);
        match ota.and_then(|ota| ota["pid"].as_u64()) {
            Some(pid) => self.shell_or_reset(&format!("kill -{signal} {pid}")),
            // It is just starting.
            None => self.machine()?.reset(),
        }
    }

    /// Lets it happen. What comes from outside ends with it; nothing on the device is repaired.
    fn suffer(&mut self, fault: Fault, name: &str) -> Result<()> {
        let until = self.random.below(20_000);
        std::thread::sleep(Duration::from_millis(until));
        match fault {
            Fault::PowerCut => {
                self.power_cut()?;
                self.start(name)?;
            }
            Fault::CableOut => {
                self.machine()?.set_link(false)?;
                self.pause(30);
                self.machine()?.set_link(true)?;
            }
            Fault::WrongClock => {
                let time = self.random.below(4_000_000_000);
                self.shell_or_reset(&format!("busybox date -s @{time}"))?;
            }
            Fault::DamagedData => {
                self.power_cut()?;
                let range = self.disk.partition(DATA)?;
                for _ in 0..self.random.below(32) {
                    let at = self.random.below((range.end - range.start).min(16 << 20));
                    self.disk.flip_bit(DATA, at, 3)?;
                }
                self.start(name)?;
            }
            Fault::SpoiltBootState => {
                self.power_cut()?;
                let copy = BOOT_STATE_OFFSETS[self.random.below(2) as usize];
                // What a cut in a write leaves: the other copy is whole.
                if self.disk.boot_state_copies()?.iter().all(|copy| is_valid(copy)) {
                    self.disk.write(FIRMWARE, copy, &[0xA5; BLOB_SIZE / 2])?;
                }
                self.start(name)?;
            }
            Fault::DecayedIdleSlot => {
                self.power_cut()?;
                let state = self.disk.boot_state()?.context("boot state")?;
                // A slot on trial that decays is a version that fails.
                if state.trial.is_none() {
                    let label = match self.random.below(2) {
                        0 => state.active.other().root_label(),
                        _ => state.active.other().boot_label(),
                    };
                    let at = self.random.below(8 << 20);
                    self.disk.flip_bit(label, at, 5)?;
                }
                self.start(name)?;
            }
            Fault::OtherDisks => {
                self.power_cut()?;
                self.twin_is_in = !self.twin_is_in;
                self.start(name)?;
            }
            Fault::HostilePicture => {
                let port = self.machine()?.port(8080)?;
                let bomb = bomb()?;
                for _ in 0..5 {
                    // It may be refused in any way, by a device that is just starting too.
                    let _ = post(port, "/infer", &bomb);
                }
            }
            Fault::KilledOta => self.signal_ota("KILL")?,
            Fault::StoppedOta => self.signal_ota("STOP")?,
            Fault::WrongServer => {
                let wrong = [
                    Wrong::Status(503),
                    Wrong::Status(404),
                    Wrong::Garbage,
                    Wrong::Trickle,
                    Wrong::Silence,
                    Wrong::Endless,
                    Wrong::DropAfter(1000),
                    Wrong::AlteredFrom(100),
                ];
                let wrong = wrong[self.random.below(wrong.len() as u64) as usize];
                self.repository.server.spoil("", wrong);
                self.pause(30);
                self.repository.server.heal();
            }
        }
        Ok(())
    }

    /// The slot that boots next has the newest version, committed, and nothing is held against it.
    fn is_settled(&self) -> Result<bool> {
        let Some(state) = self.disk.boot_state()? else { return Ok(false) };
        let holds_newest = |slot: Slot| -> Result<bool> {
            let root = self.disk.partition(slot.root_label())?;
            let at = payload::header_offset(root.end - root.start)?;
            let header = self.disk.read(slot.root_label(), at, HEADER_SIZE)?;
            Ok(header == head(&self.versions[self.newest])?.0)
        };
        Ok(state.trial.is_none() && state.strikes == 0 && holds_newest(state.active)?)
    }

    fn answers(&mut self) -> bool {
        let Ok(port) = self.machine().and_then(|machine| machine.port(8080)) else { return false };
        post(port, "/infer", PICTURE)
            .is_ok_and(|(head, body)| head.contains(" 200 ") && assert_one_face(&body).is_ok())
    }

    /// Nobody helps: in the end the newest version is committed, settled and answers, and its `ota`
    /// is there for the next one.
    fn wait_until_well(&mut self) -> Result<()> {
        wait_until("the newest version is healthy", TO_GET_WELL, || {
            if !self.is_settled()? || !self.answers() {
                return Ok(false);
            }
            let Ok(status) = self.machine()?.console.shell_json("ctl status --json") else {
                return Ok(false);
            };
            let workloads = status["workloads"].as_array().into_iter().flatten();
            let mut ota = workloads.filter(|workload| workload["name"] == "ota");
            Ok(ota.any(|ota| ota["state"] == "ready"))
        })
    }
}

fn is_valid(copy: &[u8]) -> bool {
    formats::boot_state::BootState::from_blob(copy).is_ok()
}

fn version(test_slot: &TestSlot, sequence: u64) -> Result<Built> {
    let good = Variant::good(sequence);
    let variant = Variant { label: "soak", tries: Some(TRIES), workloads: HOG, ..good };
    test_slot.build(&BOARD.variant(variant))
}

/// So many faults, on as many devices as that takes.
fn soak(name: &str, faults: u64) -> Result<()> {
    let mut random = Random::new(name);
    let test_slot = TestSlot::take()?;
    let versions: Vec<Built> =
        (1..=VERSIONS).map(|sequence| version(&test_slot, sequence)).collect::<Result<_>>()?;
    let mut done = 0;
    while done < faults {
        let disk = BOARD.disk(&versions[0])?;
        let mut device = Device {
            versions: &versions,
            newest: 0,
            repository: test_slot.repository()?,
            twin: disk.snapshot()?,
            disk,
            twin_is_in: false,
            machine: None,
            random: &mut random,
        };
        device.start(&format!("{name}-{done}"))?;
        let healthy = "ferrite: all vital workloads healthy";
        device.machine()?.console.wait_for(healthy, TO_BOOT)?;
        for _ in 0..FAULTS_OF_A_DEVICE.min(faults - done) {
            done += 1;
            let fault = FAULTS[device.random.below(FAULTS.len() as u64) as usize];
            println!("{name}: {done} of {faults}: {fault:?}");
            if device.random.below(4) == 0 {
                device.publish()?;
            }
            device
                .suffer(fault, &format!("{name}-{done}"))
                .and_then(|()| device.wait_until_well())
                .with_context(|| format!("fault {done}, {fault:?}"))?;
        }
        device.power_cut()?;
    }
    println!("{name}: {faults} faults, after each the newest version was healthy");
    Ok(())
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn after_six_random_faults_the_newest_version_is_healthy() -> Result<()> {
    soak("soak", 6)
}

#[test]
#[ignore = "takes hours; `just soak N` runs it"]
fn after_as_many_random_faults_as_asked_for_the_newest_version_is_healthy() -> Result<()> {
    let faults = std::env::var("FERRITE_SOAK").context("FERRITE_SOAK says how many")?;
    soak("long-soak", faults.parse().with_context(|| format!("FERRITE_SOAK={faults}"))?)
}
