//! What image and board files say arrives on the device: through the very functions with which `init`
//! and `ota` read it. lib/formats/tests/once.rs sees to it that they have no others.

use formats::ota_settings::OtaSettings;

use super::super::modules::Module;
use super::tests::{board, image};
use super::*;
use crate::config::image::Network;

/// Keys that are about what is put on the device, not about what the device is told: the slot's
/// manifest (`name` and `version` of it), the root, the choice of what is signed.
const BUILT: [&str; 15] = [
    "disk",
    "name",
    "version",
    "sequence",
    "floor",
    "update",
    "secure_boot",
    "network",
    "debian",
    "file",
    "archive",
    "wheel",
    "model",
    "workload",
    "debug",
];

/// Keys, an image file with each, and the line of `system.conf` or `ota.json` that it leads to.
const TOP: [(&str, &str, &str); 2] = [
    ("hostname", "hostname = \"kiosk\"", "hostname kiosk"),
    ("debug", "debug = true", "console-shell /usr/bin/busybox sh"),
];
const UPDATE: [(&str, &str, &str); 17] = [
    ("url", "", "\"url\": \"http://h\""),
    ("poll", "poll = \"2h\"", "\"poll_seconds\": 7200"),
    ("jitter", "jitter = \"61s\"", "\"jitter_seconds\": 61"),
    ("commit_after", "commit_after = \"40s\"", "\"commit_after_seconds\": 40"),
    ("trial_timeout", "trial_timeout = \"7m\"", "trial-timeout 420"),
    ("tries", "tries = 255", "\"tries\": 255"),
    ("reboot", "reboot = \"02:00-04:00\"", "\"reboot\": \"02:00-04:00\""),
    ("sticks", "sticks = true", "\"sticks\": true"),
    ("groups", "groups = [\"canary\"]", "\"canary\""),
    ("hours", "hours = \"23:00-05:30\"", "\"hours\": \"23:00-05:30\""),
    ("daily_budget", "daily_budget = \"50M\"", "\"daily_budget\": 52428800"),
    ("max_bytes_per_second", "max_bytes_per_second = \"64K\"", "\"max_bytes_per_second\": 65536"),
    ("proxy", "proxy = \"http://p:1\"", "\"proxy\": \"http://p:1\""),
    ("token_over_http", "token_over_http = true", "\"token_over_http\": true"),
    ("report_url", "report_url = \"http://h/x\"", "\"report_url\": \"http://h/x\""),
    // A file of the root, at a path that `ota` knows.
    ("tls", "tls = { roots = \"ca.pem\" }", ""),
    // `init` mounts the sticks that `ota` looks at.
    ("sticks", "sticks = true", "media yes"),
];
const NETWORK: [(&str, &str, &str); 4] = [
    ("dhcp", "dhcp = false", "network off"),
    ("wifi", "wifi = { country = \"DE\" }", "wifi wlan0 DE"),
    ("ssh", "ssh = true", "ssh-server /usr/lib/ferrite/ssh-server"),
    ("ntp", "ntp = [\"192.0.2.1\"]", "ntp 192.0.2.1"),
];
const WORKLOAD: [(&str, &str, &str); 26] = [
    ("name", "", "[workload face]"),
    ("command", "", "command /usr/bin/face"),
    // A file of the root, at the path that `command` names.
    ("binary", "binary = \"face\"", ""),
    ("env", "env = { K = \"V\" }", "env K=V"),
    ("after", "after = [\"other\"]", "after other"),
    ("groups", "groups = [\"ctl\"]", "group 900"),
    ("data", "data = true", "data yes"),
    ("data_max", "data = true\ndata_max = \"2G\"", "data-max 2147483648"),
    ("data_files", "data = true\ndata_files = 5000", "data-files 5000"),
    ("network", "network = true", "network yes"),
    ("vital", "vital = true", "vital yes"),
    ("restart", "restart = \"on-failure\"", "restart on-failure"),
    ("backoff", "backoff = [\"2s\", \"90s\"]", "backoff 2 90"),
    ("budget", "budget = { crashes = 7, within = \"1m\" }", "budget 7 60"),
    ("ready", "ready = \"notify\"", "ready notify"),
    ("ready_timeout", "ready_timeout = \"40s\"", "ready-timeout 40"),
    ("heartbeat", "ready = \"notify\"\nheartbeat = \"11s\"", "heartbeat 11"),
    (
        "health",
        "health = { command = [\"/x\", \"a b\"], interval = \"1s\", timeout = \"2s\", retries = 4 }",
        "health-command /x\nhealth-arg a b\nhealth-interval 1\nhealth-timeout 2\nhealth-retries 4",
    ),
    ("memory_max", "memory_max = \"65M\"", "memory-max 68157440"),
    ("pids_max", "pids_max = 65", "pids-max 65"),
    ("media", "media = true", "media yes"),
    ("ports", "ports = [8080]", "listen [::]:8080"),
    ("log_size", "log_size = \"8K\"", "log-size 8192"),
    ("console", "console = true", "console yes"),
    ("stop_timeout", "stop_timeout = \"11s\"", "stop-timeout 11"),
    ("stop_timeout", "stop_timeout = \"1500ms\"", "stop-timeout 2"),
];

/// The keys that a table of the image file has, as its type tells them.
fn keys<T: for<'de> serde::Deserialize<'de>>() -> Vec<String> {
    let error = toml::from_str::<T>("no-such-key = 1").err().unwrap().to_string();
    let (_, expected) = error.split_once("expected one of ").expect(&error);
    let words = expected.lines().next().unwrap_or_default().split(", ");
    words.map(|word| word.trim_matches('`').to_owned()).collect()
}

/// What the device reads of an image: its two files, each through its reader and back.
fn arrived(image: &Image, board: &Board) -> String {
    let ports = image.workloads.iter().map(|workload| {
        let address = |port: &u16| format!("[::]:{port}").parse().unwrap();
        (workload.name().to_string(), workload.ports.iter().map(address).collect())
    });
    let modules = ["/usr/lib/modules/a.ko".to_owned()];
    let system = system_conf(image, board, &modules, &modules, Some(1), &ports.collect()).unwrap();
    let text = system.to_text();
    assert_eq!(System::parse(text.as_bytes()).unwrap(), system);
    let update = image.update.as_ref().map_or(String::new(), |update| {
        let settings = ota_settings(image, update);
        let text = settings.to_text();
        assert_eq!(OtaSettings::parse(&text), Ok(settings));
        text
    });
    text + &update
}

/// Each key of a table is in the list, and what it leads to is there with it and not without. `with`
/// makes an image file of one that has the key.
fn all_arrive(list: &[(&str, &str, &str)], keys: &[String], with: impl Fn(&str) -> String) {
    let board = board("qemu-arm64");
    for key in keys {
        let known = BUILT.contains(&key.as_str()) || list.iter().any(|(known, ..)| known == key);
        assert!(known, "`{key}`: what does the device hear of it?");
    }
    for (key, text, line) in list {
        assert!(keys.iter().any(|known| known == key), "`{key}` is no key");
        let (_dir, image) = image(&with(text));
        let has_line = |text: &str| format!("\n{text}").contains(&format!("\n{line}"));
        let trimmed = |text: String| {
            text.lines().map(|line| format!("{}\n", line.trim_start())).collect::<String>()
        };
        let arrived = trimmed(arrived(&image, &board));
        assert!(has_line(&arrived), "`{key}` does not arrive as `{line}`:\n{arrived}");
    }
    let documented = include_str!("../../../../docs/image-file.md");
    for key in keys {
        assert!(documented.contains(&format!("`{key}`")) || BUILT.contains(&key.as_str()), "{key}");
    }
}

#[test]
fn each_key_of_an_image_file_arrives() {
    let other = "[[workload]]\nname = \"other\"\ncommand = [\"/x\"]\nvital = false\n";
    all_arrive(&TOP, &keys::<Image>(), |text| format!("{text}\n"));
    all_arrive(&UPDATE, &keys::<Update>(), |text| {
        format!("[update]\nurl = \"http://h\"\n{text}\n")
    });
    all_arrive(&NETWORK, &keys::<Network>(), |text| format!("debug = true\n[network]\n{text}\n"));
    all_arrive(&WORKLOAD, &keys::<workload::Workload>(), |text| {
        let face = "[[workload]]\nname = \"face\"\ncommand = [\"/usr/bin/face\"]\n";
        let vital = if text.starts_with("vital") { "" } else { "vital = false\n" };
        format!("{other}{face}{vital}{text}\n")
    });
}

#[test]
fn what_a_key_leads_to_is_not_there_without_it() {
    let (_dir, plain) = image(
        "[update]\nurl = \"http://h/r\"\n[[workload]]\nname = \"other\"\ncommand = [\"/x\"]\n\
         vital = false\n",
    );
    let plain = arrived(&plain, &board("qemu-arm64"));
    let always = ["url", "name", "command", "ready", "groups", "data", "console"];
    for (key, _, line) in TOP.iter().chain(&UPDATE).chain(&NETWORK).chain(&WORKLOAD) {
        let told =
            !line.is_empty() && !always.contains(key) && plain.lines().any(|l| l.trim() == *line);
        assert!(!told, "`{key}`: `{line}` is there by itself");
    }
}

#[test]
fn each_board_file_arrives() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
    let mut boards = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let board = board(path.file_stem().unwrap().to_str().unwrap());
        let module = |name: &str| Module { name: name.into(), needs: vec![], object: vec![] };
        let kernel = KernelFiles {
            image: vec![],
            device_trees: vec![],
            chooser: vec![vec![module("a"), module("b")]],
            initrd: vec![vec![module("c")], vec![module("d"), module("e")]],
            later: vec![vec![module("f")]],
            rootfs: vec![],
            on_demand: vec![],
            quotas: true,
        };
        let conf = boot_conf(&board, &kernel, &["00".repeat(32), "11".repeat(32)]);
        let read = BootConf::parse(conf.to_text().as_bytes()).unwrap();
        assert_eq!(read, conf);
        assert_eq!(read.board, board.name().to_string());
        assert_eq!(read.chooser, board.boot.method.name());
        assert_eq!(read.modules[1], ["/lib/modules/d.ko", "/lib/modules/e.ko"]);
        let watchdog = board.watchdog.as_ref().map(|w| u64::from(w.seconds()));
        assert_eq!(read.watchdog.map(|watchdog| u64::from(watchdog.seconds)), watchdog);

        let (_dir, image) =
            image("[update]\nurl = \"http://h\"\n[[workload]]\nname = \"a\"\ncommand = [\"/x\"]\n");
        let system = arrived(&image, &board);
        assert!(system.contains(&format!("\nboard {}\n", board.name())), "{system}");
        boards += 1;
    }
    assert!(boards >= 12, "{boards} boards");
}
