//! While the board starts, the kernel trades processor time for a quick start.

use std::fs;

/// Makes the kernel's grace periods short at the cost of interrupting every processor: mounting,
/// control groups and sockets wait for some.
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// From the initrd on. Only speed depends on it.
pub fn begin() {
    let _ = fs::write(EXPEDITED, "1");
}

/// Once the workloads run.
pub fn end() {
    let _ = fs::write(EXPEDITED, "0");
}
