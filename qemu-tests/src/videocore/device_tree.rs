//! The harness's own copy of a device tree, changed where QEMU is not the board.

use anyhow::{ensure, Result};

/// The power manager, which is the watchdog too. QEMU resets the machine the moment its watchdog is
/// armed, so no driver may find it there. Restarting goes through it as well: the kernel says that
/// it restarts, and then nothing happens.
const POWER_MANAGER: [&[u8]; 2] = [b"brcm,bcm2835-pm\0", b"brcm,bcm2835-pm-wdt\0"];

/// Takes the watchdog out: what it is compatible with becomes something that nothing drives. All
/// lengths stay, so the tree stays whole.
pub fn without_watchdog(tree: &[u8]) -> Result<Vec<u8>> {
    let mut tree = tree.to_vec();
    for name in POWER_MANAGER {
        let at = tree.windows(name.len()).position(|window| window == name);
        ensure!(at.is_some(), "the device tree has no {}", String::from_utf8_lossy(name));
        if let Some(at) = at {
            tree[at] = b'-';
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_watchdog_is_taken_out() {
        let tree = b"serial\0brcm,bcm2835-pm\0brcm,bcm2835-pm-wdt\0rest".to_vec();
        let changed = without_watchdog(&tree).unwrap();
        assert_eq!(changed, b"serial\0-rcm,bcm2835-pm\0-rcm,bcm2835-pm-wdt\0rest");
        assert!(without_watchdog(b"serial\0").is_err());
    }
}
