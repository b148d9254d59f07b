//! The top-level roles, and what the metadata of each of them has (specification section 4.2).

use serde::Deserialize;

use crate::time::Time;

/// A top-level role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Says which keys speak for whom.
    Root,
    /// Says which files there are.
    Targets,
    /// Says which versions of the metadata belong together.
    Snapshot,
    /// Says what is newest.
    Timestamp,
}

impl Role {
    /// All of them, in the order of the specification.
    pub const ALL: [Role; 4] = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];

    /// The name in metadata and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Targets => "targets",
            Role::Snapshot => "snapshot",
            Role::Timestamp => "timestamp",
        }
    }
}

/// What the four have in common.
pub(crate) trait Metadata: for<'de> Deserialize<'de> {
    const ROLE: Role;
    fn kind(&self) -> &str;
    fn spec_version(&self) -> &str;
    fn version(&self) -> u64;
    fn expires(&self) -> Time;
    /// What the specification asks of the content beyond the types of its fields; the error is
    /// for people.
    fn sound(&self) -> Result<(), String>;
}
