//! How long `imager build` takes with its inputs cached.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::statistics::median;
use crate::table::{Bar, Table, Unit};
use crate::workspace::{Variant, Workspace};

/// A workload whose program is the file that changes.
const WITH_A_PROGRAM: Variant<'static> = Variant {
    name: "program",
    workloads: Some(
        "[[workload]]\nname = \"own\"\ncommand = [\"/usr/bin/own\"]\nbinary = \"own\"\n",
    ),
    ..Variant::DEMO
};
/// Its size: that of a small static program.
const PROGRAM: usize = 1 << 20;

/// Builds into an empty folder, again with the program changed, and again with nothing changed.
///
/// An image with the program stands for the demo: kernel, root and update are as large.
pub fn measure(workspace: &Workspace, arguments: &Arguments, table: &mut Table) -> Result<()> {
    let files = workspace.write_sources(&WITH_A_PROGRAM)?;
    let program = files.image.with_file_name("own");
    // Resolves, fetches and fills the caches.
    write_program(&program, 0)?;
    let out = workspace.fresh_folder("build")?;
    workspace.build_into(&files, &out)?;

    let (mut fresh, mut changed, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..arguments.runs {
        write_program(&program, 0)?;
        let out = workspace.fresh_folder("build")?;
        let timed = || -> Result<f64> {
            let start = Instant::now();
            workspace.build_into(&files, &out)?;
            Ok(start.elapsed().as_secs_f64())
        };
        fresh.push(timed()?);
        write_program(&program, seed(run))?;
        changed.push(timed()?);
        unchanged.push(timed()?);
    }
    let seconds = Unit::Seconds;
    table.add("imager build, inputs cached", seconds, Bar::AtMost(10.0), median(&fresh), "");
    let note = "a 1 MiB program";
    let bar = Bar::AtMost(3.0);
    table.add("again, one workload file changed", seconds, bar, median(&changed), note);
    table.add("again, nothing changed", seconds, Bar::AtMost(1.0), median(&unchanged), "");
    Ok(())
}

/// Different in every run of every bench: what an earlier one compressed must not be there.
fn seed(run: usize) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |since| since.as_nanos() as u64) ^ (run as u64) << 56 | 1
}

/// A script whose rest does not compress (xorshift), as a program mostly does not.
fn write_program(path: &Path, seed: u64) -> Result<()> {
    let mut state = seed.max(1);
    let mut bytes = Vec::with_capacity(PROGRAM);
    bytes.extend_from_slice(b"#!/usr/bin/busybox true\n");
    while bytes.len() < PROGRAM {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    fs::write(path, bytes).with_context(|| path.display().to_string())
}
