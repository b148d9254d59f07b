//! One error type: a sentence that names the thing that failed.

use std::fmt;

/// What went wrong, as a sentence for a person. Nothing matches on it: whatever is wrong with a
/// delta, the caller takes the next source (chunks, or the whole image).
#[derive(Debug)]
pub struct Error(String);

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Error(sentence.into())
    }

    pub(crate) fn io(what: &str, error: &std::io::Error) -> Self {
        Error(format!("{what}: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
