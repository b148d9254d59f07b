//! The calls that Rust cannot check.

use alloc::format;
use alloc::string::String;

use uefi::boot::{self, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol};
use uefi::proto::ProtocolPointer;
use uefi::proto::loaded_image::LoadedImage;
use uefi::{CStr16, Handle};

/// A protocol of a handle, beside the drivers that use it too: to open it exclusively would take
/// the file system's driver off its partition.
pub fn open<P: ProtocolPointer + ?Sized>(handle: Handle) -> uefi::Result<ScopedProtocol<P>> {
    let agent = boot::image_handle();
    let params = OpenProtocolParams { handle, agent, controller: None };
    // SAFETY: nothing here ends the boot services or takes a driver off a handle while a protocol
    // is in use, and one processor runs one thing at a time.
    unsafe { boot::open_protocol(params, OpenProtocolAttributes::GetProtocol) }
}

/// Gives a loaded image its options. They have to stay where they are until it has ended.
pub fn set_load_options(image: Handle, options: &CStr16) -> Result<(), String> {
    let mut loaded = open::<LoadedImage>(image).map_err(|e| format!("loaded image: {e}"))?;
    let size = u32::try_from(options.num_bytes()).map_err(|_| String::from("load options"))?;
    // SAFETY: the pointer is to `size` bytes that end in a zero; the caller keeps them.
    unsafe { loaded.set_load_options(options.as_ptr().cast(), size) };
    Ok(())
}

/// Writes a register of a device, at an address that its own base register names.
pub fn write_device_u16(address: usize, value: u16) {
    // SAFETY: the firmware maps devices' memory where it lies (UEFI 2.10, 2.3), and gave the device
    // this address; nothing of Rust's lies there.
    unsafe { (address as *mut u16).write_volatile(value) }
}

/// As [`write_device_u16`], of 32 bits.
pub fn write_device_u32(address: usize, value: u32) {
    // SAFETY: as above.
    unsafe { (address as *mut u32).write_volatile(value) }
}
