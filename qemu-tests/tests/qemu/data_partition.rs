//! A data partition that is not in order: it is checked, in the end made afresh, never silently, and
//! where nothing helps memory takes its place; what runs on it runs.

use std::time::Duration;

use anyhow::{Context, Result};
use formats::layout;
use qemu_tests::fixture::{TestSlot, Variant};
use qemu_tests::{Board, Options, wait_until};

const TO_BOOT: Duration = Duration::from_secs(90);
/// Where ext4's superblock is, and its `s_kbytes_written` in it: covered by the superblock's
/// checksum, and of no consequence by itself.
const KBYTES_WRITTEN: u64 = 1024 + 0x178;
/// Large enough for a second block group, which has the superblock's copy to repair it from. The
/// 16 MiB that an image begins with have one.
const GROWN: u64 = 1 << 30;

#[test]
fn a_damaged_superblock_is_repaired_and_what_was_there_stays() -> Result<()> {
    damaged_superblock(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_damaged_superblock_is_repaired_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(damaged_superblock)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_damaged_superblock_is_repaired_on_a_pc() -> Result<()> {
    Board::Pc.run(damaged_superblock)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_damaged_superblock_is_repaired_on_a_raspberry_pi_3() -> Result<()> {
    damaged_superblock(Board::Rpi3)
}

fn damaged_superblock(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let built = test_slot.build(&board.variant(Variant { label: "base", ..Variant::good(1) }))?;
    let disk = board.disk(&built)?;
    disk.grow(GROWN)?;
    let to_boot = board.patience(TO_BOOT);
    let start = |name: &str| {
        board.start(&format!("{name}-{}", board.name()), &disk, &built, Options::default())
    };
    let mut machine = start("data-before-damage")?;
    let console = &mut machine.console;
    console.wait_for_all(&[GROWN_SAID, HEALTHY], to_boot)?;
    console.shell("echo kept > /data/witness && busybox sync")?;
    // What a workload may take has grown with the partition: all but a reserve.
    console.shell(&as_face("dd if=/dev/zero of=/data/workloads/face/much bs=1M count=32"))?;
    console.shell("busybox rm /data/workloads/face/much && busybox sync")?;

    // The kernel finds an error: one orderly restart, and a check before it is mounted.
    console.type_line(&find_an_error())?;
    console.wait_for("ferrite: data: restarting to check the file system", to_boot)?;
    console.wait_for("ferrite: data: the kernel has found ", to_boot)?;
    console.wait_for("ferrite: data: checked; in order again", to_boot)?;
    console.wait_for(HEALTHY, to_boot)?;
    assert!(!console.has("QUOTA WARNING"), "what each user has was accounted for wrongly");
    assert_eq!(console.shell("busybox cat /data/witness")?, ["kept"]);
    // Somebody has the medium in hand.
    for planted in [
        "busybox mv /data/workloads/face /data/workloads/was",
        "busybox ln -s /run/ferrite /data/workloads/face",
        "busybox mkfifo /data/ferrite/settings",
        "busybox ln -sf /run/ferrite/slot /data/ferrite/clock",
        "busybox mknod /data/ferrite/last-failure c 1 5",
        "busybox sync",
    ] {
        console.shell(planted)?;
    }
    machine.power_cut()?;

    disk.flip_bit(layout::DATA, KBYTES_WRITTEN, 3)?;
    let mut machine = start("data-damaged")?;
    let console = &mut machine.console;
    console.wait_for("ferrite: data: cannot mount: ", to_boot)?;
    console.wait_for("/data/workloads/face was not what it should be", to_boot)?;
    console.wait_for(HEALTHY, to_boot)?;
    assert!(!console.has("made afresh"), "a check was enough");
    assert_eq!(console.shell("busybox cat /data/witness")?, ["kept"]);
    // Nothing was followed, and the device's own files are as they were.
    assert_eq!(console.shell("busybox stat -c %u /run/ferrite /run/ferrite/slot")?, ["0", "0"]);
    assert!(console.shell("busybox cat /run/ferrite/slot")?[0].starts_with("ferrite-slot 1"));
    let owner = console.shell("busybox stat -c '%U %F' /data/workloads/face")?;
    assert_eq!(owner, ["face directory"]);

    // This boot began with a check: if the medium fails again, memory takes its place, without a
    // restart, and what ran on it runs on that.
    let since = console.lines().len();
    console.type_line(&find_an_error())?;
    console.wait_for("ferrite: data: in memory until the next start", to_boot)?;
    console.wait_for("ferrite: workload face: ready", to_boot)?;
    let said = console.lines();
    assert!(!said[since..].iter().any(|line| line.text.contains("resetting")));
    let status = console.shell_json("ctl status --json")?;
    assert_eq!(status["data"]["state"], "volatile", "{status}");
    let status = console.shell_json("ota status --json")?;
    assert!(status["data_volatile"].is_string(), "{status}");
    console.shell("[ ! -e /data/witness ]")?;
    Ok(())
}

const HEALTHY: &str = "ferrite: all vital workloads healthy";
const GROWN_SAID: &str = "ferrite: data: grown to ";

/// A command of busybox's, as the user of the workload `face`.
fn as_face(command: &str) -> String {
    format!("busybox start-stop-daemon -S -n none -a /usr/bin/busybox -c face -- {command}")
}

/// Has the kernel find an error in the mounted file system (Linux, fs/ext4/sysfs.c).
fn find_an_error() -> String {
    "echo test > /sys/fs/ext4/$(busybox basename $(busybox readlink /dev/ferrite/data))/trigger_fs_error"
        .into()
}

#[test]
fn a_partition_beyond_repair_is_made_afresh_and_said_so() -> Result<()> {
    beyond_repair(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_partition_beyond_repair_is_made_afresh_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(beyond_repair)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_partition_beyond_repair_is_made_afresh_on_a_pc() -> Result<()> {
    Board::Pc.run(beyond_repair)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_partition_beyond_repair_is_made_afresh_on_a_raspberry_pi_3() -> Result<()> {
    beyond_repair(Board::Rpi3)
}

fn beyond_repair(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let built = test_slot.build(&board.variant(Variant { label: "base", ..Variant::good(1) }))?;
    let disk = board.disk(&built)?;
    let to_boot = board.patience(TO_BOOT);
    let range = disk.partition(layout::DATA)?;
    disk.write(layout::DATA, 0, &vec![0xA5; (range.end - range.start) as usize])?;
    let name = format!("data-lost-{}", board.name());
    let mut machine = board.start(&name, &disk, &built, Options::default())?;
    let console = &mut machine.console;
    console.wait_for("ferrite: data: still not usable after the check: ", to_boot)?;
    console.wait_for("ferrite: data: made afresh; what was on it is lost", to_boot)?;
    console.wait_for("ferrite: all vital workloads healthy", to_boot)?;
    let head = console.shell("busybox hexdump -n 4 /data/ferrite/old-superblocks")?;
    assert!(head.iter().any(|line| line.contains("a5a5 a5a5")), "{head:?}");
    machine.power_cut()?;

    // One that is in order and that this system cannot mount, such as a newer version's: nothing of
    // it is touched, and the device is within reach all the same.
    let mut superblock = disk.read(layout::DATA, 1024, 1024)?;
    superblock[UNKNOWN_FEATURE] |= 0x80;
    let sum = crc32c(&superblock[..0x3FC]).to_le_bytes();
    superblock[0x3FC..].copy_from_slice(&sum);
    disk.write(layout::DATA, 1024, &superblock)?;
    let before = disk.read(layout::DATA, 0, 1 << 20)?;
    let name = format!("data-foreign-{}", board.name());
    let mut machine = board.start(&name, &disk, &built, Options::default())?;
    let console = &mut machine.console;
    console.wait_for("ferrite: data: cannot be used: ", to_boot)?;
    console.wait_for("ferrite: data: in memory until the next start", to_boot)?;
    console.wait_for_all(&[HEALTHY, "ota: running ", "face: {"], to_boot)?;
    let status = console.shell("ctl status")?;
    assert!(status.iter().any(|line| line.starts_with("data in memory")), "{status:?}");
    // No one fills another's place.
    console.shell(&format!("! {}", as_face("dd if=/dev/zero of=/data/workloads/face/x bs=1M")))?;
    console.shell("busybox touch /data/workloads/ota/x")?;
    wait_until("the boot counts as a good one", to_boot, || {
        Ok(disk.boot_state()?.context("boot state")?.strikes == 0)
    })?;
    assert!(disk.read(layout::DATA, 0, 1 << 20)? == before, "the partition was touched");
    Ok(())
}

/// In the superblock: the highest byte of `s_feature_incompat`.
const UNKNOWN_FEATURE: usize = 0x63;

/// As ext4 has it: from all ones, and not inverted at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum: u32, _| {
            sum >> 1 ^ if sum & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
}
