//! Jitter, so that a fleet that was switched on together does not ask together.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// A duration from zero up to `most`, evenly spread. Without a source of randomness: half.
pub fn up_to(most: Duration) -> Duration {
    let mut bytes = [0; 8];
    let fraction = File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_or(0.5, |()| u64::from_le_bytes(bytes) as f64 / u64::MAX as f64);
    most.mul_f64(fraction)
}
