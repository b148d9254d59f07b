//! What is made from two images and applied to the first gives the second; what is damaged never
//! gives another one without saying so.

use delta::{Apply, Header, Options, make};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const SMALL: Options<'_> = Options { group_mib: 1, threads: 1, elsewhere: &[] };

/// As a device does it, but all in memory.
fn apply(delta: &[u8], old: &[u8]) -> delta::Result<Vec<u8>> {
    let header = Header::parse(delta)?;
    let head = header.head_length().min(delta.len() as u64) as usize;
    let mut apply = Apply::open(&delta[..head])?;
    let mut new = vec![0; header.new_size as usize];
    for index in 0..header.groups.len() {
        let range = header.range(index);
        let (made, rest) = new.split_at_mut(range.start as usize);
        apply.group(index, frame(delta, &header, index), old, made, &mut rest[..range.len()])?;
    }
    Ok(new)
}

/// A group's frame, cut where the delta is.
fn frame<'a>(delta: &'a [u8], header: &Header, index: usize) -> &'a [u8] {
    let length = header.groups[index].length as usize;
    let start = (header.frame_offset(index) as usize).min(delta.len());
    &delta[start..(start + length).min(delta.len())]
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
        // The head has no hash of its own here: a caller's compares it.
        let header = Header::parse(&delta).unwrap();
        let head = header.head_length() as usize;
        if damaged[..head] == delta[..head] {
            prop_assert!(apply(&damaged, &old).is_err() || damaged == delta);
        } else if let Ok(made) = apply(&damaged, &old) {
            prop_assert!(made.len() <= new.len() + (1 << 20));
        }
    }

    #[test]
    fn hostile_bytes_never_panic(
        control in proptest::collection::vec(any::<u8>(), 0..300),
        mut frame in proptest::collection::vec(any::<u8>(), 8..3000),
        kind in 0u8..3,
        packed in 0u32..400,
        segments in 0u32..1000,
        new_size in 1u32..2_500_000,
        reach in 0u8..5,
    ) {
        frame[0] = kind;
        if kind == 1 {
            frame[1..5].copy_from_slice(&packed.to_le_bytes());
        }
        // A head that holds, with the right hashes, so that what is behind it is reached.
        let mut delta = head(new_size, segments, control.len() as u32);
        for _ in 0..new_size.div_ceil(1 << 20) {
            delta.extend((frame.len() as u32).to_le_bytes());
            delta.push(reach);
            delta.extend(Sha256::digest(&frame));
        }
        delta.extend(control);
        for _ in 0..new_size.div_ceil(1 << 20) {
            delta.extend(&frame);
        }
        let _ = apply(&delta, &image(70_000, 7));
    }
}

/// A head's fixed part, for an old image of 70000 bytes.
fn head(new_size: u32, segments: u32, control: u32) -> Vec<u8> {
    let mut head = b"FERRDLTA".to_vec();
    for word in [2, 1 << 20, 70_000, new_size, segments, control] {
        head.extend(word.to_le_bytes());
    }
    head
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
    let header = Header::parse(&delta).unwrap();
    let mut apply = Apply::open(&delta[..header.head_length() as usize]).unwrap();
    assert_eq!(header.groups.len(), 4);
    for index in [2, 0, 3, 1, 2] {
        let range = header.range(index);
        let mut made = vec![0; range.len()];
        assert_eq!(header.needs(index).end, range.start);
        // What the group needs is there, and nothing else.
        let mut before = vec![0xee; range.start as usize];
        let needs = header.needs(index).start as usize..range.start as usize;
        before[needs.clone()].copy_from_slice(&new[needs]);
        let frame = frame(&delta, &header, index);
        apply.group(index, frame, &old[..], &before[..], &mut made).unwrap();
        assert!(made == new[range.start as usize..range.end as usize], "group {index}");
    }
}

#[test]
fn a_group_that_is_cheaper_elsewhere_is_left_out() {
    let (old, new) = pair();
    let all = make(&old, &new, &SMALL).unwrap();
    let whole = Header::parse(&all).unwrap();
    let costs: Vec<u32> =
        whole.groups.iter().zip([1, 0, 1]).map(|(group, more)| group.length + more).collect();
    let delta = make(&old, &new, &Options { elsewhere: &costs, ..SMALL }).unwrap();
    let header = Header::parse(&delta).unwrap();
    let lengths: Vec<u32> = header.groups.iter().map(|group| group.length).collect();
    let all: Vec<u32> = whole.groups.iter().map(|group| group.length).collect();
    assert_eq!(lengths, [all[0], 0, all[2], all[3]]);
    let mut apply = Apply::open(&delta[..header.head_length() as usize]).unwrap();
    let mut made = vec![0; 1 << 20];
    let error = apply.group(1, &[], &old[..], &new[..], &mut made).unwrap_err().to_string();
    assert!(error.contains("group 1 is not in it"), "{error}");
    apply.group(2, frame(&delta, &header, 2), &old[..], &new[..], &mut made).unwrap();
    assert!(made == new[2 << 20..3 << 20]);
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
fn a_frame_is_refused_before_it_is_decoded() {
    let (old, new) = pair();
    let delta = make(&old, &new, &SMALL).unwrap();
    let header = Header::parse(&delta).unwrap();
    let mut apply = Apply::open(&delta[..header.head_length() as usize]).unwrap();
    let good = frame(&delta, &header, 1);
    let mut bad = good.to_vec();
    bad[good.len() / 2] ^= 1;
    let mut out = vec![0xaa; 1 << 20];
    for (index, frame, says) in [
        (1, &bad[..], "damaged"),
        (2, good, "group 2 makes"),
        (1, &good[1..], "group 1 makes"),
        (9, good, "no group 9"),
    ] {
        let error = apply.group(index, frame, &old[..], &new[..], &mut out).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(out.iter().all(|byte| *byte == 0xaa), "{says}: something was written");
    }
    assert!(apply.group(1, good, &old[..], &new[..], &mut out[1..]).is_err());
    apply.group(1, good, &old[..], &new[..], &mut out).unwrap();
}

#[test]
fn another_old_image_makes_another_new_one_or_fails() {
    let (old, new) = pair();
    let delta = make(&old, &new, &SMALL).unwrap();
    let mut other = old.clone();
    other[500_000] ^= 1;
    assert!(apply(&delta, &other).unwrap() != new);
    let error = apply(&delta, &old[..old.len() - 1]).unwrap_err().to_string();
    assert!(error.contains("old image"), "{error}");
}

#[test]
fn hostile_heads_are_refused() {
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
        (12, &[0; 4], "1 to 4 MiB"),
        (12, &[1, 0, 0, 0], "1 to 4 MiB"),
        (12, &[0, 0, 0x50, 0], "1 to 4 MiB"),
        (16, &[0xff; 4], "old image"),
        (20, &[0xff; 4], "new image"),
        (20, &[0xff, 0xff, 0xff, 0x7f], "cut short"),
        (24, &[0xff; 4], "segments"),
        (24, &[1, 0, 0, 0], "do not make"),
        (28, &[0xff; 4], "segments"),
        (32, &[0xff; 4], "group 0"),
        (36, &[5], "look back"),
    ] {
        let error = with(at, bytes);
        assert!(error.contains(says), "{at}: {error}");
    }
    let length = Header::parse(&delta).unwrap().head_length() as usize;
    assert!(Apply::open(&delta[..length - 1]).is_err());
    assert!(Apply::open(&delta[..length + 1]).is_err());
}

/// A file replaced by an unrelated one whose third MiB repeats its first.
#[test]
fn new_bytes_that_repeat_are_found_in_what_was_made_before() {
    let old = image(300_000, 3);
    let noise: Vec<u8> = (0..1u32 << 15).flat_map(|i| Sha256::digest(i.to_le_bytes())).collect();
    let new = [&noise[..], &image(1 << 20, 5), &noise].concat();
    let delta = make(&old, &new, &SMALL).unwrap();
    let header = Header::parse(&delta).unwrap();
    assert_eq!(header.needs(2), 0..2 << 20);
    assert!(header.groups[2].length < 1000, "{:?}", header.groups[2]);
    assert!(header.groups[0].length < (1 << 20) + 200, "{:?}", header.groups[0]);
    assert!(apply(&delta, &old).unwrap() == new);
    // What was made wrong before is not the right prefix: an error or other bytes, no panic.
    let mut apply = Apply::open(&delta[..header.head_length() as usize]).unwrap();
    let mut made = vec![0; 1 << 20];
    let frame = frame(&delta, &header, 2);
    let wrong = apply.group(2, frame, &old[..], &vec![7; 2 << 20][..], &mut made);
    assert!(wrong.is_err() || made != noise);
}

/// Two images whose delta is short and has both kinds of groups.
fn golden_pair() -> (Vec<u8>, Vec<u8>) {
    let old = image(1_100_000, 17);
    let mut new = old.clone();
    new.splice(40_000..40_000, image(300, 19));
    // Literals for the model: text that the old image does not have.
    let text: Vec<u8> =
        (0..400u32).flat_map(|i| format!("{} of {}; ", i * i, i).into_bytes()).collect();
    new.splice(300_000..300_000, text);
    new.drain(700_000..700_040);
    for at in (100_000..200_000).step_by(1000) {
        new[at] = new[at].wrapping_add(4);
    }
    let noise: Vec<u8> = (0..64u32).flat_map(|i| Sha256::digest(i.to_le_bytes())).collect();
    new.extend(noise.repeat(40));
    (old, new)
}

/// Devices have the decoder they were built with: whatever changes one of its bits is a new format
/// version (docs/delta.md). This delta was made by the first program with version 2.
#[test]
fn a_delta_of_an_earlier_program_still_makes_the_same_image() {
    let golden = include_bytes!("version-2.delta");
    let (old, new) = golden_pair();
    let header = Header::parse(golden).unwrap();
    let kinds: Vec<u8> = (0..2).map(|group| frame(golden, &header, group)[0]).collect();
    assert_eq!(kinds, [0, 1]);
    assert!(apply(golden, &old).unwrap() == new);
}

#[test]
fn one_byte_and_equal_images_round_trip() {
    for (old, new) in [("a", "a"), ("a", "b"), ("", "a"), ("a", ""), ("a", "aa"), ("ab", "b")] {
        let delta = make(old.as_bytes(), new.as_bytes(), &SMALL).unwrap();
        assert_eq!(apply(&delta, old.as_bytes()).unwrap(), new.as_bytes(), "{old:?} → {new:?}");
    }
    for length in [1, 63, 4096, 1 << 20, (1 << 20) + 1] {
        let same = image(length, 23);
        let delta = make(&same, &same, &SMALL).unwrap();
        assert!(apply(&delta, &same).unwrap() == same, "{length}");
        assert!(delta.len() < 300, "{length}: {} bytes for nothing", delta.len());
    }
}

/// Longer than all that bounds a search: the stretch that is aligned at once (16 MiB), zstd's
/// window (8 MiB) and what a frame may need of the new image (4 MiB).
#[test]
fn images_longer_than_any_window_round_trip() {
    let old = image(17 << 20, 29);
    let noise: Vec<u8> = (0..1u32 << 12).flat_map(|i| Sha256::digest(i.to_le_bytes())).collect();
    // What is new comes first, so that all of the old image moves past where it was, and again at
    // the end, farther away than any window.
    let mut new = [&noise[..], &old, &noise].concat();
    for at in (0..new.len()).step_by(1 << 19) {
        new[at] ^= 0x55;
    }
    let delta = make(&old, &new, &Options { threads: 2, ..SMALL }).unwrap();
    assert!(apply(&delta, &old).unwrap() == new);
    assert!(delta.len() < 2 * noise.len() + noise.len() / 10, "{} bytes", delta.len());
}

#[test]
fn an_empty_image_has_a_delta() {
    for (old, new) in [(&b""[..], &b""[..]), (b"", b"new"), (b"old", b"")] {
        assert_eq!(apply(&make(old, new, &SMALL).unwrap(), old).unwrap(), new);
    }
}
