//! One error type: a sentence that names the thing that failed.

use alloc::string::String;
use core::fmt;

/// An error is a sentence for a person; it names the file, partition or field and, where there is
/// one, the next step. Nothing matches on it, so it carries no variants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

/// Result with this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    /// Makes an error from its sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Error(sentence.into())
    }

    /// Puts `what: ` in front of the sentence.
    #[must_use]
    pub fn within(self, what: &str) -> Self {
        Error(concat(&[what, ": ", &self.0]))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Error {}

#[cfg(feature = "std")]
/// An I/O error with the path it happened on.
pub fn io(path: &std::path::Path, error: &std::io::Error) -> Error {
    Error(concat(&[&path.to_string_lossy(), ": ", &error.to_string()]))
}

/// Joins strings. `format!` of every message would cost `init` tens of kilobytes.
fn concat(parts: &[&str]) -> String {
    parts.concat()
}
