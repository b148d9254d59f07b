//! What can go wrong on the way to trusted targets.

use crate::fetch::FetchError;
use crate::time::Time;
use std::{fmt, io};

/// Why metadata was not accepted. Each variant names the file; nothing that was trusted before is
/// lost when one is returned.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be fetched.
    Fetch {
        /// Path below the repository's URL.
        path: String,
        /// What happened.
        source: FetchError,
    },
    /// The folder with the trusted metadata could not be read or written.
    Store {
        /// File in that folder.
        name: String,
        /// What happened.
        source: io::Error,
    },
    /// Not the JSON that the specification describes.
    Malformed {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too few distinct keys of the role signed it.
    Unsigned {
        /// The file.
        file: String,
        /// Distinct keys whose signature holds.
        valid: usize,
        /// How many it takes.
        threshold: u64,
    },
    /// The version inside is not the one asked for.
    WrongVersion {
        /// The file.
        file: String,
        /// Version that signed metadata promised.
        wanted: u64,
        /// Version inside.
        found: u64,
    },
    /// Older than what was trusted before.
    Rollback {
        /// The file, or the entry in it, that went back.
        file: String,
        /// Version trusted before.
        trusted: u64,
        /// Version offered now (0: no longer listed).
        offered: u64,
    },
    /// Past its expiry.
    Expired {
        /// The file.
        file: String,
        /// When it expired.
        expires: Time,
        /// The caller's time.
        now: Time,
    },
    /// Length or hash is not what signed metadata promised.
    Altered {
        /// The file.
        file: String,
    },
    /// More new root versions than one refresh walks.
    TooManyRoots {
        /// The limit.
        limit: u32,
    },
    /// The search for a target visited as many roles as one search may.
    TooManyRoles {
        /// The target.
        target: String,
        /// The limit.
        limit: u32,
    },
    /// No role that may speak for it lists the target.
    NoSuchTarget {
        /// The target.
        target: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Fetch { path, source } => write!(f, "{path}: {source}"),
            Error::Store { name, source } => {
                write!(f, "trusted metadata {name}: {source}")
            }
            Error::Malformed { file, reason } => write!(f, "{file}: not TUF metadata: {reason}"),
            Error::Unsigned { file, valid, threshold } => {
                write!(f, "{file}: {valid} valid signatures by trusted keys, {threshold} needed")
            }
            Error::WrongVersion { file, wanted, found } => {
                write!(f, "{file}: holds version {found}, version {wanted} was promised")
            }
            Error::Rollback { file, trusted, offered } => write!(
                f,
                "{file}: version {offered} is older than version {trusted}, which was seen before"
            ),
            Error::Expired { file, expires, now } => write!(
                f,
                "{file}: expired at {expires}, it is {now}; run `imager repo refresh` or `imager publish` to renew it"
            ),
            Error::Altered { file } => {
                write!(f, "{file}: length or hash is not what the signed metadata says")
            }
            Error::TooManyRoots { limit } => {
                write!(
                    f,
                    "more than {limit} new versions of the root metadata; the next refresh goes \
                     on from there"
                )
            }
            Error::TooManyRoles { target, limit } => {
                write!(f, "{target:?}: not found in the first {limit} roles that may list it")
            }
            Error::NoSuchTarget { target } => {
                write!(f, "{target:?}: the repository has no such target")
            }
        }
    }
}

// What it came from is part of the text above: were it the source, too, a chain of causes would say it
// twice.
impl std::error::Error for Error {}
