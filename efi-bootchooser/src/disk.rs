//! The disk that this program was loaded from: its partitions by their labels, and the boot state.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use formats::boot_state::BLOB_SIZE;
use formats::gpt::{self, Gpt};
use formats::layout::{BOOT_STATE_OFFSETS, FIRMWARE, SECTOR};
use uefi::Handle;
use uefi::boot::{self, ScopedProtocol};
use uefi::proto::device_path::DevicePath;
use uefi::proto::device_path::media::HardDrive;
use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::media::block::BlockIO;
use uefi::proto::media::fs::SimpleFileSystem;

use crate::sys;

/// A sector where any driver may want its buffers to lie (`EFI_BLOCK_IO_MEDIA.IoAlign`).
#[repr(align(4096))]
struct Sector([u8; SECTOR as usize]);

/// A whole disk with our partitions.
pub struct Disk {
    blocks: ScopedProtocol<BlockIO>,
    /// Its device path, which those of its partitions begin with.
    path: Vec<u8>,
    table: Gpt,
    /// First sector of `firmware`.
    firmware: u64,
}

impl Disk {
    /// The disk with the partition that this program lies on.
    pub fn of_this_program() -> Result<Disk, String> {
        let own = sys::open::<LoadedImage>(boot::image_handle())
            .map_err(|e| format!("this program's image: {e}"))?;
        let partition = own.device().ok_or("this program was not loaded from a disk")?;
        let (path, first) =
            place(partition).ok_or("this program was not loaded from a partition")?;
        let (handle, blocks) = whole_disk(&path)?;
        // The boot manager may have connected no more drivers than it took to get here.
        let _ = boot::connect_controller(handle, None, None, true);
        let media = blocks.media();
        if u64::from(media.block_size()) != SECTOR {
            return Err(format!("the disk has sectors of {} bytes, not 512", media.block_size()));
        }
        let sectors = media.last_block().checked_add(1).ok_or("the disk has no end")?;
        let table = gpt::read(sectors, |offset, out| read(&blocks, offset, out))
            .map_err(|e| format!("{e}"))?;
        let firmware = table.find(FIRMWARE).map_err(|e| format!("{e}"))?.first;
        if firmware != first {
            return Err(String::from("this program does not lie on the partition firmware"));
        }
        Ok(Disk { blocks, path, table, firmware })
    }

    /// One of the two copies of the boot state.
    pub fn read_state(&self, copy: usize) -> Result<[u8; BLOB_SIZE], String> {
        let mut blob = [0; BLOB_SIZE];
        read(&self.blocks, self.state_at(copy), &mut blob)
            .map_err(|e| format!("boot state, copy {copy}: {e}"))?;
        Ok(blob)
    }

    /// Overwrites one copy of the boot state: one sector, then a flush.
    pub fn write_state(&mut self, copy: usize, blob: &[u8; BLOB_SIZE]) -> Result<(), String> {
        let sector = Sector(*blob);
        let lba = self.state_at(copy) / SECTOR;
        let media = self.blocks.media().media_id();
        self.blocks
            .write_blocks(media, lba, &sector.0)
            .and_then(|()| self.blocks.flush_blocks())
            .map_err(|e| format!("boot state, copy {copy}: {e}"))
    }

    fn state_at(&self, copy: usize) -> u64 {
        self.firmware * SECTOR + BOOT_STATE_OFFSETS[copy]
    }

    /// The partition with this label, where the firmware has a file system on it.
    pub fn file_system(&self, label: &str) -> Result<Handle, String> {
        let first = self.table.find(label).map_err(|e| format!("{e}"))?.first;
        let handles = boot::find_handles::<SimpleFileSystem>().unwrap_or_default();
        let here = |handle: &Handle| {
            place(*handle).is_some_and(|(path, at)| path == self.path && at == first)
        };
        handles.into_iter().find(here).ok_or_else(|| format!("{label}: no file system"))
    }
}

/// Bytes at an offset of the disk, in whole sectors.
fn read(blocks: &BlockIO, offset: u64, out: &mut [u8]) -> uefi::Result<()> {
    let mut sector = Sector([0; SECTOR as usize]);
    let media = blocks.media().media_id();
    for (lba, part) in (offset / SECTOR..).zip(out.chunks_mut(SECTOR as usize)) {
        blocks.read_blocks(media, lba, &mut sector.0)?;
        part.copy_from_slice(&sector.0[..part.len()]);
    }
    Ok(())
}

/// Of a partition: the device path of its disk, and the sector it begins at (UEFI 2.10, 10.3.5.1).
fn place(partition: Handle) -> Option<(Vec<u8>, u64)> {
    let path = sys::open::<DevicePath>(partition).ok()?;
    let mut disk = Vec::new();
    let mut first = None;
    for node in path.node_iter() {
        if first.is_some() {
            return None;
        }
        match <&HardDrive>::try_from(node) {
            Ok(partition) => first = Some(partition.partition_start()),
            Err(_) => {
                let header: [u8; 4] = [
                    node.device_type().0,
                    node.sub_type().0,
                    node.length().to_le_bytes()[0],
                    node.length().to_le_bytes()[1],
                ];
                disk.extend_from_slice(&header);
                disk.extend_from_slice(node.data());
            }
        }
    }
    Some((disk, first?))
}

/// The disk with this device path, its end node left out.
fn whole_disk(path: &[u8]) -> Result<(Handle, ScopedProtocol<BlockIO>), String> {
    for handle in boot::find_handles::<BlockIO>().unwrap_or_default() {
        let Ok(found) = sys::open::<DevicePath>(handle) else { continue };
        let bytes = found.as_bytes();
        // The end node has four bytes.
        if bytes.len() == path.len() + 4 && bytes.starts_with(path) {
            let blocks = sys::open::<BlockIO>(handle).map_err(|e| format!("the disk: {e}"))?;
            return Ok((handle, blocks));
        }
    }
    Err(String::from("the disk of this program's partition is not to be found"))
}
