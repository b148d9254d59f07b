//! What a PC's or a server's firmware starts: UEFI programs.
//!
//! - [`Pe`] reads a PE32+ image strictly and appends sections to it.
//! - [`UnifiedKernel`] joins kernel, initramfs and kernel arguments to one image behind systemd's
//!   stub (UAPI.5, "Unified Kernel Image"), with a profile for each way to boot.
//! - [`Signer`] signs a program for Secure Boot (Authenticode) with an RSA key whose certificate the
//!   firmware knows.
//!
//! Everything works on bytes in memory: where images and keys are kept is the caller's matter. The
//! same input gives the same bytes, signatures included.
//!
//! ```
//! use uefi_image::{Machine, Pe, Profile, Signer, UnifiedKernel, sample};
//!
//! # fn main() -> anyhow::Result<()> {
//! let image = UnifiedKernel {
//!     machine: Machine::Amd64,
//!     stub: &sample::program(Machine::Amd64), // of the package systemd-boot-efi
//!     os_release: "ID=demo\n",
//!     kernel_release: "6.12.0-amd64",
//!     kernel: &sample::program(Machine::Amd64),
//!     initramfs: b"an initramfs",
//!     device_tree: None,
//!     profiles: &[Profile { id: "default".into(), arguments: "quiet".into() }],
//! }
//! .build()?;
//! let signer = Signer::generate("Example Secure Boot db")?;
//! let signed = signer.sign(image)?;
//!
//! let pe = Pe::read(signed)?;
//! assert!(pe.is_signed()?);
//! let names: Vec<_> = pe.sections().iter().map(|section| section.name.as_str()).collect();
//! assert_eq!(names[3..], [".linux", ".initrd", ".profile", ".cmdline"]);
//! # Ok(())
//! # }
//! ```

mod authenticode;
mod certificate;
mod image_hash;
mod machine;
mod pe;
pub mod sample;
mod signer;
mod unified;

pub use machine::Machine;
pub use pe::{Pe, Section};
pub use signer::Signer;
pub use unified::{Profile, UnifiedKernel};
