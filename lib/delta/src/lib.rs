//! Binary deltas between two root images: made on the build host, applied as a stream on the
//! device.
//!
//! Read in this order: [`header`] (the delta's head), `segments` (which parts are like which of
//! the old image), `group` (the path through one group), `model` over `mix` and `coder`
//! (how likely each bit is, and how it is written), `arm64` (what a move of code does to its
//! instructions), `literals` (what is
//! mostly new), [`apply`] (the device's side), [`mod@make`] over `align` (the host's side).
//! `docs/delta.md` has the format, for which the model's source is the reference, and the figures.
//!
//! The model's code is the same for both sides, so they cannot disagree. Nothing of a delta is parsed
//! before its hash holds: the caller compares the head's, [`Apply::group`] each frame's. All that is
//! read is bounded all the same, and decodes in bounded time and memory whatever it is.

pub mod apply;
mod arm64;
mod coder;
mod error;
mod group;
pub mod header;
mod literals;
mod mix;
mod model;
mod segments;

#[cfg(feature = "make")]
mod align;
#[cfg(feature = "make")]
pub mod make;
#[cfg(feature = "make")]
mod sys;

pub use apply::{Apply, ReadAt};
pub use error::{Error, Result};
pub use header::Header;
#[cfg(feature = "make")]
pub use make::{Options, make};
