//! A slot's unified kernel image: looked at, loaded through the firmware (which verifies its
//! signature where Secure Boot is on) and started.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use formats::Slot;
use formats::boot_state::Boot;
use formats::efi::{self, MAX_UKI};
use uefi::boot::{self, LoadImageSource};
use uefi::proto::device_path::DevicePath;
use uefi::proto::device_path::build::{DevicePathBuilder, media::FilePath};
use uefi::proto::media::file::{
    File, FileAttribute, FileHandle, FileInfo, FileMode, FileType, RegularFile,
};
use uefi::proto::media::fs::SimpleFileSystem;
use uefi::{CString16, Handle};

use crate::disk::Disk;
use crate::sys;

/// More than a sum and a length take.
const MAX_SUM: u64 = 64;

/// Starts the kernel of a slot. Comes back only with the reason why not.
pub fn start(disk: &Disk, slot: Slot, kind: Boot) -> Result<(), String> {
    let label = slot.boot_label();
    let partition = disk.file_system(label)?;
    let image = read(partition, efi::UKI, MAX_UKI).map_err(|e| format!("{label}: {e}"))?;
    let sum = read(partition, efi::SUM, MAX_SUM).map_err(|e| format!("{label}: {e}"))?;
    let (crc, length) = efi::read_sum(&sum).map_err(|e| format!("{label}: {e}"))?;
    // Finds decay; whether the slot can be trusted is for Secure Boot and the initrd to say.
    if image.len() as u64 != length || boot::calculate_crc32(&image).ok() != Some(crc) {
        return Err(format!("{} of slot {slot} is altered", efi::UKI));
    }
    let loaded = load(partition, &image).map_err(|e| format!("{label}: {e}"))?;
    drop(image);
    let options = efi::load_options(slot, kind);
    let options = CString16::try_from(&*options).map_err(|e| format!("load options: {e}"))?;
    sys::set_load_options(loaded, &options)?;
    let ended = boot::start_image(loaded);
    let _ = boot::unload_image(loaded);
    match ended {
        Ok(()) => Err(format!("{} of slot {slot} came back", efi::UKI)),
        Err(error) => Err(format!("{} of slot {slot} came back: {error}", efi::UKI)),
    }
}

/// Hands the bytes that were just checked to the firmware.
fn load(partition: Handle, image: &[u8]) -> Result<Handle, String> {
    let of_partition =
        sys::open::<DevicePath>(partition).map_err(|e| format!("device path: {e}"))?;
    let name = path(efi::UKI)?;
    let mut bytes = Vec::new();
    let mut builder = DevicePathBuilder::with_vec(&mut bytes);
    for node in of_partition.node_iter() {
        builder = builder.push(&node).map_err(|e| format!("device path: {e}"))?;
    }
    let file = builder
        .push(&FilePath { path_name: &name })
        .and_then(DevicePathBuilder::finalize)
        .map_err(|e| format!("device path: {e}"))?;
    let source = LoadImageSource::FromBuffer { buffer: image, file_path: Some(file) };
    boot::load_image(boot::image_handle(), source)
        .map_err(|e| format!("the firmware refuses {}: {e}", efi::UKI))
}

fn path(name: &str) -> Result<CString16, String> {
    CString16::try_from(&*["\\", name].concat()).map_err(|e| format!("{name}: {e}"))
}

/// A file in the root folder of a partition, of at most so many bytes.
fn read(partition: Handle, name: &str, most: u64) -> Result<Vec<u8>, String> {
    let cannot = |e: uefi::Status| format!("{name}: {e}");
    let mut file = open(partition, name)?;
    let size = file.get_boxed_info::<FileInfo>().map_err(|e| cannot(e.status()))?.file_size();
    if size > most {
        return Err(format!("{name}: is longer than {most} bytes"));
    }
    let length = usize::try_from(size).map_err(|_| format!("{name}: is too long"))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| format!("{name}: too little memory"))?;
    bytes.resize(length, 0);
    let mut filled = 0;
    while filled < length {
        let read = file.read(&mut bytes[filled..]).map_err(|e| cannot(e.status()))?;
        if read == 0 {
            return Err(format!("{name}: ends early"));
        }
        filled += read;
    }
    Ok(bytes)
}

fn open(partition: Handle, name: &str) -> Result<RegularFile, String> {
    let path = path(name)?;
    let opened = sys::open::<SimpleFileSystem>(partition)
        .and_then(|mut system| system.open_volume())
        .and_then(|mut root| root.open(&path, FileMode::Read, FileAttribute::empty()))
        .and_then(FileHandle::into_type)
        .map_err(|e| format!("{name}: {e}"))?;
    match opened {
        FileType::Regular(file) => Ok(file),
        FileType::Dir(_) => Err(format!("{name}: is a folder")),
    }
}
