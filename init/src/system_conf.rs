//! `/etc/ferrite/system.conf`: what the rootfs runs.
//!
//! `imager` writes every line with its default filled in, so nothing is guessed here; numbers are
//! clamped to what the device can bear.

use std::net::SocketAddr;

use formats::conf::{self, Line, Section};
use formats::manifest::is_word;
use formats::{Error, Result};
use rustix::thread::CapabilitySet;

use crate::quota;
use crate::workload::ports::MAX_PORTS;
use crate::workload::restart::{Limits, MAX_BUDGET, Policy};

/// First line of the file.
const FORM: &str = "ferrite-system 1";
/// The most workloads a device runs.
pub const MAX_WORKLOADS: usize = 64;
/// The largest log ring.
const MAX_LOG: u64 = 16 << 20;
/// The longest time any setting may ask for, in seconds: a year.
const MAX_SECONDS: u64 = 366 * 24 * 3600;

/// The whole file.
#[derive(Debug)]
pub struct System {
    /// The host name.
    pub hostname: String,
    /// Paths of modules, in load order.
    pub modules: Vec<String>,
    /// What the first workloads read while they start.
    pub read_ahead: Vec<String>,
    /// Device and seconds of the hardware watchdog.
    pub watchdog: Option<(String, u32)>,
    /// Milliseconds a trial may take until it is committed.
    pub trial_timeout: u64,
    /// Whether interfaces are configured by DHCP.
    pub dhcp: bool,
    /// The radio, in images that join wireless networks.
    pub radio: Option<Radio>,
    /// It is later than this, in seconds since 1970: when the newest package was made. 0: unknown.
    pub build_date: u64,
    /// Numeric addresses of time servers; those of DHCP are used as well.
    pub ntp: Vec<String>,
    /// Sticks are mounted when they are plugged in.
    pub media: bool,
    /// Command line of a shell on the console; empty outside of debug images.
    pub console_shell: Vec<String>,
    /// Command line of the SSH server; empty outside of debug images.
    pub ssh_server: Vec<String>,
    /// The workloads, in the order of the file.
    pub workloads: Vec<Workload>,
}

/// The radio that joins the network which the device's settings name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Radio {
    /// Its interface.
    pub interface: String,
    /// The country whose rules it obeys: two capital letters.
    pub country: String,
}

/// Something that only the device's settings can give a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provision {
    /// A wireless network to join, and the radio for it.
    Wifi,
}

/// One `[workload NAME]` section; all times in milliseconds.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// `KEY=VALUE` each.
    pub environment: Vec<String>,
    /// User and group id.
    pub uid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// What it may do beside what its user may.
    pub capabilities: CapabilitySet,
    /// What it waits for in the device's settings.
    pub needs: Option<Provision>,
    /// Indices of the workloads that must be ready first.
    pub after: Vec<usize>,
    /// Needs `/data`.
    pub data: bool,
    /// What it may take of `/data`; `None` for who is trusted with all of it.
    pub data_limits: Option<quota::Limits>,
    /// Needs an address.
    pub network: bool,
    /// Has a network of its own, with nothing in it.
    pub isolated: bool,
    /// Index of the workload that may talk to it on a socket in a folder of its own.
    pub socket_for: Option<usize>,
    /// What it may ask over the control socket, and nothing else; empty: what its groups may.
    pub asks: Vec<String>,
    /// Sees the sticks that are plugged in.
    pub media: bool,
    /// TCP ports that belong to it.
    pub listen: Vec<SocketAddr>,
    /// A new version that cannot keep it healthy is taken back.
    pub vital: bool,
    /// When it is started again.
    pub policy: Policy,
    /// Back-off and crash budget.
    pub limits: Limits,
    /// Says by itself when it is ready; otherwise it is ready once it runs.
    pub notifies: bool,
    /// Time to get ready.
    pub ready_timeout: u64,
    /// Longest silence on the readiness descriptor.
    pub heartbeat: Option<u64>,
    /// A command that must succeed.
    pub health: Option<Health>,
    /// Bytes of memory.
    pub memory_max: Option<u64>,
    /// Number of processes and threads.
    pub pids_max: Option<u64>,
    /// Bytes of output kept.
    pub log_size: usize,
    /// Output also goes to the console.
    pub console: bool,
    /// Time between SIGTERM and SIGKILL.
    pub stop_timeout: u64,
}

/// The health command's settings, in milliseconds.
#[derive(Debug, Clone)]
pub struct Health {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Time between the end of one check and the start of the next.
    pub interval: u64,
    /// Time one check may take.
    pub timeout: u64,
    /// So many failures in a row make the workload unhealthy.
    pub retries: u32,
}

/// Parses the file's bytes.
pub fn parse(text: &[u8]) -> Result<System> {
    let conf = conf::parse(text, FORM)?;
    let head = &conf.head;
    let mut system = System {
        hostname: value(head, "hostname")?,
        modules: all(head, "module"),
        read_ahead: all(head, "read-ahead"),
        watchdog: None,
        trial_timeout: seconds(conf::one(head, "trial-timeout")?)?,
        dhcp: match conf::one(head, "network")?.value {
            "dhcp" => true,
            "off" => false,
            _ => return Err(Error::new("network must be dhcp or off")),
        },
        radio: optional(head, "wifi")?.map(radio).transpose()?,
        build_date: optional(head, "build-date")?.map_or(Ok(0), Line::number)?,
        ntp: all(head, "ntp"),
        media: conf::one(head, "media")?.yes_no()?,
        console_shell: words(head, "console-shell"),
        ssh_server: words(head, "ssh-server"),
        workloads: Vec::new(),
    };
    if let Some(line) = optional(head, "watchdog")? {
        let (device, time) =
            line.value.split_once(' ').ok_or_else(|| line.error("needs a device and seconds"))?;
        let time = conf::decimal(time).ok_or_else(|| line.error("seconds are not a number"))?;
        system.watchdog = Some((device.to_string(), time.clamp(1, 3600) as u32));
    }
    let names: Vec<&str> = conf.sections.iter().map(|section| section.name).collect();
    if names.len() > MAX_WORKLOADS {
        return Err(Error::new("more than 64 workloads"));
    }
    for (index, section) in conf.sections.iter().enumerate() {
        let parsed = if section.kind != "workload" || !is_word(section.name) {
            Err(Error::new("only [workload NAME] sections are known"))
        } else if names[..index].contains(&section.name) {
            Err(Error::new("stands twice"))
        } else {
            workload(section.name, &section.lines, &names)
        };
        let named = ["[", section.kind, " ", section.name, "]"].concat();
        system.workloads.push(parsed.map_err(|e| e.within(&named))?);
    }
    share_data(&conf.sections, &mut system.workloads)?;
    Ok(system)
}

/// Reads what each workload may take of `/data`: a number, or `share` for a fair part of what the
/// others leave. A workload without these lines has no limit.
fn share_data(sections: &[Section<'_>], workloads: &mut [Workload]) -> Result<()> {
    let mut limited = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let most = |key| -> Result<Option<Option<u64>>> {
            let Some(line) = optional(&section.lines, key)? else { return Ok(None) };
            if line.value == "share" {
                return Ok(Some(None));
            }
            line.number().map(|most| Some(Some(most)))
        };
        if let (Some(bytes), Some(files)) = (most("data-max")?, most("data-files")?) {
            limited.push((index, bytes, files));
        }
    }
    let bytes = quota::shares(&limited.iter().map(|limit| limit.1).collect::<Vec<_>>());
    let files = quota::shares(&limited.iter().map(|limit| limit.2).collect::<Vec<_>>());
    for ((index, ..), (bytes, files)) in limited.into_iter().zip(bytes.into_iter().zip(files)) {
        if let Some(workload) = workloads.get_mut(index) {
            workload.data_limits = Some(quota::Limits { uid: workload.uid, bytes, files });
        }
    }
    Ok(())
}

fn radio(line: &Line<'_>) -> Result<Radio> {
    let (interface, country) =
        line.value.split_once(' ').ok_or_else(|| line.error("needs an interface and a country"))?;
    let good = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
    if !good {
        return Err(line.error("the country is not two capital letters"));
    }
    Ok(Radio { interface: interface.to_string(), country: country.to_string() })
}

/// The only capabilities that an image gives away.
fn capabilities(lines: &[Line<'_>]) -> Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for line in lines.iter().filter(|line| line.key == "capability") {
        set |= match line.value {
            "net-admin" => CapabilitySet::NET_ADMIN,
            "net-raw" => CapabilitySet::NET_RAW,
            _ => return Err(line.error("is net-admin or net-raw")),
        };
    }
    Ok(set)
}

/// Whether a workload is cut off from the network: `none`. `yes` and `no` only say whether it waits.
fn network(line: &Line<'_>) -> Result<bool> {
    match line.value {
        "yes" | "no" => Ok(false),
        "none" => Ok(true),
        _ => Err(line.error("must be yes, no or none")),
    }
}

fn index_of(line: &Line<'_>, names: &[&str]) -> Result<usize> {
    let index = names.iter().position(|other| *other == line.value);
    index.ok_or_else(|| line.error("no workload has this name"))
}

/// What a workload with rights over the boot state asks for; a word that is none of these would
/// leave it without a right that it counts on.
const ASKS: [&str; 10] = [
    "health",
    "reboot",
    "boot-state",
    "boot-begin-install",
    "boot-arm",
    "boot-commit",
    "boot-forbid-fallback",
    "boot-clear-trial",
    "signed-time",
    "trial-waits",
];

fn asks(lines: &[Line<'_>]) -> Result<Vec<String>> {
    let lines = lines.iter().filter(|line| line.key == "ask");
    let known = |line: &Line<'_>| match ASKS.contains(&line.value) {
        true => Ok(line.value.to_string()),
        false => Err(line.error("nothing that may be asked is called so")),
    };
    lines.map(known).collect()
}

fn provision(line: &Line<'_>) -> Result<Provision> {
    match line.value {
        "wifi" => Ok(Provision::Wifi),
        _ => Err(line.error("must be wifi")),
    }
}

fn workload(name: &str, lines: &[Line<'_>], names: &[&str]) -> Result<Workload> {
    let get = |key| conf::one(lines, key);
    let pair = |key| -> Result<(u64, u64)> {
        let line = get(key)?;
        line.value
            .split_once(' ')
            .and_then(|(a, b)| Some((conf::decimal(a)?, conf::decimal(b)?)))
            .ok_or_else(|| line.error("needs two numbers"))
    };
    let (first, longest) = pair("backoff")?;
    let (crashes, window) = pair("budget")?;
    let mut after = Vec::new();
    for line in lines.iter().filter(|line| line.key == "after") {
        after.push(index_of(line, names)?);
    }
    let mut groups = Vec::new();
    for line in lines.iter().filter(|line| line.key == "group") {
        groups.push(id(line)?);
    }
    let command = command(lines, "command", "arg");
    if command.is_empty() {
        return Err(Error::new("no line `command`"));
    }
    let policy = get("restart")?;
    let ready = get("ready")?;
    Ok(Workload {
        name: name.to_string(),
        command,
        environment: all(lines, "env"),
        uid: id(get("uid")?)?,
        groups,
        capabilities: capabilities(lines)?,
        needs: optional(lines, "needs")?.map(provision).transpose()?,
        after,
        data: get("data")?.yes_no()?,
        data_limits: None,
        network: get("network")?.value == "yes",
        isolated: network(get("network")?)?,
        socket_for: optional(lines, "socket-for")?.map(|line| index_of(line, names)).transpose()?,
        asks: asks(lines)?,
        media: get("media")?.yes_no()?,
        listen: addresses(lines)?,
        vital: get("vital")?.yes_no()?,
        policy: match policy.value {
            "always" => Policy::Always,
            "on-failure" => Policy::OnFailure,
            "never" => Policy::Never,
            _ => return Err(policy.error("must be always, on-failure or never")),
        },
        limits: Limits {
            first: first.clamp(1, MAX_SECONDS) * 1000,
            longest: longest.clamp(1, MAX_SECONDS) * 1000,
            crashes: crashes.clamp(1, MAX_BUDGET.into()) as u32,
            window: window.clamp(1, MAX_SECONDS) * 1000,
        },
        notifies: match ready.value {
            "notify" => true,
            "started" => false,
            _ => return Err(ready.error("must be notify or started")),
        },
        ready_timeout: seconds(get("ready-timeout")?)?,
        heartbeat: optional(lines, "heartbeat")?.map(seconds).transpose()?,
        health: health(lines)?,
        memory_max: optional(lines, "memory-max")?.map(Line::number).transpose()?,
        pids_max: optional(lines, "pids-max")?.map(Line::number).transpose()?,
        log_size: get("log-size")?.number()?.clamp(1024, MAX_LOG) as usize,
        console: get("console")?.yes_no()?,
        stop_timeout: seconds(get("stop-timeout")?)?,
    })
}

/// The addresses of `listen` lines.
fn addresses(lines: &[Line<'_>]) -> Result<Vec<SocketAddr>> {
    let lines = lines.iter().filter(|line| line.key == "listen");
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for line in lines {
        let address: SocketAddr =
            line.value.parse().map_err(|_| line.error("is no numeric address with a port"))?;
        if address.port() == 0 || addresses.len() >= MAX_PORTS {
            return Err(line.error("a port is not 0, and a workload has at most 16"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn health(lines: &[Line<'_>]) -> Result<Option<Health>> {
    let command = command(lines, "health-command", "health-arg");
    if command.is_empty() {
        return Ok(None);
    }
    Ok(Some(Health {
        command,
        interval: seconds(conf::one(lines, "health-interval")?)?,
        timeout: seconds(conf::one(lines, "health-timeout")?)?,
        retries: conf::one(lines, "health-retries")?.number()?.clamp(1, 1000) as u32,
    }))
}

/// `program` and `argument` lines as one argument vector.
fn command(lines: &[Line<'_>], program: &str, argument: &str) -> Vec<String> {
    let mut command = all(lines, program);
    if !command.is_empty() {
        command.extend(all(lines, argument));
    }
    command
}

fn value(lines: &[Line<'_>], key: &str) -> Result<String> {
    Ok(conf::one(lines, key)?.value.to_string())
}

fn all(lines: &[Line<'_>], key: &str) -> Vec<String> {
    lines.iter().filter(|line| line.key == key).map(|line| line.value.to_string()).collect()
}

/// The words of the first line with this key; none without one.
fn words(lines: &[Line<'_>], key: &str) -> Vec<String> {
    let line = lines.iter().find(|line| line.key == key);
    line.map(|line| line.value.split_ascii_whitespace().map(String::from).collect())
        .unwrap_or_default()
}

fn optional<'a, 'l>(lines: &'l [Line<'a>], key: &str) -> Result<Option<&'l Line<'a>>> {
    if lines.iter().any(|line| line.key == key) {
        conf::one(lines, key).map(Some)
    } else {
        Ok(None)
    }
}

/// Seconds in the file, milliseconds here; zero would mean "at once, for ever".
fn seconds(line: &Line<'_>) -> Result<u64> {
    Ok(line.number()?.clamp(1, MAX_SECONDS) * 1000)
}

/// A user or group id. 0 is allowed only where the image asks for it in so many words.
fn id(line: &Line<'_>) -> Result<u32> {
    u32::try_from(line.number()?)
        .ok()
        .filter(|id| *id < u32::MAX)
        .ok_or_else(|| line.error("not a user or group id"))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lines of a workload that stops nothing from starting.
    pub const PLAIN: &str = "command /usr/bin/x\nuid 10001\ndata no\nnetwork no\nmedia no\nvital no\n\
        restart always\nbackoff 1 60\nbudget 5 300\nready started\nready-timeout 30\n\
        log-size 65536\nconsole no\nstop-timeout 10\n";

    /// A whole file with these sections behind a plain head.
    pub fn with(sections: &str) -> String {
        let head = "hostname demo\nchooser uboot\ntrial-timeout 120\nnetwork dhcp\nmedia no\n";
        [FORM, "\n", head, sections].concat()
    }

    #[test]
    fn reads_what_the_architecture_page_shows() {
        let sections = format!(
            "[workload ota]\n{PLAIN}[workload face]\ncommand /usr/bin/runner\narg --a b\n\
             env A=B\nuid 10123\ngroup 900\nlisten [::]:8080\nlisten 127.0.0.1:9\nafter ota\ndata yes\nnetwork yes\nmedia yes\nvital yes\n\
             restart on-failure\nbackoff 2 30\nbudget 3 100\nready notify\nready-timeout 30\n\
             heartbeat 10\nhealth-command /usr/bin/y\nhealth-arg z\nhealth-interval 10\n\
             health-timeout 5\nhealth-retries 3\nmemory-max 67108864\npids-max 64\n\
             log-size 65536\nconsole yes\nstop-timeout 10\n"
        );
        let system = parse(with(&sections).as_bytes()).unwrap();
        let face = &system.workloads[1];
        assert_eq!(face.command, ["/usr/bin/runner", "--a b"]);
        assert_eq!((face.uid, &face.groups[..], &face.after[..]), (10123, &[900][..], &[0][..]));
        assert_eq!(face.limits.longest, 30_000);
        assert_eq!(face.health.as_ref().unwrap().command, ["/usr/bin/y", "z"]);
        assert!(face.media && !system.media);
        assert_eq!(face.listen.iter().map(|a| a.port()).collect::<Vec<_>>(), [8080, 9]);
        assert!(face.vital && face.console && face.notifies && face.data && face.network);
    }

    #[test]
    fn names_the_workload_and_the_line_that_is_wrong() {
        let broken = PLAIN.replace("restart always", "restart often");
        let error = parse(with(&format!("[workload cam]\n{broken}")).as_bytes()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("[workload cam]") && error.contains("restart"), "{error}");
        for wrong in ["8080", "host:8080", "0.0.0.0:0", "[::]:70000"] {
            let text = with(&format!("[workload cam]\n{PLAIN}listen {wrong}\n"));
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("listen"), "{wrong}: {error}");
        }
        let error = parse(with(&format!("[workload cam]\n{PLAIN}after x\n")).as_bytes());
        assert!(error.unwrap_err().to_string().contains("no workload has this name"));
    }

    #[test]
    fn what_a_workload_may_take_of_the_data_partition() {
        let text = with(&format!(
            "[workload ota]\n{PLAIN}[workload a]\n{PLAIN}data-max 600\ndata-files share\n\
             [workload b]\n{PLAIN}data-max share\ndata-files 7\n"
        ));
        let workloads = parse(text.as_bytes()).unwrap().workloads;
        assert_eq!(workloads[0].data_limits, None);
        let limits = |index: usize| {
            let limits = workloads[index].data_limits.unwrap();
            (limits.bytes.of(1000), limits.files.of(100))
        };
        assert_eq!((limits(1), limits(2)), ((600, 93), (400, 7)));
        assert!(parse(text.replace("data-files 7", "data-files x").as_bytes()).is_err());
    }

    #[test]
    fn a_radio_and_who_joins_networks_with_it() {
        let section = format!(
            "[workload wifi]\n{PLAIN}capability net-admin\ncapability net-raw\nneeds wifi\n"
        );
        let text = with(&section).replace("media no\n", "media no\nwifi wlan0 DE\n");
        let system = parse(text.as_bytes()).unwrap();
        let radio = Radio { interface: "wlan0".into(), country: "DE".into() };
        assert_eq!(system.radio, Some(radio));
        let wifi = &system.workloads[0];
        assert_eq!(wifi.capabilities, CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW);
        assert_eq!(wifi.needs, Some(Provision::Wifi));
        for (from, to) in [
            ("wlan0 DE", "wlan0"),
            ("wlan0 DE", "wlan0 de"),
            ("net-raw", "sys-admin"),
            ("needs wifi", "needs money"),
        ] {
            assert!(parse(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
        let plain = parse(with(&format!("[workload a]\n{PLAIN}")).as_bytes()).unwrap();
        assert!(plain.radio.is_none() && plain.workloads[0].capabilities.is_empty());
    }

    #[test]
    fn who_writes_updates_is_cut_off_and_asks_for_little() {
        let writer = PLAIN.replace("network no", "network none");
        let text = with(&format!(
            "[workload ota]\n{PLAIN}[workload ota-writer]\n{writer}socket-for ota\n\
             ask boot-state\nask boot-arm\n"
        ));
        let system = parse(text.as_bytes()).unwrap();
        let [ota, writer] = &system.workloads[..] else { panic!("two") };
        assert!(writer.isolated && !writer.network && !ota.isolated);
        assert_eq!((writer.socket_for, ota.socket_for), (Some(0), None));
        assert_eq!(writer.asks, ["boot-state", "boot-arm"]);
        assert!(ota.asks.is_empty());
        for (from, to) in [
            ("network none", "network all"),
            ("socket-for ota", "socket-for nobody"),
            ("ask boot-arm", "ask boot-anything"),
        ] {
            assert!(parse(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn a_name_stands_once() {
        let twice = format!("[workload a]\n{PLAIN}[workload a]\n{PLAIN}");
        assert!(parse(with(&twice).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "(ferrite-system 1\n)?([a-z\\[\\]-]{0,12} [ -~]{0,20}\n){0,30}") {
            let _ = parse(text.as_bytes());
        }
    }
}
