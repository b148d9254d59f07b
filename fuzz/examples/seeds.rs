//! Writes the seeds of all fuzzers: real files, made by the code that makes them for devices.
//!
//! `cargo run --example seeds` in this folder; what is there is replaced.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ed25519_dalek::SigningKey;
use repository::author::{first_root, publication, Dates, RoleSigners};
use repository::{TargetFile, Time};
use slot::boot_state::BootState;
use slot::gpt::{Gpt, Guid, Partition};
use slot::Slot;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let save = |target: &str, name: &str, bytes: &[u8]| -> std::io::Result<()> {
        fs::create_dir_all(corpus.join(target))?;
        fs::write(corpus.join(target).join(name), bytes)
    };
    save("tuf", "published", &metadata()?)?;
    save("slot_header", "signed", &slot_header()?)?;
    save(
        "chunk_table",
        "three",
        &[&[0][..], &[9, 0, 0, 0], &[7; 32], &[0; 36], &[1, 4, 0, 0], &[8; 32]].concat(),
    )?;
    let blocks = [vec![0; 4096], vec![7; 8192], vec![0; 4096 * 9]].concat();
    let index = slot::block_index::encode(&[&blocks])?;
    save("block_index", "with-zeros", &[&12u16.to_le_bytes()[..], &index].concat())?;
    let old: Vec<u8> = (0..40_000u32).map(|at| (at / 7 % 251) as u8).collect();
    let mut new = old.clone();
    new.splice(9000..9100, (0..300).map(|at| (at % 13) as u8));
    new[20_000] ^= 5;
    let options = delta::Options::default();
    save("delta", "small", &delta::make(&old, &new, &options)?)?;
    save("delta", "unrelated", &delta::make(&[], b"nothing of this was there", &options)?)?;
    let empty = delta::make(&old, &[], &options)?;
    save("delta", "empty", &empty)?;
    save("bundle", "two-files", &bundle())?;
    let mut state = BootState::fresh();
    let fresh = state.to_blob();
    state.arm(Slot::B, 3);
    save("boot_state", "armed", &[&fresh[..], &state.to_blob()].concat())?;
    save("gpt", "two-partitions", &gpt())?;
    let one = "HTTP\nbytes 5-9/100\n";
    save("byteranges", "single", one.as_bytes())?;
    let several = "multipart/byteranges; boundary=ab\nbytes 0-1/9\n--ab\r\nContent-Type: x/y\r\nContent-Range: bytes 0-2/9\r\n\r\nabc\r\n--ab\r\nContent-Range: bytes 5-5/9\r\n\r\nf\r\n--ab--\r\n";
    save("byteranges", "several", several.as_bytes())?;
    let conf = "ferrite-test 1\nhostname demo\ntrial-timeout 120\nmedia no\n[workload face]\ncommand /usr/bin/runner\ndata yes\nbackoff 1 60\n";
    save("conf", "system", conf.as_bytes())?;
    save("conf", "network-time", b"ferrite-time 1\nunix 1800000000\nboot-ms 4000\n")?;
    let settings = r#"{"url": "http://10.0.2.2:8080", "name": "demo", "poll_seconds": 3600, "jitter_seconds": 600, "commit_after_seconds": 30, "tries": 3, "reboot": "23:00-04:30", "max_bytes_per_second": 5, "sticks": true, "groups": ["canary"]}"#;
    save("ota_settings", "all", settings.as_bytes())?;
    Ok(())
}

/// The metadata of a repository with one update, in the order in which the fuzzer takes them.
fn metadata() -> Result<Vec<u8>, repository::Error> {
    let key = |number: u8| SigningKey::from_bytes(&[number; 32]);
    let signers =
        RoleSigners { root: key(1), targets: key(2), snapshot: key(3), timestamp: key(4) };
    let end = Time(4_000_000_000);
    let root = first_root(&signers, end)?;
    let custom = serde_json::json!({"ferrite": {"board": "b", "name": "n", "version": "2",
        "sequence": 2, "header_sha256": "ab".repeat(32), "index": "n-b-2.index",
        "deltas": [{"from_header_sha256": "cd".repeat(32), "target": "n-b-2-from-1.delta",
            "head_length": 99, "head_sha256": "ef".repeat(32)}],
        "rollout": {"paused": false, "start": "2026-11-24T00:00:00Z", "groups": ["canary"],
            "waves": [{"percent": 10, "after": 0}, {"percent": 100, "after": 86400}]}}});
    let hashes = BTreeMap::from([("sha256".to_string(), "ab".repeat(32))]);
    let target = TargetFile { length: 9, hashes, custom: Some(custom) };
    let targets = BTreeMap::from([("n-b-2.update".to_string(), target)]);
    let dates = Dates { signed_at: Time(1), targets: end, snapshot: end, timestamp: end };
    let files = publication(Err(&root[..]), targets, &signers, &dates)?.files;
    let file = |end: &str| {
        files.iter().find(|(name, _)| name.ends_with(end)).map_or(&[][..], |(_, bytes)| bytes)
    };
    let parts = [&root[..], file("timestamp.json"), file("snapshot.json"), file("targets.json")];
    Ok(parts.join(&0))
}

/// A slot header, cut off behind its manifest.
fn slot_header() -> slot::Result<Vec<u8>> {
    let hash = "5".repeat(64);
    let text = format!(
        "ferrite-manifest 1\nboard b\nname n\nversion 1\nsequence 2\nfloor 1\nroot-size 8192\n\
         root-hash-size 4096\nroot-verity-hash {hash}\nroot-verity-salt {hash}\nboot-size 4096\n\
         chunk-size 65536\nchunk-table-sha256 {hash}\nboot-file {hash} 9 kernel\n\
         model {hash} 7 /usr/share/models/face/model.tflite\n"
    );
    let header = slot::manifest::encode_header(&text, &[([1; 8], [2; 64])])?;
    Ok(header[..1024 + text.len()].to_vec())
}

/// A `ustar` archive of two files.
fn bundle() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in [("metadata/timestamp.json", &b"{}"[..]), ("targets/x", &[3; 600])] {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// The first sectors of a disk with two partitions.
fn gpt() -> Vec<u8> {
    let partition = |first, label: &str| Partition {
        kind: Guid::from_hash([1; 16]),
        guid: Guid::from_hash([first as u8; 16]),
        first,
        last: first + 3,
        attributes: 0,
        label: label.into(),
    };
    let partitions = vec![partition(40, "firmware"), partition(44, "data")];
    let gpt = Gpt { disk: Guid::from_hash([9; 16]), sectors: 80, partitions };
    let mut disk = vec![0; 80 * 512];
    for write in gpt.writes() {
        let start = write.offset as usize;
        disk[start..start + write.bytes.len()].copy_from_slice(&write.bytes);
    }
    disk.truncate(1024 + 256);
    disk
}
