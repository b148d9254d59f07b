//! The boot state as PID 1 uses it: why the boot before this one ended (`last_reset`), whether this one is
//! good (`assessment`) and when a reset may help (`recovery`), what is written down of it (`failure`), what
//! others may ask for (`requests`), and the rollback floor when the state was lost (`rollback`).

pub mod assessment;
pub mod failure;
pub mod last_reset;
pub mod recovery;
pub mod requests;
pub mod rollback;
pub mod slot_header;
