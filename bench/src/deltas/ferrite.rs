//! Our delta of a pair: made by the code that `imager publish` uses, applied as a device does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Pair;
use super::process::{self, Taken};
use super::slot_stream::SlotStream;
use crate::statistics::median;
use crate::workspace::{Workspace, length};

/// How our delta of a pair is made.
pub enum Origin {
    /// From the two files themselves.
    Files,
    /// By `imager publish`, which is given these two updates.
    Updates {
        /// The older version.
        old: PathBuf,
        /// The newer one.
        new: PathBuf,
    },
}

/// What our delta takes.
#[derive(Debug, Clone, Copy)]
pub struct DeltaCost {
    /// Bytes on the wire: the delta, and what it leaves to the payload.
    pub bytes: u64,
    /// Making it.
    pub made: Taken,
    /// Applying it, the median of the runs by the processor's time.
    pub applied: Taken,
}

/// Makes the delta once and applies it `runs` times. Fails when what it makes is not the new image.
pub fn measure(workspace: &Workspace, pair: &Pair, runs: usize) -> Result<DeltaCost> {
    let delta = workspace.path("deltas/ferrite.delta");
    let made = match &pair.origin {
        Origin::Files => process::make(&pair.old, &pair.new, &delta)?,
        Origin::Updates { old, new } => publish(workspace, old, new, &delta)?,
    };
    let bytes = length(&delta)? + left_to_the_payload(pair, &delta)?;
    let image = workspace.path("deltas/made.image");
    let mut all = Vec::new();
    for _ in 0..runs {
        all.push(process::apply(&pair.old, &delta, &pair.new, &image)?);
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        ensure!(read(&image)? == read(&pair.new)?, "the delta does not make the new image");
    }
    let of = |part: fn(&Taken) -> f64| median(&all.iter().map(part).collect::<Vec<_>>());
    let applied = Taken {
        seconds: of(|taken| taken.seconds),
        processor_seconds: of(|taken| taken.processor_seconds),
        memory: all.iter().map(|taken| taken.memory).max().unwrap_or(0),
    };
    fs::remove_file(&image).with_context(|| image.display().to_string())?;
    Ok(DeltaCost { bytes, made, applied })
}

/// Publishes both versions, the second with a delta from the first; `delta` becomes what devices
/// are given. Says what the second publication took.
fn publish(workspace: &Workspace, old: &Path, new: &Path, delta: &Path) -> Result<Taken> {
    let repo = workspace.fresh_folder("deltas/repo")?;
    let keys = workspace.keys();
    let publish = |deltas: &str, update: &Path| {
        process::taken(
            workspace.imager_program().as_ref(),
            &[
                "publish".as_ref(),
                "--repo".as_ref(),
                repo.as_ref(),
                "--keys".as_ref(),
                keys.as_ref(),
                "--deltas".as_ref(),
                deltas.as_ref(),
                update.as_ref(),
            ],
        )
    };
    publish("0", old)?;
    let taken = publish("1", new)?;
    let published = find_delta(&repo)?.context("`imager publish` made no delta")?;
    fs::copy(&published, delta).with_context(|| published.display().to_string())?;
    Ok(taken)
}

fn find_delta(folder: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.extension().is_some_and(|end| end == "delta") {
            return Ok(Some(path));
        }
        if path.is_dir()
            && let Some(found) = find_delta(&path)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Bytes that a device fetches from the payload for groups that are cheaper there.
fn left_to_the_payload(pair: &Pair, delta: &Path) -> Result<u64> {
    let file = File::open(delta).with_context(|| delta.display().to_string())?;
    let (header, _) = process::head(&file)?;
    let absent = header.groups.iter().enumerate().filter(|(_, group)| group.length == 0);
    let parts: Vec<_> = absent
        .map(|(index, _)| header.range(index))
        .map(|range| u64::from(range.start)..u64::from(range.end))
        .collect();
    let Origin::Updates { new, .. } = &pair.origin else {
        ensure!(parts.is_empty(), "a delta of files leaves something out");
        return Ok(0);
    };
    let old = fs::read(&pair.old).with_context(|| pair.old.display().to_string())?;
    Ok(SlotStream::read(new)?.missing(&old, &parts))
}
