//! The whole road in QEMU, told step by step: keys, build, boot, a face found in a photograph, an
//! update taken, a broken update given back.
//!
//! [`road`] has the steps, [`workshop`] runs `imager` and makes the versions, [`guest`] reads
//! what the device says, [`figures`] collects the table, [`story`] talks to the person watching.
//! The exit code is 0 only when every step was seen to happen in the guest.

mod figures;
mod guest;
mod road;
mod story;
mod visit;
mod workshop;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut story = story::Story::new();
    match road::walk(&mut story) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            story.failed(&error);
            ExitCode::FAILURE
        }
    }
}
