//! The wireless network that the device's settings name. `wpa_supplicant` joins it, as a workload with
//! the rights for that alone; this tells it which (`network_conf`), reads from what it says how things
//! stand (`events`), and tells people.

mod events;
mod network_conf;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use formats::conf::Conf;
use formats::{Error, Result, layout, settings};
use rustix::fs::{Gid, Uid};

pub use self::events::JoinState;
use crate::console::say;
use crate::data;
use crate::system_conf::Radio;

/// A network that is there is found in this time, in milliseconds: two searches of all channels.
const TO_BE_FOUND: u64 = 15_000;
/// What is longer than this is no line for us.
const MAX_LINE: usize = 512;

/// The radio, and what has become of the network.
#[derive(Debug, Default)]
pub struct Wireless {
    radio: Option<Radio>,
    /// The network's name, once all is written down for who joins it.
    ssid: Option<String>,
    join_state: Option<JoinState>,
    /// Since when it is looked for without a sign of it.
    silent_since: Option<u64>,
    line: Vec<u8>,
}

impl Wireless {
    /// `None` is for images without Wi-Fi: nothing ever happens.
    pub fn new(radio: Option<Radio>) -> Wireless {
        Wireless { radio, ..Wireless::default() }
    }

    /// The device's settings are there: writes down which network the workload of this user is to
    /// join. Says what is missing for that.
    pub fn settle(&mut self, settings: Option<&Conf<'_>>, user: u32) {
        let Some(radio) = &self.radio else { return };
        let ssid = settings.map_or(Ok(None), settings::wifi);
        let written = ssid.and_then(|ssid| match ssid {
            None => Ok(None),
            Some(ssid) => write(radio, ssid, user).map(|()| Some(ssid.to_string())),
        });
        match written {
            Ok(Some(ssid)) => {
                self.ssid = Some(ssid);
                self.enter(JoinState::Trying);
            }
            Ok(None) => {
                say(&["wifi: this device has no network; give it one: imager flash --wifi"])
            }
            Err(e) => say(&["wifi: ", &e.to_string()]),
        }
    }

    /// The network is known, with its passphrase.
    pub fn is_settled(&self) -> bool {
        self.ssid.is_some()
    }

    /// Bytes that the workload said.
    pub fn on_output(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte != b'\n' {
                if self.line.len() < MAX_LINE {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let (Some(radio), Some(before)) = (&self.radio, self.join_state) else { continue };
            if events::is_sign_of_it(&line, &radio.interface) {
                self.silent_since = None;
            }
            if let Some(state) = events::after(&line, &radio.interface, before) {
                self.enter(state);
            }
        }
    }

    /// `runs`: the network is looked for. That nobody answers to its name is nothing that
    /// `wpa_supplicant` says; it follows from its saying nothing.
    pub fn tick(&mut self, runs: bool, now: u64) {
        let looks = matches!(self.join_state, Some(JoinState::Trying | JoinState::Lost));
        if !runs || !looks {
            self.silent_since = None;
            return;
        }
        let since = *self.silent_since.get_or_insert(now);
        if now >= since + TO_BE_FOUND {
            self.enter(JoinState::NotFound);
        }
    }

    /// When [`Wireless::tick`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.silent_since.map(|since| since + TO_BE_FOUND)
    }

    fn enter(&mut self, state: JoinState) {
        if self.join_state != Some(state) {
            self.join_state = Some(state);
            if let Some((ssid, words)) = self.status() {
                say(&["wifi: network ", &printable(ssid), ": ", words]);
            }
        }
    }

    /// The network's name and how things stand with it; `None` without a network.
    pub fn status(&self) -> Option<(&str, &'static str)> {
        Some((self.ssid.as_deref()?, self.join_state?.words()))
    }
}

/// Names may hold what a terminal takes for commands; the settings' own check lets no control
/// characters through, and this leaves the invisible ones beyond ASCII out too.
fn printable(ssid: &str) -> String {
    ssid.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Writes the file that the workload reads, for it alone.
fn write(radio: &Radio, ssid: &str, user: u32) -> Result<()> {
    let error = |path: &'static str| {
        move |e: std::io::Error| Error::new([path, ": ", &e.to_string()].concat())
    };
    let passphrase = data::take_collected(layout::WIFI_PASSPHRASE).unwrap_or_default();
    let passphrase = String::from_utf8(passphrase).unwrap_or_default();
    let passphrase = passphrase.trim_end_matches(['\r', '\n']);
    let text = network_conf::text(&radio.country, ssid, passphrase).ok_or_else(|| {
        Error::new(
            [layout::WIFI_PASSPHRASE, ": is no passphrase; flash again with --wifi"].concat(),
        )
    })?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o400)
        .open(layout::RUN_WIFI_CONF)
        .map_err(error(layout::RUN_WIFI_CONF))?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))
        .map_err(|e| error(layout::RUN_WIFI_CONF)(e.into()))?;
    file.write_all(text.as_bytes()).map_err(error(layout::RUN_WIFI_CONF))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wireless() -> Wireless {
        let radio = Radio { interface: "wlan0".into(), country: "DE".into() };
        let ssid = Some("Home".to_string());
        Wireless {
            radio: Some(radio),
            ssid,
            join_state: Some(JoinState::Trying),
            ..Wireless::default()
        }
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut wireless = wireless();
        wireless.on_output(b"noise\nwlan0: CTRL-EVENT-CONN");
        assert_eq!(wireless.status(), Some(("Home", "trying to join")));
        wireless.on_output(b"ECTED - x\n");
        assert_eq!(wireless.status(), Some(("Home", "joined")));
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory() {
        let mut wireless = wireless();
        wireless.on_output(&vec![b'x'; 1 << 20]);
        assert!(wireless.line.len() <= MAX_LINE);
        wireless.on_output(b"\nwlan0: CTRL-EVENT-CONNECTED - x\n");
        assert_eq!(wireless.status(), Some(("Home", "joined")));
    }

    #[test]
    fn who_gives_no_sign_is_not_in_reach() {
        let mut wireless = wireless();
        wireless.tick(false, 0);
        assert_eq!(wireless.deadline(), None, "nobody looks for it yet");
        wireless.tick(true, 1_000);
        wireless.on_output(b"wlan0: SME: Trying to authenticate with x\n");
        wireless.tick(true, 10_000);
        assert_eq!(wireless.deadline(), Some(10_000 + TO_BE_FOUND));
        assert_eq!(wireless.status().unwrap().1, JoinState::Trying.words());
        wireless.tick(true, 10_000 + TO_BE_FOUND);
        assert_eq!(wireless.status().unwrap().1, JoinState::NotFound.words());
        wireless.on_output(b"wlan0: CTRL-EVENT-CONNECTED - x\n");
        wireless.tick(true, u64::MAX / 2);
        assert_eq!(wireless.status(), Some(("Home", "joined")));
    }

    #[test]
    fn without_a_radio_or_a_network_there_is_nothing_to_tell() {
        let mut none = Wireless::new(None);
        none.settle(None, 1);
        none.on_output(b"wlan0: CTRL-EVENT-CONNECTED - x\n");
        assert!(none.status().is_none() && !none.is_settled());
        let mut unset = Wireless { ssid: None, join_state: None, ..wireless() };
        unset.settle(None, 1);
        unset.on_output(b"wlan0: CTRL-EVENT-CONNECTED - x\n");
        assert!(unset.status().is_none());
    }
}
