//! Where an image's inputs come from, and the lock that pins them.
//!
//! [`resolve_all`] compares what an image and a board ask for (`request`) with the lock (`lock`)
//! and looks up what it lacks: packages in the Debian archive (`apt` finds the mirror, `openpgp`
//! and `release` check it, `packages` and `resolve` choose), wheels through pip (`pypi`), files
//! beside the image file (`local`), archives that the two files name (`archive`). [`session::Locked::fetch`] then brings everything into the `cache` and
//! opens it as [`Inputs`].

pub mod apt;
pub mod archive;
pub mod cache;
pub mod deb;
pub mod deb822;
pub mod download;
pub mod hash;
pub mod inputs;
pub mod licence;
pub mod local;
pub mod lock;
pub mod openpgp;
pub mod packages;
pub mod pypi;
pub mod release;
pub mod request;
pub mod resolve;
pub mod sbom;
pub mod session;
pub mod tarball;
pub mod version;
pub mod wheel;

pub use inputs::Inputs;
pub use session::{Options, resolve_all};
