//! The deltas' table: what an update costs on the wire by each way, for pairs of versions, and what
//! making and applying our deltas takes.
//!
//! [`kernels`] and [`images`] bring the pairs, [`ways`] and [`roads`] what the others need for them,
//! [`ours`] our delta, [`known`] what an earlier run found out, [`report`] the table and its bars.

mod casync;
mod images;
mod kernels;
mod known;
mod ours;
pub mod process;
mod report;
mod roads;
mod ways;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::table::Table;
use crate::workshop::{Workshop, length};
use known::Known;
use ours::Origin;
use report::Column;

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

/// Measures every pair by every way.
pub fn measure(shop: &Workshop, arguments: &Arguments, table: &mut Table) -> Result<()> {
    let folder = shop.path("deltas");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut pairs = kernels::pairs(shop)?;
    pairs.append(&mut images::pairs(shop)?);
    let mut known = Known::open(&folder.join("known"))?;
    let mut columns = Vec::new();
    for pair in &pairs {
        eprintln!("bench: deltas: {}: {}", pair.title, pair.versions);
        let files = known::Pair::of(&pair.old, &pair.new)?;
        let others = ways::measure(&folder, pair, &files, &mut known)?;
        let ours = ours::measure(shop, pair, arguments.runs)
            .with_context(|| format!("{}: our delta", pair.title))?;
        columns.push(Column {
            title: pair.title,
            versions: pair.versions.clone(),
            size: length(&pair.new)?,
            others,
            ours,
        });
    }
    table.section(&report::markdown(&columns, &ways::missing()));
    Ok(())
}
