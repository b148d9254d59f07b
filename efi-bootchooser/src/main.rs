//! The boot chooser of boards with UEFI, `\EFI\BOOT\BOOT*.EFI` on the partition `firmware`: reads the
//! boot state, counts, and starts the unified kernel image of the slot whose turn it is.
//! docs/choosers/efi.md tells the whole of it; the rules are `formats::loader`.
//!
//! It needs no EFI variable and no entry of a boot manager: the firmware's default boot path (UEFI
//! 2.10, 3.5.1.1) leads here. It is never written again once the image is on the medium.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

#[cfg(target_os = "uefi")]
extern crate alloc;

#[cfg(target_os = "uefi")]
mod disk;
#[cfg(target_os = "uefi")]
mod slot_image;
#[cfg(target_os = "uefi")]
mod sys;
#[cfg(target_os = "uefi")]
mod watchdog;

#[cfg(target_os = "uefi")]
mod firmware {
    use core::time::Duration;

    use formats::Slot;
    use formats::boot_state::{BLOB_SIZE, Boot};
    use formats::efi::WATCHDOG_SECONDS;
    use formats::loader::{self, Board, Started};
    use uefi::prelude::*;
    use uefi::runtime::ResetType;
    use uefi::{boot, println, runtime};

    use crate::disk::Disk;
    use crate::{slot_image, watchdog};

    /// How long a person has to read why nothing boots.
    const TO_READ: Duration = Duration::from_secs(5);

    #[entry]
    fn main() -> Status {
        arm_watchdogs();
        match Disk::of_this_program() {
            Ok(disk) => {
                loader::choose(&mut Machine { disk });
                say("no slot can be loaded, resetting");
            }
            Err(error) => {
                say(&error);
                say("no disk of Ferrite's, resetting");
            }
        }
        boot::stall(TO_READ);
        runtime::reset(ResetType::COLD, Status::ABORTED, None)
    }

    fn arm_watchdogs() {
        if !watchdog::start_timer() {
            say("the firmware has no watchdog");
        }
        if watchdog::arm_i6300esb() {
            println!("ferrite: watchdog armed, {WATCHDOG_SECONDS} s");
        }
    }

    fn say(line: &str) {
        println!("ferrite: {line}");
    }

    struct Machine {
        disk: Disk,
    }

    impl Board for Machine {
        fn read(&mut self, copy: usize) -> Option<[u8; BLOB_SIZE]> {
            self.disk.read_state(copy).map_err(|e| say(&e)).ok()
        }

        fn write(&mut self, copy: usize, blob: &[u8; BLOB_SIZE]) -> bool {
            self.disk.write_state(copy, blob).map_err(|e| say(&e)).is_ok()
        }

        fn start(&mut self, slot: Slot, kind: Boot) -> Started {
            // The time that other slots took does not count.
            watchdog::start_timer();
            // Comes back only with a reason.
            if let Err(error) = slot_image::start(&self.disk, slot, kind) {
                say(&error);
            }
            Started::No
        }

        fn say(&mut self, line: &str) {
            say(line);
        }
    }

    /// A bug of ours must not leave the board standing.
    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        println!("ferrite: the boot chooser failed: {info}");
        boot::stall(TO_READ);
        runtime::reset(ResetType::COLD, Status::ABORTED, None)
    }
}

#[cfg(not(target_os = "uefi"))]
fn main() {
    eprintln!("efi-bootchooser runs in UEFI firmware: build it with scripts/device-build");
    std::process::exit(2);
}
