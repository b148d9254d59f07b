use super::*;
use crate::config::values::Span;

const HEAD: &str = "name = \"demo\"\nversion = \"1.0.0\"\nsequence = 2\n";

fn read(text: &str) -> Result<Image, String> {
    let path = Path::new("demo.toml");
    let document = Document::new(path, format!("{HEAD}{text}"));
    Image::read(&document, path).map_err(|e| e.to_string())
}

fn refused(text: &str, expected: &str) {
    match read(text) {
        Ok(_) => panic!("taken: {text}"),
        Err(message) => assert!(message.contains(expected), "{message}"),
    }
}

#[test]
fn three_lines_are_an_image_and_defaults_fill_the_rest() {
    let image = read("").unwrap();
    assert_eq!(image.hostname().as_str(), "demo");
    assert_eq!((image.sequence(), image.rollback_floor()), (2, 0));
    assert!(image.network.dhcp && !image.debug && image.update.is_none());
}

#[test]
fn everything_at_once() {
    let image = read(
        r#"
floor = 1
hostname = "kiosk"
debug = true
[update]
url = "http://10.0.2.2:8080/"
poll = "1h"
jitter = "10m"
commit_after = "30s"
trial_timeout = "5m"
tries = 3
reboot = "23:00-04:30"
[network]
dhcp = true
ntp = ["ntp.example"]
[debian]
packages = ["ca-certificates"]
[[file]]
source = "files/x.conf"
path = "/etc/x.conf"
mode = "0644"
[[wheel]]
name = "mediapipe"
version = "0.10.14"
platform = "manylinux2014_x86_64"
files = [{ from = "a/b.tflite", path = "/usr/share/b.tflite" }]
[[model]]
name = "face"
model = "wheel:mediapipe:a/b.tflite"
config = "face.toml"
files = ["golden.png"]
[[workload]]
name = "face"
command = ["/usr/bin/runner", "--model=/usr/share/models/face"]
env = { K = "V" }
ready = "notify"
heartbeat = "10s"
health = { command = ["/usr/bin/x"] }
memory_max = "64M"
[[workload]]
name = "other"
command = ["/usr/bin/other"]
after = ["face", "ota"]
vital = false
restart = "on-failure"
backoff = ["1s", "60s"]
budget = { crashes = 5, within = "5m" }
groups = ["ctl"]
"#,
    )
    .unwrap();
    let update = image.update.as_ref().unwrap();
    assert_eq!(update.url(), "http://10.0.2.2:8080");
    assert_eq!(Some(update.reboot), Reboot::parse("23:00-04:30"));
    assert_eq!(image.models[0].model().file_name(), "b.tflite");
    assert_eq!(image.workloads[0].heartbeat(), Some(Span::seconds(10)));
    assert!(image.workloads[0].vital);
    assert_eq!(image.workloads[1].after().count(), 2);
}

#[test]
fn unknown_keys_are_errors_at_every_level() {
    refused("hostnam = \"x\"", "demo.toml:4: unknown key `hostnam`; did you mean `hostname`?");
    refused(
        "[update]\nurl = \"http://x\"\npol = \"1h\"",
        "demo.toml:6: unknown key `pol`; did you mean `poll`?",
    );
    refused(
        "[[workload]]\nname = \"a\"\ncomand = []",
        "demo.toml:6: unknown key `comand`; did you mean `command`?",
    );
    refused(
        "[[workload]]\nname = \"a\"\ncommand = [\"/a\"]\nbudget = { crashs = 1, within = \"1s\" }",
        "demo.toml:7: unknown key `crashs`; did you mean `crashes`?",
    );
    refused(
        "[[wheel]]\nname=\"a\"\nversion=\"1\"\nfiles=[{form=\"a\",path=\"/a\"}]",
        "did you mean `from`?",
    );
}

#[test]
fn values_out_of_range_name_the_line() {
    refused("hostname = \"A\"", "demo.toml:4: \"A\" is not a name");
    refused("floor = 3", "demo.toml:4: `floor` is above `sequence`");
    refused(
        "[[file]]\nsource = \"a\"\npath = \"/a/../b\"",
        "demo.toml:6: \"/a/../b\" has an empty",
    );
    refused(
        "[update]\nurl = \"ftp://x\"",
        "demo.toml:5: `url` \"ftp://x\" does not start with http",
    );
    refused(
        "[update]\nurl = \"http://x\"\nreboot = \"25:00-01:00\"",
        "\"25:00-01:00\" is not \"now\", \"manual\" or like",
    );
    refused("[update]\nurl = \"http://x\"\ntries = 0", "demo.toml:6: `tries`");
    for (line, why) in [
        ("hours = \"1:00-2:00\"", "demo.toml:6: \"1:00-2:00\" is not like"),
        ("groups = [\"a b\"]", "`groups`: \"a b\" is not"),
        ("daily_budget = \"1M\"", "`daily_budget` is at least 2M"),
        ("max_bytes_per_second = 100", "`max_bytes_per_second` is at least 1K"),
        ("proxy = \"socks5://p\"", "demo.toml:6: `proxy` is not like"),
        ("report_url = \"mailto:x\"", "demo.toml:6: `report_url` \"mailto:x\" does not start"),
        ("report_url = \"https://x/\"", "add `[update.tls]`"),
    ] {
        refused(&format!("[update]\nurl = \"http://x\"\n{line}"), why);
    }
    refused("[update]\nurl = \"https://x\"", "add `[update.tls]`");
    refused(
        "[[model]]\nname=\"m\"\nmodel=\"wheel:x:y\"\nconfig=\"c\"",
        "demo.toml:6: no [[wheel]] is named `x`",
    );
}

#[test]
fn archives_name_one_place_and_what_is_taken() {
    let image = read("[[archive]]\npath = \"l4t.deb\"\nonly = [\"usr/lib/*.so\"]\n").unwrap();
    let archive = image.archives().next().unwrap();
    assert_eq!((archive.from(), archive.only()[0].as_str()), ("l4t.deb", "usr/lib/*.so"));
    refused("[[archive]]\npath = \"a\"", "demo.toml:4: an archive of an image needs `only`");
    refused("[[archive]]\npath = \"a\"\nonly = []", "demo.toml:6: `only` is empty");
    for bad in ["../x", "", "usr//lib", "/"] {
        let text = format!("[[archive]]\npath = \"a\"\nonly = [\"usr\", {bad:?}]");
        refused(&text, "is not a path inside the archive");
    }
    refused("[[archive]]\nurl = \"http://x/a\"\nonly = [\"usr\"]", "demo.toml:5: what comes from");
}

#[test]
fn workloads_are_checked_together() {
    let w = |name: &str, rest: &str| {
        format!("[[workload]]\nname = \"{name}\"\ncommand = [\"/bin/{name}\"]\n{rest}\n")
    };
    refused(&(w("a", "") + &w("a", "")), "demo.toml:9: workload `a` is defined twice");
    refused(&w("face", "after = [\"fase\"]"), "no workload is named `fase`; did you mean `face`?");
    refused(
        &(w("a", "after = [\"b\"]") + &w("b", "after = [\"a\"]")),
        "goes round in a circle: a, b",
    );
    refused(&w("a", "after = [\"a\"]"), "goes round in a circle: a");
    refused(&w("a", "data_max = \"1G\""), "is for workloads with `data = true`");
    refused(&w("a", "data = true\ndata_max = \"4K\""), "at least 64K");
    refused(&w("a", "data = true\ndata_files = 3"), "`data_files` at least 16");
    refused(&w("a", "heartbeat = \"5s\""), "needs `ready = \"notify\"`");
    refused(
        &(String::from("[update]\nurl = \"http://x\"\n") + &w("ota", "")),
        "added by [update] itself",
    );
    refused("[[workload]]\nname = \"a\"\ncommand = [\"a\"]", "not absolute");
    refused("[[workload]]\nname = \"a\"\ncommand = []", "`command` is empty");
    assert!(
        read(&(w("a", "") + &w("b", "after = [\"a\"]") + &w("c", "after = [\"a\", \"b\"]")))
            .is_ok()
    );
}

#[test]
fn missing_keys_are_named() {
    let document = Document::new(Path::new("x.toml"), "name = \"a\"\n".into());
    let message = Image::read(&document, Path::new("x.toml")).unwrap_err().to_string();
    assert!(message.contains("`version` is missing"), "{message}");
}

#[test]
fn a_wireless_network_needs_a_country_and_an_address() {
    let image = read("[network]\nwifi = { country = \"DE\" }\n").unwrap();
    assert_eq!(image.network.wifi.as_ref().map(|wifi| wifi.country.as_str()), Some("DE"));
    refused("[network]\nwifi = { country = \"de\" }\n", "two capital letters");
    refused("[network]\nwifi = {}\n", "country");
    refused("[network]\ndhcp = false\nwifi = { country = \"DE\" }\n", "needs `dhcp`");
    let own = "[network]\nwifi = { country = \"DE\" }\n[[workload]]\nname = \"wifi\"\ncommand = [\"/x\"]\n";
    refused(own, "added by [network] wifi itself");
    assert!(read("[[workload]]\nname = \"wifi\"\ncommand = [\"/x\"]\n").is_ok());
}

#[test]
fn an_address_with_a_space_is_said_to_have_one() {
    refused("[update]\nurl = \"http://my server\"", "`url` \"http://my server\" has a space in it");
}

#[test]
fn partitions_sizes_are_the_image_files_where_it_says() {
    let image = read("[disk]\nroot = \"512M\"\nboot = \"128M\"\n").unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
    let board = || crate::config::Board::load("qemu-arm64", Path::new(folder)).unwrap();
    let (before, board) = (board(), board().with_sizes(&image.disk));
    assert_eq!((board.partitions.root(), board.partitions.boot()), (512 << 20, 128 << 20));
    assert_eq!(board.partitions.data(), before.partitions.data());
    assert_eq!(board.partitions.firmware(), before.partitions.firmware());
    refused("[disk]\nroot = \"8M\"", "demo.toml:5: `root` is a multiple of 1M, from 16M to 65536M");
    refused("[disk]\ndata = \"2G\"", "`data` is a multiple of 1M");
    refused("[disk]\nboot = \"65M1\"", "boot");
    refused("[disk]\nrot = \"1G\"", "did you mean `root`?");
}

#[test]
fn a_folder_is_taken_without_what_is_excluded() {
    let file = "[[file]]\nsource = \".\"\npath = \"/x\"\nexclude = ";
    let image = read(&format!("{file}[\"out\", \"*.key\", \"a/b/\"]")).unwrap();
    let entry = &image.files[0];
    for (path, excluded) in
        [("out", true), ("out/x", true), ("x.key", true), ("k/x.key", false), ("a/b/c", true)]
    {
        assert_eq!(entry.excludes(path), excluded, "{path}");
    }
    refused(&format!("{file}[\"../x\"]"), "demo.toml:7: `exclude` names files or folders");
}
