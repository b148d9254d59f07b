//! Where an image's inputs come from, and the lock that pins them.
//!
//! [`resolve_all`] compares what an image and a board ask for (`request`) with the lock (`lock`)
//! and looks up what it lacks: packages in the Debian archive (the library `debian`), wheels
//! through pip (`pypi`), files beside the image file (`local`), archives that the two files name
//! (`archive`). [`resolver::LockedInputs::fetch`] then brings everything into the cache and opens
//! it as [`Inputs`]; `sbom` makes the bill of materials of them.

pub mod archive;
pub mod inputs;
pub mod local;
pub mod lock;
mod lock_changes;
pub mod pypi;
pub mod request;
pub mod resolver;
pub mod sbom;
pub mod what_is_missing;
pub mod wheel;

pub use inputs::Inputs;
pub use resolver::{Options, resolve_all};
