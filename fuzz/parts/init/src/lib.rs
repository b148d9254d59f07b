//! DHCP and SNTP, as PID 1 reads them.

pub mod clock;
#[path = "../../../../init/src/network/dhcp.rs"]
pub mod dhcp;
#[path = "../../../../init/src/network/dhcp_message.rs"]
pub mod dhcp_message;
#[path = "../../../../init/src/sntp.rs"]
pub mod sntp;
