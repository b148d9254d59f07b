//! A device made of files, updates and repositories for it, and the servers that the common HTTP
//! server of the tests cannot be: raw sockets, connections that stay open, TLS.

// Each of the two test programs uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod certificates;
mod device;
pub mod raw;
mod repository;
mod update;
pub mod wire;
pub mod writer;

pub use device::{TestDevice, timeouts};
pub use repository::{Repository, publish, publish_beside, role_key, role_signers};
pub use test_http::{Fault, Server};
pub use update::{CHUNK, Delta, Recipe, Update, image_key, recipe};
