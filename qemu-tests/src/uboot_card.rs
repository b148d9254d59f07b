//! A card looked at as the U-Boot of a Jetson Nano looks at it: NVIDIA's U-Boot 2020.04, which has
//! been in the module's flash memory since L4T 32.5. Nothing is started here, and nothing is shared
//! with what makes images.
//!
//! The rules are read from U-Boot's source at that version (OE4T/u-boot-tegra, branch
//! `l4t-r32.6.1-v2020.04`), each with its place.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::card::{crc32, file};
use crate::disk::Disk;

/// Commands that are there: configs/p3450-0000_defconfig with what `DISTRO_DEFAULTS` selects
/// (Kconfig) and cmd/Kconfig has by default. That file turns `setexpr` off.
const COMMANDS: [&str; 12] = [
    "booti", "cmp.b", "crc32", "echo", "env", "itest", "load", "mmc", "mw.b", "reset", "run",
    "source",
];
/// Commands of the shell, and those that work on variables alone.
const SHELL: [&str; 4] = ["setenv", "test", "itest.b", "itest.l"];
/// The memory's first bank as far as it is free: the firmware's carve-outs begin a little above it
/// in logs of real boards, and U-Boot moves itself right below them.
const MEMORY: Range<u64> = 0x8000_0000..0xFE00_0000;
/// `scriptaddr` (include/configs/tegra210-common.h): boot.scr is loaded there.
const SCRIPT: u64 = 0x9000_0000;
/// Where the firmware before U-Boot leaves two device trees, by the logs of real boards ("Bootloader
/// DTB loaded at 0x83000000", "Kernel DTB loaded at 0x83100000": celaxodon/buildroot issue 4,
/// lf-edge/eve pull request 2076), a MiB for each: U-Boot reads the first once more when it starts a
/// kernel (board/nvidia/p3450-0000/p3450-0000.c, `ft_carveout_setup`).
const FIRMWARE_TREE: Range<u64> = 0x8300_0000..0x8320_0000;
/// arm64 `COMMAND_LINE_SIZE`.
const MAX_ARGUMENTS: usize = 2048;

/// What the kernel of a slot is started with.
#[derive(Debug)]
pub struct Started {
    /// What is compatible with its device tree's root.
    pub compatible: Vec<String>,
    /// Its arguments, `${…}` where the chooser puts something in.
    pub arguments: String,
}

/// Follows the card from the firmware partition to the kernel of slot a.
pub fn check(disk: &Disk) -> Result<Started> {
    check_table(disk)?;
    for label in ["firmware", "boot-a"] {
        check_fat(disk, label).with_context(|| label.to_owned())?;
    }
    // They would go before boot.scr (include/config_distro_bootcmd.h, `scan_dev_for_boot`, and
    // `preboot` of include/configs/p3450-0000.h).
    for other in ["extlinux/extlinux.conf", "boot.scr.uimg", "u-boot-preboot.scr"] {
        ensure!(file(disk, "firmware", other)?.is_none(), "firmware has a file {other}");
    }
    let script = |label, name: &str| -> Result<String> {
        let image = file(disk, label, name)?.with_context(|| format!("{label} has no {name}"))?;
        let script = script_of(&image).with_context(|| format!("{label}: {name}"))?;
        check_commands(&script).with_context(|| format!("{label}: {name}"))?;
        Ok(script)
    };
    let boot = script("firmware", "boot.scr")?;
    let scratch: Vec<u64> = boot.split_whitespace().filter_map(address).collect();
    let slot = script("boot-a", "slot.scr")?;
    let loads = loads(disk, &slot)?;
    check_memory(&loads, &scratch)?;
    let kernel = loads.get("kernel").context("slot.scr loads no kernel")?;
    check_kernel(kernel)?;
    let tree = loads.values().find(|load| load.bytes.starts_with(&[0xD0, 0x0D, 0xFE, 0xED]));
    let tree = tree.context("slot.scr loads no device tree: U-Boot's own is not the kernel's")?;
    let booti = slot.lines().map(str::trim).find(|line| line.starts_with("booti "));
    let booti = booti.context("slot.scr has no booti")?;
    let initrd = loads.get("initrd").context("slot.scr loads no initramfs")?;
    let expected =
        format!("booti {:x} {:x}:{:x} {:x}", kernel.at, initrd.at, initrd.bytes.len(), tree.at);
    ensure!(booti == expected, "slot.scr says {booti:?}, its files call for {expected:?}");
    ensure!(initrd.bytes.starts_with(b"070701"), "the initramfs is no cpio archive");
    let arguments = slot.lines().find_map(|line| line.strip_prefix("setenv bootargs \""));
    let arguments = arguments.and_then(|rest| rest.strip_suffix('"')).context("no bootargs")?;
    ensure!(arguments.len() + 128 <= MAX_ARGUMENTS, "the kernel's arguments are too long");
    // Each variable in them is one that a line before it sets, or boot.scr.
    ensure!(
        slot.lines().any(|line| line == "part uuid ${devtype} ${devnum}:${boot_part} boot_guid"),
        "slot.scr does not ask for the GUID of its partition"
    );
    Ok(Started { compatible: root_compatible(&tree.bytes)?, arguments: arguments.to_owned() })
}

/// `sgdisk` finds nothing wrong, and partition 1 is the one that is scanned: bootable, alone (disk/
/// part_efi.c, `is_bootable`; `scan_dev_for_boot_part`).
fn check_table(disk: &Disk) -> Result<()> {
    let output = Command::new("sgdisk").arg("--verify").arg(disk.path()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("No problems found"), "sgdisk: {text}");
    const EFI_SYSTEM: [u8; 16] = [
        0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9,
        0x3B,
    ];
    let entries = disk.read_disk(1024, 128 * 128)?;
    let bootable = |entry: &[u8]| entry[..16] == EFI_SYSTEM || entry[48] & 4 != 0;
    let numbers: Vec<usize> =
        (1..).zip(entries.chunks_exact(128)).filter(|(_, e)| bootable(e)).map(|(n, _)| n).collect();
    ensure!(numbers == [1], "the bootable partitions are {numbers:?}, not 1 alone");
    let name: Vec<u8> = entries[56..128].chunks_exact(2).map(|unit| unit[0]).collect();
    ensure!(name.starts_with(b"firmware\0"), "partition 1 is not named firmware");
    Ok(())
}

/// U-Boot takes the kind of a FAT from the name in its first sector (fs/fat/fat.c,
/// `read_bootsectandvi`), Linux from the number of clusters: they have to agree.
fn check_fat(disk: &Disk, label: &str) -> Result<()> {
    let sector = disk.read(label, 0, 512)?;
    let number = |at: usize| u64::from(u16::from_le_bytes([sector[at], sector[at + 1]]));
    let long = |at: usize| number(at) | number(at + 2) << 16;
    ensure!(sector[510..] == [0x55, 0xAA] && number(11) == 512, "is no FAT with sectors of 512");
    let (total, fat) = (number(19).max(long(32)), number(22));
    let fat_size = if fat == 0 { long(36) } else { fat };
    let data = total - number(14) - u64::from(sector[16]) * fat_size - (number(17) * 32) / 512;
    let clusters = data / u64::from(sector[13]);
    let named = if fat == 0 { &sector[82..87] } else { &sector[54..59] };
    let expected: &[u8] = match clusters {
        0..4085 => b"FAT12",
        4085..65_525 => b"FAT16",
        _ => b"FAT32",
    };
    ensure!(
        named == expected,
        "calls itself {}, its {clusters} clusters make it another",
        String::from_utf8_lossy(named)
    );
    Ok(())
}

/// The script in a legacy image: magic, header's CRC, data's CRC, type (cmd/source.c,
/// `image_source_script`; include/image.h, `image_header_t`).
fn script_of(image: &[u8]) -> Result<String> {
    let number = |at: usize| -> Result<u32> {
        let bytes = image.get(at..at + 4).context("is too short")?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    ensure!(number(0)? == 0x2705_1956, "has a bad magic number");
    let mut header = image[..64].to_vec();
    header[4..8].fill(0);
    ensure!(crc32(&header) == number(4)?, "has a bad header CRC");
    ensure!(crc32(&image[64..]) == number(24)?, "has a bad data CRC");
    ensure!(image[30] == 6, "is no script");
    let length = number(64)? as usize;
    ensure!(number(68)? == 0, "has more than one script");
    let text = image.get(72..72 + length).context("is shorter than it says")?;
    String::from_utf8(text.to_vec()).context("is no text")
}

/// Every command that a script can come to, those in its variables included, is one that is there.
fn check_commands(script: &str) -> Result<()> {
    const KEYWORDS: [&str; 8] = ["if", "then", "elif", "else", "fi", "do", "done", "for"];
    let lines = script.lines().filter(|line| !line.trim_start().starts_with('#'));
    for statement in lines.flat_map(|line| line.split(';')) {
        let mut words = statement.split_whitespace().map(|word| word.trim_matches('\'')).peekable();
        if words.peek() == Some(&"for") {
            continue;
        }
        let mut words = words.filter(|word| !word.is_empty() && !KEYWORDS.contains(word));
        let Some(command) = words.next() else { continue };
        let command = if command == "${devtype}" { "mmc" } else { command };
        ensure!(
            COMMANDS.contains(&command) || SHELL.contains(&command) || command == "part",
            "{command:?} is not in this U-Boot: {}",
            statement.trim()
        );
    }
    Ok(())
}

/// A file that a slot's script loads.
struct Load {
    at: u64,
    bytes: Vec<u8>,
}

/// The files that `slot.scr` loads: each is there, of the size and with the CRC that it expects.
fn loads(disk: &Disk, script: &str) -> Result<BTreeMap<String, Load>> {
    let mut loads = BTreeMap::new();
    let mut set: BTreeMap<&str, &str> = BTreeMap::new();
    for line in script.lines() {
        if let Some((name, value)) =
            line.strip_prefix("setenv ").and_then(|rest| rest.split_once(' '))
        {
            set.insert(name, value);
        }
        if line != "run load_file" {
            continue;
        }
        let get = |name| set.get(name).copied().with_context(|| format!("no {name} is set"));
        let hex = |name| Ok::<_, anyhow::Error>(u64::from_str_radix(get(name)?, 16)?);
        let name = get("file")?;
        let bytes = file(disk, "boot-a", name)?.with_context(|| format!("boot-a has no {name}"))?;
        ensure!(bytes.len() as u64 == hex("size")?, "{name} has another size");
        // `crc32` leaves its result big-endian, `itest.l` reads it little-endian (cmd/itest.c).
        ensure!(u64::from(crc32(&bytes).swap_bytes()) == hex("sum")?, "{name} has another CRC");
        loads.insert(name.to_owned(), Load { at: hex("at")?, bytes });
    }
    Ok(loads)
}

/// Nothing lies over anything else, or where it must not.
fn check_memory(loads: &BTreeMap<String, Load>, scratch: &[u64]) -> Result<()> {
    let (Some(low), Some(high)) = (scratch.iter().min(), scratch.iter().max()) else {
        bail!("boot.scr keeps nothing in memory");
    };
    let mut taken = vec![
        ("boot.scr".to_owned(), SCRIPT..SCRIPT + 0x4_0000),
        // An export clears as much as the environment has (lib/hashtable.c, `hexport_r`;
        // `CONFIG_ENV_SIZE=0x2000`).
        ("boot.scr's scratch memory".to_owned(), *low..*high + 0x1_0000),
        ("the firmware's device tree".to_owned(), FIRMWARE_TREE),
    ];
    for (name, load) in loads {
        let mut size = load.bytes.len() as u64;
        if name == "kernel" {
            size = size.max(image_size(&load.bytes)?);
        }
        taken.push((name.clone(), load.at..load.at + size));
    }
    taken.sort_by_key(|(_, range)| range.start);
    for (name, range) in &taken {
        ensure!(
            MEMORY.start <= range.start && range.end <= MEMORY.end,
            "{name} lies at {range:x?}, outside of the memory"
        );
    }
    for pair in taken.windows(2) {
        ensure!(
            pair[0].1.end <= pair[1].1.start,
            "{} ({:x?}) lies over {} ({:x?})",
            pair[0].0,
            pair[0].1,
            pair[1].0,
            pair[1].1
        );
    }
    Ok(())
}

fn image_size(kernel: &[u8]) -> Result<u64> {
    let bytes = kernel.get(16..24).context("the kernel is shorter than its header")?;
    Ok(u64::from_le_bytes(bytes.try_into()?))
}

/// An arm64 `Image` that U-Boot leaves where it was loaded (arch/arm/lib/image.c, `booti_setup`:
/// bit 3 of its flags; Documentation/arch/arm64/booting.rst).
fn check_kernel(kernel: &Load) -> Result<()> {
    let image = &kernel.bytes;
    ensure!(image.get(56..60) == Some(b"ARM\x64"), "the kernel is no arm64 Image");
    ensure!(image_size(image)? != 0, "the kernel does not say how large it is");
    ensure!(image[24] & 8 != 0, "the kernel would be moved to the start of the memory");
    ensure!(image[8..16] == [0; 8], "the kernel has a text offset");
    ensure!(kernel.at.is_multiple_of(2 << 20), "the kernel does not start at a multiple of 2 MiB");
    Ok(())
}

/// What the root of a flattened device tree is compatible with (Devicetree Specification, chapter
/// 5): its properties come before its nodes.
fn root_compatible(tree: &[u8]) -> Result<Vec<String>> {
    let number = |at: usize| -> Result<usize> {
        let bytes = tree.get(at..at + 4).context("the device tree is cut off")?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    let (structure, strings) = (number(8)?, number(12)?);
    let mut at = structure + 8;
    while number(at)? == 3 {
        let (length, name) = (number(at + 4)?, number(at + 8)?);
        let value = tree.get(at + 12..at + 12 + length).context("the device tree is cut off")?;
        if tree.get(strings + name..).is_some_and(|rest| rest.starts_with(b"compatible\0")) {
            let texts = value.split(|byte| *byte == 0).filter(|text| !text.is_empty());
            return Ok(texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect());
        }
        at += (12 + length).next_multiple_of(4);
    }
    bail!("the device tree's root is compatible with nothing")
}

/// An address in the memory, as the scripts write it.
fn address(word: &str) -> Option<u64> {
    let number = u64::from_str_radix(word.trim_matches(['*', '\'', ';', '"']), 16).ok()?;
    MEMORY.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_not_there_is_found_in_variables_too() {
        let script = "# setexpr in a comment\nsetenv a '\nif test -n x; then\n  run b;\nfi'\nfor x in 1 2; do\n  ${devtype} read 1 2 1\ndone\n";
        check_commands(script).unwrap();
        for bad in ["setexpr a 1 + 1", "setenv b '\nif itest 1 == 1; then\n  setexpr a;\nfi'"] {
            let message = check_commands(&format!("{script}{bad}\n")).unwrap_err().to_string();
            assert!(message.contains("\"setexpr\" is not in this U-Boot"), "{message}");
        }
    }

    #[test]
    fn what_lies_over_something_else_is_found() {
        let load = |at: u64, size: usize| Load { at, bytes: vec![0; size] };
        let scratch = [0x9004_0000, 0x9005_0000];
        let check =
            |at: u64| check_memory(&BTreeMap::from([("initrd".into(), load(at, 4096))]), &scratch);
        check(0x8400_0000).unwrap();
        for (at, what) in [
            (0x8300_1000, "the firmware's device tree"),
            (0x9000_0000, "boot.scr"),
            (0x9004_FFFF, "scratch"),
            (0x7000_0000, "outside of the memory"),
        ] {
            let message = check(at).unwrap_err().to_string();
            assert!(message.contains(what), "{message}");
        }
    }
}
