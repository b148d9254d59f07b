//! What is made from two images and applied to the first gives the second; what is damaged never
//! gives another one without saying so.

use delta::{make, Apply, Options};
use proptest::prelude::*;

const SMALL: Options = Options { group_mib: 1, threads: 1 };

fn apply(delta: &[u8], old: &[u8]) -> delta::Result<Vec<u8>> {
    let mut reader = delta;
    let mut apply = Apply::open(&mut reader)?;
    let mut new = Vec::new();
    apply.run(&mut reader, old, &mut new)?;
    Ok(new)
}

/// Bytes that look like an image's: text, zeros, branches and noise.
fn image(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::with_capacity(length + 4096);
    while bytes.len() < length {
        let kind = next() % 4;
        for _ in 0..next() % 200 {
            let word = match kind {
                0 => 0,
                1 => 0x9400_0000 | (next() as u32 & 0xfff),
                2 => 0x9000_0000 | (next() as u32 & 0x6000_00ff),
                _ => next() as u32,
            };
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    bytes.truncate(length);
    bytes
}

/// A change that an update brings: bytes replaced, put in or taken out.
#[derive(Debug, Clone)]
enum Edit {
    Replace(prop::sample::Index, Vec<u8>),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<prop::sample::Index>;
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        (place(), bytes()).prop_map(|(at, bytes)| Edit::Replace(at, bytes)),
        (place(), bytes()).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (place(), 0usize..3000).prop_map(|(at, length)| Edit::Remove(at, length)),
        (place(), 0usize..3000).prop_map(|(at, length)| Edit::Repeat(at, length)),
    ]
}

fn edited(old: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut new = old.to_vec();
    for edit in edits {
        let place = |at: &prop::sample::Index| if new.is_empty() { 0 } else { at.index(new.len()) };
        match edit {
            Edit::Replace(at, bytes) => {
                let at = place(at);
                let end = new.len().min(at + bytes.len());
                new.splice(at..end, bytes.iter().copied());
            }
            Edit::Insert(at, bytes) => {
                let at = place(at);
                new.splice(at..at, bytes.iter().copied());
            }
            Edit::Remove(at, length) => {
                let at = place(at);
                let end = new.len().min(at + length);
                new.drain(at..end);
            }
            Edit::Repeat(at, length) => {
                let at = place(at);
                let end = new.len().min(at + length);
                let copy = new[at..end].to_vec();
                new.extend(copy);
            }
        }
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn any_two_images_round_trip(
        old in proptest::collection::vec(any::<u8>(), 0..3000),
        new in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let delta = make(&old, &new, &SMALL).unwrap();
        prop_assert!(apply(&delta, &old).unwrap() == new);
    }

    #[test]
    fn related_images_round_trip(
        seed in any::<u64>(),
        length in 0usize..300_000,
        edits in proptest::collection::vec(edit(), 0..12),
    ) {
        let old = image(length, seed);
        let new = edited(&old, &edits);
        let delta = make(&old, &new, &SMALL).unwrap();
        prop_assert!(apply(&delta, &old).unwrap() == new);
    }

    #[test]
    fn damage_never_gives_another_image(
        seed in any::<u64>(),
        edits in proptest::collection::vec(edit(), 1..6),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let old = image(20_000, seed);
        let new = edited(&old, &edits);
        let delta = make(&old, &new, &SMALL).unwrap();
        prop_assert!(apply(&delta[..cut.index(delta.len())], &old).is_err());
        let mut damaged = delta.clone();
        for (at, bit) in flips {
            damaged[at.index(delta.len())] ^= 1 << bit;
        }
        // Some bits mean nothing (the old image's hash, which the caller compares): then the image
        // is still the right one.
        if let Ok(made) = apply(&damaged, &old) {
            prop_assert!(made == new);
        }
    }

    #[test]
    fn hostile_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..4000),
        segments in 0u32..1000,
        control in 0u32..300,
        frame in 0u32..3000,
        new_size in 0u64..2_500_000,
    ) {
        // A header that holds, so that what is behind it is reached.
        let mut head = b"FERRDLTA".to_vec();
        for word in [1u32, 1 << 20] {
            head.extend(word.to_le_bytes());
        }
        head.extend(70_000u64.to_le_bytes());
        head.extend(new_size.to_le_bytes());
        head.extend([0; 64]);
        head.extend(segments.to_le_bytes());
        head.extend(control.to_le_bytes());
        for _ in 0..new_size.div_ceil(1 << 20) {
            head.extend(frame.to_le_bytes());
            head.extend([0; 32]);
        }
        head.append(&mut bytes);
        prop_assert!(apply(&head, &image(70_000, 7)).is_err() || new_size == 0);
    }
}

/// A new image of several groups, with branches that move.
fn pair() -> (Vec<u8>, Vec<u8>) {
    let old = image(3_300_000, 11);
    let mut new = old.clone();
    new.splice(1_000_000..1_000_000, image(4_000, 13));
    new.drain(2_000_000..2_000_400);
    (old, new)
}

#[test]
fn every_group_decodes_on_its_own_and_in_any_order() {
    let (old, new) = pair();
    let delta = make(&old, &new, &SMALL).unwrap();
    let mut apply = Apply::open(&delta[..]).unwrap();
    let header = apply.header().clone();
    assert_eq!(header.groups.len(), 4);
    for index in [2, 0, 3, 1, 2] {
        let range = header.range(index);
        let mut made = Vec::new();
        let frame = &delta[header.frame_offset(index) as usize..];
        apply.group(index, frame, &old[..], &mut made).unwrap();
        assert!(made == new[range.start as usize..range.end as usize], "group {index}");
    }
}

#[test]
fn the_same_images_give_the_same_delta_whatever_the_threads() {
    let (old, new) = pair();
    let one = make(&old, &new, &SMALL).unwrap();
    let four = make(&old, &new, &Options { threads: 4, ..SMALL }).unwrap();
    assert!(one == four);
    assert!(one.len() < 30_000, "{} bytes", one.len());
}

#[test]
fn another_old_image_is_noticed() {
    let (old, new) = pair();
    let delta = make(&old, &new, &SMALL).unwrap();
    let mut other = old.clone();
    other[500_000] ^= 1;
    let error = apply(&delta, &other).unwrap_err().to_string();
    assert!(error.contains("group 0"), "{error}");
    assert!(apply(&delta, &old[..old.len() - 1]).is_err());
}

#[test]
fn hostile_lengths_are_refused_before_they_are_used() {
    let (old, new) = pair();
    let delta = make(&old, &new, &SMALL).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut delta = delta.clone();
        delta[at..at + bytes.len()].copy_from_slice(bytes);
        apply(&delta, &old).unwrap_err().to_string()
    };
    for (at, bytes, says) in [
        (0, &b"X"[..], "no delta"),
        (8, &[9, 0, 0, 0], "version 9"),
        (12, &[0; 4], "whole MiB"),
        (12, &[1, 0, 0, 0], "whole MiB"),
        (16, &[0xff; 8], "old image"),
        (24, &[0xff; 8], "new image"),
        (24, &[0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0], "group"),
        (96, &[0xff; 4], "segments"),
        (100, &[0xff; 4], "segments"),
        (104, &[0xff; 4], "group 0"),
    ] {
        let error = with(at, bytes);
        assert!(error.contains(says), "{at}: {error}");
    }
}

#[test]
fn an_empty_image_has_a_delta() {
    for (old, new) in [(&b""[..], &b""[..]), (b"", b"new"), (b"old", b"")] {
        assert_eq!(apply(&make(old, new, &SMALL).unwrap(), old).unwrap(), new);
    }
}
