//! Keys that other programs made, and files that only look like them.

use super::*;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A file that a command makes in a folder of its own.
fn made(program: &str, arguments: &[&str], file: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .unwrap_or_else(|e| panic!("this test needs {program}: {e}"));
    assert!(output.status.success(), "{output:?}");
    std::fs::read(dir.path().join(file)).unwrap()
}

fn own(file: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    publisher::keys::generate(dir.path()).unwrap();
    publisher::secure_boot_keys::generate(dir.path()).unwrap();
    std::fs::read(dir.path().join(file)).unwrap()
}

fn openssl(arguments: &str, file: &str) -> Vec<u8> {
    made("openssl", &arguments.split(' ').collect::<Vec<_>>(), file)
}

#[test]
fn private_keys_of_every_form_are_found() {
    let pem = own("image.key");
    let text = String::from_utf8(pem.clone()).unwrap();
    let json = format!("{{\"private_key\": \"{}\"}}", text.replace('\n', "\\n"));
    let crlf = text.replace('\n', "\r\n");
    let inside = format!("# settings\nkey: |\n  {}", text.replace('\n', "\n  "));
    for (what, bytes) in [
        ("ours", pem.clone()),
        ("ours for Secure Boot", own("secure-boot/db.key")),
        ("in JSON", json.into_bytes()),
        ("with CR LF", crlf.into_bytes()),
        ("in YAML", inside.into_bytes()),
        ("behind other bytes", [vec![0; 70_000], pem].concat()),
    ] {
        assert!(is_one(&bytes), "{what}");
        refuse("x", &bytes).unwrap_err();
    }
    for text in ["PuTTY-User-Key-File-3: ssh-ed25519\n", "AGE-SECRET-KEY-1QQQ"] {
        assert!(is_one(text.as_bytes()), "{text}");
    }
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn private_keys_that_openssl_makes_are_found_in_every_form() {
    for (what, bytes) in [
        ("PKCS #1", openssl("genrsa -traditional -out k 1024", "k")),
        ("encrypted", openssl("genrsa -traditional -aes128 -passout pass:x -out k 1024", "k")),
        (
            "encrypted PKCS #8",
            openssl("genpkey -algorithm ed25519 -aes128 -pass pass:x -out k", "k"),
        ),
        ("SEC 1", openssl("ecparam -name prime256v1 -genkey -noout -out k", "k")),
        ("PKCS #8 in DER", openssl("genpkey -algorithm ed25519 -outform DER -out k", "k")),
        (
            "SEC 1 in DER",
            openssl("ecparam -name prime256v1 -genkey -noout -outform DER -out k", "k"),
        ),
    ] {
        assert!(is_one(&bytes), "{what}");
        refuse("x", &bytes).unwrap_err();
    }
}

#[test]
fn what_only_names_private_keys_is_left_alone() {
    for (what, bytes) in [
        ("a public key", own("image.pub")),
        ("a certificate", own("secure-boot/db.crt")),
        ("a certificate in DER", own("secure-boot/db.cer")),
        ("metadata", own("root.json")),
        (
            "a program that knows the label",
            b"\0-----BEGIN PRIVATE KEY-----\0-----END \0abc".to_vec(),
        ),
        ("a page about keys", b"A key begins with -----BEGIN PRIVATE KEY----- and so on.".to_vec()),
        ("nothing", Vec::new()),
        ("zeros", vec![0; 5000]),
        ("this source", include_bytes!("../private_key.rs").to_vec()),
    ] {
        assert!(!is_one(&bytes), "{what}");
        refuse("x", &bytes).unwrap();
    }
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

#[test]
fn keys_are_found_in_archives_and_in_archives_in_them() {
    let key = own("image.key");
    let plain = tar(&[("a.txt", b"text"), ("keys/image.key", &key)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let zip = crate::sources::wheel::tests::make_wheel(&[("a", b"text"), ("keys/image.key", &key)]);
    let nested = tar(&[("inner.zip", &zip)]);
    for (name, bytes) in [
        ("a.tar", plain.clone()),
        ("a.tar.gz", gzip.finish().unwrap()),
        ("a.tar.xz", xz.finish().unwrap()),
        ("a.tar.zst", zstd::encode_all(&plain[..], 1).unwrap()),
        ("a.zip", zip),
        ("a.tar", nested),
    ] {
        let message = refuse(name, &bytes).unwrap_err().to_string();
        assert!(message.contains(&format!("{name}: ")), "{message}");
        assert!(message.contains("keys/image.key is a private key"), "{message}");
    }
    refuse("a.tar", &tar(&[("image.pub", &own("image.pub"))])).unwrap();
}
