//! Makes and applies deltas from the command line, and says what that took.

use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;

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
            let options = delta::Options { group_mib, threads };
            let bytes = delta::make(&read(&old)?, &read(&new)?, &options)?;
            fs::write(&delta, &bytes).with_context(|| delta.display().to_string())?;
            println!("{} bytes in {:.1} s", bytes.len(), start.elapsed().as_secs_f64());
        }
        Command::Apply { old, delta, new } => {
            let open =
                |path: &PathBuf| File::open(path).with_context(|| path.display().to_string());
            let (old, mut delta) = (open(&old)?, BufReader::new(open(&delta)?));
            let mut out = File::create(&new).with_context(|| new.display().to_string())?;
            let mut apply = delta::Apply::open(&mut delta)?;
            apply.run(&mut delta, &old, &mut out)?;
            out.flush()?;
            let (size, seconds) = (apply.header().new_size, start.elapsed().as_secs_f64());
            println!("{size} bytes in {seconds:.2} s, {:.1} MB/s", f64::from(size) / seconds / 1e6);
        }
        Command::Show { delta } => {
            let file = File::open(&delta).with_context(|| delta.display().to_string())?;
            let header = delta::Apply::open(BufReader::new(file))?.header().clone();
            println!("old {} bytes, new {} bytes", header.old_size, header.new_size);
            println!("{} segments in {} bytes", header.segments, header.control);
            for (index, group) in header.groups.iter().enumerate() {
                println!("group {index} at {}: {} bytes", header.frame_offset(index), group.length);
            }
        }
    }
    Ok(())
}
