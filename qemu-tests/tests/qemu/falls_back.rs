//! Versions that fail in every way there is: each falls back to the old version, says why, and is
//! not tried again.
//!
//! Each test is a row of broken versions on one machine, so that only the first of them costs a
//! whole download.

use std::time::Duration;

use anyhow::{Context, Result};
use formats::Slot;
use qemu_tests::fixture::{Built, Repository, TestSlot, Variant, assemble, hanging_init};
use qemu_tests::{Board, Machine, Options, wait_until};

use crate::face::WRONG;

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);
const TO_FAIL: Duration = Duration::from_secs(120);
const RESET_WITHOUT_A_WORD: &str = "it was reset before it was committed, and left no reason";
/// What the watchdog's driver knows after it has fired.
const RESET_BY_THE_WATCHDOG: &str = "reset_by_the_watchdog";

/// A vital workload that crashes.
pub const CRASHER: &str = r#"
    [[workload]]
    name = "crasher"
    command = ["/usr/bin/busybox", "false"]
    backoff = ["250ms", "1s"]
    budget = { crashes = 2, within = "1m" }
"#;

/// A broken version.
struct Broken {
    variant: Variant,
    /// What the console says when it fails; the next reset's first line where nobody can speak.
    said: &'static str,
    /// What `ota status` says of it later.
    reason: &'static str,
}

/// A watchdog that fires sooner than the board's: in `boot.scr` of the machine that falls back,
/// and in what the broken version arms.
const WATCHDOG: &[(&str, &str)] = &[("seconds = 60", "seconds = 30")];

/// The emulated Raspberry Pi lacks its watchdog: a timer of the kernel's stands in for it.
const PI_SOFTDOG: &[(&str, &str)] = &[
    ("seconds = 15", "seconds = 30"),
    ("kind = \"bcm2835\"", "kind = \"softdog\""),
    ("[\"bcm2835_wdt\", ", "[\"softdog\", "),
];

/// A device, and all that it is served from.
struct Trial {
    board: Board,
    test_slot: TestSlot,
    repository: Repository,
    /// What it runs.
    old: Built,
}

impl Trial {
    fn build(&self, variant: Variant) -> Result<Built> {
        self.test_slot.build(&self.board.variant(variant))
    }
}

/// Lets the machine update itself to the broken version, and sees it come back.
fn see_fall_back(trial: &Trial, machine: &mut Machine, broken: Broken) -> Result<()> {
    let (board, repository, old) = (trial.board, &trial.repository, &trial.old.version);
    let [to_boot, to_install, to_fail] =
        [TO_BOOT, TO_INSTALL, TO_FAIL].map(|time| board.patience(time));
    let built = trial.build(broken.variant)?;
    let version = &built.version;
    board.publish(repository, &trial.old, &built)?;
    let console = &mut machine.console;
    console.wait_for(&format!("ota: found {version} "), to_install)?;
    console.wait_for(&format!("ota: installed {version} in slot b"), to_install)?;
    console.wait_for("ferrite: slot b (trial, 0 tries left)", to_boot)?;
    console.wait_for(broken.said, to_fail)?;
    console.wait_for("ferrite: slot a (active, strike 1)", to_fail)?;
    console.wait_for(&format!("initrd: slot a of demo {old} "), to_boot)?;
    let said = console.wait_for(&format!("ota: fell back from {version}: "), to_boot)?;
    assert!(said.text.contains(broken.reason), "{}", said.text);

    // It is still offered, and asked for again and again, and never tried again.
    let refused = format!("ota: refused {version}: it failed its trial here before: ");
    console.wait_for(&refused, to_boot)?;
    let asked = || repository.server.served_of("timestamp.json").requests;
    let before = asked();
    wait_until("two more polls", to_boot, || Ok(asked() >= before + 2))?;
    let found = format!("ota: found {version} ");
    let times = console.lines().iter().filter(|line| line.text.contains(&found)).count();
    assert_eq!(times, 1, "{version} was tried again");

    let status = console.shell_json("ota status --json")?;
    assert_eq!((&status["slot"], &status["situation"]), (&"a".into(), &"settled".into()));
    let failed = status["failed"].as_array().context("failed")?;
    let ours = failed.iter().find(|failed| failed["version"] == **version);
    let reason = ours.and_then(|failed| failed["reason"].as_str());
    assert!(reason.is_some_and(|reason| reason.contains(broken.reason)), "{status}");
    Ok(())
}

/// The row of them, and at the end a version that works: none of the failures has spoilt that.
fn all_fall_back(name: &str, board: Board, row: Vec<Broken>) -> Result<()> {
    let base = match board {
        // QEMU's has no watchdog that could be set.
        Board::Rpi3 => Variant { label: "base", ..Variant::good(1) },
        _ => Variant { label: "watched", board: WATCHDOG, ..Variant::good(1) },
    };
    all_fall_back_to(base, name, board, row)
}

fn all_fall_back_to(base: Variant, name: &str, board: Board, row: Vec<Broken>) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let old = test_slot.build(&board.variant(base))?;
    let trial = Trial { board, test_slot, repository, old };
    let disk = board.disk(&trial.old)?;
    let name = format!("{name}-{}", board.name());
    let mut machine = board.start(&name, &disk, &trial.old, Options::default())?;
    let healthy = "ferrite: all vital workloads healthy";
    machine.console.wait_for(healthy, board.patience(TO_BOOT))?;
    for broken in row {
        see_fall_back(&trial, &mut machine, broken)?;
    }
    let mended = trial.build(Variant { label: "mended", ..Variant::good(99) })?;
    board.publish(&trial.repository, &trial.old, &mended)?;
    let committed = "ota: committed 99-mended in slot b";
    machine.console.wait_for(committed, board.patience(TO_INSTALL))?;
    machine.power_cut()?;
    assert_eq!(disk.boot_state()?.context("boot state")?.active, Slot::B);
    Ok(())
}

#[test]
fn versions_whose_kernel_or_init_fails() -> Result<()> {
    kernel_or_init_fails(Board::QemuArm64)
}

#[test]
#[ignore = "minutes for another loader alone: `just boot-all`"]
fn versions_whose_kernel_or_init_fails_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(kernel_or_init_fails)
}

fn kernel_or_init_fails(board: Board) -> Result<()> {
    let exits = "_start: .global _start\n mov x0, #3\n mov x8, #93 // exit(3)\n svc #0\n";
    let armed = match board {
        Board::QemuArm64Efi => "ferrite: watchdog armed, ",
        _ => "U-Boot 20",
    };
    all_fall_back(
        "falls-back-early",
        board,
        vec![
            Broken {
                variant: Variant {
                    label: "panics",
                    board: &[("panic=5", "panic=5 rdinit=/nonexistent")],
                    ..Variant::good(2)
                },
                said: "Kernel panic - not syncing: VFS: Unable to mount root fs",
                reason: RESET_WITHOUT_A_WORD,
            },
            // Waits for ever for a disk that will not come, with no module loaded: nothing but
            // the watchdog that the chooser armed is left to end it.
            Broken {
                variant: Variant {
                    label: "hangs",
                    board: &[("panic=5", "panic=5 rdinit=/nonexistent root=/dev/vdz9 rootwait")],
                    ..Variant::good(3)
                },
                said: armed,
                reason: RESET_BY_THE_WATCHDOG,
            },
            Broken {
                variant: Variant {
                    label: "exits",
                    init: Some(assemble("exits", exits)?),
                    ..Variant::good(4)
                },
                said: "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300",
                reason: RESET_WITHOUT_A_WORD,
            },
            pid_1_hangs("pid1-hangs", WATCHDOG, RESET_BY_THE_WATCHDOG)?,
        ],
    )
}

/// It hangs after twenty seconds: not committed before that.
fn pid_1_hangs(
    label: &'static str,
    board: &'static [(&'static str, &'static str)],
    reason: &'static str,
) -> Result<Broken> {
    let variant = Variant {
        label,
        init: Some(hanging_init()?),
        board,
        commit_after: Some("80s"),
        ..Variant::good(5)
    };
    Ok(Broken { variant, said: "ferrite: hang-test: PID 1 hangs now", reason })
}

/// A board whose hardware has no watchdog, such as a Jetson Nano: the machine's own stays unarmed.
#[test]
#[ignore = "a minute and a half for what one board needs: `just boot-all`"]
fn a_version_whose_pid_1_hangs_under_a_software_watchdog() -> Result<()> {
    const SOFTDOG: &[(&str, &str)] = &[
        ("seconds = 60", "seconds = 30"),
        ("kind = \"i6300esb\"", "kind = \"softdog\""),
        ("\"i6300esb\", \"dm_verity\"", "\"softdog\", \"dm_verity\""),
    ];
    let base = Variant { label: "softdog", board: SOFTDOG, ..Variant::good(1) };
    let row = vec![pid_1_hangs("pid1-softdog", SOFTDOG, RESET_WITHOUT_A_WORD)?];
    all_fall_back_to(base, "falls-back-softdog", Board::QemuArm64, row)
}

#[test]
fn versions_whose_workloads_fail() -> Result<()> {
    workloads_fail(Board::QemuArm64)
}

#[test]
#[ignore = "minutes for another loader alone: `just boot-all`"]
fn versions_whose_workloads_fail_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(workloads_fail)
}

#[test]
#[ignore = "minutes for another processor alone: `just boot-all`"]
fn versions_whose_workloads_fail_on_a_pc() -> Result<()> {
    Board::Pc.run(workloads_fail)
}

/// And from a PID 1 that hangs. Kernels and inits that fail sooner are not among what its chooser
/// recovers from (`rpi3.rs`).
#[test]
#[ignore = "`just boot-all` runs it"]
fn versions_whose_workloads_or_pid_1_fail_on_a_raspberry_pi_3() -> Result<()> {
    let mut row = failing_workloads();
    let hangs = pid_1_hangs("pid1-softdog", PI_SOFTDOG, RESET_WITHOUT_A_WORD)?;
    row.push(Broken { variant: Variant { sequence: 6, ..hangs.variant }, ..hangs });
    all_fall_back("falls-back", Board::Rpi3, row)
}

fn workloads_fail(board: Board) -> Result<()> {
    all_fall_back("falls-back-late", board, failing_workloads())
}

fn failing_workloads() -> Vec<Broken> {
    vec![
        Broken {
            variant: Variant { label: "crashes", workloads: CRASHER, ..Variant::good(2) },
            said: "ferrite: vital workload crasher failed (",
            reason: "vital workload crasher failed",
        },
        Broken {
            variant: Variant {
                label: "never-ready",
                workloads: r#"
                        [[workload]]
                        name = "sleeper"
                        command = ["/usr/bin/busybox", "sleep", "1000"]
                        ready = "notify"
                        ready_timeout = "3s"
                        stop_timeout = "1s"
                        backoff = ["250ms", "1s"]
                        budget = { crashes = 1, within = "1m" }
                    "#,
                ..Variant::good(3)
            },
            said: "ferrite: vital workload sleeper failed (",
            reason: "vital workload sleeper failed",
        },
        // Ready once, then nothing: only the missing heartbeat tells.
        Broken {
            variant: Variant {
                label: "falls-silent",
                workloads: r#"
                        [[workload]]
                        name = "silent"
                        command = ["/usr/bin/busybox", "sh", "-c", "echo >&3; exec busybox sleep 1000"]
                        ready = "notify"
                        heartbeat = "2s"
                        stop_timeout = "1s"
                        backoff = ["250ms", "1s"]
                        budget = { crashes = 1, within = "1m" }
                    "#,
                commit_after: Some("20s"),
                ..Variant::good(4)
            },
            said: "ferrite: vital workload silent failed (",
            reason: "vital workload silent failed",
        },
        Broken {
            variant: Variant { label: "wrong-model", golden: WRONG, ..Variant::good(5) },
            said: "ferrite: vital workload face failed (",
            // What the runner said last.
            reason: "golden sample mismatch",
        },
    ]
}

/// Its image file has a typo in the server's address: good in all else, it would never be heard of
/// again. It is not committed, and not banned either, since a server that is down looks the same.
#[test]
#[ignore = "a trial's whole time: `just boot-all`"]
fn a_version_that_does_not_reach_its_server_is_not_committed() -> Result<()> {
    let board = Board::QemuArm64;
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let old = test_slot.build(&board.variant(Variant { label: "base", ..Variant::good(1) }))?;
    let disk = board.disk(&old)?;
    let mut machine = board.start("unreached", &disk, &old, Options::default())?;
    machine.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    // Nobody listens there.
    let variant =
        Variant { label: "unreached", url: Some("http://10.0.2.2:9"), ..Variant::good(2) };
    let new = test_slot.build(&board.variant(variant))?;
    board.publish(&repository, &old, &new)?;
    let console = &mut machine.console;
    console.wait_for("ota: installed 2-unreached in slot b", TO_INSTALL)?;
    console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    let reason = "the update server was not reached: http://10.0.2.2:9";
    console.wait_for(&format!("ota: on trial, not committed yet: {reason}"), TO_BOOT)?;
    console.wait_for(&format!("ferrite: trial not committed within 90 s: {reason}"), TO_FAIL)?;
    let said = console.wait_for("ota: fell back from 2-unreached: ", TO_BOOT)?;
    assert!(said.text.contains(reason), "{}", said.text);
    let asked = || repository.server.served_of("timestamp.json").requests;
    let before = asked();
    wait_until("two more polls", TO_BOOT, || Ok(asked() >= before + 2))?;
    let status = console.shell_json("ota status --json")?;
    assert_eq!(status["failed"], serde_json::json!([]), "{status}");
    let waits = &status["retrial"];
    assert_eq!((&waits["version"], &waits["committed"]), (&"2-unreached".into(), &false.into()));
    assert!(waits["left_seconds"].as_u64().is_some_and(|left| left > 3000), "{status}");
    console.shell("ota retry 2-unreached")?;
    console.wait_for("ota: installed 2-unreached in slot b", TO_INSTALL)?;
    machine.power_cut()
}
