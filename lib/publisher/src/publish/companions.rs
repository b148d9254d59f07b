//! What is published beside an update so that devices fetch less of it: its block index, and deltas
//! from the versions that came before. `docs/updates.md` says who fetches which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use delta::Options;
use formats::block_index;
use formats::manifest::TrustedKeys;
use formats::payload::ChunkTable;
use tuf::{DeltaTarget, FerriteTarget, TargetFile, sha256_hex};

use crate::update_file::{self, Unpacked};

/// MiB of output that one group of a delta makes: small enough that a device which lost power goes
/// back a little only, and larger ones save nothing (docs/delta.md).
const GROUP_MIB: u32 = 1;

/// A delta has to save one part in this many of the payload: below, it is not worth the device's
/// time and the server's room.
const MIN_SAVING: u64 = 16;

/// An older version that a delta can start from.
pub struct Older {
    /// The version for people.
    pub version: String,
    /// Its `.update` file.
    pub path: PathBuf,
}

/// A target beside an update.
pub struct Companion {
    /// Its name.
    pub name: String,
    /// What is signed of it.
    pub target: TargetFile,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Companion {
    fn new(name: String, bytes: Vec<u8>) -> Companion {
        let hashes = BTreeMap::from([("sha256".into(), sha256_hex(&bytes))]);
        let target = TargetFile { length: bytes.len() as u64, hashes, custom: None };
        Companion { name, target, bytes }
    }
}

/// Makes the companions of the update at `path`, and names them in `ferrite`. `tell` is given a
/// line at each step: a delta takes up to a minute.
///
/// An older version whose file is gone or damaged gets no delta: its devices take the index.
pub fn make(
    path: &Path,
    keys: &TrustedKeys,
    older: &[Older],
    ferrite: &mut FerriteTarget,
    tell: &mut dyn FnMut(String),
) -> Result<Vec<Companion>> {
    let new = update_file::unpack(path, keys)?;
    let stem = format!("{}-{}-{}", ferrite.name, ferrite.board, ferrite.version);
    let index = block_index::encode(&[&new.stream]).map_err(|e| anyhow!(e))?;
    let index = Companion::new(format!("{stem}.index"), index);
    ferrite.index = Some(index.name.clone());
    let mut companions = vec![index];
    for Older { version, path } in older {
        tell(format!("{stem}: making the delta from {version}"));
        let old = match update_file::unpack(path, keys) {
            Ok(old) => old,
            Err(error) => {
                tell(format!("{stem}: no delta from {version}: {error:#}"));
                continue;
            }
        };
        let costs = cost_of_groups(&new.table, new.stream.len() as u64);
        let bytes = make_delta(&old, &new, &costs).with_context(|| format!("from {version}"))?;
        let header = delta::Header::parse(&bytes)?;
        // Groups that are not in the delta come from the update; what an update has beside its
        // chunks is fetched in any case.
        let absent = header.groups.iter().zip(&costs).filter(|(group, _)| group.length == 0);
        let by_delta = bytes.len() as u64 + absent.map(|(_, cost)| u64::from(*cost)).sum::<u64>();
        let whole: u64 = new.table.chunks().iter().map(|chunk| u64::from(chunk.compressed)).sum();
        if by_delta > whole - whole / MIN_SAVING {
            tell(format!("{stem}: no delta from {version}: it would save next to nothing"));
            continue;
        }
        tell(format!("{stem}: from {version} it takes {by_delta} bytes instead of {whole}"));
        let name = format!("{stem}-from-{version}.delta");
        ferrite.deltas.push(describe(&old, name.clone(), &bytes, &header)?);
        companions.push(Companion::new(name, bytes));
    }
    Ok(companions)
}

fn make_delta(old: &Unpacked, new: &Unpacked, elsewhere: &[u32]) -> Result<Vec<u8>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options { group_mib: GROUP_MIB, threads, elsewhere };
    Ok(delta::make(&old.stream, &new.stream, &options)?)
}

/// What the chunks of each group cost in the payload, in bytes. A chunk on the border of two groups
/// counts for both: that it is fetched for one of them is not known yet.
fn cost_of_groups(table: &ChunkTable, covered: u64) -> Vec<u32> {
    let group = u64::from(GROUP_MIB) << 20;
    let cost = |start: u64| -> u32 {
        let overlaps = |index: &usize| {
            let range = table.stream_range(*index);
            range.start < (start + group).min(covered) && range.end > start
        };
        (0..table.chunks().len()).filter(overlaps).map(|i| table.chunks()[i].compressed).sum()
    };
    (0..covered).step_by(group as usize).map(cost).collect()
}

fn describe(
    old: &Unpacked,
    target: String,
    delta: &[u8],
    header: &delta::Header,
) -> Result<DeltaTarget> {
    let head_length = header.head_length();
    let head = delta.get(..head_length as usize).context("a delta shorter than its head")?;
    Ok(DeltaTarget {
        from_header_sha256: old.header_sha256.clone(),
        target,
        head_length,
        head_sha256: sha256_hex(head),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::payload::Chunk;

    #[test]
    fn a_group_costs_what_its_chunks_cost() {
        let mib = 1 << 20;
        let chunk = |compressed| Chunk { compressed, sha256: [0; 32] };
        let chunks = [1, 2, 4, 8, 16].map(chunk).to_vec();
        let table = ChunkTable::new(chunks, mib / 2, 5 * mib / 2).unwrap();
        assert_eq!(cost_of_groups(&table, 2 * mib), [3, 12]);
        assert_eq!(cost_of_groups(&table, 2 * mib + 4096), [3, 12, 16]);
        let large = ChunkTable::new([1, 2].map(chunk).to_vec(), 2 * mib, 4 * mib).unwrap();
        assert_eq!(cost_of_groups(&large, 3 * mib), [1, 1, 2]);
    }
}
