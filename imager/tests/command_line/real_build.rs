//! A real build of the demo: what `imager inspect` finds in it, and what is left when it is
//! interrupted or the disk is full. The inputs come out of the user's cache, or are fetched once.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::world::{IMG, UPDATE, World, complaint};
use formats::gpt;
use formats::layout::SECTOR;
use formats::manifest::HEADER_SIZE;
use serde_json::Value;

const SIGINT: i32 = 2;
/// Where the manifest begins in a slot header.
const MANIFEST_AT: u64 = 1024;

/// The demo, built once for all tests, and how long that took.
fn built() -> &'static (World, Duration) {
    static BUILT: OnceLock<(World, Duration)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let world = World::new();
        // The first one may have to fetch and compress.
        succeeds(&mut world.build_to("warm"));
        let start = Instant::now();
        succeeds(&mut world.build(&[]));
        (world, start.elapsed())
    })
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

fn inspect(world: &World, file: &str) -> Output {
    world.imager(&["inspect", file, "--json"]).output().unwrap()
}

/// All verdicts in an inspect report.
fn problems(report: &Value) -> Vec<String> {
    let slots = match &report["slot"] {
        Value::Null => report["slots"].as_array().unwrap().clone(),
        slot => vec![slot.clone()],
    };
    let all = slots.iter().flat_map(|slot| slot["problems"].as_array().unwrap().clone());
    all.map(|problem| problem.as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_was_built_verifies() {
    let (world, _) = built();
    for file in [IMG, UPDATE] {
        let output = inspect(world, file);
        assert!(output.status.success(), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(problems(&report), Vec::<String>::new());
        let text = succeeds(&mut world.imager(&["inspect", file]));
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains("demo 1.0.0 (sequence 1"), "{text}");
        assert!(text.contains("verifies"), "{text}");
        assert!(!text.contains("DOES NOT"), "{text}");
    }
}

#[test]
fn an_image_says_whether_anybody_can_log_in() {
    let shell = |world: &World| {
        let report: Value = serde_json::from_slice(&inspect(world, IMG).stdout).unwrap();
        report["slots"][0]["shell"].clone()
    };
    // The demo is a debug image.
    let (world, _) = built();
    assert_eq!(shell(world)["console"], "/usr/bin/busybox sh");
    let production = World::new();
    production.edit("demo/demo.toml", "\ndebug = true", "\ndebug = false");
    succeeds(&mut production.build(&[]));
    assert_eq!(
        shell(&production),
        serde_json::json!({ "console": null, "ssh": false, "programs": [] })
    );
    let text = succeeds(&mut production.imager(&["inspect", IMG])).stdout;
    assert!(String::from_utf8_lossy(&text).contains("no shell: nobody can log in, and no program"));
}

#[test]
fn another_key_does_not_verify_it() {
    let (world, _) = built();
    let other = World::new();
    for file in [IMG, UPDATE] {
        let mut inspect = world.imager(&["inspect", file, "--keys"]);
        let output = inspect.arg(other.at("keys")).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("DOES NOT VERIFY"), "{output:?}");
    }
}

/// Flips one bit of the byte at each place, one after the other, in a copy of `file`.
fn each_flip_is_found(file: &str, places: &[(&str, u64)]) {
    let (world, _) = built();
    let folder = tempfile::tempdir_in(world.at("")).unwrap();
    let copy = folder.path().join("copy");
    succeeds(Command::new("cp").arg("--sparse=always").arg(world.at(file)).arg(&copy));
    let name = copy.to_str().unwrap();
    let disk = File::options().read(true).write(true).open(&copy).unwrap();
    for (what, at) in places {
        let mut byte = [0];
        disk.read_exact_at(&mut byte, *at).unwrap();
        disk.write_all_at(&[byte[0] ^ 0x10], *at).unwrap();
        let output = inspect(world, name);
        let text = world.imager(&["inspect", name]).output().unwrap().stdout;
        let text = String::from_utf8_lossy(&text);
        disk.write_all_at(&byte, *at).unwrap();
        assert_eq!(output.status.code(), Some(1), "{what}: {output:?}");
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{what}: {e}: {output:?}"));
        assert!(!problems(&report).is_empty(), "{what}: {report}");
        assert!(text.contains("DOES NOT VERIFY"), "{what}: {text}");
    }
    assert!(inspect(world, name).status.success(), "the flips were taken back");
}

fn succeeds_not(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_flipped_bit_in_an_update_is_found() {
    let (world, _) = built();
    let length = fs::metadata(world.at(UPDATE)).unwrap().len();
    let header = HEADER_SIZE as u64;
    each_flip_is_found(
        UPDATE,
        &[
            ("version of the header", 8),
            ("signature", 20 + 8 + 5),
            ("key id", 20 + 3),
            ("manifest", MANIFEST_AT + 40),
            ("padding of the header", header - 9),
            ("chunk table", header + 10),
            ("a chunk's frame", header + (length - header) / 2),
            ("the last chunk's frame", length - 1),
        ],
    );
}

#[test]
fn a_flipped_bit_in_an_image_is_found() {
    let (world, _) = built();
    let image = File::open(world.at(IMG)).unwrap();
    let length = image.metadata().unwrap().len();
    let table = gpt::read(length / SECTOR, |at, out| image.read_exact_at(out, at)).unwrap();
    let (root, boot) =
        (table.find("root-a").unwrap().bytes(), table.find("boot-a").unwrap().bytes());
    let report: Value = serde_json::from_slice(&inspect(world, IMG).stdout).unwrap();
    let root_bytes = report["slots"][0]["manifest"]["root_bytes"].as_u64().unwrap();
    let header = root.end - HEADER_SIZE as u64;
    each_flip_is_found(
        IMG,
        &[
            ("signature", header + 20 + 8 + 5),
            ("manifest", header + MANIFEST_AT + 40),
            ("padding of the header", root.end - 9),
            ("first block of the root", root.start + 1030),
            ("a block of the root", root.start + root_bytes / 2),
            ("the hash tree", root.start + root_bytes + 4096 + 7),
            ("the kernel on the boot partition", boot.start + (20 << 20)),
        ],
    );
}

#[test]
fn a_truncated_update_is_found() {
    let (world, _) = built();
    let folder = tempfile::tempdir_in(world.at("")).unwrap();
    let whole = fs::read(world.at(UPDATE)).unwrap();
    for (length, tail) in [(whole.len() - 1, ""), (HEADER_SIZE + 5, ""), (whole.len(), "x")] {
        let path = folder.path().join("cut.update");
        fs::write(&path, [&whole[..length], tail.as_bytes()].concat()).unwrap();
        let text =
            succeeds_not(&world.imager(&["inspect", path.to_str().unwrap()]).output().unwrap());
        assert!(text.contains("DOES NOT VERIFY"), "{length}: {text}");
    }
    let path = folder.path().join("cut.update");
    fs::write(&path, &whole[..1000]).unwrap();
    complaint(
        &world.imager(&["inspect", path.to_str().unwrap()]).output().unwrap(),
        &["cut.update"],
    );
}

/// A world with an older build's files under the names of the new one.
fn world_with_old_build() -> World {
    let world = World::new();
    fs::create_dir(world.at("out")).unwrap();
    let old = [
        (IMG, [&[0; 512][..], b"EFI PART of before"].concat()),
        (UPDATE, b"FERRSLOT of before".to_vec()),
        (
            "out/demo-qemu-arm64-1.0.0.spdx.json",
            b"{\"SPDXID\": \"SPDXRef-DOCUMENT\", \"of before\": 1}".to_vec(),
        ),
    ];
    for (name, bytes) in old {
        fs::write(world.at(name), bytes).unwrap();
    }
    world
}

/// Whether the process holds a file below `folder` open, named or not.
fn writes_below(process: u32, folder: &Path) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| to.starts_with(folder))
}

/// Builds over an old build and interrupts that: once it has said that it builds, or once it writes,
/// and then after `more`. False if it was quicker than the signal, as it may be on a busy machine.
fn is_interrupted(writing: bool, more: Duration) -> bool {
    let world = world_with_old_build();
    let before = world.everything();
    let mut build = world.build(&[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(build.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line.starts_with("building demo")));
    let out = world.at("out");
    while writing && !writes_below(build.id(), &out) {
        if let Some(status) = build.try_wait().unwrap() {
            assert!(status.success(), "{status:?}");
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(more);
    let build_pid = rustix::process::Pid::from_child(&build);
    rustix::process::kill_process(build_pid, rustix::process::Signal::INT).unwrap();
    let status = build.wait().unwrap();
    assert!(said.all(|line| !line.contains("panicked")));
    if status.signal() == Some(SIGINT) {
        assert!(world.everything() == before, "interrupted, writing: {writing}, {more:?}");
        return true;
    }
    assert!(status.success() && inspect(&world, IMG).status.success(), "{status:?}");
    false
}

#[test]
fn an_interrupted_build_leaves_what_was_there() {
    let (_, whole) = built();
    // When it has begun and when it writes what it built …
    for writing in [false, true] {
        let interrupted = (0..20).any(|_| is_interrupted(writing, Duration::ZERO));
        assert!(interrupted, "not once in twenty builds, writing: {writing}");
    }
    // … and some time after that, when it may have ended.
    for more in [0.02, 0.05, 0.2] {
        is_interrupted(true, whole.mul_f64(more));
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let world = world_with_old_build();
    let build = world.build_to("small");
    fs::create_dir(world.at("small")).unwrap();
    let words: Vec<_> = build.get_args().map(|word| word.to_str().unwrap()).collect();
    // A disk of 24 MiB that only this command sees.
    let script = "set -e; mount -t tmpfs -o size=24m tmpfs small
        { head -c 512 /dev/zero; echo 'EFI PART before'; } >small/$0
        set +e; \"$@\"; code=$?; echo; ls -A small; tail -c 7 small/$0; exit $code";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(Path::new(IMG).file_name().unwrap())
        .arg(env!("CARGO_BIN_EXE_imager"))
        .args(words)
        .env("FERRITE_DEVICE", world.at("device"))
        .current_dir(world.at(""))
        .output()
        .expect("this test needs unshare from the package util-linux");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(errors.contains("is the disk full?"), "{errors}");
    assert!(errors.contains("small/demo-qemu-arm64-1.0.0"), "{errors}");
    let left = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(left, "demo-qemu-arm64-1.0.0.img\nbefore");
}
