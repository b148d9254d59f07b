//! The scripts that U-Boot runs, made of the `.cmd` files beside this one.

use anyhow::{Context, Result, bail, ensure};
use formats::boot_state::{STRIKES_PER_ROUND, STRIKES_PER_TURN, crc32};
use formats::layout::{ALIGNMENT, BOOT_STATE_OFFSETS, SECTOR};
use formats::origin::DISK_ARGUMENT;

use crate::boot_method::arm64_kernel;
use crate::config::board::loader::BootMemory;
use crate::config::board::machine::{Watchdog, WatchdogKind};

/// File name of the script U-Boot's standard boot looks for on the firmware partition.
pub const BOOT_SCRIPT: &str = "boot.scr";
/// File name of the script on a slot's boot partition that starts its kernel.
pub const SLOT_SCRIPT: &str = "slot.scr";

const BOOT: &str = include_str!("boot.cmd");
const SLOT: &str = include_str!("slot.cmd");
const I6300ESB: &str = include_str!("i6300esb.cmd");

/// Where QEMU's `virt` machine maps the PCI configuration space (hw/arm/virt.c, `highmem-ecam`).
const VIRT_ECAM: u64 = 0x40_1000_0000;
/// Ticks a second of one of the two equal stages of the 6300ESB (datasheet, chapter 14): it
/// counts at 1 kHz.
const I6300ESB_TICKS: u32 = 512;
/// A stage's counter has 20 bits.
const I6300ESB_MAX_SECONDS: u32 = 0xF_FFFF / I6300ESB_TICKS;

/// Kernels start at a multiple of this (Documentation/arch/arm64/booting.rst).
const KERNEL_ALIGNMENT: u64 = 2 << 20;
/// The device tree starts at a multiple of this; booting.rst asks for 8.
const TREE_ALIGNMENT: u64 = 1 << 16;
/// More than any kernel needs, and little enough to leave room in 512 MiB.
const MAX_KERNEL_ROOM: u64 = 256 << 20;

/// A file of a slot's boot partition that the loader checks before it is used.
#[derive(Debug, Clone, Copy)]
pub struct SlotFile<'a> {
    /// Its name there.
    pub name: &'a str,
    /// What is in it.
    pub bytes: &'a [u8],
}

/// Where `boot.scr` keeps things, from the board's scratch memory on: the state's copies, a new one
/// (an export clears as much as U-Boot's own environment has, 8 KiB on a Jetson Nano), the CRC of a
/// file, a number, and `slot.scr`.
const STATES: [u64; 3] = [0, 0x1000, 0x2000];
const SUM: u64 = 0x8000;
const NUMBER: u64 = 0x8100;
const SLOT_SCRIPT_AT: u64 = 0x1_0000;
/// `number=` stands before a number in memory.
const NUMBER_NAME: u64 = 7;
/// A generation has at most so many digits.
const NUMBER_DIGITS: u64 = 8;

/// The text of `boot.scr`. Fails when the watchdog cannot be set to its seconds.
pub fn boot_script(memory: &BootMemory, watchdog: Option<&Watchdog>) -> Result<String> {
    let arm = match watchdog.filter(|watchdog| watchdog.kind.is_hardware()) {
        None => "# This board has no watchdog.\n".to_owned(),
        Some(watchdog) => match watchdog.kind {
            WatchdogKind::I6300esb => i6300esb(watchdog.seconds())?,
            WatchdogKind::Bcm2835
            | WatchdogKind::Itco
            | WatchdogKind::Tegra
            | WatchdogKind::Softdog => bail!(
                "[watchdog] `kind` is one that the initrd arms; the uboot chooser knows `i6300esb` only"
            ),
        },
    };
    let sector = |copy: usize| format!("{:x}", (ALIGNMENT + BOOT_STATE_OFFSETS[copy]) / SECTOR);
    let at = |offset: u64| format!("{:x}", memory.scratch + offset);
    let digits: Vec<String> =
        (0..NUMBER_DIGITS).rev().map(|digit| at(NUMBER + NUMBER_NAME + digit)).collect();
    let bytes: Vec<String> = (0..=0xFF).map(|byte| format!("{byte:x}")).collect();
    // One after another, and from the last one back to none.
    let strikes: Vec<String> =
        (0..STRIKES_PER_ROUND).chain([0]).map(|number| format!("{number:x}")).collect();
    Ok(BOOT
        .replace("@SECTOR_0@", &sector(0))
        .replace("@SECTOR_1@", &sector(1))
        .replace("@STATE_0@", &at(STATES[0]))
        .replace("@STATE_1@", &at(STATES[1]))
        .replace("@STATE_NEW@", &at(STATES[2]))
        .replace("@NUMBER@", &at(NUMBER))
        .replace("@DIGITS@", &digits.join(" "))
        .replace("@BYTES@", &bytes.join(" "))
        .replace("@SLOT_SCRIPT@", &at(SLOT_SCRIPT_AT))
        .replace("@STRIKES@", &strikes.join(" "))
        .replace("@STRIKES_PER_TURN@", &format!("{STRIKES_PER_TURN:x}"))
        .replace("@STRIKES_PER_ROUND@", &format!("{STRIKES_PER_ROUND:x}"))
        .replace("@WATCHDOG@\n", &arm))
}

fn i6300esb(seconds: u32) -> Result<String> {
    ensure!(
        seconds <= I6300ESB_MAX_SECONDS,
        "the i6300esb watchdog counts to {I6300ESB_MAX_SECONDS} seconds at most, not {seconds}"
    );
    Ok(I6300ESB
        .replace("@ECAM@", &format!("{VIRT_ECAM:x}"))
        .replace("@STAGE@", &format!("{:x}", seconds * I6300ESB_TICKS))
        .replace("@SECONDS@", &seconds.to_string()))
}

/// The text of `slot.scr` for these files. Without a device tree of its own the kernel gets the
/// one U-Boot runs with.
///
/// Fails when the kernel is not an uncompressed arm64 `Image`, or a text would end its quotes.
pub fn slot_script(
    memory: &BootMemory,
    kernel_arguments: &str,
    kernel: SlotFile,
    initrd: SlotFile,
    device_tree: Option<SlotFile>,
) -> Result<String> {
    if let Some(bad) = kernel_arguments.chars().find(|c| "\"'\\$`@".contains(*c) || c.is_control())
    {
        bail!("kernel arguments may not have {bad:?}: U-Boot's shell would take it for its own");
    }
    let room = kernel_room(kernel.bytes)
        .with_context(|| format!("{}: U-Boot cannot start this kernel", kernel.name))?;
    let initrd_at = memory.kernel + room;
    let tree_at = (initrd_at + initrd.bytes.len() as u64).next_multiple_of(TREE_ALIGNMENT);
    let mut files = load(kernel, memory.kernel)? + &load(initrd, initrd_at)?;
    if let Some(tree) = device_tree {
        files += &load(tree, tree_at)?;
    }
    let tree_at = match device_tree {
        Some(_) => format!("{tree_at:x}"),
        None => "${fdtcontroladdr}".to_owned(),
    };
    Ok(SLOT
        .replace("@KERNEL_ARGUMENTS@", kernel_arguments)
        .replace("@DISK_ARGUMENT@", DISK_ARGUMENT)
        .replace("@KERNEL_AT@", &format!("{:x}", memory.kernel))
        .replace("@INITRD_AT@", &format!("{initrd_at:x}"))
        .replace("@DEVICE_TREE_AT@", &tree_at)
        .replace("@INITRD_SIZE@", &format!("{:x}", initrd.bytes.len()))
        .replace("@SUM_AT@", &format!("{:x}", memory.scratch + SUM))
        .replace("@FILES@\n", &files))
}

/// The lines that load one file and check it.
fn load(file: SlotFile, at: u64) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    ensure!(
        !file.name.is_empty() && file.name.chars().all(plain),
        "{:?}: a file on the boot partition is named with A-Z, a-z, 0-9 and ._+- only",
        file.name
    );
    // `crc32` leaves its result in memory big-endian, `itest` reads it little-endian.
    let sum = crc32(file.bytes).swap_bytes();
    Ok(format!(
        "setenv file {}\nsetenv at {at:x}\nsetenv size {:x}\nsetenv sum {sum:x}\nrun load_file\n",
        file.name,
        file.bytes.len()
    ))
}

/// Bytes to leave free from where the kernel is loaded: its `image_size` (booting.rst), and one
/// alignment more because U-Boot may move it up to the next boundary.
fn kernel_room(image: &[u8]) -> Result<u64> {
    arm64_kernel::check(image)?;
    let header = image.get(..64).context("it is shorter than the header of an arm64 Image")?;
    let mut size = [0; 8];
    size.copy_from_slice(&header[16..24]);
    let size = u64::from_le_bytes(size).max(image.len() as u64);
    ensure!(
        size <= MAX_KERNEL_ROOM,
        "it wants {size} bytes of memory, more than {MAX_KERNEL_ROOM}"
    );
    Ok(size.next_multiple_of(KERNEL_ALIGNMENT) + KERNEL_ALIGNMENT)
}

/// Wraps a script into the legacy image that U-Boot's `source` runs (U-Boot include/image.h,
/// `struct legacy_img_hdr`, all numbers big-endian), with time 0 so that the same script gives
/// the same bytes.
pub fn script_image(script: &str) -> Vec<u8> {
    const MAGIC: u32 = 0x2705_1956;
    const OS_LINUX: u8 = 5;
    const ARCH_ARM64: u8 = 22;
    const TYPE_SCRIPT: u8 = 6;
    const COMPRESSION_NONE: u8 = 0;

    // A list of the texts' lengths, ended by a zero, then the texts.
    let mut data = Vec::with_capacity(8 + script.len());
    data.extend_from_slice(&(script.len() as u32).to_be_bytes());
    data.extend_from_slice(&[0; 4]);
    data.extend_from_slice(script.as_bytes());

    let mut header = [0u8; 64];
    header[0..4].copy_from_slice(&MAGIC.to_be_bytes());
    header[12..16].copy_from_slice(&(data.len() as u32).to_be_bytes());
    header[24..28].copy_from_slice(&crc32(&data).to_be_bytes());
    header[28..32].copy_from_slice(&[OS_LINUX, ARCH_ARM64, TYPE_SCRIPT, COMPRESSION_NONE]);
    // The header's own sum is taken with its field zero.
    let sum = crc32(&header);
    header[4..8].copy_from_slice(&sum.to_be_bytes());
    [header.as_slice(), &data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Board;
    use std::path::Path;
    use std::process::Command;

    fn board() -> Board {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        Board::load("qemu-arm64", Path::new(folder)).unwrap()
    }

    fn boot(board: &Board, watchdog: Option<&Watchdog>) -> Result<String> {
        boot_script(board.boot.memory.as_ref().unwrap(), watchdog)
    }

    fn image(size: u64) -> Vec<u8> {
        let mut image = vec![0; 4096];
        image[16..24].copy_from_slice(&size.to_le_bytes());
        image[56..60].copy_from_slice(b"ARMd");
        image
    }

    fn script_for(arguments: &str, kernel: &[u8]) -> Result<String> {
        let kernel = SlotFile { name: "kernel", bytes: kernel };
        let memory = board().boot.memory.unwrap();
        slot_script(
            &memory,
            arguments,
            kernel,
            SlotFile { name: "initrd", bytes: b"123456789" },
            None,
        )
    }

    #[test]
    #[ignore = "needs mkimage: `just unit`"]
    fn a_script_image_is_what_mkimage_makes() {
        let dir = tempfile::tempdir().unwrap();
        let (text, out) = (dir.path().join("in"), dir.path().join("out"));
        for script in [
            boot(&board(), board().watchdog.as_ref()).unwrap(),
            "echo x\n".into(),
            String::from("#"),
        ] {
            std::fs::write(&text, &script).unwrap();
            let made = Command::new("mkimage")
                .args([
                    "-q", "-A", "arm64", "-O", "linux", "-T", "script", "-C", "none", "-n", "",
                    "-d",
                ])
                .args([&text, &out])
                .env("SOURCE_DATE_EPOCH", "0")
                .output()
                .expect("mkimage: install the package u-boot-tools");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            assert_eq!(script_image(&script), std::fs::read(&out).unwrap());
        }
    }

    #[test]
    fn no_placeholder_is_left() {
        let script = boot(&board(), board().watchdog.as_ref()).unwrap();
        let slot = script_for("console=ttyAMA0 panic=5", &image(1 << 20)).unwrap();
        for script in [&script, &slot, &boot(&board(), None).unwrap()] {
            assert!(!script.contains('@'), "{script}");
            assert!(script.is_ascii());
        }
        assert!(script.contains("setenv sector 810\n") && script.contains("setenv sector 818\n"));
        assert!(script.contains("for digit_at in 4024810e 4024810d "), "the last digit first");
        assert!(script.contains("mw.l ${timer} 7800\n"), "60 s in two stages");
    }

    /// The shell looks a name up in the environment first, and among its own variables, of which a
    /// loop's is one, only then (U-Boot common/cli_hush.c, `lookup_param`): a loop whose variable is
    /// in the environment too sees one value all the time.
    #[test]
    fn no_loop_variable_is_hidden_by_the_environment() {
        let board = board();
        let script = boot(&board, board.watchdog.as_ref()).unwrap();
        let slot = script_for("panic=5", &image(1 << 20)).unwrap();
        let both = [script, slot].concat();
        let after = |word: &str| -> Vec<String> {
            let words: Vec<&str> = both.split_whitespace().collect();
            let pairs = words.windows(2).filter(|pair| pair[0] == word);
            pairs.map(|pair| pair[1].trim_end_matches(';').to_owned()).collect()
        };
        let (loops, mut set) = (after("for"), after("setenv"));
        let state = both.lines().find_map(|line| line.strip_prefix("setenv state_vars \""));
        set.extend(state.unwrap().trim_end_matches('"').split(' ').map(str::to_owned));
        assert!(loops.len() >= 4 && set.len() > 30, "{loops:?} {set:?}");
        for name in loops {
            assert!(!set.contains(&name), "{name} is in the environment");
        }
    }

    #[test]
    fn a_slot_script_knows_its_files() {
        let script = script_for("console=ttyAMA0", &image(0x2F9_0000)).unwrap();
        assert!(script.contains("setenv file kernel\nsetenv at 40400000\n"), "{script}");
        // CBF43926 is the check value of CRC-32; its bytes come swapped.
        assert!(script.contains(
            "setenv file initrd\nsetenv at 43600000\nsetenv size 9\nsetenv sum 2639f4cb\n"
        ));
        assert!(script.contains("booti 40400000 43600000:9 ${fdtcontroladdr}"));
    }

    #[test]
    fn what_u_boot_cannot_start_is_refused() {
        assert!(script_for("x", b"\x1f\x8b").is_err());
        assert!(script_for("x", &[0; 4096]).is_err());
        assert!(script_for("x", &image(1 << 40)).is_err());
        for arguments in ["a\"b", "a$b", "a`b", "a\nb", "a'b"] {
            assert!(script_for(arguments, &image(4096)).is_err(), "{arguments}");
        }
        let tree = SlotFile { name: "a b.dtb", bytes: b"" };
        let image = image(4096);
        let kernel = SlotFile { name: "kernel", bytes: &image };
        let memory = board().boot.memory.unwrap();
        assert!(slot_script(&memory, "x", kernel, kernel, Some(tree)).is_err());
    }
}
