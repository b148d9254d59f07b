//! The image of every board with UEFI, looked at as its firmware, the chooser, systemd's stub and the
//! kernel look at a card: nothing is started here. What each rule is and where it comes from stands
//! in `uefi_card`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::fixture::{Built, TestSlot, Variant};
use qemu_tests::uefi_card::{self, BOARDS, Board, Processor};
use qemu_tests::videocore::Model;
use qemu_tests::{Disk, OwnKernel};

use crate::fat;

/// Whether the chooser was built: it takes a Rust toolchain with libraries for UEFI.
fn can_be_tested(board: &Board) -> bool {
    let target = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
    let chooser = match board.processor {
        Processor::Arm64 => "device/BOOTAA64.EFI",
        Processor::Amd64 => "device-amd64/BOOTX64.EFI",
    };
    let built = target.join(chooser).is_file() || std::env::var_os("FERRITE_DEVICE").is_some();
    if !built {
        println!(
            "NOT TESTED: {}: target/{chooser} is not built; scripts/efi-rustc says why",
            board.name
        );
    }
    built
}

/// The board's image. One that asks for a kernel of the user's own gets Debian's, with the names of
/// the drivers in it that it lacks.
fn build(test_slot: &TestSlot, board: &'static Board) -> Result<Built> {
    let [debians, ..] = &BOARDS;
    let kernel = match board.compatible {
        [] => None,
        _ => {
            // Its kernel's packages are in the cache then.
            build(test_slot, debians)?;
            Some(OwnKernel::pretended()?)
        }
    };
    let board_file = Some(board.name);
    test_slot.build(&Variant { label: board.name, board_file, kernel, ..Variant::good(1) })
}

/// The board whose card and image are spoilt: it has all that there are rules for.
fn orin() -> &'static Board {
    &BOARDS[ORIN]
}
const ORIN: usize = 4;
const XAVIER_NX: usize = 2;

#[test]
fn each_boards_card_keeps_every_rule() -> Result<()> {
    let test_slot = TestSlot::take()?;
    for board in BOARDS.iter().filter(|board| can_be_tested(board)) {
        let built = build(&test_slot, board).with_context(|| board.name.to_owned())?;
        let disk = Disk::copy_of(&built.img)?;
        uefi_card::check(&disk, board).with_context(|| board.name.to_owned())?;
    }
    Ok(())
}

/// An image with a kernel that somebody compiled, looked at by hand: `FERRITE_CARD=out/….img`, whose
/// name has the board's in it.
#[test]
#[ignore = "by hand, with FERRITE_CARD"]
fn the_card_named_by_hand_keeps_every_rule() -> Result<()> {
    let Some(path) = std::env::var_os("FERRITE_CARD") else {
        println!("NOT TESTED: FERRITE_CARD names no image");
        return Ok(());
    };
    let path = Path::new(&path);
    let name = path.file_name().and_then(|name| name.to_str()).context("a file's name")?;
    let board = BOARDS.iter().find(|board| name.contains(&format!("-{}-", board.name)));
    let board = board.with_context(|| format!("{name} names no board with UEFI"))?;
    uefi_card::check(&Disk::copy_of(path)?, board).with_context(|| board.name.to_owned())
}

/// sgdisk, which writes both copies of the table with sums that hold.
fn sgdisk(disk: &Disk, argument: &str) -> Result<()> {
    fat::run(Command::new("sgdisk").arg(argument).arg(disk.path())).map(drop)
}

/// Overwrites bytes anywhere on the disk; from its end, where `at` is negative.
fn poke(disk: &Disk, at: i64, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let at = if at < 0 { disk.size()?.checked_add_signed(at) } else { u64::try_from(at).ok() };
    let file = fs::OpenOptions::new().write(true).open(disk.path())?;
    Ok(file.write_all_at(bytes, at.context("a place")?)?)
}

/// Changes bytes of the chooser.
fn chooser(disk: &Disk, change: fn(&mut Vec<u8>, usize)) -> Result<()> {
    const NAME: &str = "EFI/BOOT/BOOTAA64.EFI";
    let mut program = fat::read(disk, "firmware", NAME)?;
    let header = u32::from_le_bytes(program[0x3C..0x40].try_into()?) as usize;
    change(&mut program, header);
    fat::write(disk, "firmware", NAME, &program)
}

/// What is done to a card, and what the check has to say of it.
type Spoil = (fn(&Disk) -> Result<()>, &'static str);

const CARDS: [Spoil; 27] = [
    (|disk| poke(disk, 510, &[0]), "the protective MBR: has no signature"),
    (|disk| poke(disk, 446, &[0x80]), "is marked bootable, for a BIOS"),
    (|disk| poke(disk, 450, &[0x83]), "is of type 83, not EE"),
    (|disk| poke(disk, 458, &[9]), "covers "),
    (|disk| poke(disk, 466, &[0x0C]), "has more than one partition"),
    (|disk| poke(disk, 512, b"X"), "the primary GPT: has no signature"),
    (|disk| poke(disk, 512 + 56, &[0x5A]), "the primary GPT: has a bad header CRC"),
    (|disk| poke(disk, 1024 + 56, &[0x5A]), "the primary GPT: has a bad CRC of its entries"),
    (|disk| poke(disk, -512 + 60, &[0x5A]), "the backup GPT: has a bad header CRC"),
    (|disk| disk.grow(disk.size()? + 4096), "the protective MBR: covers"),
    (other_backup, "the two copies of the GPT say different things"),
    (|disk| sgdisk(disk, "--typecode=3:EF00"), "boot-b is of another type than Linux data"),
    (|disk| sgdisk(disk, "--typecode=1:0700"), "firmware is of another type than EFI system"),
    (|disk| sgdisk(disk, "--change-name=2:boot"), "a partition is named \"boot\", not boot-a"),
    (|disk| sgdisk(disk, "--attributes=1:set:1"), "firmware has the attributes 0x6"),
    (|disk| sgdisk(disk, "--delete=6"), "5 partitions, not 6"),
    (|disk| disk.write("firmware", 21, &[0]), "firmware: has the media descriptor 00"),
    (|disk| disk.write("firmware", 14, &[8, 0]), "no room before its tables for the boot state"),
    (|disk| disk.write("boot-a", 13, &[128]), "clusters, which is no FAT16"),
    (|disk| disk.write("boot-a", 54, b"FAT12"), "boot-a: calls itself another FAT"),
    (|disk| disk.write("boot-a", 32, &[0xFF; 4]), "boot-a: is longer than its partition"),
    (|disk| table_of(disk, "boot-a", &[0], &[0xFF, 0x7F]), "boot-a: has two tables that differ"),
    // A cluster that no file has.
    (|disk| table_of(disk, "firmware", &[0, 1], &[0xFF, 0xFF]), "firmware: fsck.fat: "),
    (|disk| fat::write(disk, "firmware", "startup.nsh", b"x"), "firmware has the files "),
    (
        |disk| fat::mtool(disk, "boot-a", "mdel", &["::linux.sum"]).map(drop),
        "boot-a has the files ",
    ),
    (
        |disk| fat::write(disk, "boot-a", "linux.sum", b"cbf43926 9\n"),
        "linux.sum says \"cbf43926 9\\n\"",
    ),
    (|disk| chooser(disk, |program, pe| program[pe + 4] ^= 1), "the chooser: is for the processor"),
];

/// The same table with another partition's GUID as the backup.
fn other_backup(disk: &Disk) -> Result<()> {
    let other = disk.snapshot()?;
    sgdisk(&other, "--partition-guid=2:R")?;
    let length = 33 * 512;
    let backup = other.read_disk(other.size()? - length, length as usize)?;
    poke(disk, -(length as i64), &backup)
}

/// Overwrites the last entries of a FAT's tables of these numbers.
fn table_of(disk: &Disk, label: &str, numbers: &[u64], bytes: &[u8]) -> Result<()> {
    let boot = disk.read(label, 0, 512)?;
    let word = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    for number in numbers {
        // Cluster 3000: in the middle of what is free in `firmware`.
        let at = (word(14) + number * word(22)) * 512 + 3000 * 2;
        disk.write(label, at, bytes)?;
    }
    Ok(())
}

#[test]
fn a_spoilt_card_is_refused() -> Result<()> {
    if !can_be_tested(orin()) {
        return Ok(());
    }
    let test_slot = TestSlot::take()?;
    let built = build(&test_slot, orin())?;
    let mut wrong = Vec::new();
    for (spoil, says) in CARDS {
        let disk = Disk::copy_of(&built.img)?;
        spoil(&disk).with_context(|| format!("making a card of which is to be said {says:?}"))?;
        wrong.extend(not_refused(uefi_card::check(&disk, orin()), says));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What is wrong when this is not what the check had to say.
fn not_refused(checked: Result<()>, says: &str) -> Option<String> {
    match checked {
        Ok(()) => Some(format!("not found: {says}")),
        Err(refused) => {
            let refused = format!("{refused:#}");
            (!refused.contains(says)).then(|| format!("{refused}, not {says}"))
        }
    }
}

/// A text of a unified kernel image, what is put over it, and what the check has to say of that.
type Change = (&'static [u8], &'static [u8], &'static str);

const IMAGES: [Change; 34] = [
    // The program.
    (b"PE\0\0\x64\xAA", b"PE\0\0\x64\x86", "linux.efi: is for the processor 0x8664"),
    (b"PE\0\0", b"PX\0\0", "linux.efi: is no PE image"),
    (b".osrel\0\0", b".osxel\0\0", "linux.efi has 0 sections .osrel"),
    (b".uname\0\0", b".linux\0\0", "sections .uname"),
    (b".dtb\0\0\0\0", b".dtx\0\0\0\0", "linux.efi has 0 sections .dtb"),
    (b"systemd-stub 257", b"systemd-stub 256", "knows no profiles"),
    // Its profiles.
    (b"ID=slot-b-trial\n", b"ID=slot-b-trail\n", "calls itself \"ID=slot-b-trail"),
    (b"ferrite.slot=b ferrite.trial=1", b"ferrite.slot=a ferrite.trial=1", "does not end with"),
    (
        b" ferrite.slot=a ferrite.trial",
        b"=ferrite.slot=a ferrite.trial",
        "slot-a-trial: does not end with",
    ),
    (b"console=ttyTCU0,115200 ", b"console=ttyS0,11520000 ", "speaks on Some(\"ttyS0\")"),
    (b" panic=5 ", b" panic=0 ", "is not reset after a panic"),
    (b" quiet ", b" root= ", "has the argument root="),
    (b" quiet ", b" \xFFuiet ", "utf-8"),
    (b" quiet ", b" qu\tet ", "its arguments are no plain line"),
    // The kernel.
    (b"ARM\x64", b"ARM\x65", "the kernel: is no arm64 Image"),
    (b"Linux version ", b"Linux vertion ", "the kernel: is not of the release"),
    // The device tree.
    (
        b"nvidia,p3767-0005\0nvidia,tegra234\0",
        b"nvidia,p3767-0003\0nvidia,tegra234\0",
        "the device tree: is of a board that is compatible with",
    ),
    (
        b"\0nvidia,tegra194-tcu\0",
        b"\0nvidia,tegra194-tcx\0",
        "nvidia,tegra194-tcu that is switched",
    ),
    (b"\0nvidia,tegra234-timer\0", b"\0nvidia,tegra234-tixer\0", "nvidia,tegra234-timer that is"),
    // The initramfs.
    (b"TRAILER!!!", b"TRAILER!!?", "the initramfs: "),
    (b"070701", b"070707", "the initramfs: is no cpio archive at 0x0"),
    (b"dev/console\0", b"dev/konsole\0", "has no /dev/console"),
    (b"00000000init\0", b"00000000tini\0", "has no /init to run"),
    (b"ferrite-boot 1\n", b"ferrite-boot 2\n", "boot.conf is not in the form"),
    (
        b"\nboard jetson-orin-nano\n",
        b"\nboard jetson-orin-nino\n",
        "boot.conf is for jetson-orin-ni",
    ),
    (b"\nchooser efi\n", b"\nchooser rpi\n", "boot.conf has the chooser rpi"),
    (b"\nkey ", b"\nkex ", "boot.conf trusts no key"),
    (b"\nwatchdog /dev/watchdog0", b"\nwatchdog /dev/watchdog1", "boot.conf has the watchdog"),
    (b"/lib/modules/erofs.ko", b"/lib/modules/xrofs.ko", "has no /lib/modules/xrofs.ko"),
    (b"\0vermagic=7", b"\0vermagic=6", "is for the kernel \"6"),
    (b"\0name=erofs\0", b"\0name=xrofs\0", "boot.conf loads no erofs"),
    (b"\0depends=dm-", b"\0depends=dx-", "is loaded before dx_"),
    (b"mmc@34", b"mmx@34", "has no card and no eMMC that is switched on"),
    (b"*Cnvidia,tegra", b"*Cnvidix,tegra", "no module of the initramfs drives mmc@"),
];

/// One for the board whose card has a supply of its own, which Orin's have not.
const SUPPLIED: [Change; 1] =
    [(b"Cregulator-fixed", b"Cregulator-fixxd", "no module of the initramfs drives regulator-")];

#[test]
fn a_spoilt_kernel_image_is_refused() -> Result<()> {
    if !can_be_tested(orin()) {
        return Ok(());
    }
    let test_slot = TestSlot::take()?;
    for (board, changes) in [(orin(), &IMAGES[..]), (&BOARDS[XAVIER_NX], &SUPPLIED)] {
        let disk = Disk::copy_of(&build(&test_slot, board)?.img)?;
        let image = fat::read(&disk, "boot-a", "linux.efi")?;
        uefi_card::check_image(&image, board)?;
        let mut wrong = Vec::new();
        for (from, to, says) in changes {
            let spoilt = replaced(&image, from, to)?;
            wrong.extend(not_refused(uefi_card::check_image(&spoilt, board), says));
        }
        ensure!(wrong.is_empty(), "{}: {}", board.name, wrong.join("\n"));
    }
    Ok(())
}

/// `bytes` with every `from` overwritten by `to`.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = find(&bytes[at..], from) {
        bytes[at + found..][..to.len()].copy_from_slice(to);
        at += found + to.len();
    }
    ensure!(at > 0, "there is no {:?}", String::from_utf8_lossy(from));
    Ok(bytes)
}

/// A byte behind a text's first place, in how far, what it becomes, and what the check has to say.
type Byte = (&'static [u8], isize, u8, &'static str);

const BYTES: [Byte; 14] = [
    (b"PE\0\0", 22, 1, "linux.efi: cannot be relocated"),
    (b"PE\0\0", 24, 0x07, "linux.efi: is no PE32+ image"),
    (b"PE\0\0", 24 + 68, 11, "linux.efi: has the subsystem 11, not that of a UEFI program"),
    (b"PE\0\0", 24 + 16 + 3, 0x70, "linux.efi: does not start in a section that may be executed"),
    (b"PE\0\0", 24 + 56 + 3, 0, "is behind the image's end"),
    (b".linux\0\0", 12 + 2, 0, "lies over what is before it"),
    (b".initrd\0", 16 + 3, 0x70, "section .initrd is cut off"),
    (b"ARM\x64", 9 - 56, 8, "the kernel: has a text offset"),
    (b"ARM\x64", 16 + 3 - 56, 0, "the kernel: says it takes"),
    (b"ARM\x64", 24 - 56, 0x0B, "the kernel: is big-endian"),
    (b"ARM\x64", 24 - 56, 0x0E, "the kernel: has other pages than 4 KiB"),
    (b"ARM\x64", 24 - 56, 0x02, "the kernel: has to lie at the start of the memory"),
    (b"\xD0\x0D\xFE\xED\0\x02", 7, 1, "the device tree: says"),
    (b"00000000init\0\0\x7FELF", 14 + 18, 62, "/init: is for the processor 62"),
];

#[test]
fn a_kernel_image_with_a_spoilt_header_is_refused() -> Result<()> {
    if !can_be_tested(orin()) {
        return Ok(());
    }
    let test_slot = TestSlot::take()?;
    let disk = Disk::copy_of(&build(&test_slot, orin())?.img)?;
    let mut image = fat::read(&disk, "boot-a", "linux.efi")?;
    let mut wrong = Vec::new();
    for (text, offset, byte, says) in BYTES {
        let at = find(&image, text).and_then(|at| at.checked_add_signed(offset));
        let at = at.with_context(|| format!("there is no {:?}", String::from_utf8_lossy(text)))?;
        let was = std::mem::replace(&mut image[at], byte);
        ensure!(was != byte, "this spoils nothing: {says}");
        wrong.extend(not_refused(uefi_card::check_image(&image, orin()), says));
        image[at] = was;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|byte| *byte == wanted[0])?;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Every board file is one that QEMU boots, or one whose finished card is looked at: by these rules,
/// by those of `uboot_cards`, or by those of the Raspberry Pis (`pi_cards`).
#[test]
fn no_board_file_is_forgotten() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../board-configs");
    let mut seen = vec![qemu_tests::Board::QemuArm64.name()];
    seen.extend(BOARDS.iter().map(|board| board.name));
    seen.extend(crate::uboot_cards::BOARDS.map(|(board, _)| board));
    seen.extend(Model::ALL.map(Model::board_file));
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).context("a name")?;
        ensure!(seen.contains(&name), "{name}: nothing boots it, and nothing checks its card");
    }
    Ok(())
}
