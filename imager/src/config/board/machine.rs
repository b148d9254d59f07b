//! The processor, `[watchdog]` and `[qemu]`: the hardware, and what plays it.

use serde::Deserialize;
use toml::Spanned;

use crate::config::values::{DevicePath, Line, PackageName, Size};

/// `[watchdog]`: the hardware that resets the board when nothing feeds it.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// What it is: how the boot chooser arms it.
    pub kind: WatchdogKind,
    /// Its device node.
    pub device: DevicePath,
    #[cfg_attr(feature = "schema", schemars(with = "u32"))]
    pub(super) seconds: Spanned<u32>,
}

/// A kind of watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WatchdogKind {
    /// Intel 6300ESB, a PCI device.
    I6300esb,
    /// The power manager of every Raspberry Pi.
    Bcm2835,
    /// The timers of a Tegra186 or a later one.
    Tegra,
    /// A timer of the kernel's (its module `softdog`), where the hardware has none that Linux drives.
    Softdog,
    /// The timer in Intel's chip sets (TCO).
    Itco,
}

impl WatchdogKind {
    /// Whether it resets a board whose kernel hangs.
    pub fn is_hardware(self) -> bool {
        self != WatchdogKind::Softdog
    }

    /// The seconds it can be set to. The Broadcom counter has 20 bits of 1/65536 s, and the kernel's
    /// driver takes whole seconds (Linux drivers/watchdog/bcm2835_wdt.c, `PM_WDOG_TIME_SET`). Intel's
    /// has 10 bits of 0.6 s, and resets the second time it runs out (iTCO_wdt.c, `seconds_to_ticks`).
    pub(super) fn seconds(self) -> std::ops::RangeInclusive<u32> {
        match self {
            WatchdogKind::I6300esb | WatchdogKind::Itco | WatchdogKind::Softdog => 10..=600,
            WatchdogKind::Bcm2835 => 10..=15,
            // Microseconds in 28 bits, and it resets when they are over for the fifth time (Linux
            // drivers/clocksource/timer-tegra186.c, `TMRCR_PTV`, `tegra186_wdt_enable`).
            WatchdogKind::Tegra => 10..=1342,
        }
    }
}

/// `[qemu]`: how QEMU plays the board.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// `-machine`.
    pub machine: Line,
    /// `-cpu`.
    pub cpu: Line,
    /// Number of processors.
    pub processors: u32,
    /// `-m`.
    pub memory: Size,
    /// The firmware, out of a Debian package that is locked like the others; none where the tests
    /// play it.
    pub firmware: Option<Firmware>,
    /// More devices, one `-device` each.
    #[serde(default)]
    pub devices: Vec<Line>,
}

/// A firmware file in a Debian package.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The package.
    pub package: PackageName,
    /// The file in it.
    pub path: DevicePath,
}

impl Watchdog {
    /// Seconds until it fires unfed.
    pub fn seconds(&self) -> u32 {
        *self.seconds.get_ref()
    }
}

/// Debian's name of a processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// 64-bit ARM.
    Arm64,
    /// 64-bit x86.
    Amd64,
}

impl Architecture {
    /// As Debian writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::Amd64 => "amd64",
        }
    }

    /// The number by which ELF objects name it, `e_machine` (System V gABI, chapter 4).
    pub fn elf_machine(self) -> u16 {
        match self {
            Self::Arm64 => 183,
            Self::Amd64 => 62,
        }
    }

    /// As UEFI programs name it.
    pub fn uefi(self) -> uefi_image::Machine {
        match self {
            Self::Arm64 => uefi_image::Machine::Arm64,
            Self::Amd64 => uefi_image::Machine::Amd64,
        }
    }

    /// As wheels' platform tags and the kernel write it.
    pub fn machine(self) -> &'static str {
        match self {
            Self::Arm64 => "aarch64",
            Self::Amd64 => "x86_64",
        }
    }
}
