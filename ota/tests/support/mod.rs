//! A device made of files, updates and repositories for it, and servers that misbehave on demand.

// Each of the two test programs uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod certificates;
mod device;
pub mod raw;
mod repository;
pub mod server;
mod update;
pub mod wire;
pub mod writer;

pub use device::{TestDevice, timeouts};
pub use repository::{Repository, publish, publish_beside, role_key, role_signers};
pub use server::{Fault, Server};
pub use update::{CHUNK, Delta, Recipe, Update, image_key, recipe};
