//! What resets a board on which nothing goes on: the firmware's own timer until the kernel takes the
//! machine over, and an Intel 6300ESB, where there is one, from here until the kernel's driver takes
//! that over.

use formats::efi::WATCHDOG_SECONDS;
use uefi::boot;
use uefi::proto::pci::PciIoAddress;
use uefi::proto::pci::root_bridge::PciRootBridgeIo;

use crate::sys;

/// What the firmware logs when its timer fires; codes below 0x10000 are its own.
const CODE: u64 = 0x4645_5252;
/// The 6300ESB's vendor and device (datasheet, chapter 14).
const I6300ESB: u32 = 0x25AB_8086;
/// Ticks a second of each of its two stages, which get half the time each: it counts at 1 kHz.
const TICKS: u32 = 512;
/// Registers in its configuration space: command, memory base, configuration, lock.
const COMMAND: u8 = 0x04;
const BASE: u8 = 0x10;
const CONFIGURATION: u8 = 0x60;
const LOCK: u8 = 0x68;
/// In its memory: the two timers and the reload register. Each takes a value only right after
/// 80, 86 were written to the last.
const TIMERS: [usize; 2] = [0x0, 0x4];
const RELOAD: usize = 0xC;

/// The firmware's timer, from now on. `ExitBootServices` ends it (UEFI 2.10, 7.5). False where
/// there is none.
pub fn start_timer() -> bool {
    boot::set_watchdog_timer(WATCHDOG_SECONDS as usize, CODE, None).is_ok()
}

/// Arms a 6300ESB on the first PCI bus. False where there is none.
pub fn arm_i6300esb() -> bool {
    let bridges = boot::find_handles::<PciRootBridgeIo>().unwrap_or_default();
    bridges.into_iter().any(|bridge| {
        sys::open::<PciRootBridgeIo>(bridge)
            .is_ok_and(|mut bridge| (0..32).any(|device| arm(&mut bridge, device).is_some()))
    })
}

/// `None` when the device is another one or does not answer.
fn arm(bridge: &mut PciRootBridgeIo, device: u8) -> Option<()> {
    let pci = bridge.pci();
    let register = |register| PciIoAddress::new(0, device, 0).with_register(register);
    if pci.read_one::<u32>(register(0)).ok()? != I6300ESB {
        return None;
    }
    // Let it answer to memory accesses.
    let command = pci.read_one::<u16>(register(COMMAND)).ok()?;
    pci.write_one(register(COMMAND), command | 0x6).ok()?;
    let base = pci.read_one::<u32>(register(BASE)).ok()? & 0xFFFF_FFF0;
    if base == 0 {
        return None;
    }
    let at = |offset: usize| base as usize + offset;
    let unlock = || {
        sys::write_device_u16(at(RELOAD), 0x80);
        sys::write_device_u16(at(RELOAD), 0x86);
    };
    for timer in TIMERS {
        unlock();
        sys::write_device_u32(at(timer), WATCHDOG_SECONDS * TICKS);
    }
    // Load the timers.
    unlock();
    sys::write_device_u16(at(RELOAD), 0x100);
    // 1 kHz, no interrupt after the first stage, reset after the second.
    pci.write_one::<u16>(register(CONFIGURATION), 0x3).ok()?;
    // Enable, do not lock, so that the kernel's driver takes it over.
    pci.write_one::<u8>(register(LOCK), 0x2).ok()
}
