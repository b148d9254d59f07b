//! How long a wait may take on this machine, now.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// More than this the load does not stretch a wait: then something hangs.
const MAX_STRETCH: f64 = 6.0;

/// `nominal`, meant for an idle machine with two processors, stretched by the load and by the
/// environment's `FERRITE_TIMEOUT_SCALE`.
pub fn stretched(nominal: Duration) -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let scale = std::env::var("FERRITE_TIMEOUT_SCALE").ok();
    nominal.mul_f64(stretch(&load, processors, scale.as_deref()))
}

/// Looks again and again, each 5 ms, whether `what` has come true; fails after `timeout` (stretched). For
/// what no line on a console tells.
pub fn wait_until(
    what: &str,
    timeout: Duration,
    mut is_true: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let (start, timeout) = (Instant::now(), stretched(timeout));
    while !is_true()? {
        ensure!(start.elapsed() < timeout, "not within {:.0} s: {what}", timeout.as_secs_f64());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn stretch(loadavg: &str, processors: usize, scale: Option<&str>) -> f64 {
    let load: f64 = loadavg.split(' ').next().and_then(|l| l.parse().ok()).unwrap_or(0.0);
    let scale: f64 = scale.and_then(|s| s.parse().ok()).filter(|s| *s > 0.0).unwrap_or(1.0);
    (load / processors as f64).clamp(1.0, MAX_STRETCH) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_machine_gets_more_time_but_not_for_ever() {
        assert_eq!(stretch("0.10 0 0", 2, None), 1.0);
        assert_eq!(stretch("8.00 0 0", 2, None), 4.0);
        assert_eq!(stretch("90.0 0 0", 2, Some("2")), 12.0);
        assert_eq!(stretch("", 2, Some("-1")), 1.0);
    }
}
