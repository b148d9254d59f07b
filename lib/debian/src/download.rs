//! HTTP downloads with a limit on size and time.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

/// Fetches files over HTTP, through the proxy that the environment names.
pub struct Downloader {
    agent: Agent,
}

/// The server says that there is no such file.
#[derive(Debug)]
pub struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: the server has no such file", self.0)
    }
}

impl std::error::Error for Missing {}

/// The server sends more than the file has.
#[derive(Debug)]
pub struct TooMuch {
    url: String,
    limit: u64,
}

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: the server sends more than {} bytes", self.url, self.limit)
    }
}

impl std::error::Error for TooMuch {}

impl Default for Downloader {
    fn default() -> Self {
        Self::new()
    }
}

impl Downloader {
    /// A downloader that trusts the machine's own certificate authorities.
    pub fn new() -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .user_agent("imager")
            .build()
            .new_agent();
        Self { agent }
    }

    /// Writes the file at `url` to `to`. Fails with [`Missing`] on 404 and 410, and when there is
    /// more than `limit` bytes of it.
    pub fn fetch(&self, url: &str, limit: u64, to: &mut dyn Write) -> Result<()> {
        let mut response = self
            .agent
            .get(url)
            // Indexes and packages are compressed already, and hashed as they are.
            .header("Accept-Encoding", "identity")
            .call()
            .with_context(|| format!("{url}: cannot be fetched"))?;
        match response.status().as_u16() {
            200 => {}
            404 | 410 => return Err(Missing(url.to_owned()).into()),
            status => bail!("{url}: the server answers with status {status}"),
        }
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 1 << 16];
        let mut size: u64 = 0;
        loop {
            let n = body.read(&mut buffer).with_context(|| format!("{url}: broke off"))?;
            if n == 0 {
                return Ok(());
            }
            size += n as u64;
            if size > limit {
                return Err(TooMuch { url: url.to_owned(), limit }.into());
            }
            to.write_all(&buffer[..n]).context("the cache cannot be written; is the disk full?")?;
        }
    }

    /// The text file at `url`, of at most `limit` bytes.
    pub fn fetch_text(&self, url: &str, limit: u64) -> Result<String> {
        let mut bytes = Vec::new();
        self.fetch(url, limit, &mut bytes)?;
        String::from_utf8(bytes).with_context(|| format!("{url}: is not UTF-8 text"))
    }
}

/// A size for people: `12.3 MB`, or `45 kB` below one of them.
pub fn megabytes(size: u64) -> String {
    if size < 1_000_000 {
        return format!("{} kB", size.div_ceil(1000));
    }
    format!("{}.{} MB", size / 1_000_000, size % 1_000_000 / 100_000)
}
