//! What each fuzzer does with its input: one function for each parser that reads bytes from
//! outside. `fuzz_targets/` gives them to libFuzzer, `tests/` runs the committed corpora through
//! them without it.
//!
//! Where a signature or a hash stands before a parser, its function makes the one that holds, so
//! that the input gets behind it.

pub mod media;
mod network;
mod own_files;
mod patched;
mod tuf;

use std::io::{self, Read};

use delta::{Apply, Header as DeltaHeader};
use sha2::{Digest, Sha256};
use formats::block_index::BlockIndex;
use formats::boot_state::{self, BootState};
use formats::manifest::{Header, Manifest, HEADER_SIZE};
use formats::payload::{self, Chunk, ChunkTable, ENTRY_SIZE};

pub use media::{autoboot, data_disk, erofs, fat, settings};
pub use network::{dhcp, http_answer, infer_body, model_toml, picture, request_head, sntp};
pub use own_files::ota_state;
pub use tuf::tuf;

/// A form of every parser that is here, by name; the names of the folders in `corpus/`.
pub const ALL: &[(&str, fn(&[u8]))] = &[
    ("tuf", tuf),
    ("slot_header", slot_header),
    ("chunk_table", chunk_table),
    ("block_index", block_index),
    ("delta", delta),
    ("bundle", bundle),
    ("boot_state", boot_state),
    ("gpt", gpt),
    ("byteranges", byteranges),
    ("conf", conf),
    ("ota_settings", ota_settings),
    ("ota_state", ota_state),
    ("http_answer", http_answer),
    ("dhcp", dhcp),
    ("sntp", sntp),
    ("request_head", request_head),
    ("infer_body", infer_body),
    ("model_toml", model_toml),
    ("picture", picture),
    ("settings", settings),
    ("data_disk", data_disk),
    ("fat", fat),
    ("erofs", erofs),
    ("autoboot", autoboot),
];

/// Images that a delta is tried on, in bytes: what is larger only takes longer.
const LARGEST_IMAGE: u32 = 256 << 10;

/// A slot header with its manifest, cut off behind that: zeros follow.
pub fn slot_header(input: &[u8]) {
    let mut bytes = input[..input.len().min(HEADER_SIZE)].to_vec();
    bytes.resize(HEADER_SIZE, 0);
    let Ok(header) = Header::new(&bytes) else { return };
    let _ = header.signatures().count();
    let Ok(manifest) = header.verified_before() else { return };
    // What was taken has to survive being written and read again.
    let again = with_manifest(&manifest.to_text());
    let again = again.as_deref().map(Header::new).and_then(Result::ok);
    let again = again.and_then(|header| header.verified_before().ok());
    assert_eq!(again.as_ref(), Some(&manifest), "another manifest came back");
    let _ = payload::check_fits(&manifest, 64 << 20, 96 << 20);
}

fn with_manifest(text: &str) -> Option<Vec<u8>> {
    formats::manifest::encode_header(text, &[([0; 8], [0; 64])]).ok()
}

/// A manifest for streams of this size.
fn manifest(root_size: u64, chunk_size: u64, table: &[u8]) -> Option<Manifest> {
    let text = format!(
        "ferrite-manifest 1\nboard b\nname n\nversion 1\nsequence 1\nfloor 0\nroot-size {root_size}\n\
         root-hash-size 4096\nroot-verity-hash {zeros}\nroot-verity-salt {zeros}\nboot-size 4096\n\
         chunk-size {chunk_size}\nchunk-table-sha256 {table}\n",
        zeros = "0".repeat(64),
        table = formats::hex::encode(&Sha256::digest(table)),
    );
    let header = with_manifest(&text)?;
    Header::new(&header).ok()?.verified_before().ok()
}

/// One byte for the chunks' size, then a chunk table.
pub fn chunk_table(input: &[u8]) {
    let Some((exponent, bytes)) = input.split_first() else { return };
    let chunk_size = 4096u64 << (exponent % 12);
    let chunks = (bytes.len() / ENTRY_SIZE) as u64;
    let stream = chunks.saturating_mul(chunk_size);
    if let Some(manifest) = manifest(stream.saturating_sub(8192), chunk_size, bytes) {
        if let Ok(table) = ChunkTable::parse(bytes, &manifest) {
            let mut end = (HEADER_SIZE + bytes.len()) as u64;
            for index in 0..table.chunks().len() {
                let range = table.file_range(index);
                assert_eq!(range.start, end, "frames lie one after another");
                end = range.end;
                assert!(table.stream_range(index).end <= manifest.stream_size());
            }
            assert_eq!(end, table.file_size());
        }
    }
    let entries = bytes.chunks_exact(ENTRY_SIZE).map(|entry| Chunk {
        compressed: u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]),
        sha256: [0; 32],
    });
    let _ = ChunkTable::new(entries.collect(), chunk_size, stream);
}

/// Two bytes for the number of blocks, then an index.
pub fn block_index(input: &[u8]) {
    let Some((count, bytes)) = input.split_first_chunk::<2>() else { return };
    let count = u64::from(u16::from_le_bytes(*count));
    if let Ok(index) = BlockIndex::parse(bytes, count * 4096) {
        assert_eq!(index.blocks(0..index.block_count()).count() as u64, count);
    }
}

/// A delta; its frames' hashes are made right.
pub fn delta(input: &[u8]) {
    let Ok(mut header) = DeltaHeader::parse(input) else { return };
    let head_length = header.head_length() as usize;
    if input.len() < head_length || header.new_size.max(header.old_size) > LARGEST_IMAGE {
        return;
    }
    let frames: Vec<&[u8]> = (0..header.groups.len())
        .map(|index| {
            let start = header.frame_offset(index) as usize;
            input.get(start..start + header.groups[index].length as usize).unwrap_or(&[])
        })
        .collect();
    for (group, frame) in header.groups.iter_mut().zip(&frames) {
        group.sha256 = Sha256::digest(frame).into();
    }
    let mut head = header.to_bytes();
    head.extend_from_slice(&input[head.len()..head_length]);
    let Ok(mut apply) = Apply::open(&head) else { return };
    let old: Vec<u8> = (0..header.old_size).map(|at| (at / 7 % 251) as u8).collect();
    let mut made = vec![0; header.new_size as usize];
    for (index, frame) in frames.iter().enumerate().take(2) {
        let range = header.range(index);
        let mut out = vec![0; range.len()];
        let result = apply.group(index, frame, &old[..], &made[..], &mut out);
        if result.is_ok() {
            made[range.start as usize..range.end as usize].copy_from_slice(&out);
        }
    }
}

/// Fills a buffer from `bytes`, as a file would.
fn read_at(bytes: &[u8], at: u64, buffer: &mut [u8]) -> io::Result<()> {
    let start = usize::try_from(at).map_err(|_| io::ErrorKind::UnexpectedEof)?;
    let from = start.checked_add(buffer.len()).and_then(|end| bytes.get(start..end));
    buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

/// A bundle; the sums of its headers are made right.
pub fn bundle(input: &[u8]) {
    let mut bytes = input.to_vec();
    for header in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    for bytes in [input, &bytes] {
        let length = bytes.len() as u64;
        if let Ok(files) =
            ota::fetch::bundle::index(length, &|at, buffer: &mut [u8]| read_at(bytes, at, buffer), &|| ())
        {
            for (name, range) in files {
                assert!(range.start <= range.end && range.end <= length, "{name} lies outside");
                assert!(!name.split('/').any(|part| part == ".."), "{name} leads out");
            }
        }
    }
}

/// The two copies of the boot state, 512 bytes each; their sums are made right.
pub fn boot_state(input: &[u8]) {
    let mut copies = [[0; 512]; 2];
    for (copy, half) in copies.iter_mut().zip(input.chunks(512)) {
        copy[..half.len()].copy_from_slice(half);
        let sum = boot_state::crc32(&copy[4..]);
        copy[..4].copy_from_slice(&sum.to_le_bytes());
    }
    for copy in &copies {
        if let Ok(state) = BootState::from_blob(copy) {
            let again = BootState::from_blob(&state.to_blob());
            assert_eq!(again.as_ref(), Ok(&state), "another state came back");
        }
    }
    let _ = boot_state::newest([&copies[0], &copies[1]]);
    let _ = BootState::from_blob(input);
}

/// The first sectors of a disk with a partition table; its sums are made right.
pub fn gpt(input: &[u8]) {
    const SECTORS: u64 = 80;
    let mut disk = input.to_vec();
    disk.resize(SECTORS as usize * 512, 0);
    let sum = |bytes: &[u8]| boot_state::crc32(bytes).to_le_bytes();
    let word = |disk: &[u8], at: usize| {
        u32::from_le_bytes([disk[at], disk[at + 1], disk[at + 2], disk[at + 3]]) as usize
    };
    let entries = word(&disk, 512 + 80).saturating_mul(word(&disk, 512 + 84));
    if let Some(table) = disk.get(1024..1024usize.saturating_add(entries)) {
        let sum = sum(table);
        disk[512 + 88..512 + 92].copy_from_slice(&sum);
    }
    let length = word(&disk, 512 + 12).clamp(20, 512);
    disk[512 + 16..512 + 20].fill(0);
    let sum = sum(&disk[512..512 + length]);
    disk[512 + 16..512 + 20].copy_from_slice(&sum);
    for disk in [&disk[..], input] {
        let _ = formats::gpt::read(SECTORS, |at, buffer| read_at(disk, at, buffer));
    }
}

/// A `Content-Type`, a line end, a `Content-Range`, a line end, and the body of an answer.
pub fn byteranges(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (kind, range, body) = (next(), next(), next());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if let Some(range) = ota::fetch::byteranges::content_range(&text(range)) {
        assert!(range.start < range.end);
    }
    let kind = text(kind);
    let boundary = ota::fetch::byteranges::boundary(&kind).unwrap_or("x");
    let mut parts = ota::fetch::byteranges::Parts::new(body, boundary);
    let mut read = 0;
    while let Ok(Some(range)) = parts.next_part() {
        let mut bytes = Vec::new();
        if (&mut parts).take(body.len() as u64 + 1).read_to_end(&mut bytes).is_err() {
            break;
        }
        assert!(bytes.len() as u64 <= range.end - range.start);
        read += bytes.len();
        assert!(read <= body.len(), "more came out than went in");
    }
    let _ = parts.finish();
}

/// Text in conf form; it is read in each of the forms that are read from outside.
pub fn conf(input: &[u8]) {
    if let Ok(conf) = formats::conf::parse(input, "ferrite-test 1") {
        for line in conf.head.iter().chain(conf.sections.iter().flat_map(|section| &section.lines))
        {
            let _ = (line.number(), line.yes_no());
        }
    }
    let _ = formats::network_time::NetworkTime::parse(input);
}

/// `ota.json`.
pub fn ota_settings(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        if let Ok(settings) = ota::settings::Settings::parse(text) {
            let _ = settings.reboot.allows(1_800_000_000);
        }
    }
}
