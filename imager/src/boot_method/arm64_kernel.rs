//! The kernel as loaders of arm64 boards take it (Documentation/arch/arm64/booting.rst).

use anyhow::{Context, Result, ensure};

/// Fails when this is not an uncompressed arm64 kernel.
pub fn check(image: &[u8]) -> Result<()> {
    let magic = image.get(56..60).context("it is shorter than the header of an arm64 Image")?;
    ensure!(magic == b"ARM\x64", "it is not an uncompressed arm64 Image (no `ARMd` at byte 56)");
    Ok(())
}
