//! The files of a build: nothing is under its name before all of it is whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use atomic_file::NewFile;
use imagefs::{ext4, fat};

use super::assemble::Parts;
use super::{programs, stamp};
use crate::assembly::disk_image;
use crate::assembly::root::DeviceBinaries;
use crate::assembly::slot_image::Identity;
use crate::config::{Board, Image};
use crate::outputs;
use crate::sources::{Inputs, sbom};

/// The names of what a build writes.
pub struct Outputs {
    /// The disk image.
    pub img: PathBuf,
    /// The update.
    pub update: PathBuf,
    /// The bill of materials.
    pub sbom: PathBuf,
    stamp: PathBuf,
}

impl Outputs {
    /// Those of an image for a board, in a folder.
    pub fn new(folder: &Path, image: &Image, board: &Board) -> Outputs {
        let name = |end: &str| {
            folder.join(format!("{}-{}-{}{end}", image.name, board.name(), image.version))
        };
        Outputs {
            img: name(".img"),
            update: name(".update"),
            sbom: name(".spdx.json"),
            stamp: name(".stamp"),
        }
    }

    fn files(&self) -> [&Path; 3] {
        [&self.img, &self.update, &self.sbom]
    }

    /// Fails when one of them would take the place of something else, or they would lie inside a
    /// repository or beside private keys.
    pub fn check(&self) -> Result<()> {
        outputs::check(&self.img, &outputs::DISK)?;
        outputs::check_kind(&self.update, &outputs::UPDATE)?;
        outputs::check_kind(&self.sbom, &outputs::SBOM)
    }

    /// Whether a build with this stamp wrote them, and nobody touched them since.
    pub fn are_up_to_date(&self, stamp: &str) -> bool {
        stamp::matches(&self.stamp, stamp, &self.files())
    }

    /// Writes them and leaves the stamp beside them.
    pub fn write(
        &self,
        identity: &Identity,
        parts: &Parts,
        inputs: &Inputs,
        programs: &DeviceBinaries,
        stamp: &str,
    ) -> Result<()> {
        let folder = self.img.parent().unwrap_or(Path::new("."));
        atomic_file::make_folder(folder, 0o777)?;
        let img = write_new(&self.img, |file| write_img(file, identity, parts))?;
        let update = write_new(&self.update, |file| {
            let mut out = BufWriter::new(file);
            parts.slot.stream.write(&parts.slot.header, &mut out)?;
            out.flush().map_err(Into::into)
        })?;
        let sbom = write_new(&self.sbom, |file| {
            let components = programs::components(programs);
            let text = sbom::spdx(identity.image, identity.board, inputs, &components, 0)?;
            file.write_all(text.as_bytes()).map_err(Into::into)
        })?;
        let _ = fs::remove_file(&self.stamp);
        for new in [img, update, sbom] {
            new.persist()?;
        }
        stamp::write(&self.stamp, stamp, &self.files())
    }
}

fn write_img(file: &mut File, identity: &Identity, parts: &Parts) -> Result<()> {
    let board = identity.board;
    let [a, b, c, d, ..] = identity.hash("firmware");
    let options = fat::Options {
        size: board.partitions.firmware(),
        reserved_sectors: formats::layout::FIRMWARE_RESERVED_SECTORS,
        // A write to autoboot.txt, which may tear a block of the medium, touches no other file.
        file_alignment: formats::layout::BLOCK as usize,
        volume_id: u32::from_le_bytes([a, b, c, d]),
        label: *b"FIRMWARE   ",
    };
    let mut firmware = Vec::new();
    fat::write(&parts.firmware, &options, &mut firmware)?;
    let options = ext4::Options {
        size: board.partitions.data(),
        uuid: identity.bytes("data"),
        label: formats::layout::DATA.to_owned(),
        time: 0,
        quotas: parts.quotas,
    };
    let mut data = std::io::Cursor::new(vec![0; board.partitions.data() as usize]);
    ext4::write(&options, &mut data)?;
    let table = disk_image::table(board, &identity.hash("disk"));
    let contents = disk_image::Contents {
        firmware: &firmware,
        boot: &parts.slot.boot,
        root: &parts.slot.root,
        header: &parts.slot.header,
        data: data.get_ref(),
    };
    disk_image::write(file, &table, board.partitions.mbr, &contents)
}

/// Writes a file that gets its name when it is persisted.
fn write_new(name: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<NewFile> {
    let cannot = || format!("{}: cannot be written; is the disk full?", name.display());
    let mut new = NewFile::new(name)?;
    write(new.file()).with_context(cannot)?;
    new.finish().with_context(cannot)?;
    Ok(new)
}
