//! The answer to `status json`: what was booted, what the device has, how each workload stands.
//! Written by `init`, which has no serde, and read by whoever asks; a text for people is made of the
//! same values. The golden text below is its form.

use crate::data_state::DataState;
use crate::key;
use crate::run_slot::RunSlot;

/// The longest answer that is read, in bytes: more than 64 workloads with their reasons take.
#[cfg(feature = "json")]
pub const MAX_BYTES: usize = 1 << 20;

/// What runs. `S`: texts, borrowed where it is written and owned where it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status<S> {
    /// What was booted. On trial only as long as it is not committed.
    pub running: RunSlot,
    /// The interface's address, if there is one.
    pub address: Option<S>,
    /// The wireless network to join, if there is one.
    pub wifi: Option<Wifi<S>>,
    /// What `/data` is.
    pub data: DataState,
    /// What PID 1's helpers do that the kernel does not let go.
    pub stuck: Vec<S>,
    /// Milliseconds since the kernel started.
    pub up_ms: u64,
    /// The workloads, in the order of the image file.
    pub workloads: Vec<WorkloadStatus<S>>,
}

/// The wireless network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Deserialize))]
pub struct Wifi<S> {
    /// Its name.
    pub network: S,
    /// How things stand with it, in words for people.
    pub state: S,
}

/// How a workload stands. Numbers that are not known are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Deserialize))]
pub struct WorkloadStatus<S> {
    /// Its name.
    pub name: S,
    /// Where it is in its life: `waiting`, `starting`, `ready` and so on.
    pub state: S,
    /// Why it is there; empty when there is nothing to say.
    pub reason: S,
    /// The last line it printed before it failed, until it is ready again; else empty.
    #[cfg_attr(feature = "json", serde(default))]
    pub last_line: S,
    /// The device has to have it.
    pub vital: bool,
    /// Its main process.
    pub pid: Option<u64>,
    /// When its program was last seen to run, in milliseconds since the kernel started.
    pub started_ms: Option<u64>,
    /// For how long it has been in its state, in milliseconds.
    pub since_ms: u64,
    /// Starts after the first one.
    pub restarts: u64,
    /// Crashes without a stable run between them.
    pub crashes_in_a_row: u64,
    /// Bytes of memory in use.
    pub memory: Option<u64>,
    /// The most that were.
    pub memory_peak: Option<u64>,
    /// Bytes that it has printed.
    pub log_bytes: u64,
}

/// How a workload stands, in one line: its state, and what is known of how it came there.
pub fn detail(state: &str, reason: &str, last_line: &str) -> String {
    let (open, close) = if reason.is_empty() { ("", "") } else { (" (", ")") };
    let between = match (reason, last_line) {
        (_, "") => "",
        // It is on its way again.
        ("", _) => "; last time: ",
        _ => ": ",
    };
    [state, open, reason, close, between, last_line].concat()
}

impl<S: AsRef<str>> Status<S> {
    /// The answer's body: one line of JSON.
    pub fn to_json(&self) -> String {
        let mut out = Json(String::new());
        let Status { running, address, wifi, data, stuck, up_ms, workloads } = self;
        out.open('{');
        for (key, value) in running.lines() {
            match key {
                key::TRIAL | key::FALLBACK => out.literal(key, bool_of(value == "yes")),
                key::SEQUENCE => out.literal(key, &value),
                _ => out.text(key, &value),
            }
        }
        match address {
            Some(address) => out.text("address", address.as_ref()),
            None => out.literal("address", "null"),
        }
        if let Some(Wifi { network, state }) = wifi {
            out.key("wifi");
            out.open('{');
            out.text("network", network.as_ref());
            out.text("state", state.as_ref());
            out.close('}');
        }
        out.key("data");
        out.open('{');
        out.text("state", data.kind.word());
        out.text("reason", &data.reason);
        out.close('}');
        out.key("stuck");
        out.open('[');
        for work in stuck {
            out.separate();
            out.quote(work.as_ref());
        }
        out.close(']');
        out.number("up_ms", Some(*up_ms));
        out.key("workloads");
        out.open('[');
        for workload in workloads {
            out.separate();
            workload.write(&mut out);
        }
        out.close(']');
        out.close('}');
        out.0.push('\n');
        out.0
    }
}

impl<S: AsRef<str>> WorkloadStatus<S> {
    fn write(&self, out: &mut Json) {
        out.open('{');
        for (key, text) in [
            ("name", &self.name),
            ("state", &self.state),
            ("reason", &self.reason),
            ("last_line", &self.last_line),
        ] {
            out.text(key, text.as_ref());
        }
        out.literal("vital", bool_of(self.vital));
        for (key, number) in [
            ("pid", self.pid),
            ("started_ms", self.started_ms),
            ("since_ms", Some(self.since_ms)),
            ("restarts", Some(self.restarts)),
            ("crashes_in_a_row", Some(self.crashes_in_a_row)),
            ("memory", self.memory),
            ("memory_peak", self.memory_peak),
            ("log_bytes", Some(self.log_bytes)),
        ] {
            out.number(key, number);
        }
        out.close('}');
    }
}

fn bool_of(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// JSON that is being written (RFC 8259).
struct Json(String);

impl Json {
    fn open(&mut self, bracket: char) {
        self.0.push(bracket);
    }

    fn close(&mut self, bracket: char) {
        self.0.push(bracket);
    }

    /// A comma, unless this is the first behind a bracket.
    fn separate(&mut self) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.quote(key);
        self.0.push(':');
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.quote(text);
    }

    fn literal(&mut self, key: &str, literal: &str) {
        self.key(key);
        self.0.push_str(literal);
    }

    fn number(&mut self, key: &str, number: Option<u64>) {
        match number {
            Some(number) => self.literal(key, &number.to_string()),
            None => self.literal(key, "null"),
        }
    }

    /// A string (section 7).
    fn quote(&mut self, text: &str) {
        let out = &mut self.0;
        out.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => out.push('\\'),
                c if c < ' ' => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    out.push_str("\\u00");
                    out.push(char::from(HEX[c as usize >> 4]));
                    out.push(char::from(HEX[c as usize & 15]));
                    continue;
                }
                _ => {}
            }
            out.push(c);
        }
        out.push('"');
    }
}

#[cfg(feature = "json")]
mod read {
    use serde::Deserialize;

    use super::{MAX_BYTES, Status, Wifi, WorkloadStatus};
    use crate::boot_state::Boot;
    use crate::data_state::{DataState, Kind};
    use crate::run_slot::RunSlot;
    use crate::{Error, Result, Slot};

    /// The members as they are written; one that is not known here is from a newer `init`.
    #[derive(Deserialize)]
    struct Members {
        slot: String,
        trial: bool,
        fallback: bool,
        board: String,
        name: String,
        version: String,
        sequence: u64,
        disk: String,
        chooser: String,
        address: Option<String>,
        wifi: Option<Wifi<String>>,
        data: Data,
        stuck: Vec<String>,
        up_ms: u64,
        workloads: Vec<WorkloadStatus<String>>,
    }

    #[derive(Deserialize)]
    struct Data {
        state: String,
        reason: String,
    }

    impl Status<String> {
        /// Reads the answer's body.
        pub fn from_json(json: &[u8]) -> Result<Status<String>> {
            if json.len() > MAX_BYTES {
                return Err(Error::new("the status is longer than any device's"));
            }
            let all: Members =
                serde_json::from_slice(json).map_err(|e| Error::new(format!("status: {e}")))?;
            let boot = match (all.trial, all.fallback) {
                (true, _) => Boot::Trial,
                (false, true) => Boot::Fallback,
                (false, false) => Boot::Active,
            };
            Ok(Status {
                running: RunSlot {
                    slot: Slot::parse(&all.slot)?,
                    boot,
                    board: all.board,
                    name: all.name,
                    version: all.version,
                    sequence: all.sequence,
                    disk: all.disk,
                    chooser: all.chooser,
                },
                address: all.address,
                wifi: all.wifi,
                data: DataState { kind: Kind::parse(&all.data.state)?, reason: all.data.reason },
                stuck: all.stuck,
                up_ms: all.up_ms,
                workloads: all.workloads,
            })
        }
    }
}

#[cfg(all(test, feature = "json"))]
mod tests;
