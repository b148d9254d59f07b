//! Whether a slot is on the medium as it was signed.

mod fat;
pub mod slot_check;
