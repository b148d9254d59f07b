//! A finished card of a board with UEFI, looked at as its firmware, the chooser, systemd's stub and
//! the kernel look at it, one after the other. Nothing is started here, and nothing is shared with
//! what makes images: files are read by mtools, the rest by what is written here from the
//! specifications. Each rule names where it comes from.

use anyhow::{Context, Result, ensure};

use crate::card::{file, files};
use crate::disk::Disk;

mod fat;
mod initramfs;
mod kernel;
mod program;
mod table;
mod tree;
mod unified;

use program::Program;
pub use unified::check_image;

/// The processors of these boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// 64-bit ARM.
    Arm64,
    /// 64-bit x86.
    Amd64,
}

impl Processor {
    /// `Machine` of a PE image (UEFI 2.10, 2.1.1).
    fn machine(self) -> u64 {
        match self {
            Processor::Arm64 => 0xAA64,
            Processor::Amd64 => 0x8664,
        }
    }

    /// `e_machine` of an ELF object.
    fn elf_machine(self) -> u64 {
        match self {
            Processor::Arm64 => 183,
            Processor::Amd64 => 62,
        }
    }

    /// What a firmware starts that is told nothing (UEFI 2.10, 3.5.1.1, table 3-5).
    fn program(self) -> &'static str {
        match self {
            Processor::Arm64 => "/EFI/BOOT/BOOTAA64.EFI",
            Processor::Amd64 => "/EFI/BOOT/BOOTX64.EFI",
        }
    }
}

/// What the rules of a board are.
#[derive(Debug, Clone, Copy)]
pub struct Board {
    /// The name of its board file.
    pub name: &'static str,
    /// Its processor.
    pub processor: Processor,
    /// All that the root of its device tree is compatible with; empty where the firmware brings a
    /// description of its own.
    pub compatible: &'static [&'static str],
    /// The console that PID 1 speaks on.
    pub console: &'static str,
    /// What its device tree has to have switched on: the console, and the watchdog.
    pub devices: &'static [&'static str],
    /// What the initrd has to load, whatever the device tree says.
    pub modules: &'static [&'static str],
}

/// dm-verity, the root's and the data partition's file systems, and the card of a Jetson (drivers/mmc/
/// host/sdhci-tegra.c). What may be built in, such as `mmc_block`, is not among them: the kernel image
/// names no modules. What else a card waits for follows from the device tree.
const JETSON: &[&str] = &["sdhci_tegra", "dm_verity", "erofs", "ext4"];
/// With the power chip, whose regulators no node of their own stands for (drivers/mfd/max77620.c).
const XAVIER_AGX: &[&str] = &["max77620_regulator", "sdhci_tegra", "dm_verity", "erofs", "ext4"];
const VIRTUAL: &[&str] = &["virtio_blk", "i6300esb", "dm_verity", "erofs", "ext4"];

/// Drivers of these: drivers/tty/serial/tegra-tcu.c for `ttyTCU0`, drivers/clocksource/
/// timer-tegra186.c for the watchdog.
const XAVIER_DEVICES: &[&str] = &["nvidia,tegra194-tcu", "nvidia,tegra186-timer"];
const ORIN_DEVICES: &[&str] = &["nvidia,tegra194-tcu", "nvidia,tegra234-timer"];

/// Every board file with the chooser `efi`. The names of Jetsons are those of Linux (Documentation/
/// devicetree/bindings/arm/tegra.yaml).
pub const BOARDS: [Board; 6] = [
    Board {
        name: "qemu-arm64-efi",
        processor: Processor::Arm64,
        compatible: &[],
        console: "ttyAMA0",
        devices: &[],
        modules: VIRTUAL,
    },
    Board {
        name: "pc-x86_64",
        processor: Processor::Amd64,
        compatible: &[],
        console: "ttyS0",
        devices: &[],
        modules: VIRTUAL,
    },
    Board {
        name: "jetson-xavier-nx",
        processor: Processor::Arm64,
        compatible: &["nvidia,p3509-0000+p3668-0000", "nvidia,tegra194"],
        console: "ttyTCU0",
        devices: XAVIER_DEVICES,
        modules: JETSON,
    },
    Board {
        name: "jetson-agx-xavier",
        processor: Processor::Arm64,
        compatible: &["nvidia,p2972-0000", "nvidia,tegra194"],
        console: "ttyTCU0",
        devices: XAVIER_DEVICES,
        modules: XAVIER_AGX,
    },
    Board {
        name: "jetson-orin-nano",
        processor: Processor::Arm64,
        compatible: &["nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"],
        console: "ttyTCU0",
        devices: ORIN_DEVICES,
        modules: JETSON,
    },
    Board {
        name: "jetson-agx-orin",
        processor: Processor::Arm64,
        compatible: &["nvidia,p3737-0000+p3701-0000", "nvidia,p3701-0000", "nvidia,tegra234"],
        console: "ttyTCU0",
        devices: ORIN_DEVICES,
        modules: JETSON,
    },
];

/// Follows the card from its partition table to the arguments of slot a's kernel.
pub fn check(disk: &Disk, board: &Board) -> Result<()> {
    table::check(disk)?;
    let program = board.processor.program();
    for (label, expected) in
        [("firmware", &[program][..]), ("boot-a", &["/linux.efi", "/linux.sum"])]
    {
        fat::check(disk, label).with_context(|| label.to_owned())?;
        // A file more is one that some firmware may find first: a startup.nsh, another loader.
        let found = files(disk, label).with_context(|| label.to_owned())?;
        ensure!(found == expected, "{label} has the files {found:?}, not {expected:?}");
    }
    let chooser = file(disk, "firmware", program)?.context("the chooser cannot be read")?;
    Program::read(&chooser, board.processor).context("the chooser")?;
    unified::check(disk, board).context("boot-a")
}
