//! What is to be different on each medium.

use anyhow::{Context, Result};
use rustix::rand::{GetRandomFlags, getrandom};

/// 16 bytes of the kernel's random source.
pub fn uuid() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty()).context("random numbers")?;
    Ok(bytes)
}
