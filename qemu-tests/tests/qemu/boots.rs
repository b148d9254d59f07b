//! From a cold start to the first inference, and what the system looks like then.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::fixture::{TestSlot, Variant};
use qemu_tests::{Board, Options, wait_until};
use serde_json::Value;

use crate::face::{PICTURE, assert_one_face, post};
use crate::neighbours::Neighbours;

const TO_BOOT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);
/// The heartbeat's minute, and the start.
const TO_NOTICE: Duration = Duration::from_secs(120);
const DISK: u64 = 2 << 30;

fn workload<'a>(status: &'a Value, name: &str) -> Result<&'a Value> {
    let all = status["workloads"].as_array().context("workloads")?;
    all.iter().find(|w| w["name"] == name).with_context(|| format!("no {name} in {status}"))
}

#[test]
fn a_cold_boot_ends_in_inference_and_a_system_that_answers() -> Result<()> {
    boots(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_cold_boot_under_edk2_ends_in_inference_and_a_system_that_answers() -> Result<()> {
    Board::QemuArm64Efi.run(boots)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_cold_boot_of_a_pc_ends_in_inference_and_a_system_that_answers() -> Result<()> {
    Board::Pc.run(boots)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_cold_boot_of_a_raspberry_pi_3_ends_in_inference_and_a_system_that_answers() -> Result<()> {
    boots(Board::Rpi3)
}

/// One cold boot, looked at from all sides: boots are what costs time here.
fn boots(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let built = test_slot.build(&board.variant(Variant { label: "base", ..Variant::good(1) }))?;
    let disk = board.disk(&built)?;
    disk.grow(DISK)?;
    let mut options = Options { ports: vec![8080], ..Options::default() };
    let neighbours = match board {
        Board::QemuArm64 | Board::QemuArm64Efi => Some(Neighbours::of(board, &disk)?),
        Board::Pc | Board::Rpi3 => None,
    };
    if let Some(neighbours) = &neighbours {
        options = neighbours.beside(options);
    }
    let [to_boot, soon] = [TO_BOOT, SOON].map(|time| board.patience(time));
    let mut machine = board.start(&format!("boots-{}", board.name()), &disk, &built, options)?;
    let console = &mut machine.console;
    console.wait_for("ferrite: initrd: slot a of demo 1-base (sequence 1) verified", to_boot)?;
    console.wait_for("ferrite: all vital workloads healthy", to_boot)?;
    let result = console.wait_for("face: {", to_boot)?;
    assert_one_face(&result.text)?;

    // Other disks with Ferrite on them cost nothing: this was the first start.
    if let Some(neighbours) = &neighbours {
        neighbours.assert_left_alone(console)?;
        let starts = console.lines().iter().filter(|l| l.text.contains("ferrite: slot ")).count();
        assert_eq!(starts, 1, "it was started more than once");
    }

    // The root is read-only, and the modules of EROFS and dm-verity are what it stands on.
    let mounts = console.shell("busybox cat /proc/mounts")?;
    assert!(mounts.iter().any(|m| m.contains(" / erofs ro")), "{mounts:?}");

    // What only made the start quick is over, and left nothing behind: grace periods are as usual,
    // and the data partition is mounted in one place.
    let usual = "busybox grep -qx 0 /sys/kernel/rcu_expedited";
    console.shell(&format!("{usual} && test ! -e /dev/ferrite/early-data"))?;
    console.shell("busybox grep -qx 128 /sys/block/dm-0/queue/read_ahead_kb")?;

    // The data partition comes to reach to the end of the larger disk, while workloads run.
    wait_until("/data of nearly the disk's size", soon, || {
        let blocks = console.shell("busybox stat -f -c %b*%S /data")?;
        let size = blocks.iter().find_map(|line| line.split_once('*')).context("stat -f")?;
        Ok(size.0.trim().parse::<u64>()? * size.1.trim().parse::<u64>()? > DISK / 10 * 7)
    })?;

    // A workload that is killed comes back, and says so.
    let before = console.shell_json("ctl status --json")?;
    assert_eq!((&before["slot"], &before["trial"]), (&"a".into(), &false.into()), "{before}");
    let pid = workload(&before, "face")?["pid"].as_u64().context("pid")?;
    console.shell(&format!("kill -9 {pid}"))?;
    console.wait_for("ferrite: workload face: ready", soon)?;
    let after = console.shell_json("ctl status --json")?;
    let face = workload(&after, "face")?;
    assert_eq!(face["restarts"], 1, "{after}");
    assert_ne!(face["pid"].as_u64(), Some(pid), "{after}");

    // The update client that hangs is told by its heart; what becomes of it is looked at last.
    let stopped = workload(&after, "ota")?["pid"].as_u64().context("ota's pid")?;
    console.shell(&format!("kill -STOP {stopped}"))?;

    // A picture by HTTP from outside; who follows the log sees its result.
    let followed = "/tmp/followed";
    console.shell(&format!("{{ ctl logs -f face > {followed} & }}"))?;
    let (head, body) = post(machine.port(8080)?, "/infer", PICTURE)?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_one_face(&body)?;
    let (head, _) = post(machine.port(8080)?, "/infer", b"no picture")?;
    ensure!(head.starts_with("HTTP/1.1 4"), "{head}");

    let count = format!("busybox grep -c '\"source\":\"http' {followed} || true");
    wait_until("the result in the followed log", soon, || {
        Ok(machine
            .console
            .shell(&count)?
            .iter()
            .any(|line| line.trim().parse().is_ok_and(|n: u32| n > 0)))
    })?;

    // That the boot was a good one is written down: no strike is left against the slot.
    wait_until("the boot state has no strikes", soon, || {
        Ok(disk.boot_state()?.context("boot state")?.strikes == 0)
    })?;

    let hangs = TO_NOTICE.max(board.patience(TO_NOTICE));
    wait_until("a stopped `ota` to be started again", hangs, || {
        let status = machine.console.shell_json("ctl status --json")?;
        let ota = workload(&status, "ota")?;
        Ok(ota["state"] == "ready" && ota["pid"].as_u64() != Some(stopped))
    })?;
    // It is not vital: nothing else was disturbed.
    let status = machine.console.shell_json("ctl status --json")?;
    assert_eq!(workload(&status, "face")?["restarts"], 1, "{status}");

    // The update client's two halves are walled off, from the device and from each other.
    crate::two_halves::walls(&mut machine.console)?;

    // It switches itself off when told to. What a Raspberry Pi switches off by is its watchdog.
    if board == Board::Rpi3 {
        return machine.power_cut();
    }
    machine.console.type_line("ctl poweroff")?;
    machine.console.wait_for("ferrite: shutdown: poweroff", soon)?;
    ensure!(machine.wait_off(soon)?.success(), "QEMU did not end well");
    Ok(())
}
