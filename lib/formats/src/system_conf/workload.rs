//! The `[workload NAME]` sections of `system.conf`.

use std::net::SocketAddr;

use super::{MAX_SECONDS, milliseconds};
use crate::conf::{self, Line, Writer};
use crate::control::Verb;
use crate::data_share::Share;
use crate::{Error, Result, key};

/// The most ports of one workload.
pub const MAX_PORTS: usize = 16;
/// The largest log ring, in bytes; the smallest has 1 KiB.
pub const MAX_LOG: u64 = 16 << 20;
/// The largest crash budget: it bounds the memory of past crashes.
pub const MAX_CRASHES: u32 = 64;
/// The most failures in a row that a health command may be given.
pub const MAX_RETRIES: u32 = 1000;

/// One workload; all times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub capabilities: Vec<Capability>,
    /// What it waits for in the device's settings.
    pub needs: Option<Provision>,
    /// Indices of the workloads that must be ready first.
    pub after: Vec<usize>,
    /// TCP ports that belong to it.
    pub listen: Vec<SocketAddr>,
    /// Index of the workload that may talk to it on a socket in a folder of its own.
    pub socket_for: Option<usize>,
    /// What it may ask over the control socket, and nothing else; empty: what its groups may.
    pub asks: Vec<Verb>,
    /// Needs `/data`.
    pub data: bool,
    /// What it may take of `/data`; `None` for who is trusted with all of it.
    pub data_limits: Option<DataLimits>,
    /// What it has of the network.
    pub network: NetworkAccess,
    /// Sees the sticks that are plugged in.
    pub media: bool,
    /// A new version that cannot keep it healthy is taken back.
    pub vital: bool,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Back-off and crash budget.
    pub limits: RestartLimits,
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

/// A capability of capabilities(7): the only ones that an image gives away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// CAP_NET_ADMIN.
    NetAdmin,
    /// CAP_NET_RAW.
    NetRaw,
}

/// Something that only the device's settings can give a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provision {
    /// A wireless network to join, and the radio for it.
    Wifi,
}

/// What a workload has of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkAccess {
    /// All of it, whether there is an address yet or not.
    Shared,
    /// All of it; it is not started before there is an address.
    Awaited,
    /// A network of its own, with nothing in it.
    Isolated,
}

/// When an ended workload is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever its exit status was.
    Always,
    /// Unless it ended with exit status 0.
    OnFailure,
    /// Never.
    Never,
}

/// Back-off and crash budget; all times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartLimits {
    /// Delay after the first crash.
    pub first: u64,
    /// Longest delay.
    pub longest: u64,
    /// This many crashes …
    pub crashes: u32,
    /// … within this time make the workload `failed`.
    pub window: u64,
}

/// What a workload may take of `/data`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DataLimits {
    /// Of bytes.
    pub bytes: Share,
    /// Of files and folders.
    pub files: Share,
}

/// The health command's settings, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
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

const CAPABILITIES: [(Capability, &str); 2] =
    [(Capability::NetAdmin, "net-admin"), (Capability::NetRaw, "net-raw")];
const PROVISIONS: [(Provision, &str); 1] = [(Provision::Wifi, "wifi")];
const NETWORKS: [(NetworkAccess, &str); 3] = [
    (NetworkAccess::Awaited, "yes"),
    (NetworkAccess::Shared, "no"),
    (NetworkAccess::Isolated, "none"),
];
const RESTARTS: [(RestartPolicy, &str); 3] = [
    (RestartPolicy::Always, "always"),
    (RestartPolicy::OnFailure, "on-failure"),
    (RestartPolicy::Never, "never"),
];
/// Whether it says by itself when it is ready.
const READINESS: [(bool, &str); 2] = [(true, "notify"), (false, "started")];
/// A fair part of what the others leave.
const FAIR_SHARE: &str = "share";

impl Workload {
    /// Reads a section's lines. `names` are those of all workloads.
    pub(super) fn parse(name: &str, lines: &[Line<'_>], names: &[&str]) -> Result<Workload> {
        let get = |key| conf::one(lines, key);
        let optional = |key| conf::optional(lines, key);
        let command = command(lines, key::COMMAND, key::ARG);
        if command.is_empty() {
            return Err(Error::new("no line `command`"));
        }
        let (first, longest) = pair(get(key::BACKOFF)?)?;
        let (crashes, window) = pair(get(key::BUDGET)?)?;
        let time = |seconds: u64| seconds.clamp(1, MAX_SECONDS) * 1000;
        let capability = |line| word(&CAPABILITIES, line, "is net-admin or net-raw");
        let index = |line| index_of(line, names);
        Ok(Workload {
            name: name.to_string(),
            command,
            environment: conf::values(lines, key::ENV),
            uid: id(get(key::UID)?)?,
            groups: conf::each(lines, key::GROUP).map(id).collect::<Result<_>>()?,
            capabilities: conf::each(lines, key::CAPABILITY)
                .map(capability)
                .collect::<Result<_>>()?,
            needs: optional(key::NEEDS)?
                .map(|line| word(&PROVISIONS, line, "must be wifi"))
                .transpose()?,
            after: conf::each(lines, key::AFTER).map(index).collect::<Result<_>>()?,
            listen: addresses(lines)?,
            socket_for: optional(key::SOCKET_FOR)?.map(index).transpose()?,
            asks: conf::each(lines, key::ASK).map(ask).collect::<Result<_>>()?,
            data: get(key::DATA)?.yes_no()?,
            data_limits: DataLimits::parse(lines)?,
            network: word(&NETWORKS, get(key::NETWORK)?, "must be yes, no or none")?,
            media: get(key::MEDIA)?.yes_no()?,
            vital: get(key::VITAL)?.yes_no()?,
            restart: word(&RESTARTS, get(key::RESTART)?, "must be always, on-failure or never")?,
            limits: RestartLimits {
                first: time(first),
                longest: time(longest),
                crashes: crashes.clamp(1, MAX_CRASHES.into()) as u32,
                window: time(window),
            },
            notifies: word(&READINESS, get(key::READY)?, "must be notify or started")?,
            ready_timeout: milliseconds(get(key::READY_TIMEOUT)?)?,
            heartbeat: optional(key::HEARTBEAT)?.map(milliseconds).transpose()?,
            health: Health::parse(lines)?,
            memory_max: optional(key::MEMORY_MAX)?.map(Line::number).transpose()?,
            pids_max: optional(key::PIDS_MAX)?.map(Line::number).transpose()?,
            log_size: get(key::LOG_SIZE)?.number()?.clamp(1024, MAX_LOG) as usize,
            console: get(key::CONSOLE)?.yes_no()?,
            stop_timeout: milliseconds(get(key::STOP_TIMEOUT)?)?,
        })
    }

    /// Writes the section. `all` are the workloads that indices mean.
    pub(super) fn write(&self, all: &[Workload], text: &mut Writer) {
        text.section(key::WORKLOAD, &self.name);
        write_command(text, key::COMMAND, key::ARG, &self.command);
        text.lines(key::ENV, &self.environment).number(key::UID, self.uid.into());
        for group in &self.groups {
            text.number(key::GROUP, (*group).into());
        }
        for capability in &self.capabilities {
            text.line(key::CAPABILITY, spelled(&CAPABILITIES, capability));
        }
        if let Some(needs) = &self.needs {
            text.line(key::NEEDS, spelled(&PROVISIONS, needs));
        }
        for index in &self.after {
            text.line(key::AFTER, &all[*index].name);
        }
        for address in &self.listen {
            text.line(key::LISTEN, &address.to_string());
        }
        if let Some(index) = self.socket_for {
            text.line(key::SOCKET_FOR, &all[index].name);
        }
        for verb in &self.asks {
            text.line(key::ASK, verb.word());
        }
        text.yes_no(key::DATA, self.data);
        if let Some(DataLimits { bytes, files }) = &self.data_limits {
            for (key, share) in [(key::DATA_MAX, bytes), (key::DATA_FILES, files)] {
                let most = share.own.map(|most| most.to_string());
                text.line(key, most.as_deref().unwrap_or(FAIR_SHARE));
            }
        }
        let seconds = |a: u64, b: u64| [&a.to_string(), " ", &b.to_string()].concat();
        let RestartLimits { first, longest, crashes, window } = self.limits;
        text.line(key::NETWORK, spelled(&NETWORKS, &self.network))
            .yes_no(key::MEDIA, self.media)
            .yes_no(key::VITAL, self.vital)
            .line(key::RESTART, spelled(&RESTARTS, &self.restart))
            .line(key::BACKOFF, &seconds(first / 1000, longest / 1000))
            .line(key::BUDGET, &seconds(crashes.into(), window / 1000))
            .line(key::READY, spelled(&READINESS, &self.notifies))
            .number(key::READY_TIMEOUT, self.ready_timeout / 1000);
        if let Some(heartbeat) = self.heartbeat {
            text.number(key::HEARTBEAT, heartbeat / 1000);
        }
        if let Some(health) = &self.health {
            write_command(text, key::HEALTH_COMMAND, key::HEALTH_ARG, &health.command);
            text.number(key::HEALTH_INTERVAL, health.interval / 1000)
                .number(key::HEALTH_TIMEOUT, health.timeout / 1000)
                .number(key::HEALTH_RETRIES, health.retries.into());
        }
        for (key, most) in [(key::MEMORY_MAX, self.memory_max), (key::PIDS_MAX, self.pids_max)] {
            if let Some(most) = most {
                text.number(key, most);
            }
        }
        text.number(key::LOG_SIZE, self.log_size as u64)
            .yes_no(key::CONSOLE, self.console)
            .number(key::STOP_TIMEOUT, self.stop_timeout / 1000);
    }
}

impl DataLimits {
    /// Those that the lines name; what they come to is known when all workloads' are.
    fn parse(lines: &[Line<'_>]) -> Result<Option<DataLimits>> {
        let share = |key| -> Result<Option<Share>> {
            let Some(line) = conf::optional(lines, key)? else { return Ok(None) };
            let own = match line.value {
                FAIR_SHARE => None,
                _ => Some(line.number()?),
            };
            Ok(Some(Share { own, ..Share::default() }))
        };
        match (share(key::DATA_MAX)?, share(key::DATA_FILES)?) {
            (Some(bytes), Some(files)) => Ok(Some(DataLimits { bytes, files })),
            _ => Ok(None),
        }
    }
}

impl Health {
    fn parse(lines: &[Line<'_>]) -> Result<Option<Health>> {
        let command = command(lines, key::HEALTH_COMMAND, key::HEALTH_ARG);
        if command.is_empty() {
            return Ok(None);
        }
        let retries = conf::one(lines, key::HEALTH_RETRIES)?.number()?;
        Ok(Some(Health {
            command,
            interval: milliseconds(conf::one(lines, key::HEALTH_INTERVAL)?)?,
            timeout: milliseconds(conf::one(lines, key::HEALTH_TIMEOUT)?)?,
            retries: retries.clamp(1, MAX_RETRIES.into()) as u32,
        }))
    }
}

/// What a line's word means, among these.
fn word<T: Copy>(words: &[(T, &str)], line: &Line<'_>, complaint: &str) -> Result<T> {
    let found = words.iter().find(|(_, word)| *word == line.value);
    found.map(|(value, _)| *value).ok_or_else(|| line.error(complaint))
}

/// The word for a value, among these.
fn spelled<'a, T: PartialEq>(words: &[(T, &'a str)], value: &T) -> &'a str {
    words.iter().find(|(known, _)| known == value).map_or("", |(_, word)| word)
}

/// A word that is none of these would leave a workload without a right that it counts on.
fn ask(line: &Line<'_>) -> Result<Verb> {
    let verb = Verb::parse(line.value).filter(|verb| verb.may_be_granted());
    verb.ok_or_else(|| line.error("nothing that may be asked is called so"))
}

fn index_of(line: &Line<'_>, names: &[&str]) -> Result<usize> {
    let index = names.iter().position(|other| *other == line.value);
    index.ok_or_else(|| line.error("no workload has this name"))
}

fn pair(line: &Line<'_>) -> Result<(u64, u64)> {
    line.value
        .split_once(' ')
        .and_then(|(a, b)| Some((conf::decimal(a)?, conf::decimal(b)?)))
        .ok_or_else(|| line.error("needs two numbers"))
}

/// A user or group id.
fn id(line: &Line<'_>) -> Result<u32> {
    u32::try_from(line.number()?)
        .ok()
        .filter(|id| *id < u32::MAX)
        .ok_or_else(|| line.error("not a user or group id"))
}

/// The addresses of `listen` lines.
fn addresses(lines: &[Line<'_>]) -> Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for line in conf::each(lines, key::LISTEN) {
        let address: SocketAddr =
            line.value.parse().map_err(|_| line.error("is no numeric address with a port"))?;
        if address.port() == 0 || addresses.len() >= MAX_PORTS {
            return Err(line.error("a port is not 0, and a workload has at most 16"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// `program` and `argument` lines as one argument vector.
fn command(lines: &[Line<'_>], program: &str, argument: &str) -> Vec<String> {
    let mut command = conf::values(lines, program);
    if !command.is_empty() {
        command.extend(conf::values(lines, argument));
    }
    command
}

fn write_command(text: &mut Writer, program: &str, argument: &str, command: &[String]) {
    for (index, word) in command.iter().enumerate() {
        text.line(if index == 0 { program } else { argument }, word);
    }
}
