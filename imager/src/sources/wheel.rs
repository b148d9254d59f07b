//! Reading wheels (PEP 427): zip files whose members are taken by exact path. Nothing is
//! installed or run.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use debian::hash::Sha256;

/// One member takes less than this, unpacked.
const MAX_MEMBER: u64 = 1 << 30;

/// A fetched wheel, ready to be read.
#[derive(Debug, Clone)]
pub struct Wheel {
    /// The project's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The wheel's file name.
    pub file: String,
    /// Hash of the wheel.
    pub sha256: Sha256,
    pub(super) path: PathBuf,
}

impl Wheel {
    /// The bytes of the member at exactly `path`.
    pub fn member(&self, path: &str) -> Result<Vec<u8>> {
        read_member(&self.path, path).with_context(|| format!("wheel {}", self.file))
    }

    /// The paths of all its members.
    pub fn paths(&self) -> Result<Vec<String>> {
        let zip = open(&self.path).with_context(|| format!("wheel {}", self.file))?;
        names(&zip).with_context(|| format!("wheel {}", self.file))
    }
}

fn open(wheel: &Path) -> Result<zip::ZipArchive<BufReader<File>>> {
    let file = File::open(wheel).with_context(|| format!("{}: cannot be read", wheel.display()))?;
    zip::ZipArchive::new(BufReader::new(file)).context("is not a zip file")
}

fn names(zip: &zip::ZipArchive<BufReader<File>>) -> Result<Vec<String>> {
    zip.file_names()
        .map(|name| Ok(name.context("a member's name cannot be read")?.into_owned()))
        .collect()
}

fn read_member(wheel: &Path, path: &str) -> Result<Vec<u8>> {
    let mut zip = open(wheel)?;
    let Some(at) = zip.index_for_name(path) else {
        let names = names(&zip)?;
        let hint = wording::nearest(path, names.iter().map(String::as_str));
        let hint = hint.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        bail!("has no member {path}{hint}");
    };
    let member = zip.by_index(at).with_context(|| format!("member {path} cannot be read"))?;
    let size = member.size();
    if size > MAX_MEMBER {
        bail!("member {path} has {size} bytes, more than {MAX_MEMBER}");
    }
    let mut bytes = Vec::new();
    member
        .take(size + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("member {path} cannot be read"))?;
    if bytes.len() as u64 != size {
        bail!("member {path} is not as long as it says");
    }
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    pub(crate) fn make_wheel(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (path, bytes) in members {
            zip.start_file(*path, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn members_by_exact_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.whl");
        let bytes = make_wheel(&[("a/b.tflite", b"model"), ("a/empty", b"")]);
        std::fs::write(&path, &bytes).unwrap();
        let wheel = Wheel {
            name: "a".into(),
            version: "1".into(),
            file: "a.whl".into(),
            sha256: Sha256::of(&bytes),
            path,
        };
        assert_eq!(wheel.member("a/b.tflite").unwrap(), b"model");
        assert_eq!(wheel.member("a/empty").unwrap(), b"");
        let message = format!("{:#}", wheel.member("a/b.tflit").unwrap_err());
        assert!(message.contains("did you mean a/b.tflite?"), "{message}");
    }

    #[test]
    fn what_is_not_a_wheel_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.whl");
        std::fs::write(&path, b"<html>").unwrap();
        assert!(read_member(&path, "x").is_err());
        let bytes = make_wheel(&[("a", &[7; 5000])]);
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(read_member(&path, "a").is_err());
    }
}
