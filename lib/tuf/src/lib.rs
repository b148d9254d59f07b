//! TUF repository metadata (The Update Framework, specification 1.0.x): types, canonical form,
//! signing, and the client's workflow.
//!
//! A device: [`client::refresh`] starts from the root metadata in the verified image,
//! walks the chain of roots, then timestamp, snapshot and targets, and gives back [`Targets`]:
//! which files there are, how long, which hash. It reads through [`Fetch`] (the network) and
//! [`Store`] (what was trusted before), takes the time from its caller, and uses no field before
//! the signature over it holds.
//!
//! A publisher: [`author::publication`] turns the metadata there is and the targets
//! wanted into the files to write, in the order to write them.
//!
//! A target that the top-level role does not list is looked for through its delegations
//! ([`Client::find_target`]). What the specification leaves open, and what is left out, is written
//! down in `docs/tuf.md`.

pub mod author;
pub mod client;
mod delegation;
mod envelope;
mod error;
pub mod ferrite;
mod fetch;
mod key;
mod metadata;
mod role;
mod store;
mod time;

pub use client::{Client, Found, Limits, check_initial_root, refresh};
pub use delegation::{DelegatedRole, Delegations};
pub use envelope::{Envelope, Signature};
pub use error::Error;
pub use ferrite::{DeltaTarget, FerriteTarget, Rollout, Wave};
pub use fetch::{Fetch, FetchError};
pub use key::{Ed25519, KeySchemes, PublicKey, key_id, key_object, sha256_hex};
pub use metadata::{
    METADATA_DIR, MetaFile, RoleKeys, Root, SPEC_VERSION, Snapshot, TARGETS_DIR, TargetFile,
    Targets, Timestamp, target_path,
};
pub use role::Role;
pub use store::{DirStore, Store};
pub use time::Time;
