//! Makes and applies deltas from the command line, and says what that took.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use delta::{Apply, Header};

/// More than header and group table can be.
const MOST: u64 = 1 << 17;

/// Makes and applies binary deltas between two images
#[derive(Parser)]
enum Command {
    /// Write the delta from OLD to NEW
    Make {
        /// The image a device runs
        old: PathBuf,
        /// The image it shall run
        new: PathBuf,
        /// The delta's file
        delta: PathBuf,
        /// MiB of output that can be decoded on its own
        #[arg(long, default_value_t = delta::Options::default().group_mib)]
        group_mib: u32,
        /// Threads to use
        #[arg(long, default_value_t = delta::Options::default().threads)]
        threads: usize,
    },
    /// Write NEW from OLD and the delta
    Apply {
        /// The image the delta was made from
        old: PathBuf,
        /// The delta's file
        delta: PathBuf,
        /// Where the new image goes
        new: PathBuf,
    },
    /// Say what a delta's header says
    Show {
        /// The delta's file
        delta: PathBuf,
    },
}

fn main() -> Result<()> {
    let start = Instant::now();
    match Command::parse() {
        Command::Make { old, new, delta, group_mib, threads } => {
            let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
            let options = delta::Options { group_mib, threads, ..Default::default() };
            let bytes = delta::make(&read(&old)?, &read(&new)?, &options)?;
            fs::write(&delta, &bytes).with_context(|| delta.display().to_string())?;
            println!("{} bytes in {:.1} s", bytes.len(), start.elapsed().as_secs_f64());
        }
        Command::Apply { old, delta, new } => {
            let size = apply(&old, &delta, &new)?;
            let seconds = start.elapsed().as_secs_f64();
            println!("{size} bytes in {seconds:.2} s, {:.1} MB/s", f64::from(size) / seconds / 1e6);
        }
        Command::Show { delta } => {
            let header = head(&open(&delta)?)?.0;
            println!("old {} bytes, new {} bytes", header.old_size, header.new_size);
            println!("{} segments in {} bytes", header.segments, header.control);
            for (index, group) in header.groups.iter().enumerate() {
                let at = header.frame_offset(index);
                println!("group {index} at {at}: {} bytes, reach {}", group.length, group.reach);
            }
        }
    }
    Ok(())
}

fn open(path: &PathBuf) -> Result<File> {
    File::open(path).with_context(|| path.display().to_string())
}

/// The header, and the bytes of the head. A device knows the head's length from signed metadata.
fn head(delta: &File) -> Result<(Header, Vec<u8>)> {
    let mut bytes = vec![0; delta.metadata()?.len().min(MOST) as usize];
    delta.read_exact_at(&mut bytes, 0)?;
    let header = Header::parse(&bytes)?;
    bytes.resize(usize::try_from(header.head_length())?, 0);
    delta.read_exact_at(&mut bytes, 0)?;
    Ok((header, bytes))
}

/// As a device does it: one frame and one group in memory at a time. Returns the new image's size.
fn apply(old: &PathBuf, delta: &PathBuf, new: &PathBuf) -> Result<u32> {
    let (old, delta) = (open(old)?, open(delta)?);
    let mut options = File::options();
    let out = options.read(true).write(true).create(true).truncate(true);
    let out = out.open(new).with_context(|| new.display().to_string())?;
    let (header, head) = head(&delta)?;
    let mut apply = Apply::open(&head)?;
    let mut made = Vec::new();
    for (index, group) in header.groups.iter().enumerate() {
        let range = header.range(index);
        let mut frame = vec![0; group.length as usize];
        delta.read_exact_at(&mut frame, header.frame_offset(index))?;
        made.resize(range.len(), 0);
        apply.group(index, &frame, &old, &out, &mut made)?;
        out.write_all_at(&made, u64::from(range.start))?;
    }
    Ok(header.new_size)
}
