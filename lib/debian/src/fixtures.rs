//! Packages made up for tests.

use std::io::Write;

use super::cache::Cache;
use super::deb::Deb;
use super::hash::Sha256;

/// A `.deb` with these files, packed as `packing` (`.xz`, `.zst`, `.gz` or nothing) says.
pub fn make_deb(files: &[(&str, &str)], packing: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, format!("./{path}"), text.as_bytes()).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_mode(0o777);
    header.set_size(0);
    tar.append_link(&mut header, "./usr/link", "share").unwrap();
    let tar = tar.into_inner().unwrap();
    let data = match packing {
        ".xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        }
        ".zst" => zstd::encode_all(&tar[..], 1).unwrap(),
        ".gz" => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        }
        _ => tar,
    };
    let mut deb = b"!<arch>\n".to_vec();
    for (name, bytes) in [
        ("debian-binary", &b"2.0\n"[..]),
        ("control.tar", b"odd"),
        (&format!("data.tar{packing}"), &data),
    ] {
        deb.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, bytes.len())
                .as_bytes(),
        );
        deb.extend(bytes);
        if bytes.len() % 2 == 1 {
            deb.push(b'\n');
        }
    }
    deb
}

/// A package of that name with these files, and the folder that it lies in.
pub fn open_deb(name: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Deb) {
    let bytes = make_deb(files, ".xz");
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path()).unwrap();
    let path = folder.path().join("a.deb");
    std::fs::write(&path, &bytes).unwrap();
    let deb = Deb::open(&cache, &path, Sha256::of(&bytes), name, "1", "arm64").unwrap();
    (folder, deb)
}
