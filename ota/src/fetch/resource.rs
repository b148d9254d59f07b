//! Where an update's bytes come from: a server, or a file on a USB stick.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fetch::http::Client;
use crate::fetch::range_reader::RangeReader;
use crate::{Error, Result};

/// A file that any part can be read of.
#[derive(Clone, Debug)]
pub enum Resource {
    /// At a URL.
    Url(Client, String),
    /// On this device.
    File(PathBuf),
    /// A part of a file on this device, in bytes.
    Within(PathBuf, Range<u64>),
}

/// Bytes that were fetched; counts on while others read it.
pub type ByteCounter = AtomicU64;

impl Resource {
    /// Reads the ranges one after another as one stream, which ends behind the last, or with an
    /// error. They have to be in growing order. All that is fetched is counted in `counter`.
    pub fn read<'a>(
        &'a self,
        wanted: impl IntoIterator<Item = Range<u64>>,
        counter: &'a ByteCounter,
    ) -> Result<Box<dyn Read + 'a>> {
        let (path, whole) = match self {
            Resource::Url(client, url) => {
                return Ok(Box::new(RangeReader::new(client, url, wanted, counter)));
            }
            Resource::File(path) => (path, 0..u64::MAX),
            Resource::Within(path, range) => (path, range.clone()),
        };
        let file = File::open(path).map_err(|e| Error::at(path, e))?;
        Ok(Box::new(Ranges { file, whole, wanted: wanted.into_iter().collect(), counter }))
    }

    /// Somebody brought it: it is no server's.
    pub fn is_brought(&self) -> bool {
        !matches!(self, Resource::Url(..))
    }

    /// Exactly the bytes of `range`.
    pub fn exactly(&self, range: Range<u64>, counter: &ByteCounter) -> Result<Vec<u8>> {
        let length =
            usize::try_from(range.end - range.start).map_err(|_| Error::failed("too long"))?;
        let mut bytes = vec![0; length];
        self.read([range], counter)?.read_exact(&mut bytes).map_err(|e| self.error(&e))?;
        Ok(bytes)
    }

    /// An error while reading this.
    pub fn error(&self, error: &io::Error) -> Error {
        let short = error.kind() == io::ErrorKind::UnexpectedEof;
        match self {
            Resource::File(path) | Resource::Within(path, _) => match short {
                true => Error::at(path, "the file is cut off"),
                false => Error::at(path, error),
            },
            Resource::Url(_, url) if short => Error::at(Path::new(url), "the file is cut off"),
            Resource::Url(..) => Error::failed(error.to_string()),
        }
    }
}

/// Ranges of a local file, one after another.
struct Ranges<'a> {
    file: File,
    /// The part of it that counts; ranges are within that.
    whole: Range<u64>,
    wanted: std::collections::VecDeque<Range<u64>>,
    counter: &'a ByteCounter,
}

impl Read for Ranges<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.wanted.front().is_some_and(Range::is_empty) {
            self.wanted.pop_front();
        }
        let Some(range) = self.wanted.front_mut() else { return Ok(0) };
        let start = self.whole.start.saturating_add(range.start);
        let end = self.whole.start.saturating_add(range.end).min(self.whole.end);
        let most = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let most = buffer.len().min(most);
        let length = self.file.read_at(&mut buffer[..most], start)?;
        self.counter.fetch_add(length as u64, Ordering::Relaxed);
        range.start += length as u64;
        Ok(length)
    }
}
