//! The data partition of one device: its file system made anew, with the settings in it. An image
//! just built has nothing on it that could be lost, and no journal to mind.

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use formats::gpt::{Gpt, Guid};
use formats::layout::DATA;

use crate::image::Image;
use crate::patch::Patch;
use crate::random;
use crate::settings::DataFiles;
use imagefs::ext4::{self, Options};

/// The patch, for a medium with the table `own`. As large as the image has it, and where that is too
/// small for the settings as large as may be; the device grows it in any case. It keeps account of
/// what each user's files take where the image's does: then its kernel can.
pub fn make(settings: &DataFiles, image: &Image, own: &Gpt) -> Result<Patch> {
    let bytes = |table: &Gpt| table.find(DATA).map(|p| p.bytes()).map_err(|e| anyhow!(e));
    let (shipped, range) = (bytes(&image.table)?, bytes(own)?);
    let mut superblock = [0; 1024];
    image
        .reader_at(shipped.start + 1024)?
        .read_exact(&mut superblock)
        .context("the image's data partition cannot be read")?;
    let quotas = ext4::has_quotas(&superblock);
    let uuid = random::uuid()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let options = |size: u64| Options {
        size: size / 4096 * 4096,
        uuid: Guid::from_hash(uuid).0,
        label: DATA.to_owned(),
        time: u32::try_from(now).unwrap_or(u32::MAX),
        quotas,
    };
    let first = options((shipped.end - shipped.start).min(ext4::SIZE_MAX));
    let largest = options((range.end - range.start).min(ext4::SIZE_MAX));
    let (size, blocks) = match ext4::blocks(&first, &settings.tree) {
        Ok(blocks) => (first.size, blocks),
        Err(_) => {
            let blocks = ext4::blocks(&largest, &settings.tree).context(
                "the settings do not fit onto the data partition; let the workloads fetch what is large",
            )?;
            (largest.size, blocks)
        }
    };
    let start = range.start;
    let blocks = blocks.into_iter().map(|(at, bytes)| (start + at, bytes)).collect();
    Ok(Patch { range: start..start + size, blocks })
}
