use super::*;
use crate::machine::Machine;
use crate::sample::program;
use proptest::prelude::*;
use std::process::Command;

#[test]
#[ignore = "needs binutils-aarch64-linux-gnu: `just unit`"]
fn what_was_appended_is_what_objdump_sees() {
    let mut pe = Pe::read(program(Machine::Arm64)).unwrap();
    let kernel: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
    for (name, content) in [
        (".linux", &kernel[..]),
        (".cmdline", b"quiet"),
        (".profile", b"ID=x\n"),
        (".cmdline", b"b"),
    ] {
        pe.append(name, content).unwrap();
    }
    let again = Pe::read(pe.bytes().to_vec()).unwrap();
    assert_eq!(again.sections(), pe.sections());
    assert_eq!(again.content(&again.sections()[1]), kernel);
    assert_eq!(again.content(&again.sections()[4]), b"b");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pe.bytes()).unwrap();
    let output = Command::new("aarch64-linux-gnu-objdump")
        .args(["-h", "-b", "pei-aarch64-little"])
        .arg(file.path())
        .output()
        .expect("install the package binutils-aarch64-linux-gnu");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    // Its index, name, size in memory, address and place in the file.
    let found: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() == 7 && words[1].starts_with('.'))
        .collect();
    assert_eq!(found.len(), 5, "{text}");
    for (words, section) in found.iter().zip(pe.sections()) {
        let number = |word: &str| usize::from_str_radix(word, 16).unwrap();
        assert_eq!(words[1], section.name);
        assert_eq!(number(words[3]), section.address);
        assert_eq!(number(words[5]), section.raw_at);
        assert!([section.virtual_size, section.raw_size].contains(&number(words[2])), "{text}");
    }
}

#[test]
fn a_header_without_room_and_a_signed_image_are_refused() {
    let mut full = Pe::read(program(Machine::Amd64)).unwrap();
    let refused = (0..200).find_map(|_| full.append(".x", b"x").err()).unwrap().to_string();
    assert!(refused.contains("no room"), "{refused}");
    let mut signed = program(Machine::Amd64);
    signed[0x98 + DIRECTORIES + 8 * CERTIFICATES + 4] = 8;
    assert!(Pe::read(signed).unwrap().append(".x", b"x").is_err());
    for wrong in [&b""[..], b"MZ", &[0; 5000], b"\x7FELF"] {
        assert!(Pe::read(wrong.to_vec()).is_err());
    }
}

proptest! {
    #[test]
    fn a_damaged_image_is_an_answer_or_an_error(
        damage in proptest::collection::vec((0usize..0x200, any::<u8>()), 1..8),
    ) {
        let mut bytes = program(Machine::Arm64);
        damage.iter().for_each(|(at, value)| bytes[*at] = *value);
        if let Ok(mut pe) = Pe::read(bytes) {
            pe.sections().to_vec().iter().for_each(|section| drop(pe.content(section).to_vec()));
            let _ = pe.append(".x", b"x");
        }
    }
}
