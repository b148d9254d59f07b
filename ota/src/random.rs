//! Jitter, so that a fleet that was switched on together does not ask together; and bytes nobody
//! can guess.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

/// Random bytes from the kernel.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A duration from zero up to `most`, evenly spread. Without a source of randomness: half.
pub fn up_to(most: Duration) -> Duration {
    let fraction =
        bytes::<8>().map_or(0.5, |bytes| u64::from_le_bytes(bytes) as f64 / u64::MAX as f64);
    most.mul_f64(fraction)
}
