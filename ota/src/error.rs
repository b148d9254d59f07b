//! What goes wrong, told apart by what the caller does about it.

use std::fmt;
use std::time::Duration;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// One line for people, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// An update that this device does not take, now or ever. Nothing was touched.
    Refused {
        /// The version refused, or what was offered in its place.
        version: String,
        /// Why.
        reason: String,
    },
    /// Did not work this time; trying later may.
    Failed(String),
    /// The same, and the server asked not to be asked before.
    Later {
        /// What went wrong.
        sentence: String,
        /// From now on.
        after: Duration,
    },
}

impl Error {
    /// A failure from its sentence.
    pub fn failed(sentence: impl Into<String>) -> Error {
        Error::Failed(sentence.into())
    }

    /// A failure that happened to `path`.
    pub fn at(path: &std::path::Path, error: impl fmt::Display) -> Error {
        Error::Failed(format!("{}: {error}", path.display()))
    }

    /// A refusal.
    pub fn refused(version: &str, reason: impl Into<String>) -> Error {
        Error::Refused { version: version.into(), reason: reason.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused { version, reason } => write!(f, "refused {version}: {reason}"),
            Error::Failed(sentence) | Error::Later { sentence, .. } => f.write_str(sentence),
        }
    }
}

impl std::error::Error for Error {}

impl From<formats::Error> for Error {
    fn from(error: formats::Error) -> Error {
        Error::Failed(error.to_string())
    }
}
