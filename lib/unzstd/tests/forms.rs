//! Every form that a zstd file may have (RFC 8878), made by hand and by the programs `zstd` and
//! `pzstd`, and what is told of those that cannot be read.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;

/// A skippable frame (section 3.1.2).
fn skippable(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x50 | kind, 0x2A, 0x4D, 0x18];
    frame.extend((content.len() as u32).to_le_bytes());
    frame.extend(content);
    frame
}

/// A frame with one raw block (section 3.1.1), without size and checksum, for a window of
/// `1 << (10 + exponent)` bytes.
fn raw(content: &[u8], exponent: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, exponent << 3];
    frame.extend(&(1 | (content.len() as u32) << 3).to_le_bytes()[..3]);
    frame.extend(content);
    frame
}

/// The same with its size and without a window: a single segment.
fn single_segment(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x20, content.len() as u8];
    frame.extend(&(1 | (content.len() as u32) << 3).to_le_bytes()[..3]);
    frame.extend(content);
    frame
}

fn unpacked(file: &[u8]) -> Result<Vec<u8>, String> {
    assert!(unzstd::is_zstd(file));
    let mut out = Vec::new();
    let read = unzstd::reader(file).unwrap().read_to_end(&mut out);
    read.map(|_| out).map_err(|e| e.to_string())
}

/// What one of zstd's programs makes of `input`.
fn packed(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("this test needs {program} of the package zstd: {e}"));
    let mut to = child.stdin.take().unwrap();
    let bytes = input.to_vec();
    let writer = std::thread::spawn(move || to.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    output.stdout
}

/// Words that repeat, close by and far apart.
fn text() -> Vec<u8> {
    let mut all = Vec::new();
    for number in 0..20_000u32 {
        all.extend(format!("line {number} of {}\n", number.wrapping_mul(2_654_435_761)).bytes());
    }
    all.extend_from_within(..300_000);
    all
}

#[test]
fn frames_by_hand_in_any_order() {
    for (file, wanted) in [
        (raw(b"one", 0), &b"one"[..]),
        (single_segment(b"one"), b"one"),
        ([raw(b"one ", 0), single_segment(b"two "), raw(b"three", 5)].concat(), b"one two three"),
        ([skippable(0, b"first"), raw(b"one", 0)].concat(), b"one"),
        ([skippable(15, b""), skippable(7, b"again"), raw(b"one", 0)].concat(), b"one"),
        ([raw(b"one", 0), skippable(3, &[0; 300]), raw(b"two", 0)].concat(), b"onetwo"),
        ([raw(b"one", 0), skippable(3, b"last")].concat(), b"one"),
        (skippable(1, b"nothing else"), b""),
        ([raw(b"", 0), raw(b"one", 0), raw(b"", 0)].concat(), b"one"),
        // A window of 128 MiB, of 1 GiB, and the longest that zstd has.
        (raw(b"long", 17), b"long"),
        (raw(b"longer", 20), b"longer"),
        (raw(b"longest", 21), b"longest"),
    ] {
        assert_eq!(unpacked(&file).as_deref(), Ok(wanted), "{file:x?}");
    }
}

#[test]
#[ignore = "needs zstd and pzstd: `just unit`"]
fn what_the_programs_make() {
    let text = text();
    for (program, arguments) in [
        ("zstd", &["-3"][..]),
        ("zstd", &["-19", "--long=27"]),
        ("zstd", &["-1", "--long=31"]),
        ("zstd", &["--no-check", "-5"]),
        ("zstd", &["--fast=5", "--rsyncable", "-T2"]),
        // Each piece a frame of its own behind a skippable one with its length.
        ("pzstd", &["-3", "-p", "2"]),
    ] {
        let file = packed(program, arguments, &text);
        assert!(unpacked(&file).as_deref() == Ok(&text[..]), "{program} {arguments:?}");
        let twice = [&file[..], &skippable(9, b"between"), &file].concat();
        let wanted = [&text[..], &text].concat();
        assert!(unpacked(&twice).as_deref() == Ok(&wanted[..]), "{program} {arguments:?}");
    }
    assert_eq!(packed("pzstd", &["-3"], b"x")[..4], [0x50, 0x2A, 0x4D, 0x18]);
}

#[test]
fn what_cannot_be_read_is_told_why() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&text()).unwrap();
    let good = encoder.finish().unwrap();
    let mut checksum = good.clone();
    *checksum.last_mut().unwrap() ^= 1;
    let mut dictionary = raw(b"one", 0);
    dictionary[4] = 1;
    dictionary.insert(6, 77);
    // Section 3.1.1.2.2: no block has this kind.
    let mut reserved = raw(b"one", 0);
    reserved[6] |= 6;
    for (file, told) in [
        (raw(b"one", 22), "window of more than 2 GiB"),
        (dictionary, "with a dictionary"),
        (checksum, "its checksum is another"),
        (good[..good.len() - 1].to_vec(), "cut off"),
        (good[..6].to_vec(), "cut off"),
        ([&good[..], b"and more"].concat(), "no zstd frame"),
        // A file of zstd 0.7 behind a skippable frame.
        ([skippable(0, b""), b"\x27\xB5\x2F\xFDxxxxxx".to_vec()].concat(), "no zstd frame"),
        (reserved, "damaged"),
        (skippable(0, b"cut")[..9].to_vec(), "cut off"),
    ] {
        let error = unpacked(&file).unwrap_err();
        assert!(error.contains(told), "{told}: {error}");
    }
    for other in [&b""[..], b"\x28\xB5\x2F", b"\x27\xB5\x2F\xFD", b"\x1F\x8B\x08\0", b"ustar"] {
        assert!(!unzstd::is_zstd(other), "{other:x?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, kind in 0u8..16) {
        let file = [skippable(kind, b"x"), raw(b"y", 0), bytes].concat();
        let _ = unpacked(&file);
    }
}
