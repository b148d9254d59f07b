//! Whether a slot is on the medium as it was signed ([`slot_check`]), looked at in the background
//! before it is needed ([`scrub`]).

mod fat;
pub mod scrub;
pub mod slot_check;
