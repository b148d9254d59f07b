//! Reads tar archives, unpacked ones: of Debian packages and of archives that a board or image file
//! names. Whoever made one decides nothing beyond what is in it: its sizes are bounded, and neither
//! a path nor a link that is followed leads out of it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// An archive's files take less than this, unpacked.
pub const MAX_UNPACKED: u64 = 4 << 30;
/// One file takes less than this.
pub const MAX_MEMBER: u64 = 1 << 30;
/// It has at most this many files; a kernel with all its sources has half of it.
pub const MAX_MEMBERS: usize = 200_000;
/// What precedes a member to give it a long name takes less than this.
const MAX_EXTENSION: u64 = 1 << 20;
/// Links followed in one look-up before it counts as a loop, as in Linux.
const MAX_LINKS: usize = 40;

/// An unpacked archive in the cache.
#[derive(Debug, Clone)]
pub struct Tarball {
    name: String,
    tar: PathBuf,
}

/// One file, folder or link of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its path without a leading slash, like `usr/bin/x`.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// What it is.
    pub kind: MemberKind,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A folder.
    Folder,
    /// A file with its bytes.
    File(Vec<u8>),
    /// A symbolic link and where it points.
    SymbolicLink(String),
    /// Another name of an earlier file of the archive, by its path.
    HardLink(String),
}

impl Tarball {
    /// The tar archive at `tar`, which messages call `name`.
    ///
    /// Fails when its size, the number of its members or what stands before one of them is out of
    /// bounds.
    pub fn open(name: String, tar: PathBuf) -> Result<Self> {
        let tarball = Self { name, tar };
        tarball.check().with_context(|| tarball.name.clone())?;
        Ok(tarball)
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The members whose path (like `usr/bin/x`) `wanted` says yes to, in the archive's order.
    pub fn members(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Member>> {
        self.read(wanted).with_context(|| self.name.clone())
    }

    /// The bytes of one file; fails when the archive has no file at exactly that path.
    pub fn file(&self, path: &str) -> Result<Vec<u8>> {
        let path = path.trim_start_matches('/');
        match self.members(|p| p == path)?.pop().map(|m| m.kind) {
            Some(MemberKind::File(bytes)) => Ok(bytes),
            _ => bail!("{} has no file {path}", self.name),
        }
    }

    /// The bytes of the file at `path`, its own links followed inside the archive; `None` when
    /// there is nothing of that name. Links among the folders of `path` are not followed.
    ///
    /// Fails when a link leads out of the archive, to nothing or in a circle.
    pub fn follow(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let mut path = inner_path(path.as_bytes())?;
        for followed in 0..MAX_LINKS {
            path = match self.members(|p| p == path)?.pop().map(|m| m.kind) {
                Some(MemberKind::File(bytes)) => return Ok(Some(bytes)),
                Some(MemberKind::HardLink(target)) => target,
                Some(MemberKind::SymbolicLink(target)) => {
                    beside(&path, &target).with_context(|| format!("{}: link {path}", self.name))?
                }
                Some(MemberKind::Folder) => bail!("{}: {path} is a folder", self.name),
                None if followed == 0 => return Ok(None),
                None => bail!("{}: a link points at {path}, which is not there", self.name),
            };
        }
        bail!("{}: {path} is a circle of links", self.name)
    }

    /// The paths of all its members.
    pub fn paths(&self) -> Result<Vec<String>> {
        let paths = RefCell::new(Vec::new());
        self.members(|p| {
            paths.borrow_mut().push(p.to_owned());
            false
        })?;
        Ok(paths.into_inner())
    }

    /// When its newest member was last changed, in seconds since 1970; 0 in an empty one.
    pub fn newest(&self) -> Result<u64> {
        let mut newest = 0;
        for entry in self.archive()?.entries_with_seek().context("its data cannot be read")? {
            let entry = entry.with_context(|| self.name.clone())?;
            newest = newest.max(entry.header().mtime().with_context(|| self.name.clone())?);
        }
        Ok(newest)
    }

    fn archive(&self) -> Result<tar::Archive<BufReader<File>>> {
        let file = File::open(&self.tar)
            .with_context(|| format!("{}: cannot be read", self.tar.display()))?;
        Ok(tar::Archive::new(BufReader::new(file)))
    }

    fn check(&self) -> Result<()> {
        let mut archive = self.archive()?;
        let size = std::fs::metadata(&self.tar).context("its data cannot be read")?.len();
        ensure!(size <= MAX_UNPACKED, "its data is more than {MAX_UNPACKED} bytes");
        let mut count = 0;
        for entry in archive.entries_with_seek().context("its data cannot be read")?.raw(true) {
            let entry = entry.context("its data cannot be read")?;
            let kind = entry.header().entry_type();
            let is_extension = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions();
            ensure!(
                !is_extension || entry.size() <= MAX_EXTENSION,
                "a name in it has {} bytes, more than {MAX_EXTENSION}",
                entry.size()
            );
            count += usize::from(!is_extension);
            ensure!(count <= MAX_MEMBERS, "it has more than {MAX_MEMBERS} files");
        }
        Ok(())
    }

    fn read(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Member>> {
        let mut archive = self.archive()?;
        let mut members = Vec::new();
        for entry in archive.entries_with_seek().context("its data cannot be read")? {
            let mut entry = entry.context("its data cannot be read")?;
            if entry.header().entry_type().is_pax_global_extensions() {
                continue;
            }
            let path = inner_path(&entry.path_bytes())?;
            if path.is_empty() || !wanted(&path) {
                continue;
            }
            let mode = entry.header().mode().with_context(|| format!("mode of {path}"))? & 0o7777;
            let link = |entry: &tar::Entry<'_, _>| -> Result<String> {
                let target = entry
                    .link_name_bytes()
                    .with_context(|| format!("link {path} has no target"))?;
                String::from_utf8(target.into_owned())
                    .with_context(|| format!("target of {path} is not UTF-8"))
            };
            let kind = match entry.header().entry_type() {
                tar::EntryType::Directory => MemberKind::Folder,
                tar::EntryType::Symlink => MemberKind::SymbolicLink(link(&entry)?),
                tar::EntryType::Link => MemberKind::HardLink(inner_path(link(&entry)?.as_bytes())?),
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    if entry.size() > MAX_MEMBER {
                        bail!("{path} has {} bytes, more than {MAX_MEMBER}", entry.size());
                    }
                    let mut bytes = Vec::with_capacity(entry.size() as usize);
                    entry
                        .read_to_end(&mut bytes)
                        .with_context(|| format!("{path} cannot be read"))?;
                    ensure!(bytes.len() as u64 == entry.size(), "{path} is cut off");
                    MemberKind::File(bytes)
                }
                other => bail!("{path} is neither file, folder nor link but {other:?}"),
            };
            members.push(Member { path, mode, kind });
        }
        Ok(members)
    }
}

/// `./usr/bin/x` as `usr/bin/x`; refuses paths that lead out of the archive.
pub fn inner_path(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).context("a path is not UTF-8")?;
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => bail!("path {text:?} leads out of the archive"),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Where a symbolic link at `path` leads inside the archive, whose root is the link's `/`.
fn beside(path: &str, target: &str) -> Result<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => folder.split('/').filter(|part| !part.is_empty()).collect(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().with_context(|| format!("{target:?} leads out of the archive"))?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_member_dates_an_archive() {
        let dir = tempfile::tempdir().unwrap();
        let tar = dir.path().join("x.tar");
        let mut builder = tar::Builder::new(Vec::new());
        for (path, time) in [("a", 5), ("b", 1_795_659_174), ("c", 7)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mtime(time);
            builder.append_data(&mut header, path, &[][..]).unwrap();
        }
        std::fs::write(&tar, builder.into_inner().unwrap()).unwrap();
        let tarball = Tarball::open("x".into(), tar).unwrap();
        assert_eq!(tarball.newest().unwrap(), 1_795_659_174);
    }

    /// A tar with these members: what it is, path, and content or target.
    fn tarball(members: &[(tar::EntryType, &str, &str)]) -> (tempfile::TempDir, Result<Tarball>) {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, path, text) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            // Written as they are, so that a test can lead out of the archive.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
                header.as_gnu_mut().unwrap().linkname[..text.len()]
                    .copy_from_slice(text.as_bytes());
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, &b""[..]).unwrap();
            } else {
                header.set_size(text.len() as u64);
                header.set_cksum();
                builder.append(&header, text.as_bytes()).unwrap();
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
        let tarball = Tarball::open("a.tar".to_owned(), path);
        (folder, tarball)
    }

    #[test]
    fn links_are_followed_inside_and_nowhere_else() {
        use tar::EntryType::{Link, Regular, Symlink};
        let (_folder, tarball) = tarball(&[
            (Regular, "./boot/Image-5", "kernel"),
            (Symlink, "boot/Image", "Image-5"),
            (Symlink, "Image", "/boot/../boot/Image"),
            (Link, "boot/hard", "./boot/Image-5"),
            (Symlink, "out", "../etc/passwd"),
            (Symlink, "nothing", "none"),
            (Symlink, "self", "self"),
        ]);
        let tarball = tarball.unwrap();
        for path in ["boot/Image-5", "boot/Image", "/Image", "./boot/hard"] {
            assert_eq!(tarball.follow(path).unwrap().as_deref(), Some(&b"kernel"[..]), "{path}");
        }
        assert_eq!(tarball.follow("none").unwrap(), None);
        for (path, why) in [
            ("out", "leads out of the archive"),
            ("nothing", "points at none, which is not there"),
            ("self", "is a circle of links"),
            ("../x", "leads out of the archive"),
        ] {
            let message = format!("{:#}", tarball.follow(path).unwrap_err());
            assert!(message.contains(why), "{path}: {message}");
        }
    }

    #[test]
    fn paths_that_lead_out_and_devices_are_refused() {
        use tar::EntryType::{Block, Link, Regular};
        for (kind, path, text) in
            [(Regular, "a/../../b", "x"), (Link, "a", "../../etc/shadow"), (Block, "dev/sda", "")]
        {
            let (_folder, tarball) = tarball(&[(kind, path, text)]);
            assert!(tarball.unwrap().members(|_| true).is_err(), "{path}");
        }
    }

    #[test]
    fn a_name_without_end_is_refused_before_it_is_read() {
        let long = "x".repeat(MAX_EXTENSION as usize + 1);
        for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader] {
            let (_folder, tarball) =
                tarball(&[(kind, "././@LongLink", &long), (tar::EntryType::Regular, "x", "x")]);
            let message = format!("{:#}", tarball.unwrap_err());
            assert!(message.contains("a name in it has 1048577 bytes"), "{message}");
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let (folder, tarball) = tarball(&[(tar::EntryType::Regular, "x", "hello")]);
        tarball.unwrap();
        let path = folder.path().join("a.tar");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..514]).unwrap();
        let read = Tarball::open("a.tar".to_owned(), path).and_then(|t| t.members(|_| true));
        assert!(read.is_err());
    }
}
