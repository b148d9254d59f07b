//! Workloads: what each one's life looks like (`table`), when it is started again (`restart`),
//! whether it is healthy (`health`, `standing`), which go first (`precedence`), how a process of it is made (`spawn`, `cgroup`) and which
//! ports are its own (`ports`),
//! what it said (`log_ring`) and how fast it may (`flow`), and the part that ties these together
//! (`supervise`).

pub mod cgroup;
pub mod flow;
pub mod health;
pub mod log_ring;
pub mod ports;
pub mod precedence;
pub mod restart;
pub mod spawn;
pub mod standing;
pub mod supervise;
pub mod table;
