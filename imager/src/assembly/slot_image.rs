//! A slot's images, their manifest and its signature.

use anyhow::{Context, Result, anyhow};
use ed25519_dalek::{Signer, SigningKey};
use formats::layout::BLOCK;
use formats::manifest::{self, FileHash, Manifest};
use formats::{payload, verity};
use sha2::{Digest, Sha256};

use super::payload_writer::{CHUNK_SIZE, CompressedStream};
use super::root::Root;
use crate::config::{Board, Image};
use debian::cache::Cache;
use imagefs::tree::{Kind, Tree};
use imagefs::{erofs, fat};

/// A finished slot.
pub struct SlotImage {
    /// The boot partition's image.
    pub boot: Vec<u8>,
    /// EROFS and hash tree.
    pub root: Vec<u8>,
    /// Bytes of the EROFS alone.
    pub root_size: u64,
    /// The signed header.
    pub header: Vec<u8>,
    /// The payload of the update.
    pub stream: CompressedStream,
}

/// Per cent of a partition above which it is said that it fills up.
const NEARLY_FULL: u64 = 80;

impl SlotImage {
    /// A warning where the root fills most of its partition: the next version may not fit, and
    /// devices keep the partitions that they were flashed with.
    pub fn nearly_full(&self, board: &Board) -> Option<String> {
        nearly_full(self.root.len() as u64, board.partitions.root())
    }
}

fn nearly_full(root: u64, partition: u64) -> Option<String> {
    let percent = root.saturating_mul(100) / partition.max(1);
    (percent >= NEARLY_FULL).then(|| {
        format!(
            "the root fills {percent} % of its partition ({} of {} MiB), and devices keep the partitions \
             that they were flashed with; before more is flashed, {}",
            root >> 20,
            partition >> 20,
            more_room(root)
        )
    })
}

/// How a root of so many bytes gets room: a partition with as much again to grow into.
fn more_room(root: u64) -> String {
    let proposed = ((2 * root) >> 20).next_multiple_of(64).max(64);
    format!(
        "make it larger with `[disk] root = \"{proposed}M\"` in the image file, or take something out of \
         the image (docs/image-file.md, \"[disk]\")"
    )
}

/// Makes the images of `root` and `boot_files`, describes them in a manifest and signs it with
/// each of `keys`.
///
/// Fails when an image does not fit its partition.
pub fn build(
    image: &Image,
    board: &Board,
    root: Root,
    boot_files: &Tree,
    keys: &[SigningKey],
    cache: &Cache,
) -> Result<SlotImage> {
    let identity = Identity { image, board };
    // Both mostly hash, and neither needs the other.
    let (root_parts, boot_parts) = std::thread::scope(|scope| {
        let boot = scope.spawn(|| boot_image(boot_files, &identity));
        let root = root_image(&root.tree, &identity);
        (root, boot.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (RootImage { bytes: root_image, root_size, salt, tree }, (boot, boot_hashes)) =
        (root_parts?, boot_parts?);

    let stream = CompressedStream::new(&[&boot, &root_image], cache)?;
    let manifest = Manifest {
        board: board.name().to_string(),
        name: image.name.to_string(),
        version: image.version.to_string(),
        sequence: image.sequence(),
        rollback_floor: image.rollback_floor(),
        root_size: root_image.len() as u64 - tree.bytes.len() as u64,
        root_hash_size: tree.bytes.len() as u64,
        root_verity_hash: tree.root_hash,
        root_verity_salt: salt,
        boot_size: boot.len() as u64,
        chunk_size: CHUNK_SIZE,
        chunk_table_sha256: Sha256::digest(stream.table.to_bytes()).into(),
        boot_files: boot_hashes,
        models: root.models,
    };
    payload::check_fits(&manifest, board.partitions.boot(), board.partitions.root())
        .map_err(|e| anyhow!("{e}; {}", more_room(manifest.root_size + manifest.root_hash_size)))?;
    let text = manifest.to_text();
    let sign = |key: &SigningKey| {
        let public = key.verifying_key().to_bytes();
        (manifest::key_id(&public), key.sign(text.as_bytes()).to_bytes())
    };
    let signatures: Vec<_> = keys.iter().map(sign).collect();
    let header = manifest::encode_header(&text, &signatures).map_err(|e| anyhow!(e))?;
    Ok(SlotImage { boot, root: root_image, root_size, header, stream })
}

struct RootImage {
    /// EROFS and hash tree.
    bytes: Vec<u8>,
    /// Bytes of the EROFS alone.
    root_size: u64,
    salt: [u8; 32],
    tree: verity::Tree,
}

fn root_image(files: &Tree, identity: &Identity) -> Result<RootImage> {
    let mut bytes = Vec::new();
    let root_size = erofs::write(files, identity.bytes("erofs"), &mut bytes)?;
    // The kernel reads no hash tree over a single block.
    bytes.resize(bytes.len().max(2 * BLOCK as usize), 0);
    let salt = identity.hash("verity");
    let tree = verity::build(&bytes, &salt);
    bytes.extend_from_slice(&tree.bytes);
    Ok(RootImage { bytes, root_size, salt, tree })
}

/// The boot partition's image and the hashes of the files on it.
fn boot_image(files: &Tree, identity: &Identity) -> Result<(Vec<u8>, Vec<FileHash>)> {
    let size = identity.board.partitions.boot();
    let options = fat::Options {
        size,
        reserved_sectors: 32,
        file_alignment: 512,
        volume_id: boot_volume_id(identity),
        label: *b"FERRITEBOOT",
    };
    let mut image = Vec::new();
    fat::write(files, &options, &mut image)
        .with_context(|| format!("the boot partition ({} MiB)", size >> 20))?;
    Ok((image, hashes(files)))
}

/// The serial number of the boot partition's FAT: another one for each version.
pub fn boot_volume_id(identity: &Identity) -> u32 {
    let [a, b, c, d, ..] = identity.hash("boot");
    u32::from_le_bytes([a, b, c, d])
}

/// What UUIDs and salts are made of, so that the same image gets the same ones.
pub struct Identity<'a> {
    /// The image.
    pub image: &'a Image,
    /// Its board.
    pub board: &'a Board,
}

impl Identity<'_> {
    /// 32 bytes for this purpose.
    pub fn hash(&self, purpose: &str) -> [u8; 32] {
        let (image, board) = (self.image, self.board);
        let words =
            [purpose, &image.name, board.name(), &image.version, &image.sequence().to_string()];
        Sha256::digest(words.join("\n").as_bytes()).into()
    }

    /// 16 bytes for this purpose: a UUID.
    pub fn bytes(&self, purpose: &str) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.hash(purpose)[..16]);
        bytes
    }
}

fn hashes(tree: &Tree) -> Vec<FileHash> {
    let mut hashes = Vec::new();
    for (path, node) in tree.iter() {
        if let Kind::File(content) = &node.kind {
            let sha256 = Sha256::digest(content.bytes()).into();
            hashes.push(FileHash { sha256, size: content.len(), name: path.to_owned() });
        }
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_fills_its_partition_is_warned_of() {
        const MIB: u64 = 1 << 20;
        assert_eq!(nearly_full(76 * MIB, 96 * MIB), None);
        let warning = nearly_full(77 * MIB, 96 * MIB).unwrap();
        assert!(warning.contains("fills 80 % of its partition (77 of 96 MiB)"), "{warning}");
        assert!(warning.contains("[disk] root = \"192M\""), "{warning}");
        assert!(more_room(MIB).contains("root = \"64M\""));
    }
}
