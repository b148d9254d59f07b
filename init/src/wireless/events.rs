//! What `wpa_supplicant` says on its output about the network it is to join. A line that is for us is
//! `INTERFACE: CTRL-EVENT-…`; the texts are those of wpa_supplicant's `wpa_ctrl.h`.

/// What has become of the wish to join the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinState {
    /// Nothing yet.
    Trying,
    /// It is joined.
    Joined,
    /// Nobody answers to its name.
    NotFound,
    /// It is there and does not take the passphrase.
    WrongPassphrase,
    /// It is there and does not let us in, for another reason.
    Refused,
    /// It was joined and is not any more.
    Lost,
}

impl JoinState {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            JoinState::Trying => "trying to join",
            JoinState::Joined => "joined",
            JoinState::NotFound => "not in reach; looked for again",
            JoinState::WrongPassphrase => "does not take the passphrase; tried again",
            JoinState::Refused => {
                "does not let the device in (a wrong passphrase, too, looks so with some radios); tried again"
            }
            JoinState::Lost => "lost; looked for again",
        }
    }
}

/// How things stand after a line, if it is about that.
pub fn after(line: &[u8], interface: &str, before: JoinState) -> Option<JoinState> {
    let event = line.strip_prefix(interface.as_bytes())?.strip_prefix(b": CTRL-EVENT-")?;
    let begins = |text: &str| event.starts_with(text.as_bytes());
    // A name can stand in the middle of a line, never at its end.
    let ends = |text: &str| event.trim_ascii_end().ends_with(text.as_bytes());
    if begins("CONNECTED ") {
        Some(JoinState::Joined)
    } else if begins("DISCONNECTED ") {
        // While it is tried this is a part of each failure, whose reason comes later.
        (before == JoinState::Joined).then_some(JoinState::Lost)
    } else if begins("SSID-TEMP-DISABLED ") {
        Some(if ends(" reason=WRONG_KEY") {
            JoinState::WrongPassphrase
        } else {
            JoinState::Refused
        })
    } else {
        None
    }
}

/// Whether a line says that the network is there.
pub fn is_sign_of_it(line: &[u8], interface: &str) -> bool {
    let said = line.strip_prefix(interface.as_bytes()).and_then(|rest| rest.strip_prefix(b": "));
    let said = said.map(|said| said.strip_prefix(b"SME: ").unwrap_or(said));
    said.is_some_and(|said| said.starts_with(b"Trying to a"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(lines: &str) -> Vec<JoinState> {
        let mut state = JoinState::Trying;
        let mut found = Vec::new();
        for line in lines.lines() {
            if let Some(next) = after(line.as_bytes(), "wlan0", state) {
                state = next;
                found.push(next);
            }
        }
        found
    }

    #[test]
    fn a_network_comes_and_goes() {
        let said = "Successfully initialized wpa_supplicant\n\
            wlan0: CTRL-EVENT-REGDOM-CHANGE init=USER type=COUNTRY alpha2=DE\n\
            wlan0: SME: Trying to authenticate with 02:00:00:00:01:00 (SSID='x' freq=2412 MHz)\n\
            wlan0: CTRL-EVENT-CONNECTED - Connection to 02:00:00:00:01:00 completed [id=0 id_str=]\n\
            wlan0: CTRL-EVENT-DISCONNECTED bssid=02:00:00:00:01:00 reason=3\n\
            wlan0: CTRL-EVENT-DISCONNECTED bssid=02:00:00:00:01:00 reason=3\n";
        assert_eq!(all(said), [JoinState::Joined, JoinState::Lost]);
    }

    #[test]
    fn a_wrong_passphrase_is_told_from_another_refusal() {
        let said = "wlan0: WPA: 4-Way Handshake failed - pre-shared key may be incorrect\n\
            wlan0: CTRL-EVENT-DISCONNECTED bssid=02:00:00:00:01:00 reason=15\n\
            wlan0: CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid=\"x\" auth_failures=1 duration=10 reason=WRONG_KEY\n\
            wlan0: CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid=\"x reason=WRONG_KEY\" auth_failures=2 duration=20 reason=CONN_FAILED\n";
        assert_eq!(all(said), [JoinState::WrongPassphrase, JoinState::Refused]);
        assert_eq!(
            all("wlan1: CTRL-EVENT-CONNECTED - x\nnoise wlan0: CTRL-EVENT-CONNECTED - x\n"),
            []
        );
    }

    proptest! {
        #[test]
        fn never_panics(line: Vec<u8>) {
            let _ = after(&line, "wlan0", JoinState::Trying);
            let _ = after(&[b"wlan0: CTRL-EVENT-", &line[..]].concat(), "wlan0", JoinState::Joined);
        }
    }
}
