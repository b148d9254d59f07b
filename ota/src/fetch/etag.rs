//! The entity tag of the timestamp that was fetched last (RFC 9110, section 8.8.3): with it a
//! server answers "not modified" in a few bytes. What a tag stands for is compared by hash, so a
//! tag that was mixed up costs a download and nothing else.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tuf::{DirStore, Store, sha256_hex};

/// The file this is about, below the repository's URL.
pub const TIMESTAMP: &str = "metadata/timestamp.json";
/// Where the client keeps the one it trusts.
const STORED: &str = "timestamp.json";
/// Where its tag is kept.
const TAG: &str = "timestamp.etag";
/// Longer tags are not kept, in bytes: they would cost more than they save.
const MAX_TAG: usize = 128;

/// Keeps one tag, in the folder of the trusted metadata.
#[derive(Debug)]
pub struct Memory {
    store: Option<DirStore>,
}

/// What the server may say is unchanged.
#[derive(Debug)]
pub struct Known {
    /// The tag, as it came.
    pub etag: String,
    /// What it stands for.
    pub bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Tag {
    url: String,
    etag: String,
    sha256: String,
}

impl Memory {
    /// In this folder. Without one nothing is remembered.
    pub fn new(tuf: &Path) -> Memory {
        Memory { store: DirStore::open(tuf).ok() }
    }

    /// The stored timestamp of at most `max` bytes, when it came from `url` and had a tag.
    pub fn of(&self, url: &str, max: u64) -> Option<Known> {
        let store = self.store.as_ref()?;
        let tag: Tag = serde_json::from_slice(&store.load(TAG).ok()??).ok()?;
        let bytes = store.load(STORED).ok()??;
        let same = tag.url == url && is_tag(&tag.etag) && bytes.len() as u64 <= max;
        (same && sha256_hex(&bytes) == tag.sha256).then_some(Known { etag: tag.etag, bytes })
    }

    /// Remembers the tag of what came from `url`. A memory that cannot be written saves nothing
    /// next time, and that is all.
    pub fn keep(&self, url: &str, etag: Option<&str>, bytes: &[u8]) {
        let Some(etag) = etag.filter(|etag| is_tag(etag)) else { return };
        let tag = Tag { url: url.into(), etag: etag.into(), sha256: sha256_hex(bytes) };
        let Some(mut store) = self.store.clone() else { return };
        if let Ok(text) = serde_json::to_vec(&tag) {
            let _ = store.save(TAG, &text);
        }
    }
}

/// `"…"` or `W/"…"`, short, and nothing that could end a header.
fn is_tag(text: &str) -> bool {
    let opaque = text.strip_prefix("W/").unwrap_or(text);
    text.len() <= MAX_TAG
        && opaque.len() >= 2
        && opaque.starts_with('"')
        && opaque.ends_with('"')
        && opaque.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stands_for_the_bytes_it_came_with_at_its_url() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(dir.path());
        assert!(memory.of("u", 100).is_none());
        memory.keep("u", Some("\"1\""), b"one");
        assert!(memory.of("u", 100).is_none(), "nothing is trusted yet");
        let mut store = DirStore::open(dir.path()).unwrap();
        store.save(STORED, b"one").unwrap();
        let known = memory.of("u", 100).unwrap();
        assert_eq!((known.etag.as_str(), &known.bytes[..]), ("\"1\"", &b"one"[..]));
        assert!(memory.of("v", 100).is_none() && memory.of("u", 2).is_none());
        store.save(STORED, b"two").unwrap();
        assert!(memory.of("u", 100).is_none(), "what came was not what is trusted");
        std::fs::write(dir.path().join(TAG), "{").unwrap();
        assert!(memory.of("u", 100).is_none());
    }

    #[test]
    fn what_is_no_tag_is_not_sent_back() {
        for good in ["\"\"", "W/\"x\"", "\"65ad-18f\""] {
            assert!(is_tag(good), "{good}");
        }
        let long = format!("\"{}\"", "x".repeat(MAX_TAG));
        for bad in ["", "\"", "x", "\"a\r\nb\"", "\"a b\"", "W/x", long.as_str()] {
            assert!(!is_tag(bad), "{bad}");
        }
    }
}
