//! Private keys in archives and compressed files. These are unpacked as they are read, and nothing is
//! passed over: what cannot be searched to its end is said.

use std::cell::Cell;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};

use zip::result::ZipError;

use super::Detector;

/// Archives inside archives are opened this deep; a `.tar.gz` counts twice.
const MAX_DEPTH: u32 = 8;
/// Of one file, so much is looked at, each layer of it counted.
const MAX_LOOKED_AT: u64 = 8 << 30;
/// One archive has fewer members than this.
const MAX_MEMBERS: usize = 100_000;
/// What unpacking an xz stream may take of memory; `xz -9` takes 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;
/// A member that is longer is kept in a temporary file until it is known not to be a zip archive.
const IN_MEMORY: usize = 16 << 20;
/// A form is told by so many of a file's first bytes: a tar archive's header.
const START: usize = 512;

/// An archive that was not searched to its end.
#[derive(Debug)]
pub struct Unsearched {
    /// Its name, in those of the archives that it is in.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl Unsearched {
    fn new(name: &str, reason: impl ToString) -> Unsearched {
        Unsearched { name: name.to_owned(), reason: reason.to_string() }
    }

    fn read(name: &str, error: &io::Error) -> Unsearched {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Unsearched::new(name, "it is cut off"),
            // The tar library has a kind of its own for it.
            _ if error.to_string().starts_with("unexpected EOF") => {
                Unsearched::new(name, "it is cut off")
            }
            _ => Unsearched::new(name, error),
        }
    }
}

/// The name of a private key.
type Found = Result<Option<String>, Unsearched>;

/// The name of the first private key in a file, with those of the archives that it is in.
pub fn find(name: &str, bytes: &[u8]) -> Found {
    Search { left: Cell::new(MAX_LOOKED_AT) }.whole(name, bytes)
}

/// What a file is packed in, told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Gzip,
    Zstd,
    Xz,
    Tar,
    /// One that nothing here unpacks.
    Other(&'static str),
    /// None; it may be a zip archive, which is told by its end.
    Plain,
}

impl Form {
    fn of(start: &[u8]) -> Form {
        match start {
            // RFC 1952: method 8, and flags that are defined.
            [0x1F, 0x8B, 8, flags, ..] if flags & 0xE0 == 0 => Form::Gzip,
            [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Form::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => {
                Form::Other("bzip2")
            }
            [b'7', b'z', 0xBC, 0xAF, 0x27, 0x1C, ..] => Form::Other("7z"),
            [b'R', b'a', b'r', b'!', 0x1A, 7, ..] => Form::Other("RAR"),
            _ if unzstd::is_zstd(start) => Form::Zstd,
            _ if is_tar(start) => Form::Tar,
            _ => Form::Plain,
        }
    }
}

/// Whether a header has the sum that it says (POSIX.1-2017, pax, "ustar Interchange Format"), which
/// archives from before POSIX have, too.
fn is_tar(start: &[u8]) -> bool {
    let Some(header) = start.get(..START).filter(|header| header[0] != 0) else { return false };
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let field = &header[148..156];
    let own: u32 = field.iter().map(|byte| u32::from(*byte)).sum();
    let text = String::from_utf8_lossy(field);
    let said = text.trim_matches([' ', '\0']);
    u32::from_str_radix(said, 8) == Ok(sum - own + 8 * u32::from(b' '))
}

/// What zip archives are read from.
trait Whole: Read + Seek {}
impl<T: Read + Seek> Whole for T {}

struct Search {
    /// What may still be looked at.
    left: Cell<u64>,
}

impl Search {
    fn whole(&self, name: &str, bytes: &[u8]) -> Found {
        let inside = self.in_zip(name, &mut Cursor::new(bytes), 0)?;
        if inside.is_some() {
            return Ok(inside);
        }
        match Form::of(bytes) {
            Form::Plain => Ok(super::is_one(bytes).then(|| name.to_owned())),
            form => self.packed(name, form, &mut &bytes[..], 0),
        }
    }

    /// In a member of an archive, or in what a compressed file unpacks to.
    fn part(&self, name: &str, from: &mut dyn Read, depth: u32) -> Found {
        let cannot = |error| Unsearched::read(name, &error);
        let mut start = Vec::new();
        (&mut *from).take(START as u64).read_to_end(&mut start).map_err(cannot)?;
        let form = Form::of(&start);
        let mut all = start.chain(from);
        if form != Form::Plain {
            return self.packed(name, form, &mut all, depth);
        }
        let mut watched = Watched::new(&mut all, &self.left);
        let mut kept = tempfile::spooled_tempfile(IN_MEMORY);
        io::copy(&mut watched, &mut kept).map_err(cannot)?;
        let is_one = watched.detector.is_one();
        let inside = self.in_zip(name, &mut kept, depth)?;
        Ok(inside.or_else(|| is_one.then(|| name.to_owned())))
    }

    fn packed(&self, name: &str, form: Form, from: &mut dyn Read, depth: u32) -> Found {
        self.check_depth(name, depth)?;
        let cannot = |error| Unsearched::read(name, &error);
        let mut watched = Watched::new(from, &self.left);
        let mut input = BufReader::with_capacity(1 << 16, &mut watched);
        let inside = match form {
            Form::Gzip => {
                let mut gzip = flate2::bufread::MultiGzDecoder::new(&mut input);
                self.part(name, &mut gzip, depth + 1)?
            }
            Form::Zstd => {
                let mut zstd = unzstd::reader(&mut input).map_err(cannot)?;
                self.part(name, &mut zstd, depth + 1)?
            }
            Form::Xz => self.part(name, &mut xz(&mut input).map_err(cannot)?, depth + 1)?,
            Form::Tar => self.in_tar(name, &mut input, depth)?,
            Form::Other(what) => {
                return Err(Unsearched::new(name, format!("it is packed with {what}")));
            }
            Form::Plain => None,
        };
        if inside.is_some() {
            return Ok(inside);
        }
        // What stands behind the archive's end.
        io::copy(&mut input, &mut io::sink()).map_err(cannot)?;
        Ok(watched.detector.is_one().then(|| name.to_owned()))
    }

    fn in_tar(&self, name: &str, from: &mut dyn Read, depth: u32) -> Found {
        let cannot = |error| Unsearched::read(name, &error);
        let mut archive = tar::Archive::new(from);
        for (index, entry) in archive.entries().map_err(cannot)?.enumerate() {
            let mut entry = entry.map_err(cannot)?;
            check_members(name, index)?;
            let inner = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let found = self.part(&format!("{name}: {inner}"), &mut entry, depth + 1)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// In what a zip archive holds, whatever stands in front of it; none in any other file.
    fn in_zip(&self, name: &str, from: &mut dyn Whole, depth: u32) -> Found {
        let cannot = |error| Unsearched::read(name, &error);
        let members = zip_members(from).map_err(cannot)?;
        if members.is_none() && !starts_as_zip(from).map_err(cannot)? {
            return Ok(None);
        }
        self.check_depth(name, depth)?;
        let mut archive = zip::ZipArchive::new(from).map_err(|e| zip_error(name, &e))?;
        if members.is_some_and(|members| members != archive.len()) {
            return Err(Unsearched::new(name, "several of its members have the same name"));
        }
        for index in 0..archive.len() {
            check_members(name, index)?;
            let raw = archive.by_index_raw(index).map_err(|e| zip_error(name, &e))?;
            // One that is encrypted is closed to everybody else, too.
            if raw.encrypted() {
                continue;
            }
            drop(raw);
            let mut member = archive.by_index(index).map_err(|e| zip_error(name, &e))?;
            let inner = member.name().map(|name| name.into_owned()).unwrap_or_default();
            let found = self.part(&format!("{name}: {inner}"), &mut member, depth + 1)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn check_depth(&self, name: &str, depth: u32) -> Result<(), Unsearched> {
        match depth < MAX_DEPTH {
            true => Ok(()),
            false => Err(Unsearched::new(name, "it is in too many archives, one inside the other")),
        }
    }
}

fn check_members(name: &str, index: usize) -> Result<(), Unsearched> {
    match index < MAX_MEMBERS {
        true => Ok(()),
        false => Err(Unsearched::new(name, format!("it has more than {MAX_MEMBERS} members"))),
    }
}

fn xz<R: io::BufRead>(input: R) -> io::Result<impl Read> {
    let concatenated = liblzma::stream::CONCATENATED;
    let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, concatenated)?;
    Ok(InWords(liblzma::bufread::XzDecoder::new_stream(input, stream)))
}

/// Gives xz's errors in words.
struct InWords<R>(R);

impl<R: Read> Read for InWords<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let xz = error.get_ref().and_then(|e| e.downcast_ref::<liblzma::stream::Error>());
            match xz {
                Some(liblzma::stream::Error::MemLimit) => io::Error::other(format!(
                    "unpacking it takes more than {} MiB of memory",
                    XZ_MEMORY >> 20
                )),
                _ => error,
            }
        })
    }
}

fn zip_error(name: &str, error: &ZipError) -> Unsearched {
    match error {
        ZipError::Io(error) => Unsearched::read(name, error),
        ZipError::InvalidArchive(_) => {
            Unsearched::new(name, "it is damaged, or cut off at its end")
        }
        error => Unsearched::new(name, error),
    }
}

fn starts_as_zip(from: &mut dyn Whole) -> io::Result<bool> {
    let mut start = Vec::new();
    from.seek(SeekFrom::Start(0))?;
    (&mut *from).take(4).read_to_end(&mut start)?;
    Ok(start == b"PK\x03\x04")
}

/// The number of members that a zip archive says in its last 64 KiB (APPNOTE.TXT, 4.3.16); none
/// where nothing that could be an end record stands there, or the number is in another place.
fn zip_members(from: &mut dyn Whole) -> io::Result<Option<usize>> {
    /// The record, and the longest comment behind it.
    const LONGEST: u64 = RECORD as u64 + 0xFFFF;
    const RECORD: usize = 22;
    let length = from.seek(SeekFrom::End(0))?;
    let begin = length.saturating_sub(LONGEST);
    let mut tail = Vec::new();
    from.seek(SeekFrom::Start(begin))?;
    (&mut *from).take(LONGEST).read_to_end(&mut tail)?;
    for at in (0..=tail.len().saturating_sub(RECORD)).rev() {
        let record = tail.get(at..at + RECORD).filter(|record| record.starts_with(b"PK\x05\x06"));
        let Some(record) = record else { continue };
        let number = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
        let members = usize::from(number(10));
        let size = u64::from(number(12)) | u64::from(number(14)) << 16;
        let place = (begin + at as u64).checked_sub(size);
        let Some(place) = place.filter(|_| members > 0) else { continue };
        let mut first = Vec::new();
        from.seek(SeekFrom::Start(place))?;
        (&mut *from).take(4).read_to_end(&mut first)?;
        if first == b"PK\x01\x02" {
            return Ok(Some(members));
        }
    }
    Ok(None)
}

/// A reader of which everything read is looked at, and counted.
struct Watched<'a> {
    from: &'a mut dyn Read,
    left: &'a Cell<u64>,
    detector: Detector,
}

impl<'a> Watched<'a> {
    fn new(from: &'a mut dyn Read, left: &'a Cell<u64>) -> Watched<'a> {
        Watched { from, left, detector: Detector::default() }
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        let Some(left) = self.left.get().checked_sub(length as u64) else {
            return Err(io::Error::other("it unpacks to more than is ever looked at"));
        };
        self.left.set(left);
        self.detector.push(&buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
