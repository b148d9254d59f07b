//! A dm-verity device, opened through the device mapper's control node (linux/dm-ioctl.h).

use std::os::fd::AsFd;

use formats::layout::{BLOCK, SECTOR};
use formats::manifest::Manifest;
use formats::{Error, Result, hex};
use rustix::fs::{Mode, OFlags};

use crate::boot_state::last_reset::panics_are_kept;
use crate::sys;

const CONTROL: &str = "/dev/mapper/control";
/// Size of `struct dm_ioctl`.
const HEADER: usize = 312;
/// Size of `struct dm_target_spec`.
const TARGET: usize = 40;
/// Room for both and the parameters of one target.
const BUFFER: usize = 2048;

/// The kernel's own default.
const READ_AHEAD_KB: &str = "128";

/// What the kernel does when a block does not match.
const RESTART: &str = "restart_on_corruption";
const PANIC: &str = "panic_on_corruption";

const DEV_CREATE: u32 = 3;
const DEV_SUSPEND: u32 = 6;
const TABLE_LOAD: u32 = 9;
const FLAG_READ_ONLY: u32 = 1;

/// Opens the verified view of the root on `partition` (a device node) and returns its node.
///
/// A block that does not match the tree is never handed out; the kernel resets the board at once,
/// so that the chooser counts the failed boot. Nothing in user space learns of it in time to write down
/// why. Where the kernel keeps the last words of a panic it panics instead of restarting, and the next
/// boot finds the reason (`last_reset`); elsewhere the boot counts as one that simply ended: a panic
/// would leave no more, and take the seconds of `panic=` or, on a board without it, for ever.
pub fn open(partition: &str, manifest: &Manifest) -> Result<String> {
    let control = rustix::fs::open(CONTROL, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| {
            Error::new([CONTROL, ": ", &e.to_string(), " (is dm-mod loaded?)"].concat())
        })?;
    let call = |step: &str, command: u32, buffer: &mut [u8; BUFFER]| {
        // _IOWR(0xfd, command, struct dm_ioctl)
        let request = 3 << 30 | (HEADER as u32) << 16 | 0xfd << 8 | command;
        sys::ioctl_buffer(control.as_fd(), request, buffer)
            .map_err(|e| Error::new(["dm-verity, ", step, ": ", &e.to_string()].concat()))
    };
    let mut created = header(0, 0);
    call("create", DEV_CREATE, &mut created)?;
    let device = u64::from_ne_bytes(array(&created, 40));

    // Kernels before 5.9 know no panic here.
    let panics = panics_are_kept() && load(&call, partition, manifest, PANIC).is_ok();
    if !panics {
        load(&call, partition, manifest, RESTART)?;
    }
    // Without the suspend flag this call resumes: the loaded table becomes the live one.
    call("resume", DEV_SUSPEND, &mut header(0, 0))?;
    let name = ["dm-", &rustix::fs::minor(device).to_string()].concat();
    // The device inherits the disk's megabytes of read-ahead. A program would not start before all
    // of that is verified.
    let read_ahead = ["/sys/block/", &name, "/queue/read_ahead_kb"].concat();
    let _ = std::fs::write(read_ahead, READ_AHEAD_KB);
    Ok(["/dev/", &name].concat())
}

/// Loads the device's table.
fn load(
    call: &impl Fn(&str, u32, &mut [u8; BUFFER]) -> Result<()>,
    partition: &str,
    manifest: &Manifest,
    on_corruption: &str,
) -> Result<()> {
    let mut load = header(FLAG_READ_ONLY, 1);
    let parameters = table(partition, manifest, on_corruption);
    let sectors = manifest.root_size / SECTOR;
    let at = HEADER + TARGET;
    if at + parameters.len() >= BUFFER {
        return Err(Error::new("dm-verity: the table is too long"));
    }
    load[HEADER + 8..HEADER + 16].copy_from_slice(&sectors.to_ne_bytes());
    let next = (TARGET + parameters.len() + 1).next_multiple_of(8) as u32;
    load[HEADER + 20..HEADER + 24].copy_from_slice(&next.to_ne_bytes());
    load[HEADER + 24..HEADER + 30].copy_from_slice(b"verity");
    load[at..at + parameters.len()].copy_from_slice(parameters.as_bytes());
    call("load table", TABLE_LOAD, &mut load)
}

/// A zeroed request with its `struct dm_ioctl` filled in.
fn header(flags: u32, targets: u32) -> [u8; BUFFER] {
    let mut buffer = [0; BUFFER];
    for (at, word) in [(0, 4), (12, BUFFER as u32), (16, HEADER as u32), (20, targets), (28, flags)]
    {
        buffer[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    buffer[48..52].copy_from_slice(b"root");
    buffer
}

/// The target's parameters (Documentation/admin-guide/device-mapper/verity.rst).
fn table(partition: &str, manifest: &Manifest, on_corruption: &str) -> String {
    let blocks = (manifest.root_size / BLOCK).to_string();
    let hash = hex::encode(&manifest.root_verity_hash);
    let salt = hex::encode(&manifest.root_verity_salt);
    [
        "1 ",
        partition,
        " ",
        partition,
        " 4096 4096 ",
        &blocks,
        " ",
        &blocks,
        " sha256 ",
        &hash,
        " ",
        &salt,
        " 1 ",
        on_corruption,
    ]
    .concat()
}

fn array(buffer: &[u8; BUFFER], at: usize) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&buffer[at..at + 8]);
    bytes
}
