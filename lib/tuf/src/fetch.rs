//! Where metadata comes from.

use std::fmt;

/// Gets files of a repository, by their path below its URL.
pub trait Fetch {
    /// The whole file at `path`, which is written as it stands in a URL: whatever is neither a
    /// letter, a digit, one of `-._~` nor a `/` between folders is percent-encoded. Fails with [`FetchError::TooLarge`], without keeping more than
    /// `max` bytes, when the file is longer than that.
    fn fetch(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError>;
}

/// Why a file did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The repository has no such file.
    NotFound,
    /// The server does not let it be read. An object store says so of a file that is not there to who
    /// may not list its files.
    Forbidden,
    /// Longer than the limit in bytes.
    TooLarge(u64),
    /// Anything else, in one line for people.
    Failed(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::NotFound => f.write_str("the repository has no such file"),
            FetchError::Forbidden => f.write_str("the server answered 403"),
            FetchError::TooLarge(max) => write!(f, "longer than its limit of {max} bytes"),
            FetchError::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for FetchError {}
