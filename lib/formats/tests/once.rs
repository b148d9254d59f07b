//! What two programs agree on stands in this crate and nowhere else: no other source knows a magic
//! line or a key, or has a way to read or write conf form.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders without programs' sources; what `imager new` writes is somebody else's program.
const SKIPPED: [&str; 5] = ["target", ".git", "tests", "examples", "template"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The sources of all programs and libraries without their tests, by path from the workspace's root.
fn sources() -> BTreeMap<String, String> {
    let root = workspace();
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap_or_default().to_owned();
            let kept = !name.starts_with('.') && !SKIPPED.contains(&&name[..]);
            if path.is_dir() && kept {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.insert(path, program(&text));
            }
        }
    }
    // Programs that are nothing but tests or measurements, and their own workspace.
    found.retain(|path, _| {
        !["qemu-tests/", "bench/", "fuzz/", "tuf-conformance-client/"]
            .iter()
            .any(|folder| path.starts_with(folder))
    });
    assert!(found.len() > 200, "{} sources", found.len());
    found
}

/// A source without its comments and unit tests.
fn program(text: &str) -> String {
    let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let program = program.split("#[cfg(test)]\npub(crate) mod tests {").next().unwrap_or_default();
    let program = program.split("#[cfg(test)]\npub mod tests {").next().unwrap_or_default();
    let code = program.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.map(|line| format!("{line}\n")).collect()
}

/// Where each match of a text stands.
fn places<'a>(sources: &'a BTreeMap<String, String>, text: &str) -> Vec<&'a str> {
    let each = sources.iter().flat_map(|(path, source)| {
        std::iter::repeat_n(path.as_str(), source.matches(text).count())
    });
    each.collect()
}

#[test]
fn each_magic_line_stands_once() {
    let sources = sources();
    for (magic, place) in [
        ("\"ferrite-boot 1\"", "lib/formats/src/boot_conf.rs"),
        ("\"ferrite-system 1\"", "lib/formats/src/system_conf/mod.rs"),
        ("\"ferrite-slot 1\"", "lib/formats/src/run_slot.rs"),
        ("\"ferrite-last-failure 1\"", "lib/formats/src/last_failure.rs"),
        ("\"ferrite-data 1\"", "lib/formats/src/data_state.rs"),
        ("\"ferrite-time 1\"", "lib/formats/src/network_time.rs"),
        ("\"ferrite-settings 1\"", "lib/formats/src/settings.rs"),
        ("\"ferrite-manifest 1\"", "lib/formats/src/manifest.rs"),
        ("\"ferrite-report\"", "lib/formats/src/report.rs"),
        ("b\"FERRSLOT\"", "lib/formats/src/manifest.rs"),
        ("\"FERRITE_NOTIFY_FD\"", "lib/readiness/src/lib.rs"),
    ] {
        assert_eq!(places(&sources, magic), [place], "{magic}");
    }
    // One that this test does not know would be a new format.
    let mut lines = Vec::new();
    for (path, source) in &sources {
        for literal in source.split('"').skip(1).step_by(2) {
            if literal.starts_with("ferrite-") && literal.ends_with(" 1") {
                lines.push((literal, path.as_str()));
            }
        }
    }
    lines.retain(|(_, path)| !path.starts_with("lib/formats/"));
    lines.sort();
    // Each of these is read by the program that writes it.
    let own = [
        ("ferrite-resets 1", "init/src/recovery.rs"),
        ("ferrite-writer 1", "ota/src/writer/wire.rs"),
    ];
    let kinds: Vec<_> = lines.iter().map(|(line, _)| *line).collect();
    assert_eq!(kinds, own.map(|(line, _)| line), "{lines:?}");
}

#[test]
fn each_key_stands_once() {
    let sources = sources();
    let keys = &sources["lib/formats/src/key.rs"];
    let keys: Vec<&str> = keys.split('"').skip(1).step_by(2).collect();
    assert!(keys.len() > 70);
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), keys.len(), "a key has two names");
    // As a literal where a line is read or written.
    for key in keys {
        for call in ["line", "lines", "number", "yes_no", "one", "optional", "each", "values"] {
            for text in [format!("{call}(\"{key}\""), format!("{call}(&head, \"{key}\"")] {
                assert_eq!(places(&sources, &text), [""; 0], "{text}");
            }
        }
        assert_eq!(places(&sources, &format!("key == \"{key}\"")), [""; 0], "{key}");
    }
}

#[test]
fn each_member_of_the_status_stands_once() {
    let sources = sources();
    for member in ["last_line", "started_ms", "crashes_in_a_row", "memory_peak", "log_bytes"] {
        let places = places(&sources, &format!("\"{member}\""));
        assert_eq!(places, ["lib/formats/src/control/status.rs"], "{member}");
    }
}

#[test]
fn nobody_else_reads_or_writes_conf_form() {
    let sources = sources();
    for text in ["conf::parse(", "conf::one(", "conf::Writer", "conf::{self, Writer}", "Conf<'"] {
        let mut elsewhere = places(&sources, text);
        elsewhere.retain(|path| !path.starts_with("lib/formats/"));
        // What only `init` writes and reads: how many resets did not help.
        elsewhere.retain(|path| !path.ends_with("/recovery.rs"));
        // A device's settings, whose values are looked at one by one.
        let settings = ["wireless", "settings"].map(|name| format!("init/src/{name}"));
        elsewhere.retain(|path| text != "Conf<'" || !path.starts_with(&settings[0]));
        assert_eq!(elsewhere, [""; 0], "{text}");
    }
}

#[test]
fn the_programs_read_what_imager_writes_through_these_types() {
    let sources = sources();
    for (program, reader) in [
        ("init/", "BootConf::parse("),
        ("init/", "System::parse("),
        ("init/", "RunSlot::parse("),
        ("init/", "LastFailure::parse("),
        ("init/", "settings::parse("),
        ("init/", "Request::parse("),
        ("init/", "control::status::{Status"),
        ("ota/", "formats::ota_settings::{OtaSettings"),
        ("ota/", "RunSlot::parse("),
        ("ota/", "LastFailure::parse("),
        ("ota/", "Outline::parse("),
        ("ota/", "control::Health::parse("),
    ] {
        let places = places(&sources, reader);
        assert!(places.iter().any(|path| path.starts_with(program)), "{program}: {reader}");
    }
}
