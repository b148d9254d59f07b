//! Versions that fail in every way there is: each falls back to the old version, says why, and is
//! not tried again.
//!
//! Each test is a row of broken versions on one machine, so that only the first of them costs a
//! whole download.

use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::fixture::{assemble, hanging_init, Built, Lane, Repository, Variant};
use qemu_tests::{wait_until, Board, Machine, Options};
use slot::Slot;

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);
const TO_FAIL: Duration = Duration::from_secs(120);
const RESET_WITHOUT_A_WORD: &str = "it was reset before it was committed, and left no reason";

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

/// Another result than the model has for its golden sample.
const GOLDEN: &[(&str, &str)] = &[("\"score\": 0.899653", "\"score\": 0.199653")];

/// Lets the machine update itself to the broken version, and sees it come back.
fn see_fall_back(
    (board, machine): (Board, &mut Machine),
    lane: &Lane,
    repository: &Repository,
    broken: Broken,
) -> Result<()> {
    let Broken { variant, said: last_words, reason } = broken;
    let built = lane.build(&board.variant(variant))?;
    let version = &built.version;
    publish(board, repository, &built)?;
    let console = &mut machine.console;
    console.wait_for(&format!("ota: found {version} "), board.patience(TO_INSTALL))?;
    console.wait_for(&format!("ota: installed {version} in slot b"), board.patience(TO_INSTALL))?;
    console.wait_for("ferrite: slot b (trial, 0 tries left)", board.patience(TO_BOOT))?;
    console.wait_for(last_words, board.patience(TO_FAIL))?;
    console.wait_for("ferrite: slot a (active, strike 1)", board.patience(TO_FAIL))?;
    console.wait_for("first life: slot a of demo 1-", board.patience(TO_BOOT))?;
    let said =
        console.wait_for(&format!("ota: fell back from {version}: "), board.patience(TO_BOOT))?;
    assert!(said.text.contains(reason), "{}", said.text);

    // It is still offered, and asked for again and again, and never tried again.
    let refused = format!("ota: refused {version}: it failed its trial here before: ");
    console.wait_for(&refused, board.patience(TO_BOOT))?;
    let asked = || repository.server.served_of("timestamp.json").requests;
    let before = asked();
    wait_until("two more polls", board.patience(TO_BOOT), || Ok(asked() >= before + 2))?;
    let found = format!("ota: found {version} ");
    let times = console.lines().iter().filter(|line| line.text.contains(&found)).count();
    assert_eq!(times, 1, "{version} was tried again");

    let status = console.shell_json("ota status --json")?;
    assert_eq!((&status["slot"], &status["situation"]), (&"a".into(), &"settled".into()));
    let failed = status["failed"].as_array().context("failed")?;
    let ours = failed.iter().find(|failed| failed["version"] == **version);
    let reason = ours.and_then(|failed| failed["reason"].as_str());
    assert!(reason.is_some_and(|reason| reason.contains(reason)), "{status}");
    Ok(())
}

/// On the Raspberry Pi with a delta from what runs: its network brings a quarter of a megabyte a
/// second.
fn publish(board: Board, repository: &Repository, built: &Built) -> Result<()> {
    match board {
        Board::QemuArm64 => repository.publish(built),
        Board::Rpi3 => repository.publish_with(built, &["--deltas", "9"]),
    }
}

/// The row of them, and at the end a version that works: none of the failures has spoilt that.
fn all_fall_back(name: &str, board: Board, row: Vec<Broken>) -> Result<()> {
    let lane = Lane::take()?;
    let repository = lane.repository()?;
    let base = match board {
        Board::QemuArm64 => Variant { label: "watched", board: WATCHDOG, ..Variant::good(1) },
        // QEMU's Raspberry Pi has no watchdog that could be set.
        Board::Rpi3 => Variant { label: "pi", ..Variant::good(1) },
    };
    let base = lane.build(&board.variant(base))?;
    let disk = board.disk(&base)?;
    if board == Board::Rpi3 {
        repository.publish(&base)?;
    }
    let mut machine = board.start(name, &disk, &base, Options::default())?;
    let healthy = "ferrite: all vital workloads healthy";
    machine.console.wait_for(healthy, board.patience(TO_BOOT))?;
    for broken in row {
        see_fall_back((board, &mut machine), &lane, &repository, broken)?;
    }
    let good = lane.build(&board.variant(Variant { label: "mended", ..Variant::good(99) }))?;
    publish(board, &repository, &good)?;
    let committed = "ota: committed 99-mended in slot b";
    machine.console.wait_for(committed, board.patience(TO_INSTALL))?;
    machine.power_cut()?;
    assert_eq!(disk.boot_state()?.context("boot state")?.active, Slot::B);
    Ok(())
}

#[test]
fn versions_whose_kernel_or_init_fails() -> Result<()> {
    let exits = "_start: .global _start\n mov x0, #3\n mov x8, #93 // exit(3)\n svc #0\n";
    all_fall_back(
        "falls-back-early",
        Board::QemuArm64,
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
            // the watchdog that U-Boot armed is left to end it.
            Broken {
                variant: Variant {
                    label: "hangs",
                    board: &[("panic=5", "panic=5 rdinit=/nonexistent root=/dev/vdz9 rootwait")],
                    ..Variant::good(3)
                },
                said: "U-Boot 20",
                reason: RESET_WITHOUT_A_WORD,
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
            // It hangs after twenty seconds: not committed before that.
            Broken {
                variant: Variant {
                    label: "pid1-hangs",
                    init: Some(hanging_init()?),
                    board: WATCHDOG,
                    commit_after: Some("80s"),
                    ..Variant::good(5)
                },
                said: "ferrite: hang-test: PID 1 hangs now",
                reason: RESET_WITHOUT_A_WORD,
            },
        ],
    )
}

#[test]
fn versions_whose_workloads_fail() -> Result<()> {
    workloads_fail("falls-back-late", Board::QemuArm64)
}

/// Kernels and first lives that fail are not among what the Raspberry Pi's chooser recovers from
/// (docs/choosers/rpi.md).
#[test]
#[ignore = "`just boot-all` runs it"]
fn a_raspberry_pi_3_falls_back_from_versions_whose_workloads_fail() -> Result<()> {
    workloads_fail("falls-back-late-rpi3", Board::Rpi3)
}

fn workloads_fail(name: &str, board: Board) -> Result<()> {
    all_fall_back(
        name,
        board,
        vec![
            Broken {
                variant: Variant {
                    label: "crashes",
                    workloads: r#"
                        [[workload]]
                        name = "crasher"
                        command = ["/usr/bin/busybox", "false"]
                        backoff = ["250ms", "1s"]
                        budget = { crashes = 2, within = "1m" }
                    "#,
                    ..Variant::good(2)
                },
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
                variant: Variant { label: "wrong-model", golden: GOLDEN, ..Variant::good(5) },
                said: "ferrite: vital workload face failed (",
                reason: "vital workload face failed",
            },
        ],
    )
}
