//! What was found in a file, as `--json` prints it.

use serde::Serialize;

use super::secure_boot::SecureBootReport;
use super::shell::ShellReport;
use super::steering::Steering;
use super::unified::UnifiedReport;

/// What was found in a file.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Report {
    /// A whole-disk image.
    Image { bytes: u64, partitions: Vec<PartitionReport>, boot: BootReport, slots: Vec<SlotReport> },
    /// An update.
    Update { bytes: u64, slot: SlotReport },
    /// An update with its metadata.
    Bundle { bytes: u64, files: Vec<String>, until: String, slot: SlotReport },
    /// What turns one version into another.
    Delta {
        bytes: u64,
        head_bytes: u64,
        old_bytes: u64,
        new_bytes: u64,
        groups: usize,
        groups_elsewhere: usize,
        problems: Vec<String>,
    },
    /// The short hashes of an update's blocks.
    Index { bytes: u64, covered: u64, blocks: usize, zero_blocks: usize },
}

#[derive(Debug, Serialize)]
pub struct PartitionReport {
    pub label: String,
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct BootReport {
    pub active: String,
    pub trial: Option<String>,
    pub fallback: Option<String>,
}

/// A slot's content and the verdicts on it.
#[derive(Debug, Serialize)]
pub struct SlotReport {
    /// `a` or `b`; absent for an update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// There is nothing in the slot.
    pub empty: bool,
    /// Ids of the keys that signed; not yet believed.
    pub signed_by: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestReport>,
    /// Of a slot on a disk that verifies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<ShellReport>,
    /// Of a slot on a disk that verifies: workloads of the image's own that steer the device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steering: Vec<Steering>,
    /// Of a slot on a disk whose boot files are a signed RAM disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<SecureBootReport>,
    /// Of a slot on a disk that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unified_kernel_image: Option<UnifiedReport>,
    /// Nothing if all of it verifies, else the reasons why not.
    pub problems: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct ManifestReport {
    pub board: String,
    pub name: String,
    pub version: String,
    pub sequence: u64,
    #[serde(rename = "floor")]
    pub rollback_floor: u64,
    pub root_bytes: u64,
    pub root_verity_hash: String,
    pub boot_bytes: u64,
    pub boot_files: Vec<FileReport>,
    pub models: Vec<FileReport>,
}

#[derive(Debug, Serialize)]
pub struct FileReport {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

impl Report {
    /// Whether something does not verify.
    pub fn has_problems(&self) -> bool {
        match self {
            Report::Image { slots, .. } => slots.iter().any(|slot| !slot.problems.is_empty()),
            Report::Update { slot, .. } | Report::Bundle { slot, .. } => !slot.problems.is_empty(),
            Report::Delta { problems, .. } => !problems.is_empty(),
            // One that is not whole is no index at all.
            Report::Index { .. } => false,
        }
    }
}
