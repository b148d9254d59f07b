//! The one place with `unsafe`: taking over a descriptor that was inherited by number.

use std::fs::File;
use std::os::fd::{FromRawFd, RawFd};

/// Takes over an inherited descriptor. A number that is not open gives errors when writing,
/// nothing worse. Call it once, before anything else opens files.
pub fn inherited(fd: RawFd) -> File {
    // SAFETY: FERRITE_NOTIFY_FD says that this descriptor was opened for this process and is
    // its to close; nothing else in the process knows the number.
    unsafe { File::from_raw_fd(fd) }
}
