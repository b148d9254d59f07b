//! What lies beside an update.

use std::collections::BTreeMap;

use crate::fetch::resource::Resource;

/// A file that lies beside an update: a delta or an index.
#[derive(Clone, Debug)]
pub struct Companion {
    /// Where its bytes are.
    pub resource: Resource,
    /// How many there are.
    pub length: u64,
    /// SHA-256 of all of it, in hex.
    pub sha256: String,
}

/// Companions by their target's name.
pub type CompanionFiles = BTreeMap<String, Companion>;
