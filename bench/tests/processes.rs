//! The processes that the bench starts itself as: what they make is right, and what a process took
//! is told.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn bench(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(words).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_delta_that_one_process_made_is_applied_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new, delta, made] = ["old", "new", "delta", "made"].map(|name| dir.path().join(name));
    let bytes: Vec<u8> =
        (0..3_000_000u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).take(3 << 20).collect();
    fs::write(&old, &bytes).unwrap();
    fs::write(&new, [&b"in front"[..], &bytes].concat()).unwrap();
    let done = bench(&["--make-delta", text(&old), text(&new), text(&delta)]);
    assert!(done.status.success(), "{done:?}");
    assert!(fs::metadata(&delta).unwrap().len() < 2000);
    let apply =
        |delta: &Path| bench(&["--apply-delta", text(&old), text(delta), text(&new), text(&made)]);
    assert!(apply(&delta).status.success());
    assert!(fs::read(&made).unwrap() == fs::read(&new).unwrap());

    let mut damaged = fs::read(&delta).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&delta, damaged).unwrap();
    let done = apply(&delta);
    assert!(!done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("damaged"), "{done:?}");
}

#[test]
fn what_a_process_took_is_told_behind_what_it_says() {
    let twenty_megabytes = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let done = bench(&["--takes", "sh", "-c", twenty_megabytes]);
    let said = String::from_utf8(done.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "20000000");
    let numbers: Vec<u64> = lines[1].split(' ').map(|word| word.parse().unwrap()).collect();
    let [microseconds, kib] = numbers[..] else { panic!("{said}") };
    assert!(microseconds > 0 && kib > 19_000, "{said}");
    assert!(!bench(&["--takes", "false"]).status.success());
}
