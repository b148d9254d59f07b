//! The boards' ways to choose a slot, by the names that `system.conf` has for them.

use std::path::Path;
use std::sync::Arc;

use crate::boot_state_store::{BootStateStore, RedundantStore, Running};
use crate::medium::{DeviceFolder, Partitions};
use crate::rpi::Rpi;
use crate::rpi::autoboot::Method;
use crate::{Error, Result};

/// The chooser of this name (`uboot`, `efi`, `rpi`, `rpi-tryboot`), keeping its state on the disk
/// whose partitions are linked in the folder `devices`.
pub fn open(name: &str, devices: &Path, running: Running) -> Result<Box<dyn BootStateStore>> {
    open_on(name, DeviceFolder::shared(devices), running)
}

/// As [`open`], on partitions that may be a test's.
pub fn open_on(
    name: &str,
    partitions: Arc<dyn Partitions>,
    running: Running,
) -> Result<Box<dyn BootStateStore>> {
    let redundant = RedundantStore::new(partitions.clone()).while_running(running);
    let rpi = |method| Rpi::new(partitions, method).while_running(running);
    match name {
        // They differ in what reads the state before the kernel starts.
        "uboot" | "efi" => Ok(Box::new(redundant)),
        "rpi" => Ok(Box::new(rpi(Method::Pointer))),
        "rpi-tryboot" => Ok(Box::new(rpi(Method::Tryboot))),
        _ => Err(Error::new(
            ["no boot chooser is named `", name, "`; there are: uboot, efi, rpi, rpi-tryboot"]
                .concat(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slot;
    use crate::boot_state::Boot;

    #[test]
    fn an_unknown_chooser_is_named() {
        let error =
            open("grub", Path::new("/x"), (Slot::A, Boot::Active)).err().unwrap().to_string();
        assert!(error.contains("grub") && error.contains("uboot"), "{error}");
    }
}
