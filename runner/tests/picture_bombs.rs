//! Pictures that are small on the wire and large in memory: none of them takes the runner over the
//! memory it may have, and each that is refused is refused with a sentence.

mod model;
mod pictures;

use image::{DynamicImage, ImageFormat};
use model::{FACE_SHA256, Workload, face, fetched, runner};
use pictures::flat_png;
use png::BitDepth::{Eight, One, Sixteen};
use png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
use serde_json::Value;
use std::io::{Cursor, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What the demo's image gives its model.
const MEMORY: u64 = 128 << 20;
const MIB: u64 = 1 << 20;

struct Server {
    workload: Workload,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

fn serve() -> Server {
    let folder = face();
    let path = folder.path().join("model.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, toml.replace("folder = \"/usr/share/photos\"\n", "")).unwrap();
    let mut command = runner(folder.path());
    command
        .arg(format!("--expect-sha256={FACE_SHA256}"))
        .arg(format!("--memory={MEMORY}"))
        .arg("--http=127.0.0.1:0")
        .arg(format!("--results={}", folder.path().join("results.jsonl").display()));
    let mut workload = Workload::start(command);
    let line = workload.line("listening on ");
    let address = line.rsplit(' ').next().unwrap().parse().unwrap();
    Server { workload, address, _folder: folder }
}

impl Server {
    /// Status, body, and the most memory that it took meanwhile.
    fn post(&self, body: &[u8]) -> (u16, Value, u64) {
        let process = format!("/proc/{}", self.workload.child.id());
        // Sets the peak to what is in use now (proc(5), clear_refs).
        std::fs::write(format!("{process}/clear_refs"), "5").unwrap();
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!("POST /infer HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let memory = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
        (status, serde_json::from_str(body).unwrap(), peak)
    }
}

fn jpeg(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Jpeg).unwrap();
    bytes
}

/// A JPEG whose head says another size, and another kind of frame.
fn patched_jpeg(sof: u8, width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg(&DynamicImage::new_rgb8(16, 16));
    let at = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[at + 1] = sof;
    bytes[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    bytes[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

#[test]
fn what_is_taken_takes_what_its_format_needs_and_no_more() {
    let server = serve();
    let photo = std::fs::read(fetched("photos/astronaut.png")).unwrap();
    let usual = server.post(&photo).2;
    // Row by row: whatever the form, a few rows of the picture. Interlaced PNG and JPEG: the
    // picture once, one byte a sample.
    for (name, bytes, most) in [
        ("grey", flat_png([16384, 2048], Grayscale, Eight, false), 8 * MIB),
        ("grey, 16 bits", flat_png([16384, 2048], Grayscale, Sixteen, false), 8 * MIB),
        ("1 bit", flat_png([16384, 2048], Grayscale, One, false), 8 * MIB),
        (
            "grey with alpha, 16 bits",
            flat_png([8192, 2048], GrayscaleAlpha, Sixteen, false),
            8 * MIB,
        ),
        ("palette", flat_png([8192, 2048], Indexed, Eight, false), 8 * MIB),
        ("colour with alpha, 16 bits", flat_png([8192, 2048], Rgba, Sixteen, false), 8 * MIB),
        ("interlaced grey, 16 bits", flat_png([5000, 4000], Grayscale, Sixteen, true), 28 * MIB),
        ("interlaced colour", flat_png([4000, 3000], Rgb, Eight, true), 43 * MIB),
        ("JPEG, grey", jpeg(&DynamicImage::new_luma8(5000, 4000)), 28 * MIB),
        ("JPEG", jpeg(&DynamicImage::new_rgb8(4000, 3000)), 46 * MIB),
    ] {
        let (status, body, peak) = server.post(&bytes);
        assert_eq!(status, 200, "{name}: {body}");
        let grown = peak.saturating_sub(usual);
        println!("{name}: {} KiB on the wire, {} KiB of memory", bytes.len() >> 10, grown >> 10);
        assert!(grown < most, "{name}: {} MiB", grown / MIB);
        assert!(peak < MEMORY - MEMORY / 8, "{name}: {} MiB in all", peak / MIB);
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_decoded() {
    let mut server = serve();
    let photo = std::fs::read(fetched("photos/astronaut.png")).unwrap();
    let usual = server.post(&photo).2;
    let bomb = flat_png([16384, 6143], Grayscale, Eight, false);
    assert!(bomb.len() < 100 << 10, "{} bytes", bomb.len());
    // As often as took a device down.
    let mut bombs = vec![("the picture of the fault", bomb); 29];
    bombs.extend([
        ("interlaced", flat_png([8000, 8000], Rgb, Sixteen, true)),
        ("a long side", flat_png([20000, 2], Grayscale, One, false)),
        ("a large JPEG", patched_jpeg(0xc0, 8000, 6000)),
        ("a progressive JPEG, which needs its coefficients, too", patched_jpeg(0xc2, 4000, 3000)),
    ]);
    for (name, bytes) in bombs {
        let (status, body, peak) = server.post(&bytes);
        assert_eq!(status, 413, "{name}: {body}");
        let error = body["error"].as_str().unwrap();
        assert!(error.starts_with("the picture "), "{name}: {error}");
        assert!(peak < usual + 4 * MIB, "{name}: {} MiB more", peak.saturating_sub(usual) / MIB);
    }
    assert_eq!(server.post(&photo).0, 200, "the same process answers");
    assert_eq!(server.workload.terminate().code(), Some(0));
}

/// The allocator gives back what a large picture took.
#[test]
fn one_large_picture_after_another_takes_no_more_than_one() {
    let server = serve();
    let large = jpeg(&DynamicImage::new_rgb8(4000, 3000));
    let first = server.post(&large).2;
    let last = (0..5).map(|_| server.post(&large).2).max().unwrap();
    assert!(last < first + 6 * MIB, "{} MiB, then {} MiB", first / MIB, last / MIB);
}
