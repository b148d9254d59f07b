use super::super::elf::made::object;
use super::*;
use std::path::Path;

const LOADER: &str = "/lib/ld-linux-aarch64.so.1";

fn board() -> Board {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
    Board::load("qemu-arm64", Path::new(folder)).unwrap()
}

fn image(workload: &str) -> Image {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i.toml");
    let head = "name = \"demo\"\nversion = \"1\"\nsequence = 1\n[[workload]]\nname = \"own\"\n";
    std::fs::write(&path, format!("{head}{workload}\n")).unwrap();
    Image::load(&path).unwrap()
}

/// A root with the C library, a shell and these files, for a workload as these lines have it.
fn checked(workload: &str, files: &[(&str, u16, Vec<u8>)]) -> Result<()> {
    let mut tree = Tree::usr_merged(0);
    let library = |libraries: &[&str]| object(None, libraries, None);
    tree.file(LOADER, 0o755, library(&[])).unwrap();
    let libc = "/usr/lib/aarch64-linux-gnu/libc.so.6";
    tree.file(libc, 0o755, library(&["ld-linux-aarch64.so.1"])).unwrap();
    tree.file("/usr/bin/dash", 0o755, object(Some(LOADER), &["libc.so.6"], None)).unwrap();
    tree.symlink("/usr/bin/sh", "dash").unwrap();
    tree.file("/usr/bin/env", 0o755, object(Some(LOADER), &["libc.so.6"], None)).unwrap();
    tree.file("/sbin/init", 0o755, &b"\x7FELF init"[..]).unwrap();
    for (path, mode, bytes) in files {
        tree.file(path, *mode, bytes.as_slice()).unwrap();
    }
    check(&tree, &image(workload), &board())
}

/// The same for a workload whose program is this file.
fn started(program: &[u8]) -> Result<()> {
    checked("command = [\"/usr/bin/own\"]", &[("/usr/bin/own", 0o755, program.to_vec())])
}

#[track_caller]
fn refused(result: Result<()>, words: &[&str]) {
    let message = format!("{:#}", result.unwrap_err());
    assert!(message.starts_with("workload own: "), "{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}

#[test]
fn what_starts_on_the_device_is_built() {
    started(&object(None, &[], None)).unwrap();
    started(&object(Some(LOADER), &["libc.so.6"], None)).unwrap();
    started(b"#!/bin/sh\necho\n").unwrap();
    started(b"#! /bin/sh -e\necho\n").unwrap();
    started(b"#!/usr/bin/env sh\necho\n").unwrap();
    let script = [("/usr/lib/app.sh", 0o644, b"echo".to_vec())];
    checked("command = [\"/usr/bin/sh\", \"/usr/lib/app.sh\"]", &script).unwrap();
    checked("command = [\"/usr/bin/sh\", \"/data/app.sh\"]", &[]).unwrap();
    checked("command = [\"/usr/bin/sh\", \"-c\", \"/x\"]", &[]).unwrap();
}

#[test]
fn a_program_for_another_processor_is_refused() {
    let mut amd64 = object(None, &[], None);
    amd64[18] = 62;
    refused(started(&amd64), &["/usr/bin/own", "x86_64 (amd64)", "aarch64 (arm64)", "build it"]);
    let mut armhf = object(None, &[], None);
    (armhf[4], armhf[18]) = (1, 40);
    refused(started(&armhf), &["32 bits"]);
}

#[test]
fn what_is_no_program_is_refused() {
    refused(started(b"print('hello')\n"), &["neither a program", "nor a script", "#!"]);
    refused(started(b""), &["is an empty file"]);
    let whole = object(None, &[], None);
    refused(started(&whole[..whole.len() - 1]), &["cut off or damaged"]);
    refused(started(&whole[..70]), &["cut off or damaged"]);
    let text = [("/usr/bin/own", 0o644, whole)];
    refused(checked("command = [\"/usr/bin/own\"]", &text), &["not an executable file"]);
    refused(checked("command = [\"/usr/bin/none\"]", &[]), &["nothing puts /usr/bin/none"]);
}

#[test]
fn a_script_without_its_interpreter_is_refused() {
    refused(started(b"#!/usr/bin/python3\n"), &["#!/usr/bin/python3", "package `python3-minimal`"]);
    refused(started(b"#!/usr/bin/env python3\n"), &["puts python3 on", "`python3-minimal`"]);
    refused(started(b"#!/opt/own\n"), &["nothing puts /opt/own on the root"]);
    refused(started(b"#!/bin/sh\r\necho\r\n"), &["CR LF", "sed"]);
    refused(started(b"#!sh\n"), &["whole path"]);
    refused(started(b"#!/usr/bin/own\n"), &["without end"]);
}

#[test]
fn libraries_that_are_not_in_the_image_are_named() {
    let program = object(Some(LOADER), &["libopencv_core.so.410", "libc.so.6"], None);
    refused(started(&program), &["libopencv_core.so.410 (for /usr/bin/own)", "[debian]"]);
    let musl = object(Some("/lib/ld-musl-aarch64.so.1"), &["libc.so"], None);
    refused(started(&musl), &["ld-musl-aarch64.so.1", "statically"]);
    let own = [
        ("/usr/bin/own", 0o755, object(Some(LOADER), &["libx.so"], None)),
        ("/opt/x/libx.so", 0o644, object(None, &["libc.so.6"], None)),
    ];
    refused(checked("command = [\"/usr/bin/own\"]", &own), &["libx.so"]);
    let variable = "env = { LD_LIBRARY_PATH = \"/opt/x\" }";
    checked(&format!("command = [\"/usr/bin/own\"]\n{variable}"), &own).unwrap();
}

#[test]
fn health_checks_and_the_scripts_of_interpreters_are_looked_at_too() {
    let own = [("/usr/bin/own", 0o755, object(None, &[], None))];
    let health = "command = [\"/usr/bin/own\"]\nhealth = { command = [\"/usr/bin/none\"] }";
    refused(checked(health, &own), &["`health.command`", "/usr/bin/none"]);
    let typo = "command = [\"/usr/bin/sh\", \"/usr/lib/ap.sh\"]";
    refused(checked(typo, &[]), &["nothing puts /usr/lib/ap.sh"]);
}
