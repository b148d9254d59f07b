//! What PID 1 is asked over its control socket: the workloads' [`health`], a reboot, and changes of
//! the [`boot`] state, which it alone writes.

pub mod boot;
pub mod boot_changes;
pub mod health;
