//! Real updates, small ones: what an update is made of, and a delta between two.

use ed25519_dalek::{Signer, SigningKey};
use formats::manifest::{FileHash, Manifest, encode_header, key_id};
use formats::payload::{Chunk, ChunkTable};
use formats::verity;
use sha2::{Digest, Sha256};
use test_http::Server;

pub const CHUNK: u64 = 65536;
pub const BOOT: u64 = 5 * CHUNK / 2 / 4096 * 4096;
const ROOT: u64 = 20 * CHUNK;

pub fn image_key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

/// What an update is made of; change what the test is about.
#[derive(Clone)]
pub struct Recipe {
    pub board: &'static str,
    pub name: &'static str,
    pub version: String,
    pub sequence: u64,
    pub rollback_floor: u64,
    pub boot_size: u64,
    pub root_size: u64,
    pub chunk_size: u64,
    pub key: SigningKey,
    pub boot_files: Vec<FileHash>,
}

pub fn recipe(sequence: u64) -> Recipe {
    Recipe {
        board: "qemu-arm64",
        name: "demo",
        version: format!("1.0.{sequence}"),
        sequence,
        rollback_floor: 0,
        boot_size: BOOT,
        root_size: ROOT,
        chunk_size: CHUNK,
        key: image_key(),
        boot_files: vec![],
    }
}

pub struct Update {
    pub bytes: Vec<u8>,
    pub stream: Vec<u8>,
    pub header: Vec<u8>,
    pub table: ChunkTable,
    pub manifest: Manifest,
}

impl Recipe {
    /// A real update: noise that does not compress, a chunk of zeros, and parts that are the same
    /// in every version.
    pub fn build(&self) -> Update {
        self.build_of(self.stream())
    }

    /// Boot image and root.
    pub fn stream(&self) -> Vec<u8> {
        let mut noise = self.sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..self.boot_size + self.root_size)
            .map(|at| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                match at / CHUNK {
                    1 => 0,
                    6 => (at % 199) as u8,
                    _ => (noise >> 24) as u8,
                }
            })
            .collect()
    }

    /// An update whose boot image and root are `stream`.
    pub fn build_of(&self, mut stream: Vec<u8>) -> Update {
        let salt = [2; 32];
        let tree = verity::build(&stream[self.boot_size as usize..], &salt);
        stream.extend_from_slice(&tree.bytes);
        let size = stream.len() as u64;
        let (mut chunks, mut frames) = (Vec::new(), Vec::new());
        for plain in stream.chunks(self.chunk_size as usize) {
            let zeros = plain.iter().all(|b| *b == 0);
            let frame = if zeros { vec![] } else { zstd::bulk::compress(plain, 1).unwrap() };
            let sha256 = Sha256::digest(plain).into();
            chunks.push(Chunk { compressed: frame.len() as u32, sha256 });
            frames.extend(frame);
        }
        let table = ChunkTable::new(chunks, self.chunk_size, size).unwrap();
        let manifest = Manifest {
            board: self.board.into(),
            name: self.name.into(),
            version: self.version.clone(),
            sequence: self.sequence,
            rollback_floor: self.rollback_floor,
            root_size: self.root_size,
            root_hash_size: tree.bytes.len() as u64,
            root_verity_hash: tree.root_hash,
            root_verity_salt: salt,
            boot_size: self.boot_size,
            chunk_size: self.chunk_size,
            chunk_table_sha256: Sha256::digest(table.to_bytes()).into(),
            boot_files: self.boot_files.clone(),
            models: vec![],
        };
        let text = manifest.to_text();
        let id = key_id(self.key.verifying_key().as_bytes());
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let header = encode_header(&text, &[(id, signature)]).unwrap();
        let bytes = [&header[..], &table.to_bytes(), &frames].concat();
        Update { bytes, stream, header, table, manifest }
    }
}

impl Update {
    /// Serves it alone; gives its URL as well.
    pub fn serve(&self) -> (Server, String) {
        let files = [("x.update".to_owned(), self.bytes.clone())].into();
        let server = Server::of_files(files).unwrap();
        let url = format!("{}x.update", server.url());
        (server, url)
    }

    /// Its boot image and root, without the verity tree.
    pub fn covered(&self) -> &[u8] {
        &self.stream[..(self.manifest.boot_size + self.manifest.root_size) as usize]
    }

    /// Its block index.
    pub fn index(&self) -> Vec<u8> {
        formats::block_index::encode(&[self.covered()]).unwrap()
    }
}

/// A delta that lies beside an update.
pub struct Delta {
    pub from: Vec<u8>,
    pub bytes: Vec<u8>,
    pub head_length: usize,
}

impl Delta {
    /// As `imager publish` makes it.
    pub fn of(old: &Update, new: &Update) -> Delta {
        let options = delta::Options { elsewhere: &[], ..delta::Options::default() };
        let bytes = delta::make(old.covered(), new.covered(), &options).unwrap();
        let head_length = delta::Header::parse(&bytes).unwrap().head_length() as usize;
        Delta { from: old.header.clone(), bytes, head_length }
    }
}
