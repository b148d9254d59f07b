//! Compiles image and board files into the small text that the device reads, with every default
//! filled in: `boot.conf`, `system.conf` and `ota.json` of `docs/architecture.md`.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use formats::conf::Writer;
use formats::layout::{GROUP_CTL, GROUP_RESERVE, GROUP_SLOTS, GROUP_SLOTS_READ, RUN_WIFI_CONF};
use formats::workload::user_id;

use super::initramfs;
use super::kernel::KernelFiles;
use super::ports::Ports;
use super::ssh;
use crate::config::board::Board;
use crate::config::image::{
    Image, Ready, Restart, UPDATE_WORKLOAD, Update, WIFI_WORKLOAD, WRITER_WORKLOAD, Workload,
};

/// Where the update client lies on the root.
pub const OTA_PATH: &str = "/usr/bin/ota";
/// Who joins wireless networks, out of the package `wpasupplicant`.
const SUPPLICANT_PATH: &str = "/usr/sbin/wpa_supplicant";
/// What the kernel calls the first radio. Nothing on the device gives it another name.
const WIFI_INTERFACE: &str = "wlan0";

/// `boot.conf` for the initramfs. `keys` are public keys in hexadecimal.
pub fn boot_conf(board: &Board, kernel: &KernelFiles, keys: &[String]) -> String {
    let mut w = Writer::new("ferrite-boot 1");
    w.line("board", board.name());
    w.line("chooser", board.boot.chooser.as_str());
    for (key, chains) in [
        ("chooser-modules", &kernel.chooser),
        ("modules", &kernel.initrd),
        ("later-modules", &kernel.later),
    ] {
        for chain in chains {
            let paths: Vec<String> = chain.iter().map(initramfs::module_path).collect();
            w.line(key, &paths.join(" "));
        }
    }
    if let Some(watchdog) = &board.watchdog {
        w.line("watchdog", &format!("{} {}", watchdog.device, watchdog.seconds()));
    }
    keys.iter().for_each(|key| {
        w.line("key", key);
    });
    w.finish()
}

/// `system.conf` for the root. `modules` are paths in load order. `newest`: when the newest package
/// was made, in seconds since 1970; it is later than that wherever this runs.
///
/// Fails when two workloads would get the same user.
pub fn system_conf(
    image: &Image,
    board: &Board,
    modules: &[String],
    ahead: &[String],
    newest: Option<u64>,
    ports: &Ports,
) -> Result<String> {
    let mut w = Writer::new("ferrite-system 1");
    w.line("hostname", image.hostname()).line("board", board.name());
    if let Some(newest) = newest {
        w.line("build-date", &newest.to_string());
    }
    w.line("chooser", board.boot.chooser.as_str());
    modules.iter().for_each(|module| {
        w.line("module", module);
    });
    if let Some(watchdog) = &board.watchdog {
        w.line("watchdog", &format!("{} {}", watchdog.device, watchdog.seconds()));
    }
    let trial = image.update.as_ref().map_or(300, |update| update.trial_timeout.as_seconds());
    w.line("trial-timeout", &trial.to_string());
    w.line("network", if image.network.dhcp { "dhcp" } else { "off" });
    image.network.ntp.iter().for_each(|host| {
        w.line("ntp", host);
    });
    if let Some(wifi) = &image.network.wifi {
        w.line("wifi", &format!("{WIFI_INTERFACE} {}", wifi.country));
    }
    w.line("media", yes_no(image.uses_media()));
    for path in ahead {
        w.line("read-ahead", path);
    }
    if image.debug {
        w.line("console-shell", "/usr/bin/busybox sh");
    }
    if image.network.ssh {
        w.line("ssh-server", ssh::SERVER_PATH);
    }
    for user in users(image)? {
        match image.workloads.iter().find(|workload| workload.name().as_str() == user.name) {
            Some(workload) => {
                let listen = ports.get(&user.name).map_or(&[][..], |addresses| addresses);
                workload_section(&mut w, workload, &user, listen);
            }
            None if user.name == WIFI_WORKLOAD => wifi_section(&mut w, &user),
            None if user.name == WRITER_WORKLOAD => writer_section(&mut w, &user),
            None => {
                let sticks = image.update.as_ref().is_some_and(|update| update.sticks);
                update_section(&mut w, &user, sticks);
            }
        }
    }
    Ok(w.finish())
}

/// A workload's user; its group has the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The workload's name, and the user's.
    pub name: String,
    /// User and group number.
    pub id: u32,
}

/// The users of all workloads, the imager's own included, in the order they stand in.
///
/// A number follows from the name alone, so that a workload finds its files on the data partition
/// again in every later version. Fails when two names share a number.
pub fn users(image: &Image) -> Result<Vec<User>> {
    let own = image.own_workloads().into_iter().map(|(name, _)| name);
    let names = image.workloads.iter().map(|w| w.name().as_str()).chain(own);
    let mut users: Vec<User> = Vec::new();
    for name in names {
        let id = user_id(name);
        if let Some(other) = users.iter().find(|user| user.id == id) {
            bail!("workloads `{}` and `{name}` would share user {id}; rename one", other.name);
        }
        users.push(User { name: name.to_owned(), id });
    }
    Ok(users)
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn workload_section(w: &mut Writer, workload: &Workload, user: &User, listen: &[SocketAddr]) {
    w.section("workload", &user.name);
    command_lines(w, "command", "arg", workload.command().iter().map(|word| word.as_str()));
    for (key, value) in &workload.env {
        w.line("env", &format!("{key}={value}"));
    }
    w.line("uid", &user.id.to_string());
    for group in &workload.groups {
        w.line("group", &group.number().to_string());
    }
    for name in workload.after() {
        w.line("after", name);
    }
    for address in listen {
        w.line("listen", &address.to_string());
    }
    w.line("data", yes_no(workload.data));
    if workload.data {
        let limit = |most: Option<u64>| most.map_or("share".to_owned(), |most| most.to_string());
        w.line("data-max", &limit(workload.data_max()));
        w.line("data-files", &limit(workload.data_files()));
    }
    w.line("network", yes_no(workload.network))
        .line("media", yes_no(workload.media))
        .line("vital", yes_no(workload.vital))
        .line(
            "restart",
            match workload.restart {
                Restart::Always => "always",
                Restart::OnFailure => "on-failure",
                Restart::Never => "never",
            },
        );
    let [first, longest] = workload.backoff;
    w.line("backoff", &format!("{} {}", first.as_seconds(), longest.as_seconds()));
    let budget = workload.budget;
    w.line("budget", &format!("{} {}", budget.crashes, budget.within.as_seconds()));
    w.line(
        "ready",
        match workload.ready {
            Ready::Notify => "notify",
            Ready::Started => "started",
        },
    );
    w.line("ready-timeout", &workload.ready_timeout.as_seconds().to_string());
    if let Some(heartbeat) = workload.heartbeat() {
        w.line("heartbeat", &heartbeat.as_seconds().to_string());
    }
    if let Some(health) = &workload.health {
        let words = health.command.iter().map(|word| word.as_str());
        command_lines(w, "health-command", "health-arg", words);
        w.line("health-interval", &health.interval.as_seconds().to_string())
            .line("health-timeout", &health.timeout.as_seconds().to_string())
            .line("health-retries", &health.retries.to_string());
    }
    if let Some(memory) = workload.memory_max {
        w.line("memory-max", &memory.0.to_string());
    }
    w.line("pids-max", &workload.pids_max.to_string())
        .line("log-size", &workload.log_size.0.to_string())
        .line("console", yes_no(workload.console))
        .line("stop-timeout", &workload.stop_timeout.as_seconds().to_string());
}

fn command_lines<'a>(
    w: &mut Writer,
    command: &str,
    argument: &str,
    words: impl Iterator<Item = &'a str>,
) {
    for (i, word) in words.enumerate() {
        w.line(if i == 0 { command } else { argument }, word);
    }
}

/// Seconds after which an update client that has not beaten is started again. It beats at least once
/// a second but while it waits: 20 s for the next byte, 40 s in a row for a server that is nowhere.
const OTA_HEARTBEAT: &str = "60";

/// The update client's workload. It is not vital: a device without a server is a healthy device.
/// It has the network and reads the slots, but writes none: the other half does.
fn update_section(w: &mut Writer, user: &User, sticks: bool) {
    w.section("workload", &user.name)
        .line("command", OTA_PATH)
        .line("arg", "run")
        .line("uid", &user.id.to_string())
        .line("group", &GROUP_CTL.to_string())
        .line("group", &GROUP_SLOTS_READ.to_string())
        .line("group", &GROUP_RESERVE.to_string());
    for verb in ["health", "reboot", "signed-time", "trial-waits"] {
        w.line("ask", verb);
    }
    for verb in ["state", "arm", "commit", "forbid-fallback", "clear-trial"] {
        w.line("ask", &format!("boot-{verb}"));
    }
    w.line("data", "yes")
        .line("network", "no")
        .line("media", yes_no(sticks))
        .line("vital", "no")
        .line("restart", "always")
        .line("backoff", "1 60")
        .line("budget", "5 300")
        .line("ready", "notify")
        .line("ready-timeout", "30")
        .line("heartbeat", OTA_HEARTBEAT)
        .line("memory-max", &(64u64 << 20).to_string())
        .line("pids-max", "16")
        .line("log-size", "65536")
        .line("console", "yes")
        .line("stop-timeout", "10");
}

/// The half of the update client that writes: the idle slot's partitions, no network, no files.
fn writer_section(w: &mut Writer, user: &User) {
    w.section("workload", &user.name)
        .line("command", OTA_PATH)
        .line("arg", "writer")
        .line("uid", &user.id.to_string())
        .line("group", &GROUP_CTL.to_string())
        .line("group", &GROUP_SLOTS.to_string())
        .line("socket-for", UPDATE_WORKLOAD);
    for verb in ["boot-state", "boot-begin-install", "boot-arm"] {
        w.line("ask", verb);
    }
    w.line("data", "no")
        .line("network", "none")
        .line("media", "no")
        .line("vital", "no")
        .line("restart", "always")
        .line("backoff", "1 60")
        .line("budget", "5 300")
        .line("ready", "notify")
        .line("ready-timeout", "30")
        // A flush of a bad card takes minutes, during which no heart beats.
        .line("heartbeat", "600")
        .line("memory-max", &(64u64 << 20).to_string())
        .line("pids-max", "8")
        .line("log-size", "16384")
        .line("console", "no")
        .line("stop-timeout", "10");
}

/// Who joins the wireless network. It waits until the device's settings name one and the radio is
/// there; a device without a network is a healthy device. What it says is read by `init`, which tells
/// people in a line what has become of it.
fn wifi_section(w: &mut Writer, user: &User) {
    w.section("workload", &user.name);
    let arguments = ["-i", WIFI_INTERFACE, "-D", "nl80211", "-c", RUN_WIFI_CONF];
    command_lines(w, "command", "arg", [SUPPLICANT_PATH].into_iter().chain(arguments));
    w.line("uid", &user.id.to_string())
        .line("capability", "net-admin")
        .line("capability", "net-raw")
        .line("needs", "wifi")
        .line("data", "yes")
        .line("network", "no")
        .line("media", "no")
        .line("vital", "no")
        .line("restart", "always")
        .line("backoff", "1 60")
        .line("budget", "5 300")
        .line("ready", "started")
        .line("ready-timeout", "30")
        .line("memory-max", &(32u64 << 20).to_string())
        .line("pids-max", "4")
        .line("log-size", "65536")
        .line("console", "no")
        .line("stop-timeout", "10");
}

/// `ota.json`: the update client's settings.
pub fn ota_settings(image: &Image, update: &Update) -> String {
    let settings = serde_json::json!({
        "url": update.url(),
        "name": image.name.as_str(),
        "poll_seconds": update.poll.as_seconds(),
        "jitter_seconds": update.jitter.as_seconds(),
        "commit_after_seconds": update.commit_after.as_seconds(),
        "tries": update.tries(),
        "reboot": update.reboot.to_string(),
        "max_bytes_per_second": null,
        "sticks": update.sticks,
        "groups": update.groups.iter().map(|group| group.as_str()).collect::<Vec<_>>(),
        "hours": update.hours.map(|hours| hours.to_string()),
        "daily_budget": update.daily_budget.map(|budget| budget.0),
        "proxy": update.proxy.as_ref().map(|proxy| proxy.get_ref().as_str()),
        "token_over_http": update.token_over_http,
        "report_url": update.report_url.as_ref().map(|url| url.get_ref().as_str()),
    });
    format!("{settings:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::conf;

    fn image(text: &str) -> (tempfile::TempDir, Image) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.toml");
        let head = "name = \"demo\"\nversion = \"1\"\nsequence = 1\n";
        std::fs::write(&path, format!("{head}{text}")).unwrap();
        let image = Image::load(&path).unwrap();
        (dir, image)
    }

    fn board() -> Board {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        Board::load("qemu-arm64", std::path::Path::new(folder)).unwrap()
    }

    #[test]
    fn a_workload_gets_every_line_with_its_default() {
        let (_dir, image) = image(
            "[[workload]]\nname = \"face\"\ncommand = [\"/usr/bin/runner\", \"--x=1 2\"]\nenv = { K = \"V\" }\n",
        );
        let text = system_conf(
            &image,
            &board(),
            &["/usr/lib/modules/a.ko".into()],
            &["/usr/bin/x".into()],
            Some(1_795_659_174),
            &Ports::from([("face".into(), vec!["[::]:8080".parse().unwrap()])]),
        )
        .unwrap();
        let conf = conf::parse(text.as_bytes(), "ferrite-system 1").unwrap();
        let lines = &conf.sections[0].lines;
        for (key, value) in [
            ("command", "/usr/bin/runner"),
            ("arg", "--x=1 2"),
            ("env", "K=V"),
            ("vital", "yes"),
            ("listen", "[::]:8080"),
            ("restart", "always"),
            ("backoff", "1 60"),
            ("budget", "5 300"),
            ("log-size", "65536"),
        ] {
            assert_eq!(conf::one(lines, key).unwrap().value, value, "{key}");
        }
        assert_eq!(conf::one(&conf.head, "module").unwrap().value, "/usr/lib/modules/a.ko");
        assert_eq!(conf::one(&conf.head, "read-ahead").unwrap().value, "/usr/bin/x");
        assert_eq!(conf::one(&conf.head, "build-date").unwrap().value, "1795659174");
    }

    #[test]
    fn what_a_workload_may_take_of_the_data_partition_is_said_for_all_but_the_update_client() {
        let lines = |more: &str| {
            let head = "[update]\nurl = \"http://h:1/\"\n[[workload]]\nname = \"rec\"\n";
            let (_dir, image) = image(&format!("{head}command = [\"/x\"]\n{more}"));
            let text = system_conf(&image, &board(), &[], &[], None, &Ports::new()).unwrap();
            let lines = text.lines().filter(|line| line.starts_with("data-"));
            lines.map(String::from).collect::<Vec<_>>()
        };
        assert!(lines("").is_empty());
        assert_eq!(lines("data = true\n"), ["data-max share", "data-files share"]);
        let own = lines("data = true\ndata_max = \"2G\"\ndata_files = 5000\n");
        assert_eq!(own, ["data-max 2147483648", "data-files 5000"]);
    }

    #[test]
    fn the_update_client_is_added_when_there_is_a_url() {
        let (_dir, image) = image("[update]\nurl = \"http://h:1/\"\n");
        let text = system_conf(&image, &board(), &[], &[], None, &Ports::new()).unwrap();
        assert!(text.contains("[workload ota]\ncommand /usr/bin/ota\narg run\n"), "{text}");
        let conf = conf::parse(text.as_bytes(), "ferrite-system 1").unwrap();
        let ota = &conf.sections.iter().find(|section| section.name == "ota").unwrap().lines;
        assert_eq!(conf::one(ota, "heartbeat").unwrap().value, "60", "one that hangs is noticed");
        assert_eq!(conf::one(ota, "vital").unwrap().value, "no");
        let settings: serde_json::Value =
            serde_json::from_str(&ota_settings(&image, image.update.as_ref().unwrap())).unwrap();
        assert_eq!(settings["url"], "http://h:1");
        assert_eq!(settings["reboot"], "now");
        assert_eq!(settings["hours"], serde_json::Value::Null);
    }

    #[test]
    fn one_half_of_the_update_client_has_the_network_and_the_other_the_devices() {
        let (_dir, with) = image("[update]\nurl = \"http://h\"\n");
        let text = system_conf(&with, &board(), &[], &[], None, &Ports::new()).unwrap();
        let conf = conf::parse(text.as_bytes(), "ferrite-system 1").unwrap();
        let lines = |name: &str, key: &str| -> Vec<String> {
            let section = conf.sections.iter().find(|section| section.name == name).unwrap();
            let lines = section.lines.iter().filter(|line| line.key == key);
            lines.map(|line| line.value.to_owned()).collect()
        };
        assert_eq!(lines("ota", "group"), ["900", "902", "909"]);
        assert_eq!(lines("ota-writer", "group"), ["900", "901"]);
        assert_eq!(lines("ota-writer", "network"), ["none"]);
        assert_eq!(lines("ota-writer", "data"), ["no"]);
        assert_eq!(lines("ota-writer", "socket-for"), ["ota"]);
        assert!(!lines("ota", "ask").contains(&"boot-begin-install".to_owned()));
        assert!(!lines("ota-writer", "ask").iter().any(|verb| verb.contains("commit")));
        assert_ne!(lines("ota", "uid"), lines("ota-writer", "uid"));

        let (_dir, without) = image("[[workload]]\nname = \"camera\"\ncommand = [\"/x\"]\n");
        let text = system_conf(&without, &board(), &[], &[], None, &Ports::new()).unwrap();
        assert!(!text.contains("ota"), "{text}");
    }

    #[test]
    fn how_a_device_reaches_its_server_is_handed_on() {
        let (_dir, image) = image(
            "[update]\nurl = \"https://h/r\"\ngroups = [\"canary\"]\nhours = \"23:00-05:30\"\n\
             daily_budget = \"50M\"\nproxy = \"http://p:3128\"\ntoken_over_http = true\n\
             report_url = \"https://h/report\"\ntls = { roots = \"ca.pem\" }\n",
        );
        let settings: serde_json::Value =
            serde_json::from_str(&ota_settings(&image, image.update.as_ref().unwrap())).unwrap();
        for (key, value) in [
            ("groups", serde_json::json!(["canary"])),
            ("hours", "23:00-05:30".into()),
            ("daily_budget", (50 << 20).into()),
            ("proxy", "http://p:3128".into()),
            ("token_over_http", true.into()),
            ("report_url", "https://h/report".into()),
        ] {
            assert_eq!(settings[key], value, "{key}");
        }
        let roots = image.files.last().unwrap();
        assert_eq!(roots.path.as_str(), formats::layout::TLS_ROOTS);
        assert_eq!(roots.source, std::path::Path::new("ca.pem"));
    }

    #[test]
    fn sticks_are_for_those_who_asked_for_them() {
        let lines = |text: &str| {
            let (_dir, image) = image(text);
            let text = system_conf(&image, &board(), &[], &[], None, &Ports::new()).unwrap();
            let conf = conf::parse(text.as_bytes(), "ferrite-system 1").unwrap();
            let all = std::iter::once(&conf.head).chain(conf.sections.iter().map(|s| &s.lines));
            all.map(|lines| conf::one(lines, "media").unwrap().value.to_owned()).collect::<Vec<_>>()
        };
        let update = "[update]\nurl = \"http://h\"\n";
        let camera = "[[workload]]\nname = \"camera\"\ncommand = [\"/x\"]\n";
        assert_eq!(lines(&format!("{update}{camera}")), ["no"; 4]);
        let sticks = lines(&format!("{update}sticks = true\n{camera}"));
        assert_eq!(sticks, ["yes", "no", "yes", "no"]);
        let media = lines(&format!("{update}{camera}media = true\n"));
        assert_eq!(media, ["yes", "yes", "no", "no"]);
    }
}
