//! `[[workload]]` of an image file: one program that the device keeps alive.

use std::collections::BTreeMap;
use std::path::PathBuf;

use formats::layout::{GROUP_CTL, GROUP_SLOTS};
pub use formats::system_conf::MAX_PORTS;
use serde::Deserialize;
use toml::Spanned;
use wording::nearest;

use super::diagnostics::{Document, Finding};
use super::values::{DevicePath, Line, Name, Size, Span};

/// One program that `init` starts and keeps alive.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name, unique in the image.
    #[cfg_attr(feature = "schema", schemars(with = "Name"))]
    name: Spanned<Name>,
    /// The program and its arguments.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Line>"))]
    command: Spanned<Vec<Line>>,
    /// A file beside the image file that becomes the program at `command[0]`.
    pub binary: Option<PathBuf>,
    /// Environment variables on top of the fixed ones.
    #[serde(default)]
    pub env: BTreeMap<String, Line>,
    /// Workloads that are ready before this one starts.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Name>"))]
    after: Vec<Spanned<Name>>,
    /// Supplementary groups, for programs that steer the device itself.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Needs the data partition before it starts.
    #[serde(default)]
    pub data: bool,
    /// The most bytes its files on the data partition take; a fair share if absent.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Size>"))]
    data_max: Option<Spanned<Size>>,
    /// The most files and folders it has there; a fair share if absent.
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"))]
    data_files: Option<Spanned<u64>>,
    /// Needs an address before it starts.
    #[serde(default)]
    pub network: bool,
    /// The device is healthy only while this workload is.
    #[serde(default = "yes")]
    pub vital: bool,
    /// When to start it again after it ended.
    #[serde(default)]
    pub restart: Restart,
    /// First and longest delay between restarts.
    #[serde(default = "default_backoff")]
    pub backoff: [Span; 2],
    /// Crashes allowed within a time before the workload counts as failed.
    #[serde(default)]
    pub budget: Budget,
    /// How it says that it is ready.
    #[serde(default)]
    pub ready: Ready,
    /// Longest time from start to ready.
    #[serde(default = "default_ready_timeout")]
    pub ready_timeout: Span,
    /// The longest time between two signs of life on its notify descriptor.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Span>"))]
    heartbeat: Option<Spanned<Span>>,
    /// A command that says whether the workload is healthy.
    pub health: Option<Health>,
    /// Limit of memory; none if absent.
    pub memory_max: Option<Size>,
    /// Limit of processes and threads.
    #[serde(default = "default_pids_max")]
    pub pids_max: u32,
    /// Sees the USB sticks that are plugged in, below `/run/media`, read-only.
    #[serde(default)]
    pub media: bool,
    /// TCP ports that belong to it: the system listens on them and hands it the sockets.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Size of the ring that keeps its output.
    #[serde(default = "default_log_size")]
    pub log_size: Size,
    /// Copies its output to the console.
    #[serde(default)]
    pub console: bool,
    /// Time between TERM and KILL.
    #[serde(default = "default_stop_timeout")]
    pub stop_timeout: Span,
}

/// A supplementary group of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// May use init's control socket.
    Ctl,
    /// May write the idle slot.
    Slots,
}

impl Group {
    /// What it gives to whoever takes over the workload of this name.
    pub fn warning(self, workload: &str) -> String {
        let (group, rights) = match self {
            Group::Ctl => ("ctl", "stop every workload, and reboot and switch off the device"),
            Group::Slots => ("slots", "read the running slot and overwrite the idle one"),
        };
        format!(
            "workload `{workload}` is in the group `{group}`: whoever takes it over can {rights}"
        )
    }

    /// The group with this number, if it is one of these.
    pub fn of(number: u32) -> Option<Group> {
        match number {
            GROUP_CTL => Some(Group::Ctl),
            GROUP_SLOTS => Some(Group::Slots),
            _ => None,
        }
    }

    /// The number it has on every device.
    pub fn number(self) -> u32 {
        match self {
            Group::Ctl => GROUP_CTL,
            Group::Slots => GROUP_SLOTS,
        }
    }
}

/// When a workload that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whenever it ended.
    #[default]
    Always,
    /// When it ended with an error or a signal.
    OnFailure,
    /// Not at all.
    Never,
}

/// How a workload says that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// By a newline on its notify descriptor.
    Notify,
    /// By having been started.
    #[default]
    Started,
}

/// How many crashes within how long are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Number of crashes.
    pub crashes: u32,
    /// The time they are counted in.
    pub within: Span,
}

impl Default for Budget {
    fn default() -> Self {
        Self { crashes: 5, within: Span::seconds(300) }
    }
}

/// A health check by command.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The command and its arguments; exit status 0 means healthy.
    pub command: Vec<Line>,
    /// Time between two checks.
    #[serde(default = "default_health_interval")]
    pub interval: Span,
    /// Longest time one check may take.
    #[serde(default = "default_health_timeout")]
    pub timeout: Span,
    /// Failures in a row that make the workload unhealthy.
    #[serde(default = "default_health_retries")]
    pub retries: u32,
}

fn yes() -> bool {
    true
}
fn default_backoff() -> [Span; 2] {
    [Span::seconds(1), Span::seconds(60)]
}
fn default_ready_timeout() -> Span {
    Span::seconds(30)
}
fn default_pids_max() -> u32 {
    64
}
fn default_log_size() -> Size {
    Size(64 << 10)
}
fn default_stop_timeout() -> Span {
    Span::seconds(10)
}
fn default_health_interval() -> Span {
    Span::seconds(10)
}
fn default_health_timeout() -> Span {
    Span::seconds(5)
}
fn default_health_retries() -> u32 {
    3
}

impl Workload {
    /// Its name, unique in the image.
    pub fn name(&self) -> &Name {
        self.name.get_ref()
    }

    /// The program and its arguments; at least the program, an absolute path.
    pub fn command(&self) -> &[Line] {
        self.command.get_ref()
    }

    /// Names of the workloads that must be ready before this one starts.
    pub fn after(&self) -> impl Iterator<Item = &Name> {
        self.after.iter().map(|n| n.get_ref())
    }

    /// The most bytes its files on the data partition take, where the image says.
    pub fn data_max(&self) -> Option<u64> {
        self.data_max.as_ref().map(|size| size.get_ref().0)
    }

    /// The most files and folders it has there, where the image says.
    pub fn data_files(&self) -> Option<u64> {
        self.data_files.as_ref().map(|files| *files.get_ref())
    }

    /// Longest time between two heartbeats, if it sends any.
    pub fn heartbeat(&self) -> Option<Span> {
        self.heartbeat.as_ref().map(|h| *h.get_ref())
    }

    /// What is taken of the data partition is limited only for who has a place there.
    fn check_data(&self, document: &Document) -> Result<(), Finding> {
        let max =
            self.data_max.as_ref().map(|max| ("data_max", max.span(), max.get_ref().0 < 64 << 10));
        let files = self.data_files.as_ref().map(|n| ("data_files", n.span(), *n.get_ref() < 16));
        for (key, span, too_small) in max.into_iter().chain(files) {
            if !self.data {
                return Err(
                    document.at(span, format!("`{key}` is for workloads with `data = true`"))
                );
            }
            if too_small {
                let why = "`data_max` is at least 64K, `data_files` at least 16";
                return Err(document.at(span, why));
            }
        }
        Ok(())
    }

    fn check_alone(&self, document: &Document) -> Result<(), Finding> {
        let at_name = |message: String| document.at(self.name.span(), message);
        let Some(program) = self.command().first() else {
            return Err(document.at(self.command.span(), "`command` is empty: name the program"));
        };
        DevicePath::new(program.as_str()).map_err(|e| document.at(self.command.span(), e))?;
        if let Some(heartbeat) = &self.heartbeat {
            if self.ready != Ready::Notify {
                let why =
                    "`heartbeat` needs `ready = \"notify\"`: beats are lines on the same channel";
                return Err(document.at(heartbeat.span(), why));
            }
            if heartbeat.get_ref().0 < 1000 {
                return Err(document.at(heartbeat.span(), "`heartbeat` is shorter than 1s"));
            }
        }
        self.check_data(document)?;
        for key in self.env.keys() {
            let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if key.is_empty() || !plain || key.as_bytes()[0].is_ascii_digit() {
                return Err(at_name(format!("{key:?} in `env` is not a variable's name")));
            }
            if key.starts_with("FERRITE_") || key.starts_with("LISTEN_") {
                return Err(at_name(format!("`{key}` in `env` is set by the system itself")));
            }
        }
        if self.backoff[0] > self.backoff[1] || self.backoff[0].0 == 0 {
            return Err(at_name(
                "`backoff` is [first, longest], first above 0 and not above longest".into(),
            ));
        }
        if self.budget.crashes == 0 || self.budget.within.0 == 0 {
            return Err(at_name("`budget` needs at least one crash and a time above 0".into()));
        }
        if self.pids_max == 0 || self.pids_max > 32768 {
            return Err(at_name("`pids_max` is between 1 and 32768".into()));
        }
        if self.ports.len() > MAX_PORTS || self.ports.contains(&0) {
            return Err(at_name(format!(
                "`ports` are at most {MAX_PORTS} numbers from 1 to 65535"
            )));
        }
        if !(4096..=16 << 20).contains(&self.log_size.0) {
            return Err(at_name("`log_size` is between 4K and 16M".into()));
        }
        if self.memory_max.is_some_and(|m| m.0 < 1 << 20) {
            return Err(at_name("`memory_max` is at least 1M".into()));
        }
        if self.ready_timeout.0 == 0 || self.stop_timeout.0 == 0 {
            return Err(at_name("`ready_timeout` and `stop_timeout` are above 0".into()));
        }
        if let Some(health) = &self.health {
            let program = health.command.first().map(|c| c.as_str()).unwrap_or_default();
            DevicePath::new(program).map_err(|e| at_name(format!("`health.command`: {e}")))?;
            if health.interval.0 == 0 || health.timeout.0 == 0 || health.retries == 0 {
                return Err(at_name("`health` needs interval, timeout and retries above 0".into()));
            }
        }
        Ok(())
    }
}

/// Checks all workloads of an image: each alone, unique names, and an order that exists.
/// `builtin` are names that the imager adds workloads under by itself, each with the key that asks
/// for it.
pub fn check(
    workloads: &[Workload],
    builtin: &[(&str, &str)],
    document: &Document,
) -> Result<(), Finding> {
    let mut names: BTreeMap<&str, &Workload> = BTreeMap::new();
    for w in workloads {
        w.check_alone(document)?;
        if let Some((name, key)) = builtin.iter().find(|(name, _)| *name == w.name().as_str()) {
            let why = format!("workload `{name}` is added by {key} itself; choose another name");
            return Err(document.at(w.name.span(), why));
        }
        if names.insert(w.name().as_str(), w).is_some() {
            return Err(
                document.at(w.name.span(), format!("workload `{}` is defined twice", w.name()))
            );
        }
    }
    let mut ports: BTreeMap<u16, &Name> = BTreeMap::new();
    for w in workloads {
        for port in &w.ports {
            if let Some(other) = ports.insert(*port, w.name()) {
                let why = format!("port {port} belongs to workload `{other}` already");
                return Err(document.at(w.name.span(), why));
            }
        }
    }
    for after in workloads.iter().flat_map(|w| &w.after) {
        let name = after.get_ref().as_str();
        if !names.contains_key(name) && !builtin.iter().any(|(own, _)| *own == name) {
            let known = names.keys().copied().chain(builtin.iter().map(|(own, _)| *own));
            let hint =
                nearest(name, known).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            return Err(document.at(after.span(), format!("no workload is named `{name}`{hint}")));
        }
    }
    // Whatever can start, starts, until nothing more can: what is left waits for itself.
    let mut waiting: Vec<&Workload> = workloads.iter().collect();
    loop {
        let before = waiting.len();
        let blocked: Vec<&str> = waiting.iter().map(|w| w.name().as_str()).collect();
        waiting.retain(|w| w.after().any(|a| blocked.contains(&a.as_str())));
        if waiting.is_empty() {
            return Ok(());
        }
        if waiting.len() == before {
            let why = format!("`after` goes round in a circle: {}", blocked.join(", "));
            return Err(document.at(waiting[0].name.span(), why));
        }
    }
}
