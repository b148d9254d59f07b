//! The whole scenario in QEMU, told step by step: keys, build, boot, a face found in a photograph, an
//! update taken, a broken update given back.
//!
//! [`scenario`] has the steps, [`workspace`] runs `imager` and makes the versions, [`guest`] reads
//! what the device says, [`figures`] collects the table, [`narrator`] talks to the person watching.
//! The exit code is 0 only when every step was seen to happen in the guest.

mod figures;
mod guest;
mod interactive;
mod narrator;
mod scenario;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut narrator = narrator::Narrator::new();
    match scenario::walk(&mut narrator) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            narrator.failed(&error);
            ExitCode::FAILURE
        }
    }
}
