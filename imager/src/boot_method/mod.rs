//! The boards' ways to boot, one file each behind the trait [`BootMethod`]. A board file names one
//! as its `chooser`; nothing outside of this folder asks which one it is. docs/boot-methods.md says
//! what another one would take.

mod arm64_kernel;
mod efi;
mod method;
pub mod raspberry_pi;
mod rpi;
mod rpi_tryboot;
mod target;
mod uboot;

pub use method::{
    BootKeys, BootMethod, BootSigner, DeviceProgram, Files, FirmwareParts, Packages,
    PartitionTypes, SlotParts,
};
pub use target::Target;

/// All of them.
pub const ALL: [&dyn BootMethod; 4] =
    [&uboot::Uboot, &efi::Efi, &rpi::Rpi, &rpi_tryboot::RpiTryboot];

/// Their names, in the order of [`ALL`].
pub const NAMES: [&str; 4] = ["uboot", "efi", "rpi", "rpi-tryboot"];

impl dyn BootMethod {
    /// The method that a board file names so.
    pub fn named(name: &str) -> Option<&'static dyn BootMethod> {
        ALL.into_iter().find(|method| method.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_name_and_known_to_the_device() {
        assert_eq!(ALL.map(|method| method.name()), NAMES);
        for name in NAMES {
            assert_eq!(<dyn BootMethod>::named(name).unwrap().name(), name);
            let running = (formats::Slot::A, formats::boot_state::Boot::Active);
            formats::boot_chooser::open(name, "/nowhere".as_ref(), running).unwrap();
        }
        assert!(<dyn BootMethod>::named("grub").is_none());
    }
}
