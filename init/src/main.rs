//! The program `init`: all of it is in the library.

// PID 1 needs nothing of what the standard library prepares before `main` (a guard page's signal
// handler, three open descriptors), and what that pulls in is a tenth of the binary's size.
#![no_main]

/// Where the C library starts this program. It is here and not in the library, which tests and fuzzers
/// link into programs that have a `main` of their own.
// SAFETY: no other `main` is linked: this crate has none.
#[unsafe(export_name = "main")]
extern "C" fn start() -> i32 {
    init::dispatch()
}
