//! Workloads: what each one's life looks like (`state_machine`), when it is started again (`restart`),
//! whether it is healthy (`health`) and what that means for the device (`vital_health`), which start first
//! (`startup_gate`), how a process of it is made (`spawn`, `cgroup`), which ports are its own (`ports`), what
//! it logged (`log_ring`) and how fast it may (`flow`), and the part that ties these together
//! (`supervise`).

pub mod cgroup;
pub mod flow;
pub mod health;
pub mod log_ring;
pub mod ports;
pub mod restart;
pub mod spawn;
pub mod startup_gate;
pub mod state_machine;
pub mod supervise;
pub mod vital_health;
