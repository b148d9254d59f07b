//! Archives that a board or an image file names: found, pinned by hash, fetched, and unpacked into
//! the cache. Nothing of them is run.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::local::{self, LocalFile};
use crate::config::archive::{ArchiveEntry, Place};
use debian::cache::Cache;
use debian::deb;
use debian::download::Downloader;
use debian::hash::{HashingReader, Sha256};
use debian::tarball::{MAX_UNPACKED, Tarball};

/// An archive takes less than this as it is stored.
const MAX_PACKED: u64 = 4 << 30;
/// What unpacking an xz stream may take of memory: its strongest preset takes a quarter.
const XZ_MEMORY: u64 = 256 << 20;

/// An archive as it was found when the inputs were resolved.
#[derive(Debug)]
pub struct ResolvedArchive {
    /// Its path or address, as the file that names it has it.
    pub from: String,
    /// Its hash; of a folder, the hash of its listing.
    pub sha256: Sha256,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Folder(Vec<LocalFile>),
    Url,
}

/// An archive, ready to be read.
#[derive(Debug)]
pub struct Archive {
    /// Its path or address, as the file that names it has it.
    pub from: String,
    /// Its hash; of a folder, the hash of its listing.
    pub sha256: Sha256,
    /// Whether it was a folder.
    pub is_folder: bool,
    /// Its files.
    pub contents: Tarball,
}

/// Looks an archive up: hashes the file or folder, relative to `folder`; an address has its hash
/// in the entry.
///
/// Fails when there is none, or its hash is not the one that the entry has.
pub fn find(folder: &Path, entry: &ArchiveEntry) -> Result<ResolvedArchive> {
    let from = entry.from().to_owned();
    let path = match entry.place() {
        Place::Url(_, sha256) => return Ok(ResolvedArchive { from, sha256, source: Source::Url }),
        Place::Path(path) => folder.join(path),
    };
    let named = || {
        format!("archive {}: cannot be read; put it there, or correct its `path`", path.display())
    };
    if fs::metadata(&path).with_context(named)?.is_dir() {
        ensure!(
            entry.sha256().is_none(),
            "archive {}: is a folder, which has no `sha256`: the lock pins it; remove the key",
            path.display()
        );
        let files = local::find(&path, Path::new(""), &|_| false)?;
        let size: u64 = files.iter().map(|file| file.size).sum();
        ensure!(
            size <= MAX_UNPACKED,
            "archive {}: has {size} bytes, more than {MAX_UNPACKED}",
            path.display()
        );
        let sha256 = Sha256::of(listing(&files).as_bytes());
        return Ok(ResolvedArchive { from, sha256, source: Source::Folder(files) });
    }
    let file = File::open(&path).with_context(named)?;
    let (sha256, size) = Sha256::of_stream(BufReader::new(file)).with_context(named)?;
    ensure!(
        size <= MAX_PACKED,
        "archive {}: has {size} bytes, more than {MAX_PACKED}",
        path.display()
    );
    if let Some(expected) = entry.sha256().filter(|expected| *expected != sha256) {
        bail!(
            "archive {}: has SHA-256 {sha256} instead of {expected}: take the file that was meant, or correct `sha256` if this is it",
            path.display()
        );
    }
    Ok(ResolvedArchive { from, sha256, source: Source::File(path) })
}

/// What the hash of a folder is over: a line for each file and link, sorted, with its kind, its
/// hash (of a link, its target's) and its path.
fn listing(files: &[LocalFile]) -> String {
    let kind = |file: &LocalFile| match (&file.link, file.executable) {
        (Some(_), _) => "link",
        (None, true) => "program",
        (None, false) => "file",
    };
    files.iter().map(|file| format!("{} {} {}\n", kind(file), file.sha256, file.path)).collect()
}

impl ResolvedArchive {
    /// Fetches it, if it is somewhere else, and unpacks it into the cache, each once.
    pub fn open(self, cache: &Cache) -> Result<Archive> {
        let ResolvedArchive { from, sha256, source } = self;
        let is_folder = matches!(source, Source::Folder(_));
        let tar = match source {
            Source::Folder(files) => {
                cache.derived(&format!("archive-folder 1 {sha256}"), |to| pack(&files, to))
            }
            Source::File(path) => unpacked(cache, &path, sha256),
            Source::Url => {
                fetched(cache, &from, sha256).and_then(|path| unpacked(cache, &path, sha256))
            }
        };
        let tar = tar.with_context(|| format!("archive {from}"))?;
        let contents = Tarball::open(format!("archive {from}"), tar)?;
        Ok(Archive { from, sha256, is_folder, contents })
    }
}

fn fetched(cache: &Cache, url: &str, sha256: Sha256) -> Result<PathBuf> {
    if let Some(path) = cache.find(&sha256)? {
        return Ok(path);
    }
    eprintln!("fetching {url}");
    cache
        .store(&sha256, |to| Downloader::new().fetch(url, MAX_PACKED, to))
        .context("cannot be had as it was named: correct its `url` or `sha256`")
}

fn unpacked(cache: &Cache, path: &Path, sha256: Sha256) -> Result<PathBuf> {
    cache.derived(&format!("archive 1 {sha256}"), |to| {
        let file =
            File::open(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let mut from = BufReader::new(HashingReader::new(file));
        unpack(&mut from, to)?;
        io::copy(&mut from, &mut io::sink()).context("cannot be read")?;
        let hash = from.into_inner().finish();
        ensure!(hash == sha256, "changed while it was being used; run the command again");
        Ok(())
    })
}

/// Copies the tar archive that `from` is, or that is packed in it, told by its first bytes.
fn unpack(from: &mut impl BufRead, to: &mut dyn Write) -> Result<()> {
    const TAR_MAGIC: std::ops::Range<usize> = 257..262;
    let start = from.fill_buf().context("cannot be read")?;
    let unpacked: Box<dyn Read + '_> = match start {
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => return deb::unpack_data(from, to),
        [0x1F, 0x8B, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        [0xFD, b'7', b'z', b'X', b'Z', ..] => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )
            .context("liblzma")?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(from, stream))
        }
        start if unzstd::is_zstd(start) => Box::new(unzstd::reader(from)?),
        [b'B', b'Z', b'h', ..] => {
            bail!("is packed with bzip2, which imager cannot read: unpack it and name the folder")
        }
        start if start.get(TAR_MAGIC) == Some(b"ustar") => Box::new(from),
        _ => bail!(
            "is neither a folder, a .deb nor a tar archive (plain or packed with gzip, xz or zstd)"
        ),
    };
    let mut unpacked = unpacked.take(MAX_UNPACKED + 1);
    let copied = io::copy(&mut unpacked, to).context("cannot be unpacked")?;
    ensure!(copied <= MAX_UNPACKED, "is more than {MAX_UNPACKED} bytes unpacked");
    Ok(())
}

/// A tar archive of a folder's files, the same bytes for the same files.
fn pack(files: &[LocalFile], to: &mut dyn Write) -> Result<()> {
    let mut builder = tar::Builder::new(to);
    for file in files {
        let mut header = tar::Header::new_gnu();
        let cannot = || format!("{}: cannot be packed", file.path);
        header.set_mode(file.default_mode());
        if let Some(target) = &file.link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, &file.path, target).with_context(cannot)?;
            continue;
        }
        let bytes = file.read()?;
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, &file.path, bytes.as_slice()).with_context(cannot)?;
    }
    builder.finish().context("cannot be packed")
}

#[cfg(test)]
mod tests;
