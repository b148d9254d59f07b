//! The one place with `unsafe`: taking over descriptors that were inherited by number, and a setting
//! of the allocator.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Number of the first listening socket that was handed over (sd_listen_fds(3)).
const LISTEN_START: RawFd = 3;
/// More of them than `init` hands to anybody.
const MAX_LISTENERS: RawFd = 16;

/// The listening sockets that this process was started with: `LISTEN_FDS` of them, if `LISTEN_PID`
/// says that they are for this process. None the second time.
pub fn handed_listeners() -> Vec<TcpListener> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |key| std::env::var(key).ok()?.parse::<RawFd>().ok();
    let ours = number("LISTEN_PID") == Some(std::process::id() as RawFd);
    let count = number("LISTEN_FDS").filter(|count| (1..=MAX_LISTENERS).contains(count));
    let Some(count) = count.filter(|_| ours && !TAKEN.swap(true, Ordering::SeqCst)) else {
        return Vec::new();
    };
    let take = |fd| {
        // SAFETY: LISTEN_PID says that these descriptors were opened for this process and are its
        // to close; nothing else in it knows their numbers, and this is done once. One that is no
        // socket gives errors, nothing worse.
        TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    (LISTEN_START..LISTEN_START + count).map(take).collect()
}

/// Buffers of at least so many bytes are given back to the system when they are freed.
const GIVEN_BACK: i32 = 256 << 10;

/// Has large buffers given back when they are freed. By itself glibc keeps ever larger ones, up to
/// 64 MB (mallopt(3), `M_MMAP_THRESHOLD`): what one picture took would not be there for the next,
/// which may need another size.
pub fn give_large_buffers_back() {
    // SAFETY: mallopt takes any two numbers; called before any other thread is made.
    // Refused, memory is only used less well.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, GIVEN_BACK) };
}
