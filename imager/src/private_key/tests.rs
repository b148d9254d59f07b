//! Keys that other programs made, and files that only look like them.

use super::*;
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

/// Each line between two pieces of a program.
fn in_program(text: &str, before: &str, behind: &str) -> String {
    text.lines().map(|line| format!("{before}{line}{behind}")).collect()
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
        ("in a program, line by line", in_program(&text, "    b\"", "\\n\"\n").into_bytes()),
        ("in a list of texts", in_program(&text, "  '", "',\n").into_bytes()),
        ("in C", in_program(&text, "\"", "\\n\" \\\n").into_bytes()),
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
        (
            "a program that looks for the label",
            b"marks = ['-----BEGIN PRIVATE KEY-----', \"-----BEGIN EC PRIVATE KEY-----\"]\nfor mark in marks:\n".to_vec(),
        ),
        ("a page with a gap", b"\"-----BEGIN PRIVATE KEY-----\\nMIIE...\\n-----END\"".to_vec()),
        ("nothing", Vec::new()),
        ("zeros", vec![0; 5000]),
        ("this source", include_bytes!("../private_key.rs").to_vec()),
    ] {
        assert!(!is_one(&bytes), "{what}");
        refuse("x", &bytes).unwrap();
    }
}

/// A key is found wherever the pieces of a file end.
#[test]
fn keys_are_found_piece_by_piece() {
    let key = own("image.key");
    let place = Detector::AT_ONCE - 30;
    let long = [vec![b'x'; place], key.clone(), vec![b'x'; Detector::AT_ONCE]].concat();
    for (bytes, piece) in
        [(&key, 1), (&long, 1000), (&long, Detector::AT_ONCE), (&long, long.len())]
    {
        let mut detector = Detector::default();
        bytes.chunks(piece).for_each(|piece| detector.push(piece));
        assert!(detector.is_one(), "{piece}");
    }
    let mut detector = Detector::default();
    detector.push(&vec![b'x'; 3 * Detector::AT_ONCE]);
    assert!(!detector.is_one());
}

#[test]
fn the_demo_and_the_documentation_hold_no_key() {
    let project = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    for folder in ["demo", "demo/face", "docs", "docs/choosers", "board-configs"] {
        for entry in std::fs::read_dir(project.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                refuse(&path.display().to_string(), &std::fs::read(&path).unwrap()).unwrap();
            }
        }
    }
}
