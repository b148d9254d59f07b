//! The image of every board whose U-Boot is not in QEMU, looked at as that U-Boot looks at a card,
//! and run up to the kernel by the U-Boot that is. What each rule is and where it comes from stands
//! in `uboot_card`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::fixture::{Built, TestSlot, Variant};
use qemu_tests::{Disk, Machine, Options, uboot_card};

use crate::fat;

/// Boards, and what the root of their device tree is compatible with.
pub(crate) const BOARDS: [(&str, &str); 1] = [("jetson-nano", "nvidia,p3450-0000")];
const TO_KERNEL: Duration = Duration::from_secs(90);

fn build(test_slot: &TestSlot, board: &'static str) -> Result<Built> {
    test_slot.build(&Variant { label: board, board_file: Some(board), ..Variant::good(1) })
}

/// Changes a script and wraps it again, with sums that hold.
fn edit(disk: &Disk, label: &str, name: &str, from: &str, to: &str) -> Result<()> {
    let image = fat::read(disk, label, name)?;
    let text = String::from_utf8(image[72..].to_vec())?;
    ensure!(text.contains(from), "{name} has no {from:?}");
    let folder = tempfile::tempdir()?;
    let (script, wrapped) = (folder.path().join("script"), folder.path().join("wrapped"));
    fs::write(&script, text.replacen(from, to, 1))?;
    let mut mkimage = Command::new("mkimage");
    mkimage.args(["-A", "arm64", "-T", "script", "-C", "none", "-d"]).arg(&script).arg(&wrapped);
    fat::run(&mut mkimage)?;
    fat::write(disk, label, name, &fs::read(&wrapped)?)
}

/// Flips a bit in the first place on a partition that has these bytes.
fn decay(disk: &Disk, label: &str, bytes: &[u8]) -> Result<()> {
    let range = disk.partition(label)?;
    let whole = disk.read(label, 0, (range.end - range.start) as usize)?;
    let at = whole.windows(bytes.len()).position(|window| window == bytes);
    disk.flip_bit(label, at.context("not found")? as u64, 0)
}

#[test]
fn the_boards_u_boot_starts_slot_a_of_its_image() -> Result<()> {
    let test_slot = TestSlot::take()?;
    for (board, compatible) in BOARDS {
        let disk = Disk::copy_of(&build(&test_slot, board)?.img)?;
        let started = uboot_card::check(&disk).with_context(|| board.to_owned())?;
        ensure!(started.compatible[0] == compatible, "{board}: {:?}", started.compatible);
        let arguments = &started.arguments;
        ensure!(arguments.contains("console=tty") && arguments.contains("panic="), "{arguments}");
        ensure!(
            arguments.ends_with("ferrite.slot=${slot} ferrite.disk=${boot_guid} ${chooser_args}"),
            "{arguments}"
        );
    }
    Ok(())
}

/// What is done to a card, and what the check has to say of it.
type Spoil = (fn(&Disk) -> Result<()>, &'static str);

#[test]
fn a_spoilt_card_is_refused() -> Result<()> {
    const SPOILS: [Spoil; 16] = [
        (|disk| decay(disk, "firmware", b"setenv count_up"), "boot.scr: has a bad data CRC"),
        (|disk| decay(disk, "boot-a", b"setenv load_file"), "slot.scr: has a bad data CRC"),
        (|disk| decay(disk, "boot-a", b"Linux version "), "kernel has another CRC"),
        (|disk| decay(disk, "boot-a", b"nvidia,p3450-0000"), "dtb has another CRC"),
        (
            |disk| fat::mtool(disk, "boot-a", "mdel", &["::initrd"]).map(drop),
            "boot-a has no initrd",
        ),
        (|disk| fat::mtool(disk, "firmware", "mdel", &["::boot.scr"]).map(drop), "has no boot.scr"),
        (
            |disk| fat::write(disk, "firmware", "u-boot-preboot.scr", b"x"),
            "has a file u-boot-preboot.scr",
        ),
        (
            |disk| {
                fat::mtool(disk, "firmware", "mmd", &["::extlinux"])?;
                fat::write(disk, "firmware", "extlinux/extlinux.conf", b"x")
            },
            "has a file extlinux/extlinux.conf",
        ),
        // U-Boot goes by the name.
        (|disk| disk.write("boot-a", 54, b"FAT12"), "boot-a: calls itself FAT12"),
        (
            |disk| {
                fat::run(Command::new("sgdisk").arg("--attributes=3:set:2").arg(disk.path()))
                    .map(drop)
            },
            "the bootable partitions are [1, 3]",
        ),
        (spoil_table, "sgdisk: "),
        (
            |disk| edit(disk, "firmware", "boot.scr", "\nrun read_copy\n", "\nsetexpr x 1 + 1\n"),
            "\"setexpr\" is not in this U-Boot",
        ),
        (
            |disk| edit(disk, "boot-a", "slot.scr", "part uuid", "part list"),
            "slot.scr does not ask for the GUID",
        ),
        (
            |disk| edit(disk, "boot-a", "slot.scr", "setenv at 84000000", "setenv at 83000000"),
            "the firmware's device tree",
        ),
        (
            |disk| edit(disk, "boot-a", "slot.scr", "booti 84000000", "booti 84200000"),
            "its files call for",
        ),
        (
            |disk| edit(disk, "boot-a", "slot.scr", "setenv file tegra", "setenv file other-tegra"),
            "boot-a has no other-tegra",
        ),
    ];
    let test_slot = TestSlot::take()?;
    let built = build(&test_slot, "jetson-nano")?;
    for (spoil, says) in SPOILS {
        let disk = Disk::copy_of(&built.img)?;
        spoil(&disk).with_context(|| format!("making a card of which is to be said {says:?}"))?;
        let Err(refused) = uboot_card::check(&disk) else {
            anyhow::bail!("not found: {says}");
        };
        ensure!(format!("{refused:#}").contains(says), "{refused:#}, not {says}");
    }
    Ok(())
}

/// A bit of the partition table's entries, whose sum then does not hold.
fn spoil_table(disk: &Disk) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(disk.path())?;
    Ok(file.write_all_at(&[0x5A], 1024 + 56)?)
}

/// The card's own bytes in QEMU's U-Boot, on a machine with as much memory as reaches from there to
/// where the board's begins: the scripts run at the board's addresses, every file is loaded, its sum
/// holds, and the kernel is started. It is a kernel with another machine's device tree, and silent.
#[test]
fn qemus_u_boot_runs_the_card_up_to_the_kernel() -> Result<()> {
    let test_slot = TestSlot::take()?;
    for (board, _) in BOARDS {
        let disk = Disk::copy_of(&build(&test_slot, board)?.img)?;
        let options = Options {
            board: Some("qemu-arm64".into()),
            memory: Some("2560M".into()),
            ..Options::default()
        };
        let mut machine = Machine::start(&format!("card-{board}"), &disk, &options)?;
        for line in ["ferrite: slot a (active, strike 1)", "Starting kernel"] {
            machine.console.wait_for(line, TO_KERNEL)?;
        }
        machine.power_cut()?;
        let state = disk.boot_state()?.context("both copies are spoilt")?;
        ensure!(state.strikes == 1, "{state:?}");
    }
    Ok(())
}
