//! A program to try the crate with, in tests and examples: a real stub and a real kernel come in
//! Debian's packages.

use crate::machine::Machine;

/// The smallest image that a loader of UEFI would look at: one section of code, room for the
/// headers of more.
pub fn program(machine: Machine) -> Vec<u8> {
    let mut bytes = vec![0; 0x1200];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3C, &0x80u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x84, &(machine as u16).to_le_bytes());
    put(0x86, &1u16.to_le_bytes());
    put(0x94, &240u16.to_le_bytes());
    put(0x96, &0x22u16.to_le_bytes());
    let optional = 0x98;
    put(optional, &0x20Bu16.to_le_bytes());
    for (at, number) in [
        (4, 0x200),
        (16, 0x1000),
        (20, 0x1000),
        (32, 0x1000),
        (36, 0x200),
        (56, 0x2000),
        (60, 0x1000u32),
        (108, 16),
    ] {
        put(optional + at, &number.to_le_bytes());
    }
    put(optional + 68, &10u16.to_le_bytes());
    let section = optional + 240;
    put(section, b".text");
    for (at, number) in [(8, 4u32), (12, 0x1000), (16, 0x200), (20, 0x1000), (36, 0x6000_0020)] {
        put(section + at, &number.to_le_bytes());
    }
    bytes
}
