//! Reading a file while hashing it.

use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// A file, and the SHA-256 of what was read of it.
pub struct Hashing {
    file: File,
    hash: Sha256,
    failed: bool,
}

impl Hashing {
    /// Nothing is read yet.
    pub fn new(file: File) -> Hashing {
        Hashing { file, hash: Sha256::new(), failed: false }
    }

    /// Whether it could not be read: where a copy fails otherwise, it was the other side.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Of all that was read, in hex.
    pub fn sha256(self) -> String {
        formats::hex::encode(&self.hash.finalize())
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer).inspect_err(|_| self.failed = true)?;
        self.hash.update(&buffer[..length]);
        Ok(length)
    }
}
