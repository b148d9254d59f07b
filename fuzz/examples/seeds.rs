//! Writes the seeds of all fuzzers: real files, made by the code that makes them for devices.
//!
//! `cargo run --example seeds` in this folder; what is there is replaced.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use ed25519_dalek::SigningKey;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use tuf::author::{first_root, publication, Dates, RoleSigners};
use tuf::{TargetFile, Time};
use formats::boot_state::BootState;
use formats::gpt::{Gpt, Guid, Partition};
use formats::rpi::autoboot::{self, Method};
use formats::Slot;

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
    let index = formats::block_index::encode(&[&blocks])?;
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
    let state = r#"{"pending":{"slot":"b","sequence":2,"version":"1.0.1","header_sha256":"ab"},"failed":[{"sequence":1,"version":"1","header_sha256":"ab","reason":"it fell silent"}],"last_check":1800000000,"last_error":"x","floor":1,"signed_at":5,"metadata_expires":6,"report":{"outcome":"fell-back","version":"1","reason":"y","time":7,"attempts":1,"not_before":8,"done":false},"waiting":{"sequence":3,"version":"2","turn":"later"}}"#;
    save("ota_state", "all", state.as_bytes())?;
    for (name, answer) in answers() {
        save("http_answer", name, &answer)?;
    }
    save("dhcp", "offer-and-ack", &[packet(2), packet(5)].concat())?;
    let mut time = vec![0; 56];
    time[0..8].copy_from_slice(&1_800_000_000_000_000i64.to_le_bytes());
    time[8..10].copy_from_slice(&[0x24, 2]);
    for at in [40, 48] {
        time[at..at + 4].copy_from_slice(&4_008_988_800u32.to_be_bytes());
    }
    save("sntp", "answer", &time)?;
    let head =
        "POST /infer?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n";
    save("request_head", "post", head.as_bytes())?;
    save(
        "request_head",
        "get",
        b"GET /metrics HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\nrest",
    )?;
    let form = "multipart/form-data; boundary=XY\n--XY\r\nContent-Disposition: form-data; name=\"camera\"\r\n\r\nfront\r\n--XY\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.jpg\"\r\n\r\n1,2\r\n--XY--\r\n";
    save("infer_body", "form", form.as_bytes())?;
    save("infer_body", "list", b"application/json\n[[1, -2.5], [3e2, 0]]")?;
    save("infer_body", "csv", b"text/csv\n1,2.5;3 4\r\n")?;
    save("model_toml", "face", include_bytes!("../../demo/face/model.toml"))?;
    save("model_toml", "tensor", MODEL.as_bytes())?;
    for (name, bytes) in pictures()? {
        save("picture", name, &bytes)?;
    }
    save("settings", "all", fuzz::media::CONF.as_bytes())?;
    for medium in ["data_disk", "fat", "erofs"] {
        save(medium, "sound", &[0; 4])?;
        save(medium, "patched", &[0x0b, 0, 0, 2, 0, 4, 0x20, 4, 0, 4, 1, 2, 3, 4])?;
    }
    save("autoboot", "firmware", &firmware())?;
    save("autoboot", "text", autoboot::text(Method::Pointer, Slot::B).as_bytes())?;
    Ok(())
}

const MODEL: &str = r#"name = "wake"
sha256 = "abab"
threads = 2
delegate = "none"
stateful = true
heartbeat_ms = 500
[input]
kind = "tensor"
tensor = 0
[decoder]
kind = "classification"
[source]
folder = "/data/in"
poll_ms = 100
repeat = true
http = "0.0.0.0:8080"
[results]
max_bytes = 8192
keep = 1
[golden]
sample = "golden.bin"
"#;

/// Small pictures of several kinds.
fn pictures() -> image::ImageResult<Vec<(&'static str, Vec<u8>)>> {
    let colour = RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8 * 28, y as u8 * 36, 90]));
    let colour = DynamicImage::from(colour);
    let kinds = [
        ("colour.jpg", ImageFormat::Jpeg, colour.clone()),
        ("grey.jpg", ImageFormat::Jpeg, colour.clone().into_luma8().into()),
        ("grey.png", ImageFormat::Png, colour.clone().into_luma8().into()),
        ("deep.png", ImageFormat::Png, colour.clone().into_rgba16().into()),
        ("colour.png", ImageFormat::Png, colour),
    ];
    let encoded = kinds.into_iter().map(|(name, format, picture)| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format)?;
        Ok((name, bytes.into_inner()))
    });
    encoded.collect()
}

/// What a server may say to each of the questions that the fuzzer asks.
fn answers() -> Vec<(&'static str, Vec<u8>)> {
    let with = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    let parts = "HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=ab\r\nContent-Length: 204\r\n\r\n\
        --ab\r\nContent-Range: bytes 0-9/2000\r\n\r\n0123456789\r\n--ab\r\nContent-Range: bytes 400-499/2000\r\n\r\n";
    vec![
        ("whole", with(0, "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 2\r\n\r\n{}")),
        ("chunked", with(0x83, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n")),
        ("moved", with(0, "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")),
        ("busy", with(1, "HTTP/1.1 503 No\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")),
        ("one-range", with(1, &format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-104/200\r\nContent-Length: 100\r\n\r\n{}", "x".repeat(100)))),
        ("several", with(2, &[parts, &"y".repeat(100)].concat())),
        ("not-satisfiable", with(2, "HTTP/1.1 416 No\r\nContent-Range: bytes */7\r\nContent-Length: 0\r\n\r\n")),
    ]
}

/// A DHCP server's packet, behind its length.
fn packet(kind: u8) -> Vec<u8> {
    let options = [
        &[53, 1, kind, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2][..],
        &[6, 8, 10, 0, 2, 3, 10, 0, 2, 4, 15, 5, b'l', b'o', b'c', b'a', b'l'],
        &[42, 4, 10, 0, 2, 5, 51, 4, 0, 1, 0x51, 0x80, 58, 4, 0, 0, 1, 0, 59, 4, 0, 0, 2, 0, 255],
    ]
    .concat();
    let mut message = vec![0; 236];
    message[..3].copy_from_slice(&[2, 1, 6]);
    message[16..20].copy_from_slice(&[10, 0, 2, 15]);
    message.extend([99, 130, 83, 99]);
    message.extend(options);
    let mut packet = vec![0; 28];
    packet[0] = 0x45;
    let total = (28 + message.len()) as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[9] = 17;
    packet[24..26].copy_from_slice(&(total - 20).to_be_bytes());
    packet.extend(message);
    [&(packet.len() as u16).to_le_bytes()[..], &packet].concat()
}

/// The first sectors of a Raspberry Pi's `firmware` partition.
fn firmware() -> Vec<u8> {
    let sector = autoboot::sector(Method::Pointer, Slot::A);
    let text = autoboot::text(Method::Pointer, Slot::A);
    let mut bytes = vec![0; 4 * 512];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(11, &512u16.to_le_bytes());
    put(13, &[1, 1, 0, 1, 16, 0]);
    put(22, &[1, 0]);
    put(510, &[0x55, 0xAA]);
    put(1024, b"AUTOBOOTTXT\x20");
    put(1024 + 26, &[2, 0]);
    put(1024 + 28, &(text.len() as u32).to_le_bytes());
    put(1536, &sector);
    bytes
}

/// The metadata of a repository with one update, in the order in which the fuzzer takes them.
fn metadata() -> Result<Vec<u8>, tuf::Error> {
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
fn slot_header() -> formats::Result<Vec<u8>> {
    let hash = "5".repeat(64);
    let text = format!(
        "ferrite-manifest 1\nboard b\nname n\nversion 1\nsequence 2\nfloor 1\nroot-size 8192\n\
         root-hash-size 4096\nroot-verity-hash {hash}\nroot-verity-salt {hash}\nboot-size 4096\n\
         chunk-size 65536\nchunk-table-sha256 {hash}\nboot-file {hash} 9 kernel\n\
         model {hash} 7 /usr/share/models/face/model.tflite\n"
    );
    let header = formats::manifest::encode_header(&text, &[([1; 8], [2; 64])])?;
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
