//! Workloads: their names, and the users that they run as.

use sha2::{Digest, Sha256};

/// The update client, which an image with `[update]` has.
pub const UPDATE_WORKLOAD: &str = "ota";
/// The half of it that writes: the devices, and no network.
pub const WRITER_WORKLOAD: &str = "ota-writer";

/// Whether a workload may have this name: `[a-z0-9][a-z0-9-]{0,31}`.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=32).contains(&text.len()) && !text.starts_with('-') && text.chars().all(plain)
}

/// A workload's user, 10000 to 59999, from its name's hash: above Debian's own users, below the
/// overflow user.
pub fn user_id(name: &str) -> u32 {
    let hash = Sha256::digest(name.as_bytes());
    10_000 + u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]) % 50_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_depends_on_the_name_alone() {
        assert_eq!(user_id("face"), user_id("face"));
        assert_ne!(user_id("face"), user_id("ota"));
        assert!((10_000..60_000).contains(&user_id("x")));
    }

    #[test]
    fn names_are_short_and_plain() {
        for good in ["face", "ota-writer", "0", &"x".repeat(32)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-x", "Face", "a_b", "a/b", &"x".repeat(33)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
