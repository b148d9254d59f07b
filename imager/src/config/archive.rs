//! `[[kernel.archive]]` of a board file and `[[archive]]` of an image file: somebody else's files,
//! in a folder, a tar archive or a Debian package, that are not Debian's.

use serde::Deserialize;
use toml::Spanned;

use super::address;
use super::diagnostics::{Document, Finding};
use super::pattern::is_pattern;
use super::values::Line;
use debian::hash::Sha256;

/// One archive.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ArchiveEntry {
    #[cfg_attr(feature = "schema", schemars(with = "Option<Line>"))]
    path: Option<Spanned<Line>>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<Line>"))]
    url: Option<Spanned<Line>>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::Sha256>"))]
    sha256: Option<Sha256>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<Line>>"))]
    only: Option<Spanned<Vec<Line>>>,
}

/// Where an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// A file or folder, relative to the folder of the file that names it.
    Path(&'a str),
    /// A file on a server, of this hash.
    Url(&'a str, Sha256),
}

/// What an entry says about the files that are taken out of its archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// It has to say which.
    Needed,
    /// It has nothing to say: the kernel's are found by other keys.
    Refused,
}

impl ArchiveEntry {
    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        match (&self.url, self.sha256) {
            (Some(url), Some(sha256)) => Place::Url(url.get_ref(), sha256),
            _ => Place::Path(self.path.as_ref().map_or("", |path| path.get_ref())),
        }
    }

    /// Its path or address, as the file has it.
    pub fn from(&self) -> &str {
        match self.place() {
            Place::Path(path) => path,
            Place::Url(url, _) => url,
        }
    }

    /// The hash that its file has to have, if the entry has one.
    pub fn sha256(&self) -> Option<Sha256> {
        self.sha256
    }

    /// Which of its files are taken: paths of files or folders, `*` for any part of a name.
    pub fn only(&self) -> &[Line] {
        self.only.as_ref().map_or(&[], |only| only.get_ref())
    }
}

/// Fails on entries that name no place or two, an address without a hash, or the same twice.
pub fn check(
    entries: &[Spanned<ArchiveEntry>],
    only: Only,
    document: &Document,
) -> Result<(), Finding> {
    for (number, spanned) in entries.iter().enumerate() {
        let entry = spanned.get_ref();
        let at = |why: &str| Err(document.at(spanned.span(), why));
        match (&entry.path, &entry.url) {
            (None, None) => return at("an archive needs `path`, or `url` and `sha256`"),
            (Some(_), Some(url)) => {
                let why = "an archive has `path` or `url`, not both: remove one";
                return Err(document.at(url.span(), why));
            }
            (Some(path), None) if path.get_ref().is_empty() => {
                return Err(document.at(path.span(), "`path` is empty"));
            }
            (Some(_), None) => {}
            (None, Some(url)) => {
                if let Some(why) = address::problem(url.get_ref()) {
                    let why = format!("`url` {why}; use `path` for a file of this machine");
                    return Err(document.at(url.span(), why));
                }
                if entry.sha256.is_none() {
                    let why = "what comes from a `url` needs its `sha256`: fetch it once and run \
                               `sha256sum` on it";
                    return Err(document.at(url.span(), why));
                }
            }
        }
        match (only, &entry.only) {
            (Only::Needed, None) => {
                return at(
                    "an archive of an image needs `only`: the files or folders to take, like `only = [\"usr/lib\"]`",
                );
            }
            (Only::Needed, Some(only)) => {
                if let Some(bad) = only.get_ref().iter().find(|path| !is_pattern(path)) {
                    let why =
                        format!("`only`: {:?} is not a path inside the archive", bad.as_str());
                    return Err(document.at(only.span(), why));
                }
                if only.get_ref().is_empty() {
                    return Err(document.at(only.span(), "`only` is empty: nothing would be taken"));
                }
            }
            (Only::Refused, Some(only)) => {
                let why = "`only` is for [[archive]] in an image file; a kernel's files are named by `image`, `device_tree_folder` and `release`";
                return Err(document.at(only.span(), why));
            }
            (Only::Refused, None) => {}
        }
        if entries[..number].iter().any(|other| other.get_ref().from() == entry.from()) {
            return at("this archive is listed twice");
        }
    }
    Ok(())
}
