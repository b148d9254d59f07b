//! Growing the data partition and its file system to the disk's end.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use formats::gpt::{self, Partition};
use formats::layout::{self, SECTOR};
use formats::{Error, Result};

use super::superblock::Superblock;
use super::{MOUNT, NODE, complain, error};
use crate::sys;

/// Lets partition and file system of the mounted `/data` reach to the end of `disk` (a device
/// node). Says on the console when they grew, or why not.
pub fn grow(disk: &str) {
    let grown = grow_partition(disk).unwrap_or_else(|e| {
        complain(&["cannot grow the partition: ", &e.to_string()]);
        None
    });
    if let Err(e) = grow_file_system() {
        complain(&["cannot grow the file system: ", &e.to_string()]);
    } else if let Some(partition) = grown {
        let bytes = partition.bytes();
        let mebibytes = ((bytes.end - bytes.start) >> 20).to_string();
        complain(&["grown to ", &mebibytes, " MiB"]);
    }
}

/// Lets the last partition, which is the data partition, reach to the disk's end. Returns it when
/// there was something to do.
///
/// Backup table first, each part flushed before the next, so that a power cut leaves a valid one.
fn grow_partition(path: &str) -> Result<Option<Partition>> {
    let mut disk =
        OpenOptions::new().read(true).write(true).open(path).map_err(|e| error(path, e))?;
    let sectors = disk.seek(SeekFrom::End(0)).map_err(|e| error(path, e))? / SECTOR;
    let table = gpt::read(sectors, |at, bytes| disk.read_exact_at(bytes, at))?;
    let Some(grown) = table.grown(sectors)? else { return Ok(None) };
    let Some(index) = grown.partitions.iter().position(|p| p.label == layout::DATA) else {
        return Err(Error::new("the partition table has no data partition"));
    };
    let partition = grown.partitions[index].clone();
    if table.partitions[index] == partition {
        return Ok(None);
    }
    for write in grown.writes() {
        disk.write_all_at(&write.bytes, write.offset)
            .and_then(|()| disk.sync_all())
            .map_err(|e| error(path, e))?;
    }
    let bytes = partition.bytes();
    let number = index as i32 + 1;
    sys::resize_partition(disk.as_fd(), number, bytes.start, bytes.end - bytes.start)
        .map_err(|e| error("partition resize", e))?;
    Ok(Some(partition))
}

/// Grows the mounted file system to its partition's size. Looked at on every boot: the power may
/// have failed between growing the two.
fn grow_file_system() -> Result<()> {
    let mut node = File::open(NODE).map_err(|e| error(NODE, e))?;
    let size = node.seek(SeekFrom::End(0)).map_err(|e| error(NODE, e))?;
    let Some(Superblock { block, blocks, .. }) = Superblock::read(NODE)? else {
        return Err(Error::new("the superblock is none of ext4"));
    };
    // Asking for the size it has costs a flush of the journal.
    if blocks == size / block {
        return Ok(());
    }
    let folder = File::open(MOUNT).map_err(|e| error(MOUNT, e))?;
    rustix::fs::ext4_ioc_resize_fs(&folder, size / block)
        .map_err(|e| error("EXT4_IOC_RESIZE_FS", e))
}
