//! What was fetched and has no place in the slot: headers, tables, a delta's head, an index. Kept
//! by its hash until the update is installed, so that neither a dropped link nor a power cut makes
//! it come twice. The chunk tables of what lies in the two slots stay: by them the boot partitions
//! are looked through.
//!
//! Nothing here is trusted: all of it is compared with a signed hash when it is read. A partition
//! that is full only means that it is fetched again after a cut.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::PathBuf;

use formats::manifest::Manifest;
use formats::payload::{self, ChunkTable};
use sha2::{Digest, Sha256};

use crate::blocking::while_beating;
use crate::bounded_file::{append_own, clear, open_own};
use crate::device::Device;
use crate::fetch::resource::{ByteCounter, Resource};
use crate::heart;
use crate::{Error, Result};

/// Nothing longer is kept, in bytes: the longest head of a delta.
const LONGEST: u64 = 8 << 20;
/// What is fetched between two flushes to the medium, in bytes.
const STEP: usize = 128 << 10;

/// What came before, by its hash.
#[derive(Debug)]
pub struct DownloadCache {
    folder: PathBuf,
}

impl DownloadCache {
    /// The cache in `ota`'s own folder; made when something is kept.
    pub fn of(device: &Device) -> DownloadCache {
        DownloadCache { folder: device.data().join("kept") }
    }

    /// Keeps what has one of these hashes, and nothing else.
    pub fn retain(&self, hashes: &[&str]) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !hashes.iter().any(|hash| name.to_str() == Some(hash)) {
                let _ = clear(&entry.path());
            }
        }
    }

    /// The chunk table of a slot that was installed here, if it is kept.
    pub fn table(&self, manifest: &Manifest) -> Option<ChunkTable> {
        let length = payload::table_size(manifest).ok()? as u64;
        let bytes = self.load(&formats::hex::encode(&manifest.chunk_table_sha256), length);
        ChunkTable::parse(&bytes, manifest).ok()
    }

    /// Bytes of it that need not be fetched, by its hash.
    pub fn length(&self, sha256: &str) -> u64 {
        match is_name(sha256) {
            true => open_own(&self.folder.join(sha256))
                .and_then(|file| file.metadata())
                .map_or(0, |file| file.len()),
            false => 0,
        }
    }

    /// The bytes `range` of `resource`, whose SHA-256 in hex is `sha256`: from here as far as they
    /// are here, else fetched.
    ///
    /// Fails with [`Error::Refused`] when they are not the ones with this hash.
    pub fn get_or_fetch(
        &self,
        resource: &Resource,
        range: Range<u64>,
        sha256: &str,
        counter: &ByteCounter,
    ) -> Result<Vec<u8>> {
        let length = range.end - range.start;
        let mut bytes = self.load(sha256, length);
        let had = bytes.len();
        self.fetch(resource, range.clone(), &mut bytes, sha256, counter)?;
        if formats::hex::encode(&Sha256::digest(&bytes)) == sha256 {
            return Ok(bytes);
        }
        let _ = fs::remove_file(self.folder.join(sha256));
        if had > 0 {
            // A cut may have spoilt what was kept.
            return self.get_or_fetch(resource, range, sha256, counter);
        }
        Err(Error::refused("the update", "a part of it arrived altered"))
    }

    /// As [`DownloadCache::get_or_fetch`], where all behind the first `likely` bytes is probably
    /// zeros: it is fetched only when the hash says that it is not.
    pub fn get_or_fetch_zero_padded(
        &self,
        likely: u64,
        resource: &Resource,
        range: Range<u64>,
        sha256: &str,
        counter: &ByteCounter,
    ) -> Result<Vec<u8>> {
        let length = range.end - range.start;
        let mut bytes = self.load(sha256, length);
        self.fetch(resource, range.start..range.start + likely, &mut bytes, sha256, counter)?;
        bytes.resize(length as usize, 0);
        match formats::hex::encode(&Sha256::digest(&bytes)) == sha256 {
            true => Ok(bytes),
            false => self.get_or_fetch(resource, range, sha256, counter),
        }
    }

    fn load(&self, sha256: &str, length: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        if is_name(sha256) && length <= LONGEST {
            let read = open_own(&self.folder.join(sha256))
                .and_then(|file| file.take(length).read_to_end(&mut bytes));
            if read.is_err() {
                bytes.clear();
            }
        }
        bytes
    }

    fn fetch(
        &self,
        resource: &Resource,
        range: Range<u64>,
        bytes: &mut Vec<u8>,
        sha256: &str,
        counter: &ByteCounter,
    ) -> Result<()> {
        let length = range.end - range.start;
        let left = usize::try_from(length.saturating_sub(bytes.len() as u64))
            .map_err(|_| Error::failed("a part of the update is longer than memory"))?;
        if left == 0 {
            return Ok(());
        }
        let mut file = match is_name(sha256) && length <= LONGEST {
            true => self.append(sha256, bytes.len() as u64).ok(),
            false => None,
        };
        let rest = range.start + bytes.len() as u64..range.end;
        let mut stream = resource.read([rest], counter)?;
        bytes.reserve_exact(left);
        let mut left = left;
        while left > 0 {
            heart::beat();
            let step = left.min(STEP);
            let start = bytes.len();
            bytes.resize(start + step, 0);
            let read = read_all(&mut stream, &mut bytes[start..]);
            let came = *read.as_ref().unwrap_or_else(|(length, _)| length);
            bytes.truncate(start + came);
            let piece = &bytes[start..];
            let keep = |file: &mut File| {
                while_beating(&heart::beat, || {
                    file.write_all(piece).and_then(|()| file.sync_data())
                })
            };
            if file.as_mut().is_some_and(|file| keep(file).is_err()) {
                file = None;
                let _ = fs::remove_file(self.folder.join(sha256));
            }
            read.map_err(|(_, error)| resource.error(&error))?;
            left -= step;
        }
        Ok(())
    }

    fn append(&self, sha256: &str, length: u64) -> io::Result<File> {
        if fs::symlink_metadata(&self.folder).is_ok_and(|there| !there.is_dir()) {
            clear(&self.folder)?;
        }
        fs::create_dir_all(&self.folder)?;
        let file = append_own(&self.folder.join(sha256))?;
        file.set_len(length)?;
        Ok(file)
    }
}

/// Fills the buffer; or says how much of it was filled before the error.
fn read_all(
    stream: &mut dyn Read,
    buffer: &mut [u8],
) -> std::result::Result<usize, (usize, io::Error)> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err((filled, io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((filled, error)),
        }
    }
    Ok(filled)
}

/// A hash that may be a file's name.
fn is_name(sha256: &str) -> bool {
    sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn world() -> (tempfile::TempDir, DownloadCache, Resource, Vec<u8>, String) {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let path = dir.path().join("x");
        fs::write(&path, &bytes).unwrap();
        let cache = DownloadCache::of(&Device::below(dir.path()));
        let sha256 = formats::hex::encode(&Sha256::digest(&bytes));
        (dir, cache, Resource::File(path), bytes, sha256)
    }

    #[test]
    fn what_was_kept_is_not_fetched_again() {
        let (dir, cache, resource, bytes, sha256) = world();
        fs::create_dir_all(&cache.folder).unwrap();
        fs::write(cache.folder.join(&sha256), &bytes[..100_000]).unwrap();
        let counter = ByteCounter::new(0);
        assert_eq!(cache.get_or_fetch(&resource, 0..300_000, &sha256, &counter).unwrap(), bytes);
        assert_eq!(counter.load(Ordering::Relaxed), 200_000);
        assert_eq!(cache.length(&sha256), 300_000);
        fs::remove_file(dir.path().join("x")).unwrap();
        assert_eq!(cache.get_or_fetch(&resource, 0..300_000, &sha256, &counter).unwrap(), bytes);
        cache.retain(&["other"]);
        assert_eq!(cache.length(&sha256), 0);
    }

    #[test]
    fn a_blank_end_is_not_fetched_and_one_that_is_not_blank_is() {
        let (dir, cache, _, mut bytes, _) = world();
        let counter = ByteCounter::new(0);
        for (blank_from, fetched) in [(1000, 4096), (4096, 4096), (4097, 300_000)] {
            bytes[blank_from..].fill(0);
            bytes[blank_from - 1] = 1;
            let path = dir.path().join(format!("blank-{blank_from}"));
            fs::write(&path, &bytes).unwrap();
            let resource = Resource::File(path);
            let sha256 = formats::hex::encode(&Sha256::digest(&bytes));
            let get_or_fetch =
                || cache.get_or_fetch_zero_padded(4096, &resource, 0..300_000, &sha256, &counter);
            counter.store(0, Ordering::Relaxed);
            assert_eq!(get_or_fetch().unwrap(), bytes);
            assert_eq!(get_or_fetch().unwrap(), bytes);
            assert_eq!(counter.load(Ordering::Relaxed), fetched, "blank from {blank_from} on");
            bytes[..blank_from].fill(7);
        }
    }

    #[test]
    fn what_was_kept_and_spoilt_is_fetched_afresh() {
        let (_dir, cache, resource, bytes, sha256) = world();
        fs::create_dir_all(&cache.folder).unwrap();
        fs::write(cache.folder.join(&sha256), vec![9; 400_000]).unwrap();
        let counter = ByteCounter::new(0);
        assert_eq!(cache.get_or_fetch(&resource, 0..300_000, &sha256, &counter).unwrap(), bytes);
        let wrong = "0".repeat(64);
        let error = cache.get_or_fetch(&resource, 0..300_000, &wrong, &counter).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }));
        assert_eq!(cache.length(&wrong), 0);
    }

    #[test]
    fn a_cut_in_the_middle_keeps_what_came() {
        let (_dir, cache, resource, bytes, sha256) = world();
        let Resource::File(path) = &resource else { unreachable!() };
        fs::write(path, &bytes[..200_000]).unwrap();
        let counter = ByteCounter::new(0);
        cache.get_or_fetch(&resource, 0..300_000, &sha256, &counter).unwrap_err();
        assert_eq!(cache.length(&sha256), 200_000);
    }
}
