//! Unified kernel images: everything that is booted, in one program (UAPI.5).

use anyhow::{Context, Result};

use crate::machine::Machine;
use crate::pe::Pe;

/// What a unified kernel image is made of.
#[derive(Debug, Clone, Copy)]
pub struct UnifiedKernel<'a> {
    /// The processor that stub and kernel have to be for.
    pub machine: Machine,
    /// systemd's stub, which the sections are appended to.
    pub stub: &'a [u8],
    /// What is booted, for people (os-release(5)).
    pub os_release: &'a str,
    /// What `uname -r` says.
    pub kernel_release: &'a str,
    /// The kernel, a UEFI program itself (its EFI stub).
    pub kernel: &'a [u8],
    /// The initramfs.
    pub initramfs: &'a [u8],
    /// The device tree, where the firmware has none.
    pub device_tree: Option<&'a [u8]>,
    /// The ways to boot it, in the order in which loaders count them.
    pub profiles: &'a [Profile],
}

/// A way to boot a unified kernel image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub id: String,
    /// The kernel's arguments.
    pub arguments: String,
}

impl UnifiedKernel<'_> {
    /// The image, not signed: behind the stub's own sections what all ways to boot share, then a
    /// profile for each way, with its arguments.
    ///
    /// Fails when stub or kernel are for another processor, and when the stub has no room for the
    /// sections' headers.
    pub fn build(&self) -> Result<Vec<u8>> {
        self.machine.check(self.stub).context("the stub")?;
        self.machine.check(self.kernel).context("the kernel")?;
        let mut pe = Pe::read(self.stub.to_vec())?;
        pe.append(".osrel", self.os_release.as_bytes())?;
        pe.append(".uname", self.kernel_release.as_bytes())?;
        pe.append(".linux", self.kernel)?;
        pe.append(".initrd", self.initramfs)?;
        if let Some(tree) = self.device_tree {
            pe.append(".dtb", tree)?;
        }
        for Profile { id, arguments } in self.profiles {
            pe.append(".profile", format!("ID={id}\n").as_bytes())?;
            pe.append(".cmdline", arguments.as_bytes())?;
        }
        Ok(pe.into_bytes())
    }
}
