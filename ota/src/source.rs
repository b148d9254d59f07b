//! Where an update's bytes come from: a server, or a file on a USB stick.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::http::Client;
use crate::range_reader::RangeReader;
use crate::{Error, Result};

/// An `.update` that any part can be read of.
#[derive(Clone, Debug)]
pub enum Source {
    /// At a URL.
    Url(Client, String),
    /// On this device.
    File(PathBuf),
}

impl Source {
    /// Reads bytes `first..end`; the stream ends there, or with an error.
    pub fn read(&self, first: u64, end: u64) -> Result<Box<dyn Read + '_>> {
        match self {
            Source::Url(client, url) => Ok(Box::new(RangeReader::new(client, url, first, end))),
            Source::File(path) => {
                let open = || {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(first))?;
                    Ok::<_, std::io::Error>(file.take(end.saturating_sub(first)))
                };
                Ok(Box::new(open().map_err(|e| Error::at(path, e))?))
            }
        }
    }

    /// Exactly `length` bytes from `first` on.
    pub fn exactly(&self, first: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(first, first.saturating_add(length as u64))?
            .read_exact(&mut bytes)
            .map_err(|e| self.error(&e))?;
        Ok(bytes)
    }

    /// An error while reading this.
    pub fn error(&self, error: &std::io::Error) -> Error {
        let short = error.kind() == std::io::ErrorKind::UnexpectedEof;
        match self {
            Source::File(path) if short => Error::at(path, "the file is cut off"),
            Source::File(path) => Error::at(path, error),
            Source::Url(_, url) if short => Error::at(Path::new(url), "the file is cut off"),
            Source::Url(..) => Error::failed(error.to_string()),
        }
    }
}
