//! The image to be written: `.img`, or the same in zstd, told apart by their bytes.
//!
//! Both are read front to back as *windows*: pieces of at most `WINDOW` bytes, of which it is
//! known which runs are zeros. A compressed image is never unpacked as a whole.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use formats::gpt::{self, Gpt};
use formats::layout::{DATA, LABELS, SECTOR};
use rustix::fs::{SeekFrom, seek};

use crate::aligned::Aligned;
use crate::patch::Patches;
use crate::window::{HEAD, Run, WINDOW, Window};

/// Runs of zeros are told from data in steps of this size.
const STEP: usize = 64 << 10;
/// Shorter runs of zeros are written like data: another request would cost more.
const SHORT: usize = 256 << 10;
/// No disk is larger, in sectors; keeps sums of offsets within bounds.
const MAX_SECTORS: u64 = 1 << 40;

/// A disk image that was looked at and found to be one of ours.
pub struct Image {
    path: PathBuf,
    file: File,
    form: Form,
    /// Its partition table.
    pub table: Gpt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Zstd,
}

impl Image {
    /// Opens an image and reads its partition table.
    ///
    /// Fails when it is not a Ferrite disk image, or not as long as its table says.
    pub fn open(path: &Path) -> Result<Image> {
        let named = || format!("{}: cannot be read", path.display());
        let file = File::open(path).with_context(named)?;
        let mut magic = [0; 8];
        let about = file.metadata().with_context(named)?;
        ensure!(about.is_file(), "{} is not a file", path.display());
        let read = file.read_at(&mut magic, 0).with_context(named)?;
        let form = match &magic[..read] {
            start if unzstd::is_zstd(start) => Form::Zstd,
            [0x1F, 0x8B, ..] | [0xFD, b'7', b'z', b'X', b'Z', ..] | [b'B', b'Z', b'h', ..] => {
                bail!(
                    "{} is compressed in a way that is not read here; unpack it, or compress it with zstd",
                    path.display()
                )
            }
            formats::manifest::MAGIC => bail!(
                "{} is an update for a device that runs; a disk is made from the .img of the same build",
                path.display()
            ),
            _ => Form::Plain,
        };
        let mut head = vec![0; HEAD];
        let mut start = stream(&file, form)?;
        start.read_exact(&mut head).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => not_ours(path, "it is shorter than 1 MiB"),
            _ => not_ours(path, &error.to_string()),
        })?;
        drop(start);
        let table = table(&head).map_err(|e| not_ours(path, &e.to_string()))?;
        let image = Image { path: path.to_owned(), file, form, table };
        if form == Form::Plain && about.len() != image.bytes() {
            return Err(image.wrong_length(about.len()));
        }
        Ok(image)
    }

    /// Bytes of the whole disk image.
    pub fn bytes(&self) -> u64 {
        self.table.sectors * SECTOR
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes from this offset on; a compressed image is unpacked up to there.
    pub fn reader_at(&self, offset: u64) -> Result<Box<dyn Read + '_>> {
        let failed = || format!("{}: cannot be read", self.path.display());
        let mut reader = stream(&self.file, self.form).with_context(failed)?;
        match self.form {
            Form::Plain => {
                seek(&self.file, SeekFrom::Start(offset)).map(drop).with_context(failed)?;
            }
            Form::Zstd => {
                let mut before = reader.by_ref().take(offset);
                std::io::copy(&mut before, &mut std::io::sink()).map(drop).with_context(failed)?;
            }
        }
        Ok(reader)
    }

    fn wrong_length(&self, bytes: u64) -> anyhow::Error {
        anyhow!(
            "{} is damaged: it has {bytes} bytes where its partition table says {}; copy or build it again",
            self.path.display(),
            self.bytes()
        )
    }

    /// Reads the image from its start, with the patches in it. `buffer` gives the memory for each
    /// window and returns `None` when no more is wanted; `take` gets the windows.
    pub fn read(
        &self,
        patches: &Patches,
        mut buffer: impl FnMut() -> Option<Aligned>,
        mut take: impl FnMut(Window),
    ) -> Result<()> {
        let failed = || format!("{}: cannot be read", self.path.display());
        let mut stream = match self.form {
            Form::Plain => None,
            Form::Zstd => Some(stream(&self.file, self.form)?),
        };
        let end = self.bytes();
        for range in windows(end).chain(patches.beyond(end)) {
            let Some(mut bytes) = buffer() else { return Ok(()) };
            let part = &mut bytes[..(range.end - range.start) as usize];
            let in_image = range.start < end;
            let filled = match &mut stream {
                _ if !in_image => false,
                None if !has_data(&self.file, &range) => false,
                None => self
                    .file
                    .read_exact_at(part, range.start)
                    .map(|()| true)
                    .with_context(failed)?,
                Some(stream) => match stream.read_exact(part) {
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                        bail!(
                            "{} is damaged: it ends before the disk does; copy or build it again",
                            self.path.display()
                        )
                    }
                    read => read.map(|()| true).with_context(failed)?,
                },
            };
            let wanted = filled || patches.touch(&range);
            if wanted && !filled {
                part.fill(0);
            }
            patches.apply(range.start, part);
            let runs = match wanted {
                true => runs(part),
                false => vec![Run { range: 0..part.len(), zero: true }],
            };
            take(Window { offset: range.start, bytes, runs });
        }
        if self.form == Form::Plain {
            // A hole at the end is not told from an end that was cut off meanwhile.
            let now = self.file.metadata().with_context(failed)?.len();
            ensure!(now == end, self.wrong_length(now));
        }
        let more = stream.map_or(Ok(0), |mut stream| stream.read(&mut [0])).with_context(failed)?;
        ensure!(more == 0, "{} is damaged: it goes on behind the disk's end", self.path.display());
        Ok(())
    }
}

fn stream(file: &File, form: Form) -> Result<Box<dyn Read + '_>> {
    let mut whole = file;
    std::io::Seek::rewind(&mut whole)?;
    Ok(match form {
        Form::Plain => Box::new(whole),
        Form::Zstd => Box::new(unzstd::reader(BufReader::with_capacity(1 << 20, whole))?),
    })
}

/// The windows of a disk of `end` bytes: its head, then up to each multiple of [`WINDOW`].
fn windows(end: u64) -> impl Iterator<Item = Range<u64>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next;
        let step = WINDOW as u64;
        next = if start == 0 { HEAD as u64 } else { (start / step + 1) * step }.min(end);
        (start < end).then_some(start..next)
    })
}

/// The partition table at the start of an image, checked for being one of ours.
fn table(head: &[u8]) -> Result<Gpt> {
    let outside = || std::io::Error::other("its first copy is damaged");
    let table = gpt::read(MAX_SECTORS, |at, out| {
        let start = usize::try_from(at).map_err(|_| outside())?;
        let found = start.checked_add(out.len()).and_then(|end| head.get(start..end));
        out.copy_from_slice(found.ok_or_else(outside)?);
        std::io::Result::Ok(())
    })
    .map_err(|e| anyhow!(e))?;
    ensure!(table.sectors <= MAX_SECTORS, "its size is out of bounds");
    for label in LABELS {
        table.find(label).map_err(|e| anyhow!(e))?;
    }
    let last = table.partitions.iter().max_by_key(|p| p.last);
    let fits = last.is_some_and(|p| p.label == DATA && p.last <= table.last_usable());
    ensure!(fits, "its last partition is not `{DATA}`, or reaches over the disk's end");
    ensure!(
        table.partitions.iter().all(|p| p.bytes().start >= HEAD as u64),
        "a partition begins below 1 MiB"
    );
    Ok(table)
}

fn not_ours(path: &Path, why: &str) -> anyhow::Error {
    anyhow!(
        "{} is not a Ferrite disk image: {why}; `imager build` makes .img files",
        path.display()
    )
}

/// Whether the file has anything but a hole there. Where it cannot tell, there is something.
fn has_data(file: &File, range: &Range<u64>) -> bool {
    match seek(file, SeekFrom::Data(range.start)) {
        Ok(at) => at < range.end,
        Err(e) => e != rustix::io::Errno::NXIO,
    }
}

/// Divides a window into runs of data and of zeros.
fn runs(bytes: &[u8]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, step) in bytes.chunks(STEP).enumerate() {
        let zero = step == &ZEROS[..step.len()];
        let (start, end) = (index * STEP, index * STEP + step.len());
        match runs.last_mut() {
            Some(last) if last.zero == zero => last.range.end = end,
            _ => runs.push(Run { range: start..end, zero }),
        }
    }
    let mut joined: Vec<Run> = Vec::new();
    for mut run in runs {
        run.zero &= run.range.len() >= SHORT || joined.is_empty() && run.range.len() == bytes.len();
        match joined.last_mut() {
            Some(last) if last.zero == run.zero => last.range.end = run.range.end,
            _ => joined.push(run),
        }
    }
    joined
}

static ZEROS: [u8; STEP] = [0; STEP];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_disk_once_with_the_head_alone() {
        const MIB: u64 = 1 << 20;
        let all: Vec<_> = windows(9 * MIB).collect();
        assert_eq!(all, [0..MIB, MIB..4 * MIB, 4 * MIB..8 * MIB, 8 * MIB..9 * MIB]);
        assert!(windows(MIB).eq(std::iter::once(0..MIB)));
        assert_eq!(windows(0).count(), 0);
    }

    #[test]
    fn long_runs_of_zeros_are_told_from_data_and_short_ones_are_not() {
        let run = |range, zero| Run { range, zero };
        let mut bytes = vec![0; 2 << 20];
        assert_eq!(runs(&bytes), [run(0..2 << 20, true)]);
        bytes[5] = 1;
        bytes[SHORT] = 1; // three steps of zeros between the two
        assert_eq!(runs(&bytes), [run(0..SHORT + STEP, false), run(SHORT + STEP..2 << 20, true)]);
        bytes[2_000_000] = 1;
        let at = 2_000_000 / STEP * STEP;
        // Behind the last data there is less than a short run.
        assert_eq!(runs(&bytes).len(), 3);
        assert_eq!(runs(&bytes)[2], run(at..2 << 20, false));
        assert_eq!(runs(&[0; 512]), [run(0..512, true)]);
        assert_eq!(runs(&[]), []);
    }
}
