//! A bundle: a repository with one update in one file, for a stick (docs/updates.md, ".bundle").
//!
//! A POSIX `ustar` archive (POSIX.1-2017, pax, "ustar Interchange Format"), of which only names and
//! sizes are read before signatures hold: the metadata in it goes through the same steps as a
//! server's, and the update is read where it lies.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tuf::{Fetch, FetchError};

use crate::fetch::resource::Resource;
use crate::{Error, Result};

/// Bytes of a header, and of what contents are padded to.
const BLOCK: u64 = 512;
/// Files in a bundle: every root metadata there ever was, a few more, and one update.
const MAX_FILES: usize = 4096;
/// Headers of any kind: one with a name may stand before each file's.
const MAX_HEADERS: usize = 2 * MAX_FILES;
/// Headers between two beats; a slow stick reads some hundred in a second.
const BEAT_EVERY: usize = 16;
/// Bytes of a name, GNU tar's long ones included.
const MAX_NAME: usize = 512;

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// A file of this name and size.
    File(String, u64),
    /// The next header's name is the content of this one, of this size: GNU tar's way with names
    /// above 100 bytes.
    LongName(u64),
    /// Zeros: the archive ends.
    End,
}

/// The files of an archive that is `length` bytes long, by name: where each one's bytes lie.
/// `read` fills a buffer from an offset below `length`; `beat` is called now and then.
///
/// Fails on anything but files with sound names, each there once, and lying within the archive.
pub fn index(
    length: u64,
    read: &dyn Fn(u64, &mut [u8]) -> io::Result<()>,
    beat: &dyn Fn(),
) -> std::result::Result<BTreeMap<String, Range<u64>>, String> {
    let mut files = BTreeMap::new();
    let mut at = 0u64;
    let mut long_name = None;
    for headers in 0..MAX_HEADERS {
        if headers.is_multiple_of(BEAT_EVERY) {
            beat();
        }
        if length.saturating_sub(at) < BLOCK {
            return Err("the archive is cut off".into());
        }
        let mut block = [0; BLOCK as usize];
        read(at, &mut block).map_err(|e| e.to_string())?;
        at += BLOCK;
        let (header, size) = match parse(&block)? {
            Header::End if long_name.is_none() => return Ok(files),
            Header::End => return Err("the archive ends behind a name".into()),
            Header::File(name, size) => (Some(name), size),
            Header::LongName(_) if long_name.is_some() => {
                return Err("a file in the archive has two names".into());
            }
            Header::LongName(size) if size <= MAX_NAME as u64 => (None, size),
            Header::LongName(_) => return Err("a name in the archive is too long".into()),
        };
        let end = at.checked_add(size).filter(|end| *end <= length);
        let end = end.ok_or("a file in the archive is longer than the archive")?;
        match header {
            None => {
                let mut name = vec![0; size as usize];
                read(at, &mut name).map_err(|e| e.to_string())?;
                long_name = Some(text(&name)?);
            }
            Some(name) => {
                let name = long_name.take().unwrap_or(name);
                check_name(&name)?;
                if files.len() == MAX_FILES {
                    return Err(format!("the archive has more than {MAX_FILES} files"));
                }
                if files.insert(name.clone(), at..end).is_some() {
                    return Err(format!("{name:?} is in the archive twice"));
                }
            }
        }
        at = end.checked_next_multiple_of(BLOCK).ok_or("the archive is too long")?;
    }
    Err(format!("the archive has more than {MAX_HEADERS} headers"))
}

fn parse(block: &[u8; BLOCK as usize]) -> std::result::Result<Header, String> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(Header::End);
    }
    let magic = &block[257..265];
    if magic != b"ustar\x0000" && magic != b"ustar  \0" {
        return Err("this is no ustar archive".into());
    }
    // The sum of all bytes, with spaces in place of the sum itself.
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum::<u64>()
        - block[148..156].iter().map(|byte| u64::from(*byte)).sum::<u64>()
        + 8 * u64::from(b' ');
    if octal(&block[148..156]) != Some(sum) {
        return Err("a header of the archive is damaged".into());
    }
    let size = octal(&block[124..136]).ok_or("a size in the archive is no octal number")?;
    match block[156] {
        b'0' | 0 => {
            let (name, prefix) = (text(&block[..100])?, text(&block[345..500])?);
            let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            Ok(Header::File(name, size))
        }
        b'L' => Ok(Header::LongName(size)),
        _ => Err("the archive holds something else than files".into()),
    }
}

/// Octal digits, closed by spaces or zeros.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.split(|byte| matches!(byte, b' ' | 0)).next()?;
    let value = |sum: Option<u64>, digit: &u8| match digit {
        b'0'..=b'7' => sum?.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    };
    (!digits.is_empty()).then(|| digits.iter().fold(Some(0), value))?
}

/// A field's text, up to its first zero byte.
fn text(field: &[u8]) -> std::result::Result<String, String> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8(field[..end].to_vec()).map_err(|_| "a name in the archive is no text".into())
}

/// A name is a path below the archive, as in a repository.
fn check_name(name: &str) -> std::result::Result<(), String> {
    let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
    let printable = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match name.len() <= MAX_NAME && printable && name.split('/').all(sound) {
        true => Ok(()),
        false => Err(format!("{name:?} is no name for a file of a repository")),
    }
}

/// A bundle on this device.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    file: File,
    files: BTreeMap<String, Range<u64>>,
}

impl Bundle {
    /// Opens it and finds the files in it; none is looked at. `beat` is called meanwhile.
    pub fn open(path: &Path, beat: &dyn Fn()) -> Result<Bundle> {
        let error = |e: io::Error| Error::at(path, e);
        let file = File::open(path).map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        if !metadata.is_file() {
            return Err(Error::at(path, "not a file"));
        }
        let read = |at: u64, buffer: &mut [u8]| file.read_exact_at(buffer, at);
        let files = index(metadata.len(), &read, beat).map_err(|e| {
            Error::at(path, format!("not a bundle: {e}; make it with `imager bundle`"))
        })?;
        Ok(Bundle { path: path.into(), file, files })
    }

    /// Whether the file at this path of the repository is in it.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The file at this path of the repository, where it lies in the bundle.
    pub fn resource(&self, path: &str) -> Option<Resource> {
        Some(Resource::Within(self.path.clone(), self.files.get(path)?.clone()))
    }
}

impl Fetch for Bundle {
    fn fetch(&mut self, path: &str, max: u64) -> std::result::Result<Vec<u8>, FetchError> {
        let range = self.files.get(path).ok_or(FetchError::NotFound)?;
        let length = range.end - range.start;
        if length > max {
            return Err(FetchError::TooLarge(max));
        }
        let mut bytes = vec![0; length as usize];
        let read = self.file.read_exact_at(&mut bytes, range.start);
        read.map(|()| bytes).map_err(|e| FetchError::Failed(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    type Index = std::result::Result<BTreeMap<String, Range<u64>>, String>;

    fn indexed(bytes: &[u8]) -> Index {
        counted(bytes).0
    }

    /// The same, with how often something was read and how often a beat came.
    fn counted(bytes: &[u8]) -> (Index, usize, usize) {
        let (reads, beats) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let read = |at, buffer: &mut [u8]| {
            reads.set(reads.get() + 1);
            let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..at + buffer.len()));
            buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        let index = index(bytes.len() as u64, &read, &|| beats.set(beats.get() + 1));
        (index, reads.get(), beats.get())
    }

    /// What GNU tar makes of these files.
    fn tar(format: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let output = Command::new("tar")
            .arg(format!("--format={format}"))
            .arg("-C")
            .arg(dir.path())
            .args(["-cf", "-"])
            .args(files.iter().map(|(name, _)| name))
            .output()
            .unwrap();
        assert!(output.status.success());
        output.stdout
    }

    const FILES: &[(&str, &[u8])] =
        &[("metadata/1.root.json", b"{}"), ("metadata/timestamp.json", &[7; 700])];

    #[test]
    fn what_gnu_tar_writes_is_found_where_it_lies() {
        let bytes = tar("ustar", FILES);
        let files = indexed(&bytes).unwrap();
        assert_eq!(files.len(), FILES.len());
        for (name, content) in FILES {
            let range = &files[*name];
            assert_eq!(&bytes[range.start as usize..range.end as usize], *content);
        }
    }

    #[test]
    fn long_names_are_read_in_both_ways_of_writing_them() {
        let folder = format!("targets/{}/{}", "x".repeat(60), "a".repeat(90));
        let name = format!("targets/{}", "y".repeat(200));
        assert!(indexed(&tar("ustar", &[(&folder, b"1")])).unwrap().contains_key(&folder));
        assert!(indexed(&tar("gnu", &[(&name, b"1")])).unwrap().contains_key(&name));
    }

    /// The archive with one header changed, its sum made right again.
    fn changed(change: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut bytes = tar("ustar", FILES);
        change(&mut bytes[..512]);
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    }

    #[test]
    fn hostile_archives_are_refused() {
        let put = |at: usize, text: &'static [u8]| {
            changed(move |header| header[at..at + text.len()].copy_from_slice(text))
        };
        for (bytes, word) in [
            (put(0, b"../metadata/x\0"), "no name"),
            (put(0, b"/etc/passwd\0"), "no name"),
            (put(0, b"a//b\0"), "no name"),
            (put(0, b"\0"), "no name"),
            (put(0, b"\xff\0"), "no text"),
            (put(0, b"metadata/timestamp.json\0"), "twice"),
            (put(124, b"77777777777\0"), "longer than the archive"),
            (put(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x09"), "octal"),
            (put(156, b"2"), "something else than files"),
            (put(156, b"5"), "something else than files"),
            (put(257, b"posix"), "no ustar"),
        ] {
            let error = indexed(&bytes).unwrap_err();
            assert!(error.contains(word), "{word}: {error}");
        }
        let whole = tar("ustar", FILES);
        let mut damaged = whole.clone();
        damaged[3] ^= 1;
        assert!(indexed(&damaged).unwrap_err().contains("damaged"));
        for length in (0..3072).step_by(97) {
            assert!(indexed(&whole[..length]).is_err(), "cut off at {length}");
        }
        assert!(indexed(&[0x55; 4096]).is_err());
        assert_eq!(indexed(&[0; 1024]).unwrap().len(), 0);
    }

    #[test]
    fn names_without_files_are_not_read_for_ever() {
        let name = &changed(|header| header[156] = b'L')[..1024];
        let bytes = [name, name].concat();
        assert!(indexed(&bytes).unwrap_err().contains("two names"));
    }

    #[test]
    fn an_archive_of_too_many_files_is_refused() {
        let one = &changed(|header| header[124..136].copy_from_slice(b"00000000000\0"))[..512];
        let mut bytes = Vec::new();
        for number in 0..=MAX_FILES {
            let mut header = one.to_vec();
            header[..100].fill(0);
            header[..6].copy_from_slice(format!("{number:06}").as_bytes());
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            bytes.extend(header);
        }
        assert!(indexed(&bytes).unwrap_err().contains("more than"));
    }

    /// A header of GNU tar's for a long name, and the name.
    fn long_name(name: &[u8]) -> Vec<u8> {
        let mut bytes = changed(|header| {
            header[124..136].copy_from_slice(format!("{:011o}\0", name.len()).as_bytes());
            header[156] = b'L';
        })[..512]
            .to_vec();
        bytes.extend_from_slice(name);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn names_without_a_file_are_refused_however_many_there_are() {
        for name in [&b""[..], b"metadata/x"] {
            let bytes = long_name(name).repeat(100_000);
            let (index, reads, _) = counted(&bytes);
            assert!(index.unwrap_err().contains("two names"));
            assert!(reads <= 8, "{reads} reads");
        }
    }

    #[test]
    fn a_long_archive_beats() {
        let mut bytes = Vec::new();
        for number in 0..MAX_FILES {
            bytes.extend(long_name(format!("metadata/{number:0200}").as_bytes()));
            bytes.extend_from_slice(
                &changed(|header| header[124..136].copy_from_slice(b"00000000000\0"))[..512],
            );
            if number == 200 {
                break;
            }
        }
        bytes.extend([0; 1024]);
        let (index, reads, beats) = counted(&bytes);
        assert_eq!(index.unwrap().len(), 201);
        assert!(beats >= reads / 3 / BEAT_EVERY, "{beats} beats in {reads} reads");
    }

    proptest! {
        #[test]
        fn damage_is_refused_or_harmless(at in 0usize..2048, value: u8) {
            let mut bytes = tar("ustar", FILES);
            bytes[at] = value;
            if let Ok(files) = indexed(&bytes) {
                for range in files.values() {
                    prop_assert!(range.start <= range.end && range.end <= bytes.len() as u64);
                }
            }
        }
    }
}
