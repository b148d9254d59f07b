//! The one system call that has no safe wrapper.

use std::fs::File;

use rustix::io;
use rustix::ioctl::{NoArg, ioctl, opcode};

/// Lets the kernel read a disk's partition table again (`BLKRRPART` of `linux/fs.h`). Fails with
/// `BUSY` while one of its partitions is used.
#[allow(unsafe_code)]
pub fn read_partitions_again(disk: &File) -> io::Result<()> {
    const BLKRRPART: u32 = opcode::none(0x12, 95);
    // SAFETY: BLKRRPART takes no argument and writes no memory of this process.
    unsafe { ioctl(disk, NoArg::<BLKRRPART>::new()) }
}
