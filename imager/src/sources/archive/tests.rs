use super::*;
use crate::config::diagnostics::Document;
use debian::fixtures::make_deb;

/// A tar archive of these files.
fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn entry(text: &str) -> ArchiveEntry {
    Document::new(Path::new("a.toml"), text.to_owned()).parse().unwrap()
}

fn opened(folder: &Path, text: &str) -> Result<Archive, String> {
    let cache = Cache::at(&folder.join("cache")).unwrap();
    let found = find(folder, &entry(text)).and_then(|found| found.open(&cache));
    found.map_err(|e| format!("{e:#}"))
}

#[test]
fn each_kind_of_archive_gives_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let files = [("boot/Image", "kernel"), ("lib/modules/1/modules.builtin", "")];
    let tar = tar_of(&files);
    let gzip = |bytes: &[u8]| {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    };
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    fs::write(at("k.tar"), &tar).unwrap();
    fs::write(at("k.tar.gz"), gzip(&tar)).unwrap();
    // Two members one behind the other are one file (RFC 1952, 2.2).
    fs::write(at("parts.tgz"), [gzip(&tar[..700]), gzip(&tar[700..])].concat()).unwrap();
    fs::write(at("k.tar.xz"), xz.finish().unwrap()).unwrap();
    fs::write(at("k.tar.zst"), zstd::encode_all(&tar[..], 1).unwrap()).unwrap();
    // As pzstd makes it: frames, each behind one to be skipped.
    let part = |tar: &[u8]| {
        [&b"\x50\x2a\x4d\x18\x01\0\0\0x"[..], &zstd::encode_all(tar, 1).unwrap()].concat()
    };
    fs::write(at("parts.tzst"), [part(&tar[..700]), part(&tar[700..])].concat()).unwrap();
    fs::write(at("k.deb"), make_deb(&files, ".xz")).unwrap();
    for (path, text) in files {
        let path = at("folder").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    std::os::unix::fs::symlink("Image", at("folder/boot/vmlinuz")).unwrap();
    for name in
        ["k.tar", "k.tar.gz", "parts.tgz", "k.tar.xz", "k.tar.zst", "parts.tzst", "k.deb", "folder"]
    {
        let archive = opened(folder.path(), &format!("path = {name:?}")).unwrap();
        assert_eq!(archive.contents.file("boot/Image").unwrap(), b"kernel", "{name}");
        assert_eq!(archive.is_folder, name == "folder");
        // Again, from the cache.
        let again = opened(folder.path(), &format!("path = {name:?}")).unwrap();
        assert_eq!(again.contents.follow("boot/Image").unwrap().unwrap(), b"kernel", "{name}");
    }
    let archive = opened(folder.path(), "path = \"folder\"").unwrap();
    assert_eq!(archive.contents.follow("boot/vmlinuz").unwrap().unwrap(), b"kernel");
}

#[test]
fn what_is_no_archive_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let whole = zstd::encode_all(&tar_of(&[("x", "hello")])[..], 1).unwrap();
    for (name, bytes, why) in [
        ("bz2", &b"BZh91AY"[..], "unpack it and name the folder"),
        ("text", b"hello", "is neither a folder, a .deb nor a tar archive"),
        ("empty", b"", "is neither a folder, a .deb nor a tar archive"),
        ("cut", &whole[..whole.len() / 2], "cannot be unpacked"),
        ("deb", b"!<arch>\nx", "has no data.tar"),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
        let message = opened(folder.path(), &format!("path = {name:?}")).unwrap_err();
        assert!(message.contains(why) && message.contains(name), "{name}: {message}");
    }
    let message = opened(folder.path(), "path = \"none\"").unwrap_err();
    assert!(message.contains("none: cannot be read"), "{message}");
}

#[test]
fn a_bomb_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // 5 GiB of zeros behind a tar header, in a few hundred kilobytes.
    let mut to = zstd::Encoder::new(Vec::new(), 1).unwrap();
    to.write_all(&tar_of(&[("x", "hello")])[..1024]).unwrap();
    let zeros = vec![0; 1 << 24];
    (0..5 * 64).for_each(|_| to.write_all(&zeros).unwrap());
    let cache = folder.path().join("none");
    let bytes = to.finish().unwrap();
    let mut from = BufReader::new(bytes.as_slice());
    let message = unpack(&mut from, &mut io::sink()).unwrap_err().to_string();
    assert!(message.contains("bytes unpacked"), "{message}");
    assert!(!cache.exists());
}

#[test]
fn another_hash_is_refused_and_a_folders_hash_is_over_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tar = tar_of(&[("x", "hello")]);
    fs::write(at("k.tar"), &tar).unwrap();
    let hash = Sha256::of(&tar);
    opened(folder.path(), &format!("path = \"k.tar\"\nsha256 = \"{hash}\"")).unwrap();
    let wrong = format!("path = \"k.tar\"\nsha256 = \"{}\"", Sha256::of(b"x"));
    let message = opened(folder.path(), &wrong).unwrap_err();
    assert!(message.contains("instead of") && message.contains("k.tar"), "{message}");

    fs::create_dir(at("f")).unwrap();
    let hash = || find(folder.path(), &entry("path = \"f\"")).unwrap().sha256;
    let mut seen = vec![hash()];
    let mut changed = |what: &str| {
        let now = hash();
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    fs::write(at("f/a"), "a").unwrap();
    changed("a file");
    fs::write(at("f/a"), "b").unwrap();
    changed("its bytes");
    fs::rename(at("f/a"), at("f/b")).unwrap();
    changed("its name");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(at("f/b"), mode).unwrap();
    changed("its mode");
    std::os::unix::fs::symlink("b", at("f/c")).unwrap();
    changed("a link");
    let message =
        opened(folder.path(), &format!("path = \"f\"\nsha256 = \"{}\"", hash())).unwrap_err();
    assert!(message.contains("remove the key"), "{message}");
}
