//! The two passes over a medium: writing, and reading back. In each the image is read (and
//! unpacked) by a thread of its own while the medium works.

use std::ops::Range;
use std::sync::mpsc;

use anyhow::{Context, Result, anyhow, bail};

use crate::aligned::Aligned;
use crate::image::Image;
use crate::medium::Medium;
use crate::pass::{Counter, Observer, Pass};
use crate::patch::Patches;
use crate::window::{HEAD, WINDOW, Window};

/// Windows that are on their way at a time.
const BUFFERS: usize = 4;

/// Writes the image with its patches.
///
/// The head, with the partition table and what the loader needs, is made zeros first and written
/// last, when all else is on the medium: one that was broken off looks empty, not whole.
pub fn write(
    image: &Image,
    patches: &Patches,
    medium: &Medium,
    observer: &mut dyn Observer,
) -> Result<Pass> {
    let mut progress = Counter::new(observer, "writing", total(image, patches));
    let mut head = None;
    medium.zero(0..HEAD as u64, |_| Ok(()))?;
    let last = medium.bytes().saturating_sub(HEAD as u64).max(image.bytes());
    medium.zero(last..medium.bytes(), |_| Ok(()))?;
    medium.flush()?;
    let mut zeros = 0..0;
    let clear = |range: Range<u64>, progress: &mut Counter| {
        medium.zero(range, |length| {
            progress.add(length, 0);
            progress.check()
        })
    };
    each_window(image, patches, |window| {
        progress.check()?;
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
pub fn compare(
    image: &Image,
    patches: &Patches,
    medium: &Medium,
    observer: &mut dyn Observer,
) -> Result<Pass> {
    medium.drop_cache();
    let mut progress = Counter::new(observer, "reading back", total(image, patches));
    let mut found = Aligned::new(WINDOW);
    each_window(image, patches, |window| {
        progress.check()?;
        let length = window.runs.last().map_or(0, |run| run.range.end);
        let found = &mut found[..length];
        medium.read(window.offset, found)?;
        for run in &window.runs {
            let at = window.offset + run.range.start as u64;
            let expected = (!run.zero).then(|| &window.bytes[run.range.clone()]);
            if let Some(byte) = difference(&found[run.range.clone()], expected) {
                bail!(
                    "{} did not keep what was written, first at byte {}; the medium is faulty or \
                     not as large as it says: take another",
                    medium.name(),
                    at + byte as u64
                );
            }
        }
        progress.add(length as u64, length as u64);
        Ok(())
    })?;
    Ok(progress.end())
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
    let (empty, free) = mpsc::channel::<Aligned>();
    let (full, windows) = mpsc::sync_channel::<Window>(BUFFERS);
    for _ in 0..BUFFERS {
        empty.send(Aligned::new(WINDOW)).map_err(|e| anyhow!(e.to_string()))?;
    }
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

#[cfg(test)]
mod tests;
