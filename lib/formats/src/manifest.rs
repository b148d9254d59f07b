//! The slot header: a signed manifest of everything a slot holds.
//!
//! The header is [`HEADER_SIZE`] bytes; it is the head of an `.update` file and lies at the end of
//! the root partition it describes. The format is drawn in `docs/architecture.md`.

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::conf::{self, Conf, Writer};
use crate::key;
use crate::layout::BLOCK;
use crate::{Error, Result, hex};

/// Bytes of a slot header.
pub const HEADER_SIZE: usize = 65536;
/// The longest manifest, in bytes.
pub const MAX_MANIFEST: usize = 32768;
/// The most signatures of a header.
pub const MAX_SIGNATURES: usize = 8;
/// Largest boot or root image, in bytes. It keeps every sum of sizes far from overflow.
pub const MAX_IMAGE: u64 = 1 << 40;

/// What a slot header, and with it an `.update` file, begins with.
pub const MAGIC: &[u8] = b"FERRSLOT";
const HEADER_VERSION: u32 = 1;
const SIGNATURES_AT: usize = 20;
const SIGNATURE_ENTRY: usize = 8 + 64;
const MANIFEST_AT: usize = 1024;
const FIRST_LINE: &str = "ferrite-manifest 1";
const MAX_FILES: usize = 256;

/// A SHA-256 digest.
pub type Sha256Digest = [u8; 32];

/// What one slot holds. All sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The board the slot is for, as its board file is named.
    pub board: String,
    /// The image's name.
    pub name: String,
    /// The version for people.
    pub version: String,
    /// Orders versions; only grows.
    pub sequence: u64,
    /// The lowest sequence an update may still go back to once this version is committed.
    pub rollback_floor: u64,
    /// Size of the EROFS image, a multiple of [`BLOCK`].
    pub root_size: u64,
    /// Size of the verity hash tree that follows it.
    pub root_hash_size: u64,
    /// The verity root hash.
    pub root_verity_hash: Sha256Digest,
    /// The verity salt.
    pub root_verity_salt: [u8; 32],
    /// Size of the boot partition's image.
    pub boot_size: u64,
    /// Size of an uncompressed payload chunk.
    pub chunk_size: u64,
    /// SHA-256 of the payload's chunk table.
    pub chunk_table_sha256: Sha256Digest,
    /// The files of the boot partition.
    pub boot_files: Vec<FileHash>,
    /// The model files on the root, by absolute path.
    pub models: Vec<FileHash>,
}

/// A file by name, size and hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHash {
    /// Its SHA-256.
    pub sha256: Sha256Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its name or path; no spaces.
    pub name: String,
}

impl Manifest {
    /// Bytes of the slot stream: the boot image, then the root with its hash tree.
    pub fn stream_size(&self) -> u64 {
        self.boot_size + self.root_size + self.root_hash_size
    }

    /// The manifest as the text that is signed.
    pub fn to_text(&self) -> String {
        let mut w = Writer::new(FIRST_LINE);
        w.line(key::BOARD, &self.board)
            .line(key::NAME, &self.name)
            .line(key::VERSION, &self.version)
            .line(key::SEQUENCE, &self.sequence.to_string())
            .line(key::ROLLBACK_FLOOR, &self.rollback_floor.to_string())
            .line(key::ROOT_SIZE, &self.root_size.to_string())
            .line(key::ROOT_HASH_SIZE, &self.root_hash_size.to_string())
            .line(key::ROOT_VERITY_HASH, &hex::encode(&self.root_verity_hash))
            .line(key::ROOT_VERITY_SALT, &hex::encode(&self.root_verity_salt))
            .line(key::BOOT_SIZE, &self.boot_size.to_string())
            .line(key::CHUNK_SIZE, &self.chunk_size.to_string())
            .line(key::CHUNK_TABLE_SHA256, &hex::encode(&self.chunk_table_sha256));
        for (key, files) in [(key::BOOT_FILE, &self.boot_files), (key::MODEL, &self.models)] {
            for file in files {
                let (sha256, size) = (hex::encode(&file.sha256), file.size.to_string());
                w.line(key, &[&sha256, " ", &size, " ", &file.name].concat());
            }
        }
        w.finish()
    }

    /// Parses the text of a manifest and checks every bound that a reader relies on.
    ///
    /// Call it only on bytes whose signature holds: [`Header::verify`] does both.
    fn parse(text: &[u8]) -> Result<Manifest> {
        let Conf { head, sections } = conf::parse(text, FIRST_LINE)?;
        if !sections.is_empty() {
            return Err(Error::new("a manifest has no sections"));
        }
        let word = |key| -> Result<String> {
            let line = conf::one(&head, key)?;
            if is_word(line.value) {
                Ok(line.value.to_string())
            } else {
                Err(line.error("not a word of 1 to 64 characters"))
            }
        };
        let number = |key| conf::one(&head, key)?.number();
        let digest = |key| {
            let line = conf::one(&head, key)?;
            hex::decode::<32>(line.value).map_err(|e| line.error(&e.to_string()))
        };
        let image_size = |key| match number(key)? {
            size if size % BLOCK == 0 && size > 0 && size <= MAX_IMAGE => Ok(size),
            _ => Err(conf::one(&head, key)?.error("not a size in whole 4096-byte blocks")),
        };
        let files = |key: &str| -> Result<Vec<FileHash>> {
            let files: Vec<_> =
                head.iter().filter(|line| line.key == key).map(file_hash).collect::<Result<_>>()?;
            if files.len() > MAX_FILES {
                return Err(Error::new([key, ": more than 256 files"].concat()));
            }
            Ok(files)
        };
        let chunk_size = number(key::CHUNK_SIZE)?;
        if !(65536..=16 << 20).contains(&chunk_size) || !chunk_size.is_power_of_two() {
            return Err(Error::new("chunk-size: not a power of two from 64 KiB to 16 MiB"));
        }
        Ok(Manifest {
            board: word(key::BOARD)?,
            name: word(key::NAME)?,
            version: word(key::VERSION)?,
            sequence: number(key::SEQUENCE)?,
            rollback_floor: number(key::ROLLBACK_FLOOR)?,
            root_size: image_size(key::ROOT_SIZE)?,
            root_hash_size: image_size(key::ROOT_HASH_SIZE)?,
            root_verity_hash: digest(key::ROOT_VERITY_HASH)?,
            root_verity_salt: digest(key::ROOT_VERITY_SALT)?,
            boot_size: image_size(key::BOOT_SIZE)?,
            chunk_size,
            chunk_table_sha256: digest(key::CHUNK_TABLE_SHA256)?,
            boot_files: files(key::BOOT_FILE)?,
            models: files(key::MODEL)?,
        })
    }
}

/// A name, board or version: what is safe in a file name, a URL and a log line.
pub fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._+~-".contains(&c))
        && !text.starts_with('.')
}

fn file_hash(line: &conf::Line) -> Result<FileHash> {
    let mut words = line.value.split(' ');
    let (Some(sha256), Some(size), Some(name), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(line.error("not `sha256 size name`"));
    };
    Ok(FileHash {
        sha256: hex::decode(sha256).map_err(|e| line.error(&e.to_string()))?,
        size: conf::decimal(size).ok_or_else(|| line.error("not a decimal size"))?,
        name: name.to_string(),
    })
}

/// The public keys that a device, or a person, trusts to sign manifests.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys(Vec<VerifyingKey>);

impl TrustedKeys {
    /// Adds a key given as 64 hexadecimal digits.
    ///
    /// Fails when it is not a point of the curve, or a weak one under which anything verifies.
    pub fn add_hex(&mut self, text: &str) -> Result<()> {
        let bytes = hex::decode::<32>(text)?;
        let key = VerifyingKey::from_bytes(&bytes)
            .ok()
            .filter(|key| !key.is_weak())
            .ok_or_else(|| Error::new("not an ed25519 public key"))?;
        self.0.push(key);
        Ok(())
    }

    /// Whether no key is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The name of a public key in a header: the first 8 bytes of its SHA-256.
pub fn key_id(public: &[u8; 32]) -> [u8; 8] {
    let mut id = [0; 8];
    id.copy_from_slice(&Sha256::digest(public)[..8]);
    id
}

/// One signature of a header: the signer's [`key_id`] and the ed25519 signature.
pub type SignatureEntry = ([u8; 8], [u8; 64]);

/// A slot header that has not been verified: its parts are found, nothing in them is believed.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    bytes: &'a [u8],
    signatures: usize,
    manifest: &'a [u8],
}

impl<'a> Header<'a> {
    /// Finds the parts of a header. `bytes` must be exactly [`HEADER_SIZE`] long.
    pub fn new(bytes: &'a [u8]) -> Result<Header<'a>> {
        if bytes.len() != HEADER_SIZE {
            return Err(Error::new("a slot header is 65536 bytes"));
        }
        if bytes[..8] != *MAGIC {
            return Err(Error::new("no slot header here (its magic is missing)"));
        }
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
        };
        let (version, length, signatures) = (word(8), word(12), word(16));
        if version != HEADER_VERSION as usize {
            return Err(Error::new("the slot header's version is not 1"));
        }
        if !(1..=MAX_MANIFEST).contains(&length) || !(1..=MAX_SIGNATURES).contains(&signatures) {
            return Err(Error::new("the slot header's lengths are out of bounds"));
        }
        Ok(Header { bytes, signatures, manifest: &bytes[MANIFEST_AT..MANIFEST_AT + length] })
    }

    /// Checks that one of `keys` signed the manifest, then parses it.
    pub fn verify(&self, keys: &TrustedKeys) -> Result<Manifest> {
        if !self.signed_by_any(keys) {
            return Err(Error::new("the slot manifest is not signed by a trusted key"));
        }
        Manifest::parse(self.manifest).map_err(|e| e.within("slot manifest"))
    }

    /// The manifest of a header that `init` has verified and left at
    /// [`crate::layout::RUN_SLOT_HEADER`], for programs that carry no keys.
    ///
    /// On any other header this believes whoever wrote it.
    pub fn verified_before(&self) -> Result<Manifest> {
        Manifest::parse(self.manifest).map_err(|e| e.within("slot manifest"))
    }

    /// The signatures as they stand; unverified.
    pub fn signatures(&self) -> impl Iterator<Item = SignatureEntry> + 'a {
        let bytes = self.bytes;
        (0..self.signatures).map(move |i| {
            let entry = &bytes[SIGNATURES_AT + i * SIGNATURE_ENTRY..][..SIGNATURE_ENTRY];
            let (mut id, mut signature) = ([0; 8], [0; 64]);
            id.copy_from_slice(&entry[..8]);
            signature.copy_from_slice(&entry[8..]);
            (id, signature)
        })
    }

    fn signed_by_any(&self, keys: &TrustedKeys) -> bool {
        self.signatures().any(|(id, signature)| {
            keys.0.iter().filter(|key| key_id(key.as_bytes()) == id).any(|key| {
                key.verify_strict(self.manifest, &Signature::from_bytes(&signature)).is_ok()
            })
        })
    }
}

/// Writes a slot header: the manifest's text and its signatures.
///
/// Fails when the text or the number of signatures is out of bounds.
pub fn encode_header(manifest: &str, signatures: &[SignatureEntry]) -> Result<Vec<u8>> {
    if manifest.is_empty() || manifest.len() > MAX_MANIFEST {
        return Err(Error::new(
            "the slot manifest is longer than 32768 bytes; put fewer files on the boot partition",
        ));
    }
    if signatures.is_empty() || signatures.len() > MAX_SIGNATURES {
        return Err(Error::new("a slot header takes 1 to 8 signatures"));
    }
    let mut bytes = vec![0; HEADER_SIZE];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&HEADER_VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(manifest.len() as u32).to_le_bytes());
    bytes[16..20].copy_from_slice(&(signatures.len() as u32).to_le_bytes());
    for (i, (id, signature)) in signatures.iter().enumerate() {
        let entry = &mut bytes[SIGNATURES_AT + i * SIGNATURE_ENTRY..][..SIGNATURE_ENTRY];
        entry[..8].copy_from_slice(id);
        entry[8..].copy_from_slice(signature);
    }
    bytes[MANIFEST_AT..MANIFEST_AT + manifest.len()].copy_from_slice(manifest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        Manifest {
            board: "qemu-arm64".into(),
            name: "demo".into(),
            version: "1.0.0".into(),
            sequence: 7,
            rollback_floor: 3,
            root_size: 4096 * 10,
            root_hash_size: 4096,
            root_verity_hash: [1; 32],
            root_verity_salt: [2; 32],
            boot_size: 4096 * 100,
            chunk_size: 1 << 20,
            chunk_table_sha256: [3; 32],
            boot_files: vec![FileHash { sha256: [4; 32], size: 99, name: "kernel".into() }],
            models: vec![],
        }
    }

    fn signed(text: &str, key: &SigningKey) -> Vec<u8> {
        let public = key.verifying_key().to_bytes();
        encode_header(text, &[(key_id(&public), key.sign(text.as_bytes()).to_bytes())]).unwrap()
    }

    fn trust(key: &SigningKey) -> TrustedKeys {
        let mut keys = TrustedKeys::default();
        keys.add_hex(&hex::encode(key.verifying_key().as_bytes())).unwrap();
        keys
    }

    #[test]
    fn a_signed_manifest_comes_back_whole() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let header = signed(&manifest().to_text(), &key);
        let back = Header::new(&header).unwrap().verify(&trust(&key)).unwrap();
        assert_eq!(back, manifest());
    }

    #[test]
    fn another_key_does_not_do() {
        let (key, other) = (SigningKey::from_bytes(&[9; 32]), SigningKey::from_bytes(&[8; 32]));
        let header = signed(&manifest().to_text(), &key);
        assert!(Header::new(&header).unwrap().verify(&trust(&other)).is_err());
        assert!(Header::new(&header).unwrap().verify(&TrustedKeys::default()).is_err());
    }

    #[test]
    fn no_bit_of_the_signed_part_can_change() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let text = manifest().to_text();
        let header = signed(&text, &key);
        let keys = trust(&key);
        let signed_bytes =
            (0..SIGNATURES_AT + SIGNATURE_ENTRY).chain(MANIFEST_AT..MANIFEST_AT + text.len());
        for at in signed_bytes {
            let mut bad = header.clone();
            bad[at] ^= 0x10;
            let verdict = Header::new(&bad).and_then(|h| h.verify(&keys));
            assert!(verdict.is_err(), "byte {at}");
        }
    }

    #[test]
    fn bounds_are_checked_after_the_signature() {
        let key = SigningKey::from_bytes(&[9; 32]);
        for (from, to) in [
            ("root-size 40960", "root-size 40961"),
            ("root-size 40960", "root-size 0"),
            ("boot-size 409600", "boot-size 18446744073709547520"),
            ("chunk-size 1048576", "chunk-size 1"),
            ("board qemu-arm64", "board ../etc"),
            ("sequence 7", "sequence 07"),
            ("sequence 7", "sequence 7\nsequence 8"),
        ] {
            let text = manifest().to_text().replace(from, to);
            let header = signed(&text, &key);
            let verdict = Header::new(&header).unwrap().verify(&trust(&key));
            assert!(verdict.is_err(), "{to}");
        }
    }

    #[test]
    fn a_weak_public_key_is_refused() {
        let mut keys = TrustedKeys::default();
        assert!(keys.add_hex(&hex::encode(&[0; 32])).is_err());
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(keys.add_hex(&hex::encode(&identity)).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), HEADER_SIZE), magic: bool) {
            if magic {
                bytes[..8].copy_from_slice(MAGIC);
                bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
                bytes[14..16].fill(0);
                bytes[16] &= 7;
                bytes[17..20].fill(0);
            }
            if let Ok(header) = Header::new(&bytes) {
                prop_assert!(header.verify(&TrustedKeys::default()).is_err());
            }
            let _ = Manifest::parse(&bytes);
        }
    }
}
