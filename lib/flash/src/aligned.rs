//! Memory as `O_DIRECT` wants it (open(2)): its address a multiple of a block's size.

use std::ops::{Deref, DerefMut};

/// No medium asks for more.
const ALIGNMENT: usize = 4096;

/// Some bytes at an aligned address, zeros at first.
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// `length` bytes.
    pub fn new(length: usize) -> Aligned {
        let memory = vec![0; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Aligned { memory, start, length }
    }
}

impl Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}
