//! What `wpa_supplicant` is told (wpa_supplicant.conf(5)): one network, and the country.

use formats::settings;

/// The longest passphrase, in bytes: a key of 64 hexadecimal digits (IEEE 802.11-2020, J.4).
pub const MAX_PASSPHRASE: usize = 64;

/// The file's text. `None` when this is no passphrase that could ever be right, or no network's name.
///
/// WPA2 with a passphrase alone: WPA3 is known to fail with the firmware of the Raspberry Pis' radios,
/// and what came before WPA2 is broken. Networks that hide their names are asked for by name.
pub fn text(country: &str, ssid: &str, passphrase: &str) -> Option<String> {
    let mut text = ["country=", country, "\np2p_disabled=1\n"].concat();
    // After a search without success the next one comes after 3, 9, 27, then 60 seconds.
    text.push_str("autoscan=exponential:3:60\n");
    text.push_str("network={\nscan_ssid=1\nkey_mgmt=WPA-PSK\nproto=RSN\npairwise=CCMP\nssid=");
    if !settings::is_ssid(ssid) {
        return None;
    }
    // In hexadecimal, a name needs no escapes.
    for byte in ssid.bytes() {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    let is_text = passphrase.bytes().all(|byte| (0x20..=0x7E).contains(&byte));
    match passphrase.len() {
        // It ends at the last quote of its line, so a quote in it needs no escape.
        8..=63 if is_text => text.push_str(&["\npsk=\"", passphrase, "\""].concat()),
        MAX_PASSPHRASE if passphrase.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            text.push_str(&["\npsk=", passphrase].concat());
        }
        _ => return None,
    }
    text.push_str("\n}\n");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_network_in_its_form() {
        let text = text("DE", "A \"b\"", "say \"#\" twice").unwrap();
        for line in [
            "country=DE",
            "ssid=4120226222",
            "psk=\"say \"#\" twice\"",
            "key_mgmt=WPA-PSK",
            "proto=RSN",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        let key = "0f".repeat(32);
        assert!(super::text("DE", "x", &key).unwrap().contains(&format!("\npsk={key}\n")));
    }

    #[test]
    fn what_would_say_something_else_is_refused() {
        let long = "x".repeat(64);
        for passphrase in ["", "1234567", "12345678\n}", "passphräse", &long] {
            assert_eq!(text("DE", "x", passphrase), None, "{passphrase:?}");
        }
        for ssid in ["", "a\nb", &"x".repeat(33)] {
            assert_eq!(text("DE", ssid, "12345678"), None, "{ssid:?}");
        }
    }

    proptest! {
        /// Whatever the settings say, no line of the file comes from them.
        #[test]
        fn it_has_always_the_same_lines(ssid in "\\PC{0,12}", passphrase in "[ -~\n\"#}]{0,70}") {
            if let Some(text) = text("DE", &ssid, &passphrase) {
                prop_assert_eq!(text.lines().count(), 11);
            }
        }
    }
}
