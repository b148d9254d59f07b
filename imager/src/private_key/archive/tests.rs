//! Archives with a key in them, and those that cannot be searched.

use std::io::Write;
use std::path::Path;

use super::super::refuse;
use super::*;
use crate::sources::wheel::tests::make_wheel;

fn key() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    publisher::keys::generate(dir.path()).unwrap();
    std::fs::read(dir.path().join("image.key")).unwrap()
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, Path::new(name), *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn keys_are_found_in_archives_and_in_archives_in_them() {
    let key = key();
    let plain = tar(&[("a.txt", b"text"), ("keys/image.key", &key)]);
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let zip = make_wheel(&[("a", b"text"), ("keys/image.key", &key)]);
    let nested = tar(&[("inner.zip", &zip)]);
    for (name, bytes) in [
        ("a.tar", plain.clone()),
        ("a.tar.gz", gzip(&plain)),
        ("a.tar.xz", xz.finish().unwrap()),
        ("a.tar.zst", zstd::encode_all(&plain[..], 1).unwrap()),
        ("a.zip", zip),
        ("a.tar", nested),
    ] {
        let message = refuse(name, &bytes).unwrap_err().to_string();
        assert!(message.contains(&format!("{name}: ")), "{message}");
        assert!(message.contains("keys/image.key is a private key"), "{message}");
    }
    refuse("a.tar", &tar(&[("a.txt", b"text")])).unwrap();
}

/// The zip archive behind a program's first line, as in `.pyz`, or behind a model, as TFLite's
/// metadata.
#[test]
fn keys_are_found_in_a_zip_archive_behind_other_bytes() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("k.key", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(&key()).unwrap();
    let zip = zip.finish().unwrap().into_inner();
    let model = [b"\x1c\0\0\0TFL3".as_slice(), &[7; 3000], &zip].concat();
    for (name, bytes) in [
        ("a.pyz", [b"#!/usr/bin/env python3\n".as_slice(), &zip].concat()),
        ("a.tflite", model.clone()),
        ("a.tar", tar(&[("a.tflite", &model)])),
        ("a.tar.gz", gzip(&tar(&[("a.tflite", &model)]))),
    ] {
        let message = refuse(name, &bytes).unwrap_err().to_string();
        assert!(message.contains("k.key is a private key"), "{message}");
    }
}

/// Changes the method of a zip archive's only member.
fn with_method(mut zip: Vec<u8>, method: u8, flags: u8) -> Vec<u8> {
    let central = zip.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    (zip[8], zip[central + 10]) = (method, method);
    (zip[6], zip[central + 8]) = (flags, flags);
    zip
}

fn xz_with_dictionary(mebibytes: u32) -> Vec<u8> {
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(mebibytes << 20);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let check = liblzma::stream::Check::Crc32;
    let stream = liblzma::stream::Stream::new_stream_encoder(&filters, check).unwrap();
    let mut xz = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    xz.write_all(b"text").unwrap();
    xz.finish().unwrap()
}

#[test]
fn what_cannot_be_searched_to_its_end_is_refused_with_the_reason_and_the_way_out() {
    let zip = make_wheel(&[("a", &[7; 5000])]);
    let gzip = gzip(&tar(&[("a", &[7; 5000])]));
    let mut deep = b"text".to_vec();
    for _ in 0..=MAX_DEPTH {
        deep = tar(&[("a", &deep)]);
    }
    for (bytes, reason) in [
        (with_method(zip.clone(), 93, 0), "method"),
        (zip[..zip.len() / 2].to_vec(), "end"),
        (gzip[..gzip.len() / 2].to_vec(), "it is cut off"),
        (tar(&[("a", &[7; 5000])])[..2000].to_vec(), "cut off"),
        (xz_with_dictionary(300), "more than 256 MiB of memory"),
        (b"BZh91AY&SY....".to_vec(), "it is packed with bzip2"),
        (b"7z\xBC\xAF\x27\x1C..".to_vec(), "it is packed with 7z"),
        (tar(&[("a.tar.bz2", b"BZh91AY&SY....")]), "it is packed with bzip2"),
        (deep, "too many archives"),
    ] {
        let message = refuse("a", &bytes).unwrap_err().to_string();
        assert!(message.contains(reason), "{reason}: {message}");
        assert!(message.contains("`exclude`") && message.contains("pack it again"), "{message}");
        for word in ["UnexpectedEof", "unexpected end", "os error", "buffer"] {
            assert!(!message.contains(word), "{message}");
        }
    }
}

#[test]
fn an_archive_with_too_much_in_it_is_refused() {
    let bytes = gzip(&vec![0; 100_000]);
    let search = |left| Search { left: Cell::new(left) }.whole("a.gz", &bytes);
    assert!(search(200_000).unwrap().is_none());
    let unsearched = search(50_000).unwrap_err();
    assert!(unsearched.reason.contains("more than"), "{unsearched:?}");
}

#[test]
fn what_is_plainly_no_archive_or_closed_to_everybody_passes() {
    let zip = make_wheel(&[("a", &[7; 5000])]);
    let text = b"the end record begins with PK\x05\x06, and twenty bytes more follow it".to_vec();
    for (what, bytes) in [
        ("a wheel", make_wheel(&[("a/b.tflite", b"model"), ("a/empty", b"")])),
        ("an encrypted member", with_method(zip, 99, 1)),
        ("numbers that begin as gzip does", b"\x1F\x8B\x07\0\0\0\0\0\0\0\0".to_vec()),
        ("a word", b"BZh9 is no archive".to_vec()),
        ("a program that knows zip", text),
        ("a text that says ustar", [&[b'a'; 257], b"ustar".as_slice(), &[b'a'; 500]].concat()),
        ("an xz file as `xz -9` makes it", xz_with_dictionary(64)),
        ("nothing in gzip", gzip(b"")),
        ("an empty tar archive", vec![0; 1024]),
        ("an empty zip archive", make_wheel(&[])),
    ] {
        if let Err(error) = refuse("a", &bytes) {
            panic!("{what}: {error}");
        }
    }
}
