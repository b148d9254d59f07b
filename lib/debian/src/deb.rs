//! Reading `.deb` files (deb(5)): the files a package would install. Its maintainer scripts are
//! never looked at.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::cache::Cache;
use super::hash::Sha256;
use super::tarball::{MAX_UNPACKED, Member, Tarball};

/// A fetched package, ready to be read.
#[derive(Debug, Clone)]
pub struct Deb {
    /// The package's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// Hash of the `.deb`.
    pub sha256: Sha256,
    contents: Tarball,
}

impl Deb {
    /// Opens the `.deb` at `path`, whose hash was checked to be `sha256`. Its data is unpacked
    /// once into the cache, so that later reads only seek.
    pub fn open(
        cache: &Cache,
        path: &Path,
        sha256: Sha256,
        name: &str,
        version: &str,
        architecture: &str,
    ) -> Result<Self> {
        let tar = cache
            .derived(&format!("deb-data 1 {sha256}"), |to| {
                let file = File::open(path)
                    .with_context(|| format!("{}: cannot be read", path.display()))?;
                unpack_data(BufReader::new(file), to)
            })
            .with_context(|| format!("package {name} {version}: cannot be unpacked"))?;
        let contents = Tarball::open(format!("package {name} {version}"), tar)?;
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            sha256,
            contents,
        })
    }

    /// Its files.
    pub fn contents(&self) -> &Tarball {
        &self.contents
    }

    /// The members whose path (like `usr/bin/x`) `wanted` says yes to, in the package's order.
    pub fn members(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Member>> {
        self.contents.members(wanted)
    }

    /// The bytes of one file; fails when the package has no file at exactly that path.
    pub fn file(&self, path: &str) -> Result<Vec<u8>> {
        self.contents.file(path)
    }
}

/// Copies the unpacked `data.tar` out of the ar(5) archive `deb`.
pub fn unpack_data(mut deb: impl Read, to: &mut dyn Write) -> Result<()> {
    let mut magic = [0; 8];
    deb.read_exact(&mut magic).context("is too short for a .deb")?;
    if &magic != b"!<arch>\n" {
        bail!("is not a .deb");
    }
    loop {
        let mut header = [0; 60];
        deb.read_exact(&mut header).context("has no data.tar")?;
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&header[range]).trim().to_owned()
        };
        let name = text(0..16);
        let name = name.trim_end_matches('/');
        if &header[58..60] != b"`\n" {
            bail!("has a broken member header");
        }
        let size: u64 = text(48..58).parse().with_context(|| format!("size of {name}"))?;
        if let Some(packing) = name.strip_prefix("data.tar") {
            let data = deb.take(size);
            let unpacked: Box<dyn Read> = match packing {
                ".xz" => Box::new(liblzma::read::XzDecoder::new_multi_decoder(data)),
                ".zst" => Box::new(unzstd::reader(BufReader::new(data))?),
                ".gz" => Box::new(flate2::read::MultiGzDecoder::new(data)),
                "" => Box::new(data),
                other => bail!("its data is packed as {other}, which imager cannot read"),
            };
            let mut unpacked = unpacked.take(MAX_UNPACKED + 1);
            let copied = io::copy(&mut unpacked, to).context("its data cannot be unpacked")?;
            if copied > MAX_UNPACKED {
                bail!("its data is more than {MAX_UNPACKED} bytes");
            }
            return Ok(());
        }
        // Members start at even offsets.
        let skip = size + size % 2;
        let skipped = io::copy(&mut (&mut deb).take(skip), &mut io::sink())?;
        if skipped != skip {
            bail!("ends in the middle of {name}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::make_deb;

    fn open(bytes: &[u8]) -> Result<(tempfile::TempDir, Deb)> {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let path = folder.path().join("a.deb");
        std::fs::write(&path, bytes).unwrap();
        let deb = Deb::open(&cache, &path, Sha256::of(bytes), "aa", "1", "arm64")?;
        Ok((folder, deb))
    }

    #[test]
    fn all_packings_give_the_same_members() {
        for packing in [".xz", ".zst", ".gz", ""] {
            let (_folder, deb) =
                open(&make_deb(&[("usr/share/x", "hello"), ("usr/y", "")], packing)).unwrap();
            assert_eq!(deb.contents().paths().unwrap(), ["usr/share/x", "usr/y", "usr/link"]);
            assert_eq!(deb.file("/usr/share/x").unwrap(), b"hello");
            assert!(deb.file("usr/z").unwrap_err().to_string().contains("has no file usr/z"));
            let link = deb.members(|p| p == "usr/link").unwrap();
            assert_eq!(link[0].kind, crate::tarball::MemberKind::SymbolicLink("share".into()));
        }
    }

    #[test]
    fn data_in_several_frames_is_read_to_its_end() {
        let deb = make_deb(&[("usr/share/x", "hello"), ("usr/y", "there")], ".zst");
        let (head, data) = {
            let at = deb.windows(8).position(|w| w == b"data.tar").unwrap();
            (&deb[..at], &deb[at + 60..])
        };
        let length: usize = std::str::from_utf8(&deb[head.len() + 48..head.len() + 58])
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let tar = zstd::decode_all(&data[..length]).unwrap();
        let (front, back) = tar.split_at(700);
        let skippable = b"\x50\x2a\x4d\x18\x02\0\0\0..".to_vec();
        let pack = |part| zstd::encode_all(part, 1).unwrap();
        let mut parts = [skippable.clone(), pack(front), skippable, pack(back)].concat();
        let header = format!("{:<48}{:<10}`\n", "data.tar.zst", parts.len());
        parts.push(b'\n');
        let (_folder, deb) = open(&[head, header.as_bytes(), &parts].concat()).unwrap();
        assert_eq!(deb.file("usr/y").unwrap(), b"there");
    }

    #[test]
    #[ignore = "needs dpkg-deb: `just unit`"]
    fn dpkg_deb_agrees_that_it_is_a_package() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.deb");
        std::fs::write(&path, make_deb(&[("usr/share/x", "hello")], ".xz")).unwrap();
        let tar = std::process::Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&path)
            .output()
            .expect("this test needs the command dpkg-deb from the package dpkg");
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        assert!(tar.stdout.windows(5).any(|w| w == b"hello"));
    }

    #[test]
    fn broken_packages_are_refused() {
        let good = make_deb(&[("usr/x", "hello")], ".xz");
        for length in [0, 5, 8, 50, 70, good.len() - 40] {
            assert!(open(&good[..length]).is_err(), "{length}");
        }
        assert!(open(b"MZ this is not a package").is_err());
    }
}
