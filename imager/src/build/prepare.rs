//! What a build depends on, read before anything is fetched or made.

use std::path::Path;

use anyhow::Result;
use ed25519_dalek::SigningKey;
use publisher::keys;

use super::golden::Golden;
use super::stamp::Stamp;
use crate::assembly::root::{DeviceBinaries, DeviceKeys};
use crate::boot_method::BootSigner;
use crate::config::{Board, Image};

/// The keys of a build.
pub struct BuildKeys {
    /// Sign the slot's manifest.
    pub signing: Vec<SigningKey>,
    /// What the image carries.
    pub device: DeviceKeys,
    /// Signs what the board starts before Linux, where somebody does.
    pub boot: Option<Box<dyn BootSigner>>,
}

impl BuildKeys {
    /// Reads them from the folder of keys.
    pub fn load(folder: &Path, image: &Image, board: &Board) -> Result<BuildKeys> {
        let boot = board.boot.method.secure_boot(folder, image.secure_boot.raspberry_pi)?;
        let signing = keys::image_signing(folder)?;
        let manifest = keys::image_public(folder)?.iter().map(keys::public_hex).collect();
        let device = DeviceKeys { manifest, tuf_root: keys::tuf_root(folder)? };
        Ok(BuildKeys { signing, device, boot })
    }
}

/// A hash of everything that a build depends on. `lock`: the text of the image's lock.
pub fn stamp(
    image: &Image,
    board: &Board,
    lock: &str,
    keys: &BuildKeys,
    programs: &DeviceBinaries,
    golden: &Golden,
) -> Result<String> {
    let signers: Vec<String> =
        keys.signing.iter().map(|key| keys::public_hex(&key.verifying_key())).collect();
    let mut stamp = Stamp::new();
    stamp.add_file(image.path())?;
    stamp.add_bytes("board", board.text().as_bytes());
    stamp.add_bytes("lock", lock.as_bytes());
    stamp.add_bytes("init", &programs.init);
    stamp.add_bytes("ota", &programs.ota);
    stamp.add_bytes("runner", &programs.runner);
    for (program, bytes) in &programs.boot {
        stamp.add_bytes(program.file, bytes);
    }
    stamp.add_bytes("signing keys", signers.join(" ").as_bytes());
    stamp.add_bytes("carried keys", keys.device.manifest.join(" ").as_bytes());
    if let Some(signer) = &keys.boot {
        stamp.add_bytes("boot signer", &signer.identity()?);
    }
    stamp.add_bytes("golden samples", golden.stamp());
    stamp.add_bytes("tuf root", &keys.device.tuf_root);
    stamp.add_self()?;
    Ok(stamp.finish())
}
