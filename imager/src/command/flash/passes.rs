//! The two passes over a medium: writing, and reading back. In each the image is read (and
//! unpacked) by a thread of its own while the medium works; reading back, the medium has one too,
//! so that it need not wait until what it gave before is compared.

use std::ops::Range;
use std::sync::mpsc;

use anyhow::{anyhow, bail, Context, Result};

use super::aligned::Aligned;
use super::image::{Image, Window, HEAD, WINDOW};
use super::interrupt;
use super::medium::{Medium, Reader};
use super::patch::Patches;
use super::progress::{Pass, Progress};

/// Windows that are on their way at a time.
const BUFFERS: usize = 4;

/// Writes the image with its patches.
///
/// The head, with the partition table and what the loader needs, is made zeros first and written
/// last, when all else is on the medium: one that was broken off looks empty, not whole.
pub fn write(image: &Image, patches: &Patches, medium: &Medium) -> Result<Pass> {
    let mut progress = Progress::new("writing", total(image, patches));
    let mut head = None;
    medium.zero(0..HEAD as u64, |_| Ok(()))?;
    let last = medium.bytes().saturating_sub(HEAD as u64).max(image.bytes());
    medium.zero(last..medium.bytes(), |_| Ok(()))?;
    medium.flush()?;
    let mut zeros = 0..0;
    let clear = |range: Range<u64>, progress: &mut Progress| {
        medium.zero(range, |length| {
            progress.add(length, 0);
            interrupt::check()
        })
    };
    each_window(image, patches, |window| {
        interrupt::check()?;
        if window.offset == 0 {
            let kept = head.insert(Aligned::new(HEAD));
            kept.copy_from_slice(&window.bytes[..HEAD]);
            return Ok(());
        }
        for run in &window.runs {
            let at = window.offset + run.range.start as u64;
            let end = window.offset + run.range.end as u64;
            // Zeros that follow each other, over windows too, are one request.
            if run.zero && zeros.end == at {
                zeros.end = end;
                continue;
            }
            if run.zero {
                clear(std::mem::replace(&mut zeros, at..end), &mut progress)?;
                continue;
            }
            medium.write(at, &window.bytes[run.range.clone()])?;
            progress.add(end - at, end - at);
        }
        Ok(())
    })?;
    clear(zeros, &mut progress)?;
    medium.flush()?;
    let head = head.context("the image has no first MiB")?;
    medium.write(0, &head)?;
    medium.flush()?;
    progress.add(HEAD as u64, HEAD as u64);
    Ok(progress.end())
}

/// Reads everything back from the medium, zeros as well, and compares it with the image and its
/// patches. Fails at the first byte that differs.
pub fn compare(image: &Image, patches: &Patches, medium: &Medium) -> Result<Pass> {
    medium.drop_cache();
    let mut progress = Progress::new("reading back", total(image, patches));
    with_read_back(image, patches, medium.reader(), |next_read| {
        each_window(image, patches, |window| {
            interrupt::check()?;
            next_read(&mut |found| ensure_same(window, found, medium.name()))?;
            let length = window.length() as u64;
            progress.add(length, length);
            Ok(())
        })
    })?;
    Ok(progress.end())
}

/// Takes a look at the next window's bytes as the medium gives them.
type NextRead<'a> = dyn FnMut(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> + 'a;

/// Runs `work` while the medium is read, window after window, a few ahead of it.
fn with_read_back(
    image: &Image,
    patches: &Patches,
    medium: Reader<'_>,
    work: impl FnOnce(&mut NextRead<'_>) -> Result<()>,
) -> Result<()> {
    let (empty, free) = buffers()?;
    let (full, read) = mpsc::sync_channel::<Result<Aligned>>(BUFFERS);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for range in image.windows(patches) {
                let Ok(mut bytes) = free.recv() else { return };
                let part = &mut bytes[..(range.end - range.start) as usize];
                let got = medium.read(range.start, part).map(|()| bytes);
                let failed = got.is_err();
                if full.send(got).is_err() || failed {
                    return;
                }
            }
        });
        // Both ends are dropped with this closure, whatever becomes of it: the thread ends too.
        let (empty, read) = (empty, read);
        work(&mut |look| {
            let bytes = read.recv().context("reading back broke off")??;
            look(&bytes)?;
            let _ = empty.send(bytes);
            Ok(())
        })
    })
}

/// Fails at the first byte of `found`, from the medium called `name`, that is not the window's.
fn ensure_same(window: &Window, found: &[u8], name: &str) -> Result<()> {
    for run in &window.runs {
        let expected = (!run.zero).then(|| &window.bytes[run.range.clone()]);
        if let Some(byte) = difference(&found[run.range.clone()], expected) {
            bail!(
                "{name} did not keep what was written, first at byte {}; the medium is faulty or \
                 not as large as it says: take another",
                window.offset + (run.range.start + byte) as u64
            );
        }
    }
    Ok(())
}

/// Where `found` first differs from `expected`, or from zeros.
fn difference(found: &[u8], expected: Option<&[u8]>) -> Option<usize> {
    match expected {
        Some(expected) if found == expected => None,
        Some(expected) => found.iter().zip(expected).position(|(a, b)| a != b),
        None => {
            let steps = found.chunks(ZEROS.len()).enumerate();
            let mut other = steps.filter(|(_, step)| **step != ZEROS[..step.len()]);
            let (index, step) = other.next()?;
            step.iter().position(|byte| *byte != 0).map(|byte| index * ZEROS.len() + byte)
        }
    }
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

fn total(image: &Image, patches: &Patches) -> u64 {
    let beyond = patches.beyond(image.bytes());
    image.bytes() + beyond.iter().map(|range| range.end - range.start).sum::<u64>()
}

/// Hands each window to `work` while the next ones are being read.
fn each_window(
    image: &Image,
    patches: &Patches,
    mut work: impl FnMut(&Window) -> Result<()>,
) -> Result<()> {
    let (empty, free) = buffers()?;
    let (full, windows) = mpsc::sync_channel::<Window>(BUFFERS);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            image.read(
                patches,
                || free.recv().ok(),
                |window| {
                    // A receiver that is gone has its own error to tell.
                    let _ = full.send(window);
                },
            )
        });
        let worked = windows.iter().try_for_each(|window| {
            work(&window)?;
            let _ = empty.send(window.bytes);
            Ok(())
        });
        drop((windows, empty));
        let read = reader.join().unwrap_or_else(|_| Err(anyhow!("reading the image broke off")));
        worked.and(read)
    })
}

/// Memory for so many windows as may be on their way; who is done with some gives it back.
fn buffers() -> Result<(mpsc::Sender<Aligned>, mpsc::Receiver<Aligned>)> {
    let (empty, free) = mpsc::channel();
    for _ in 0..BUFFERS {
        empty.send(Aligned::new(WINDOW)).map_err(|e| anyhow!(e.to_string()))?;
    }
    Ok((empty, free))
}

#[cfg(test)]
mod tests;
