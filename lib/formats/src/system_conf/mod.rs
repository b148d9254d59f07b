//! `/etc/ferrite/system.conf` on the root: what the rootfs of `init` runs. Written by `imager` with
//! every default filled in, so that nothing is guessed on the device; numbers are clamped to what a
//! device can bear. docs/architecture.md, "system.conf".
//!
//! `ota`, which runs on the same device, and the host's tools, which meet images of other versions,
//! look at it through an [`Outline`].

mod outline;
mod workload;

pub use outline::{Outline, OutlinedWorkload};
pub use workload::{
    Capability, DataLimits, Health, MAX_CRASHES, MAX_LOG, MAX_PORTS, MAX_RETRIES, NetworkAccess,
    Provision, RestartLimits, RestartPolicy, Workload,
};

use crate::conf::{self, Conf, Line, Writer};
use crate::data_share::shares;
use crate::manifest::is_word;
pub use crate::watchdog::Watchdog;
use crate::{Error, Result, key};

const FIRST_LINE: &str = "ferrite-system 1";
/// The most workloads of a device.
pub const MAX_WORKLOADS: usize = 64;
/// The longest time that any setting may ask for, in seconds: a year.
pub const MAX_SECONDS: u64 = 366 * 24 * 3600;

/// The whole file. All times are in milliseconds, whole seconds in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// The host name.
    pub hostname: String,
    /// The board that the version is for.
    pub board: String,
    /// It is later than this, in seconds since 1970: when the newest package was made. 0: unknown.
    pub build_date: u64,
    /// How this board's slot is selected: `uboot`, `efi`, `rpi` or `rpi-tryboot`.
    pub chooser: String,
    /// Paths of modules, in load order.
    pub modules: Vec<String>,
    /// The hardware watchdog, on boards that have one.
    pub watchdog: Option<Watchdog>,
    /// Time that a trial may take until it is committed.
    pub trial_timeout: u64,
    /// Whether interfaces are configured by DHCP.
    pub dhcp: bool,
    /// Numeric addresses of time servers; those of DHCP are used as well.
    pub ntp: Vec<String>,
    /// The radio, in images that join wireless networks.
    pub radio: Option<Radio>,
    /// Sticks are mounted when they are plugged in.
    pub media: bool,
    /// Paths of what the first workloads read while they start.
    pub read_ahead: Vec<String>,
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

impl System {
    /// Reads the file's text.
    pub fn parse(text: &[u8]) -> Result<System> {
        let Conf { head, sections } = conf::parse(text, FIRST_LINE)?;
        let value = |key| Ok(conf::one(&head, key)?.value.to_string());
        let mut system = System {
            hostname: value(key::HOSTNAME)?,
            board: value(key::BOARD)?,
            build_date: conf::optional(&head, key::BUILD_DATE)?.map_or(Ok(0), Line::number)?,
            chooser: value(key::BOOT_CHOOSER)?,
            modules: conf::values(&head, key::MODULE),
            watchdog: Watchdog::parse(&head)?,
            trial_timeout: milliseconds(conf::one(&head, key::TRIAL_TIMEOUT)?)?,
            dhcp: match conf::one(&head, key::NETWORK)?.value {
                DHCP => true,
                OFF => false,
                _ => return Err(Error::new("network must be dhcp or off")),
            },
            ntp: conf::values(&head, key::NTP),
            radio: conf::optional(&head, key::WIFI)?.map(Radio::parse).transpose()?,
            media: conf::one(&head, key::MEDIA)?.yes_no()?,
            read_ahead: conf::values(&head, key::READ_AHEAD),
            console_shell: words(&head, key::CONSOLE_SHELL),
            ssh_server: words(&head, key::SSH_SERVER),
            workloads: Vec::new(),
        };
        let names: Vec<&str> = sections.iter().map(|section| section.name).collect();
        if names.len() > MAX_WORKLOADS {
            return Err(Error::new("more than 64 workloads"));
        }
        for (index, section) in sections.iter().enumerate() {
            let parsed = if section.kind != key::WORKLOAD || !is_word(section.name) {
                Err(Error::new("only [workload NAME] sections are known"))
            } else if names[..index].contains(&section.name) {
                Err(Error::new("stands twice"))
            } else {
                Workload::parse(section.name, &section.lines, &names)
            };
            let named = ["[", section.kind, " ", section.name, "]"].concat();
            system.workloads.push(parsed.map_err(|e| e.within(&named))?);
        }
        system.share_data();
        Ok(system)
    }

    /// The file's text.
    ///
    /// Panics when a value holds a line feed, or an index names no workload.
    pub fn to_text(&self) -> String {
        let mut text = Writer::new(FIRST_LINE);
        text.line(key::HOSTNAME, &self.hostname).line(key::BOARD, &self.board);
        if self.build_date > 0 {
            text.number(key::BUILD_DATE, self.build_date);
        }
        text.line(key::BOOT_CHOOSER, &self.chooser).lines(key::MODULE, &self.modules);
        Watchdog::write(self.watchdog.as_ref(), &mut text);
        text.number(key::TRIAL_TIMEOUT, self.trial_timeout / 1000)
            .line(key::NETWORK, if self.dhcp { DHCP } else { OFF })
            .lines(key::NTP, &self.ntp);
        if let Some(Radio { interface, country }) = &self.radio {
            text.line(key::WIFI, &[interface, " ", country].concat());
        }
        text.yes_no(key::MEDIA, self.media).lines(key::READ_AHEAD, &self.read_ahead);
        for (key, command) in
            [(key::CONSOLE_SHELL, &self.console_shell), (key::SSH_SERVER, &self.ssh_server)]
        {
            if !command.is_empty() {
                text.line(key, &command.join(" "));
            }
        }
        for workload in &self.workloads {
            workload.write(&self.workloads, &mut text);
        }
        text.finish()
    }

    /// Works out what each workload may take of `/data` from what the image file says for all of
    /// them. [`System::parse`] has done it.
    pub fn share_data(&mut self) {
        let limited = || self.workloads.iter().filter_map(|workload| workload.data_limits);
        let bytes = shares(&limited().map(|limits| limits.bytes.own).collect::<Vec<_>>());
        let files = shares(&limited().map(|limits| limits.files.own).collect::<Vec<_>>());
        let limits = self.workloads.iter_mut().filter_map(|w| w.data_limits.as_mut());
        for (limits, (bytes, files)) in limits.zip(bytes.into_iter().zip(files)) {
            *limits = DataLimits { bytes, files };
        }
    }
}

const DHCP: &str = "dhcp";
const OFF: &str = "off";

impl Radio {
    fn parse(line: &Line<'_>) -> Result<Radio> {
        let (interface, country) = line
            .value
            .split_once(' ')
            .ok_or_else(|| line.error("needs an interface and a country"))?;
        let good = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
        if !good {
            return Err(line.error("the country is not two capital letters"));
        }
        Ok(Radio { interface: interface.to_string(), country: country.to_string() })
    }
}

/// The words of the first line with this key; none without one.
fn words(lines: &[Line<'_>], key: &str) -> Vec<String> {
    let line = conf::each(lines, key).next();
    line.map(|line| line.value.split_ascii_whitespace().map(String::from).collect())
        .unwrap_or_default()
}

/// Seconds in the file, milliseconds here; zero would mean "at once, for ever".
fn milliseconds(line: &Line<'_>) -> Result<u64> {
    Ok(line.number()?.clamp(1, MAX_SECONDS) * 1000)
}

#[cfg(test)]
mod tests;
