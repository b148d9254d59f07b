//! What a process takes, and the two that make and apply a delta: each alone in a process, so that
//! its memory is its own. The bench starts itself for them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::workspace::output;

/// What a process took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Seconds of processors, of all its threads.
    pub processor_seconds: f64,
    /// The most memory that was resident at once, in bytes.
    pub memory: u64,
}

/// The first words that make this process one of those below, instead of the bench.
const TAKES: &str = "--takes";
const MAKE: &str = "--make-delta";
const APPLY: &str = "--apply-delta";

/// Makes the delta between two files, with as many threads as there are processors.
pub fn make(old: &Path, new: &Path, delta: &Path) -> Result<Taken> {
    taken(itself()?.as_ref(), &[MAKE.as_ref(), old.as_ref(), new.as_ref(), delta.as_ref()])
}

/// Applies a delta as a device does. `payload` stands for the update: groups that are not in the
/// delta are taken from there.
pub fn apply(old: &Path, delta: &Path, payload: &Path, made: &Path) -> Result<Taken> {
    let paths = [old, delta, payload, made].map(AsRef::as_ref);
    taken(itself()?.as_ref(), &[&[APPLY.as_ref()], &paths[..]].concat())
}

/// Runs a program to its end and says what it took. A process of its own waits for it: the kernel
/// tells memory only as the most of all processes that one has waited for.
pub fn taken(program: &OsStr, arguments: &[&OsStr]) -> Result<Taken> {
    let start = Instant::now();
    let said = output(Command::new(itself()?).arg(TAKES).arg(program).args(arguments))?;
    let mut words = said.lines().last().unwrap_or_default().split(' ');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let (Some(microseconds), Some(kib)) = (number(), number()) else {
        bail!("{} told nothing of itself", program.display());
    };
    Ok(Taken {
        seconds: start.elapsed().as_secs_f64(),
        processor_seconds: microseconds as f64 / 1e6,
        memory: kib * 1024,
    })
}

fn itself() -> Result<OsString> {
    Ok(std::env::current_exe().context("the bench's own program")?.into_os_string())
}

/// Does what the first word of the command line says, when it is one of this module's.
pub fn main(arguments: &[OsString]) -> Option<ExitCode> {
    let (first, rest) = arguments.split_first()?;
    let paths = || rest.iter().map(Path::new).collect::<Vec<_>>();
    let done = match (first.to_str()?, &paths()[..]) {
        (TAKES, [program, ..]) => run(program.as_ref(), &rest[1..]),
        (MAKE, [old, new, delta]) => make_here(old, new, delta),
        (APPLY, [old, delta, payload, made]) => apply_here(old, delta, payload, made),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// Prints microseconds of processors and KiB of memory behind what the program prints.
fn run(program: &OsStr, arguments: &[OsString]) -> Result<()> {
    let status = Command::new(program).args(arguments).status();
    let status = status.with_context(|| program.display().to_string())?;
    ensure!(status.success(), "{}: {status}", program.display());
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let microseconds = (usage.user_time() + usage.system_time()).num_microseconds();
    println!("{microseconds} {}", usage.max_rss());
    Ok(())
}

fn make_here(old: &Path, new: &Path, delta: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = delta::Options { threads, ..delta::Options::default() };
    let bytes = delta::make(&read(old)?, &read(new)?, &options)?;
    fs::write(delta, bytes).with_context(|| delta.display().to_string())
}

fn apply_here(old: &Path, delta: &Path, payload: &Path, made: &Path) -> Result<()> {
    let open = |path: &Path| File::open(path).with_context(|| path.display().to_string());
    let (old, delta, payload) = (open(old)?, open(delta)?, open(payload)?);
    let mut options = File::options();
    let out = options.read(true).write(true).create(true).truncate(true).open(made);
    let out = out.with_context(|| made.display().to_string())?;
    let (header, head) = head(&delta)?;
    let mut apply = delta::Apply::open(&head)?;
    drop(head);
    let (mut frame, mut group_bytes) = (Vec::new(), Vec::new());
    for (index, group) in header.groups.iter().enumerate() {
        let range = header.range(index);
        group_bytes.resize(range.len(), 0);
        if group.length == 0 {
            payload.read_exact_at(&mut group_bytes, range.start.into())?;
        } else {
            frame.resize(group.length as usize, 0);
            delta.read_exact_at(&mut frame, header.frame_offset(index))?;
            apply.group(index, &frame, &old, &out, &mut group_bytes)?;
        }
        out.write_all_at(&group_bytes, range.start.into())?;
    }
    Ok(())
}

/// The header, and the bytes of the head, whose length a device knows from signed metadata.
pub fn head(delta: &File) -> Result<(delta::Header, Vec<u8>)> {
    let length = delta.metadata().context("the delta")?.len();
    // The group table has at most 2048 entries of 37 bytes (docs/delta.md).
    let mut bytes = vec![0; length.min(1 << 17) as usize];
    delta.read_exact_at(&mut bytes, 0)?;
    let header = delta::Header::parse(&bytes)?;
    bytes.resize(usize::try_from(header.head_length())?, 0);
    delta.read_exact_at(&mut bytes, 0)?;
    Ok((header, bytes))
}
