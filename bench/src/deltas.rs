//! The deltas' table: what an update costs on the wire by each method, for pairs of versions, and what
//! making and applying our deltas takes.
//!
//! [`kernels`] and [`images`] bring the pairs, [`methods`] and [`slot_stream`] what the others need for them,
//! [`ferrite`] our delta, [`result_cache`] what an earlier run found out, [`report`] the table and its bars.

mod casync;
mod ferrite;
mod images;
mod kernels;
mod methods;
pub mod process;
mod report;
mod result_cache;
mod slot_stream;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::table::Table;
use crate::workspace::{Workspace, length};
use ferrite::Origin;
use report::Column;
use result_cache::ResultCache;

/// Two versions of what a device has in a slot.
struct Pair {
    /// The head of its column.
    title: &'static str,
    /// Which versions these are, in one line.
    versions: String,
    old: PathBuf,
    new: PathBuf,
    /// How our delta is made.
    origin: Origin,
}

/// Measures every pair by every method.
pub fn measure(workspace: &Workspace, arguments: &Arguments, table: &mut Table) -> Result<()> {
    let folder = workspace.path("deltas");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut pairs = kernels::pairs(workspace)?;
    pairs.append(&mut images::pairs(workspace)?);
    let mut cache = ResultCache::open(&folder.join("result-cache"))?;
    let mut columns = Vec::new();
    for pair in &pairs {
        eprintln!("bench: deltas: {}: {}", pair.title, pair.versions);
        let files = result_cache::Pair::of(&pair.old, &pair.new)?;
        let others = methods::measure(&folder, pair, &files, &mut cache)?;
        let ferrite = ferrite::measure(workspace, pair, arguments.runs)
            .with_context(|| format!("{}: our delta", pair.title))?;
        columns.push(Column {
            title: pair.title,
            versions: pair.versions.clone(),
            size: length(&pair.new)?,
            others,
            ferrite,
        });
    }
    table.section(&report::markdown(&columns, &methods::missing()));
    Ok(())
}
