//! What differs between the boards.

/// A Raspberry Pi whose firmware is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Raspberry Pi 3 Model B.
    Pi3,
    /// Raspberry Pi Zero 2 W.
    Zero2W,
    /// Raspberry Pi 4 Model B.
    Pi4,
    /// Raspberry Pi 5 with a BCM2712 of stepping C.
    Pi5,
    /// Raspberry Pi 5 with a BCM2712 of stepping D0.
    Pi5D,
}

impl Model {
    /// All of them.
    pub const ALL: [Model; 5] = [Model::Pi3, Model::Zero2W, Model::Pi4, Model::Pi5, Model::Pi5D];

    /// The board file for it.
    pub fn board_file(self) -> &'static str {
        match self {
            Model::Pi3 => "rpi3",
            Model::Zero2W => "rpi-zero2w",
            Model::Pi4 => "rpi4",
            Model::Pi5 | Model::Pi5D => "rpi5",
        }
    }

    /// Whether the boot ROM loads `bootcode.bin` from the card's first partition; the others have
    /// what does that in flash memory (documentation, "EEPROM boot flow").
    pub fn boots_by_rom(self) -> bool {
        matches!(self, Model::Pi3 | Model::Zero2W)
    }

    /// Whether it has a bootloader in flash memory, which can check signatures and load a RAM disk. A
    /// `bootcode.bin` of before August 2025, as Debian 13 has it, does neither (rpi-eeprom,
    /// firmware-2711/release-notes.md, 2025-08-20).
    pub fn can_verify(self) -> bool {
        !self.boots_by_rom()
    }

    /// Whether it boots a numbered partition of a GPT. The ROM of a Pi 3 knows no GPT
    /// (documentation issue 1291), a `start4.elf` of before 2025, as Debian 13 has it, no number
    /// other than the default (rpi-eeprom issue 668). A hybrid MBR is right for both.
    pub fn knows_gpt(self) -> bool {
        matches!(self, Model::Pi5 | Model::Pi5D)
    }

    /// The firmware's pair of files; a Pi 5 has it in its flash memory.
    pub fn firmware(self) -> Option<(&'static str, &'static str)> {
        match self {
            Model::Pi3 | Model::Zero2W => Some(("start.elf", "fixup.dat")),
            Model::Pi4 => Some(("start4.elf", "fixup4.dat")),
            Model::Pi5 | Model::Pi5D => None,
        }
    }

    /// The filters on models that hold for it (documentation, "Model filters").
    pub fn filters(self) -> &'static [&'static str] {
        match self {
            Model::Pi3 => &["pi3"],
            Model::Zero2W => &["pi0", "pi0w", "pi02"],
            Model::Pi4 => &["pi4"],
            Model::Pi5 | Model::Pi5D => &["pi5"],
        }
    }

    /// Its device tree under its upstream and its downstream name (documentation,
    /// "upstream_kernel"; firmware issue 2018 for the two steppings).
    pub fn device_trees(self) -> [&'static str; 2] {
        match self {
            Model::Pi3 => ["bcm2837-rpi-3-b.dtb", "bcm2710-rpi-3-b.dtb"],
            Model::Zero2W => ["bcm2837-rpi-zero-2-w.dtb", "bcm2710-rpi-zero-2-w.dtb"],
            Model::Pi4 => ["bcm2711-rpi-4-b.dtb"; 2],
            Model::Pi5 => ["bcm2712-rpi-5-b.dtb"; 2],
            Model::Pi5D => ["bcm2712-d-rpi-5-b.dtb", "bcm2712-rpi-5-b.dtb"],
        }
    }

    /// What its device tree's root is compatible with (Linux
    /// Documentation/devicetree/bindings/arm/bcm/bcm2835.yaml).
    pub fn compatible(self) -> &'static str {
        match self {
            Model::Pi3 => "raspberrypi,3-model-b",
            Model::Zero2W => "raspberrypi,model-zero-2-w",
            Model::Pi4 => "raspberrypi,4-model-b",
            Model::Pi5 | Model::Pi5D => "raspberrypi,5-model-b",
        }
    }
}
