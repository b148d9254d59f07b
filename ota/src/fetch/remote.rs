//! A repository behind a URL, as the TUF client fetches from it.

use std::path::Path;

use tuf::{Fetch, FetchError};
use ureq::http::StatusCode;

use crate::Result;
use crate::fetch::etag::{Memory, TIMESTAMP};
use crate::fetch::http::{Client, Whole, answered, check_url};

/// A repository behind a URL.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    base: String,
    memory: Option<Memory>,
}

impl Remote {
    /// The repository at `url`, which has to be `http://` or `https://`.
    pub fn new(client: Client, url: &str) -> Result<Remote> {
        check_url(url)?;
        Ok(Remote { client, base: url.trim_end_matches('/').into(), memory: None })
    }

    /// Keeps the timestamp's entity tag in this folder, where the timestamp itself is, so that one
    /// that did not change is not sent again.
    #[must_use]
    pub fn remembering(self, tuf: &Path) -> Remote {
        Remote { memory: Some(Memory::new(tuf)), ..self }
    }

    /// The URL of a file of the repository.
    pub fn url(&self, path: &str) -> String {
        let mut url = format!("{}/", self.base);
        for byte in path.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    url.push(char::from(byte));
                }
                other => url.push_str(&format!("%{other:02X}")),
            }
        }
        url
    }
}

impl Fetch for Remote {
    fn fetch(&mut self, path: &str, max: u64) -> std::result::Result<Vec<u8>, FetchError> {
        let url = self.url(path);
        let memory = self.memory.as_ref().filter(|_| path == TIMESTAMP);
        let known = memory.and_then(|memory| memory.of(&url, max));
        match self.client.whole(&url, max, known.as_ref().map(|known| known.etag.as_str()))? {
            Whole::Came { bytes, etag } => {
                if let Some(memory) = memory {
                    memory.keep(&url, etag.as_deref(), &bytes);
                }
                Ok(bytes)
            }
            Whole::Unchanged => known
                .map(|known| known.bytes)
                .ok_or_else(|| FetchError::Failed(answered(StatusCode::NOT_MODIFIED))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::timeouts::Timeouts;

    #[test]
    fn urls() {
        let client = Client::new(Timeouts::default(), None);
        let remote = Remote::new(client.clone(), "http://host:80/repo/").unwrap();
        assert_eq!(
            remote.url("targets/a+b c.update"),
            "http://host:80/repo/targets/a%2Bb%20c.update"
        );
        for bad in ["ftp://x", "http://", "https://", "", "http://x y", "http://x\n"] {
            assert!(Remote::new(client.clone(), bad).is_err(), "{bad:?}");
        }
    }
}
