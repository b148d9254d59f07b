//! Compiles image and board files into what the device reads, with every default filled in:
//! `boot.conf`, `system.conf` and `ota.json` of `docs/architecture.md`.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use formats::boot_conf::BootConf;
use formats::control::Verb;
use formats::data_share::Share;
use formats::layout::{GROUP_CTL, GROUP_RESERVE, GROUP_SLOTS, GROUP_SLOTS_READ, RUN_WIFI_CONF};
use formats::ota_settings::OtaSettings;
use formats::system_conf::{
    Capability, DataLimits, Health, NetworkAccess, Provision, Radio, RestartLimits, RestartPolicy,
    System, Watchdog, Workload,
};
use formats::workload::user_id;

use super::initramfs;
use super::kernel::KernelFiles;
use super::ports::Ports;
use super::ssh;
use crate::config::board::Board;
use crate::config::image::{
    Image, Ready, Restart, UPDATE_WORKLOAD, Update, WIFI_WORKLOAD, WRITER_WORKLOAD,
};
use crate::config::values::Span;
use crate::config::workload;

/// Where the update client lies on the root.
pub const OTA_PATH: &str = "/usr/bin/ota";
/// Who joins wireless networks, out of the package `wpasupplicant`.
const SUPPLICANT_PATH: &str = "/usr/sbin/wpa_supplicant";
/// What the kernel calls the first radio. Nothing on the device gives it another name.
const WIFI_INTERFACE: &str = "wlan0";
/// The shell of debug images.
const CONSOLE_SHELL: [&str; 2] = ["/usr/bin/busybox", "sh"];
/// Milliseconds after which an update client that has not beaten is started again. It beats at least
/// once a second but while it waits: 20 s for the next byte, 40 s in a row for a server that is
/// nowhere.
const OTA_HEARTBEAT: u64 = 60_000;
/// The same for the half that writes: a flush of a bad card takes minutes, during which no heart
/// beats.
const WRITER_HEARTBEAT: u64 = 600_000;
/// Longest time until a trial without an update client is committed, in seconds.
const TRIAL_TIMEOUT: u64 = 300;

/// `boot.conf` for the initramfs. `keys` are public keys in hexadecimal.
pub fn boot_conf(board: &Board, kernel: &KernelFiles, keys: &[String]) -> BootConf {
    let chains = |chains: &[Vec<_>]| {
        chains.iter().map(|chain| chain.iter().map(initramfs::module_path).collect()).collect()
    };
    BootConf {
        board: board.name().to_string(),
        chooser: board.boot.method.name().into(),
        chooser_modules: chains(&kernel.chooser),
        modules: chains(&kernel.initrd),
        later_modules: chains(&kernel.later),
        watchdog: watchdog(board),
        keys: keys.to_vec(),
    }
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
) -> Result<System> {
    let update = image.update.as_ref();
    let users = users(image)?;
    let index = |name: &str| users.iter().position(|user| user.name == name);
    let workloads = users
        .iter()
        .map(|user| match image.workloads.iter().find(|w| w.name().as_str() == user.name) {
            Some(workload) => {
                let listen = ports.get(&user.name).map_or(&[][..], |addresses| addresses);
                own_workload(workload, user, listen, index)
            }
            None if user.name == WIFI_WORKLOAD => supplicant(user),
            None if user.name == WRITER_WORKLOAD => update_writer(user, index(UPDATE_WORKLOAD)),
            None => update_client(user, update.is_some_and(|update| update.sticks)),
        })
        .collect();
    let words = |command: &[&str]| command.iter().map(|word| word.to_string()).collect();
    let mut system = System {
        hostname: image.hostname().to_string(),
        board: board.name().to_string(),
        build_date: newest.unwrap_or(0),
        chooser: board.boot.method.name().into(),
        modules: modules.to_vec(),
        watchdog: watchdog(board),
        trial_timeout: update.map_or(TRIAL_TIMEOUT * 1000, |update| time(update.trial_timeout)),
        dhcp: image.network.dhcp,
        ntp: image.network.ntp.iter().map(|host| host.to_string()).collect(),
        radio: image.network.wifi.as_ref().map(|wifi| Radio {
            interface: WIFI_INTERFACE.into(),
            country: wifi.country.to_string(),
        }),
        media: image.uses_media(),
        read_ahead: ahead.to_vec(),
        console_shell: if image.debug { words(&CONSOLE_SHELL) } else { Vec::new() },
        ssh_server: if image.network.ssh { words(&[ssh::SERVER_PATH]) } else { Vec::new() },
        workloads,
    };
    system.share_data();
    Ok(system)
}

fn watchdog(board: &Board) -> Option<Watchdog> {
    let watchdog = board.watchdog.as_ref()?;
    Some(Watchdog { device: watchdog.device.to_string(), seconds: watchdog.seconds() })
}

/// Milliseconds of a span in whole seconds, as the device's files have it.
fn time(span: Span) -> u64 {
    span.as_seconds() * 1000
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

/// A workload of the image file.
fn own_workload(
    workload: &workload::Workload,
    user: &User,
    listen: &[SocketAddr],
    index: impl Fn(&str) -> Option<usize>,
) -> Workload {
    let words = |words: &[crate::config::values::Line]| {
        words.iter().map(|word| word.to_string()).collect::<Vec<_>>()
    };
    let share = |own| Share { own, ..Share::default() };
    let [first, longest] = workload.backoff;
    Workload {
        name: user.name.clone(),
        command: words(workload.command()),
        environment: workload.env.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        uid: user.id,
        groups: workload.groups.iter().map(|group| group.number()).collect(),
        capabilities: Vec::new(),
        needs: None,
        after: workload.after().filter_map(|name| index(name.as_str())).collect(),
        listen: listen.to_vec(),
        socket_for: None,
        asks: Vec::new(),
        data: workload.data,
        data_limits: workload.data.then(|| DataLimits {
            bytes: share(workload.data_max()),
            files: share(workload.data_files()),
        }),
        network: match workload.network {
            true => NetworkAccess::Awaited,
            false => NetworkAccess::Shared,
        },
        media: workload.media,
        vital: workload.vital,
        restart: match workload.restart {
            Restart::Always => RestartPolicy::Always,
            Restart::OnFailure => RestartPolicy::OnFailure,
            Restart::Never => RestartPolicy::Never,
        },
        limits: RestartLimits {
            first: time(first),
            longest: time(longest),
            crashes: workload.budget.crashes,
            window: time(workload.budget.within),
        },
        notifies: workload.ready == Ready::Notify,
        ready_timeout: time(workload.ready_timeout),
        heartbeat: workload.heartbeat().map(time),
        health: workload.health.as_ref().map(|health| Health {
            command: words(&health.command),
            interval: time(health.interval),
            timeout: time(health.timeout),
            retries: health.retries,
        }),
        memory_max: workload.memory_max.map(|size| size.0),
        pids_max: Some(workload.pids_max.into()),
        log_size: usize::try_from(workload.log_size.0).unwrap_or(usize::MAX),
        console: workload.console,
        stop_timeout: time(workload.stop_timeout),
    }
}

/// What the workloads that are added by `imager` itself have in common. They are not vital: a device
/// without a server or a network is a healthy device.
fn added_workload(user: &User, command: &[&str]) -> Workload {
    Workload {
        name: user.name.clone(),
        command: command.iter().map(|word| word.to_string()).collect(),
        environment: Vec::new(),
        uid: user.id,
        groups: Vec::new(),
        capabilities: Vec::new(),
        needs: None,
        after: Vec::new(),
        listen: Vec::new(),
        socket_for: None,
        asks: Vec::new(),
        data: false,
        data_limits: None,
        network: NetworkAccess::Shared,
        media: false,
        vital: false,
        restart: RestartPolicy::Always,
        limits: RestartLimits { first: 1000, longest: 60_000, crashes: 5, window: 300_000 },
        notifies: true,
        ready_timeout: 30_000,
        heartbeat: None,
        health: None,
        memory_max: Some(64 << 20),
        pids_max: Some(16),
        log_size: 64 << 10,
        console: false,
        stop_timeout: 10_000,
    }
}

/// The update client. It has the network and reads the slots, but writes none: the other half does.
fn update_client(user: &User, sticks: bool) -> Workload {
    Workload {
        groups: vec![GROUP_CTL, GROUP_SLOTS_READ, GROUP_RESERVE],
        asks: vec![
            Verb::Health,
            Verb::Reboot,
            Verb::SignedTime,
            Verb::TrialWaits,
            Verb::BootState,
            Verb::BootArm,
            Verb::BootCommit,
            Verb::BootForbidFallback,
            Verb::BootClearTrial,
        ],
        data: true,
        media: sticks,
        heartbeat: Some(OTA_HEARTBEAT),
        console: true,
        ..added_workload(user, &[OTA_PATH, "run"])
    }
}

/// The half of the update client that writes: the idle slot's partitions, no network, no files.
fn update_writer(user: &User, client: Option<usize>) -> Workload {
    Workload {
        groups: vec![GROUP_CTL, GROUP_SLOTS],
        socket_for: client,
        asks: vec![Verb::BootState, Verb::BootBeginInstall, Verb::BootArm],
        network: NetworkAccess::Isolated,
        heartbeat: Some(WRITER_HEARTBEAT),
        pids_max: Some(8),
        log_size: 16 << 10,
        ..added_workload(user, &[OTA_PATH, "writer"])
    }
}

/// Who joins the wireless network. It waits until the device's settings name one and the radio is
/// there. What it says is read by `init`, which tells people in a line what has become of it.
fn supplicant(user: &User) -> Workload {
    let command = [SUPPLICANT_PATH, "-i", WIFI_INTERFACE, "-D", "nl80211", "-c", RUN_WIFI_CONF];
    Workload {
        capabilities: vec![Capability::NetAdmin, Capability::NetRaw],
        needs: Some(Provision::Wifi),
        data: true,
        notifies: false,
        memory_max: Some(32 << 20),
        pids_max: Some(4),
        ..added_workload(user, &command)
    }
}

/// `ota.json`: the update client's settings.
pub fn ota_settings(image: &Image, update: &Update) -> OtaSettings {
    OtaSettings {
        url: update.url().into(),
        name: image.name.to_string(),
        poll_seconds: update.poll.as_seconds(),
        jitter_seconds: update.jitter.as_seconds(),
        commit_after_seconds: update.commit_after.as_seconds(),
        tries: update.tries(),
        reboot: update.reboot,
        max_bytes_per_second: update.max_bytes_per_second.map(|rate| rate.0),
        groups: update.groups.iter().map(|group| group.to_string()).collect(),
        sticks: update.sticks,
        proxy: update.proxy.as_ref().map(|proxy| proxy.get_ref().to_string()),
        token_over_http: update.token_over_http,
        hours: update.hours,
        daily_budget: update.daily_budget.map(|budget| budget.0),
        report_url: update.report_url.as_ref().map(|url| url.get_ref().to_string()),
    }
}

#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod tests;
