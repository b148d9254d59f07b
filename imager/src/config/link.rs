//! The part of `[update]` that says how devices reach their server: when, how much, through what,
//! and whom they trust to be it.

use std::path::PathBuf;

use formats::layout::TLS_ROOTS;
use serde::Deserialize;
use tuf::ferrite::is_group;

use super::diagnostics::{Document, Finding};
use super::image::{FileEntry, Update};
use super::values::{DevicePath, Mode};

/// Smaller budgets would not bring one chunk of an update, in bytes.
const LEAST_BUDGET: u64 = 2 << 20;

/// A server that brings less is taken to be hanging, in bytes a second (`ota`).
const LEAST_RATE: u64 = 1 << 10;

/// `[update.tls]`: the roots of the certificates that the server may have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A PEM file, relative to the image file.
    pub roots: PathBuf,
}

impl Tls {
    /// The roots as a file of the image.
    pub fn file(&self) -> Option<FileEntry> {
        let path = DevicePath::new(TLS_ROOTS).ok()?;
        Some(FileEntry { source: self.roots.clone(), path, mode: Some(Mode(0o644)) })
    }
}

/// What the types of the single keys do not say.
pub fn check(update: &Update, document: &Document) -> Result<(), Finding> {
    if let Some(group) = update.groups.iter().find(|group| !is_group(group)) {
        let why = format!("`groups`: {:?} is not 1 to 64 of A-Z a-z 0-9 . _ -", group.as_str());
        return Err(document.whole(why));
    }
    if update.daily_budget.is_some_and(|budget| budget.0 < LEAST_BUDGET) {
        return Err(document.whole("`daily_budget` is at least 2M: one chunk has to fit"));
    }
    if update.max_bytes_per_second.is_some_and(|rate| rate.0 < LEAST_RATE) {
        return Err(document.whole("`max_bytes_per_second` is at least 1K: slower is given up"));
    }
    if let Some(proxy) = &update.proxy {
        let text = proxy.get_ref();
        if text.strip_prefix("http://").is_none_or(str::is_empty) || text.contains(' ') {
            return Err(document.at(proxy.span(), "`proxy` is not like \"http://HOST:PORT\""));
        }
    }
    let secure = |url: &str| url.starts_with("https://");
    if let Some(report) = &update.report_url {
        let text = report.get_ref();
        let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        if host.is_none_or(str::is_empty) || text.contains(' ') {
            let why = "`report_url` does not start with http:// or https://";
            return Err(document.at(report.span(), why));
        }
    }
    let reports = update.report_url.as_ref().is_some_and(|url| secure(url.get_ref()));
    if update.tls.is_none() && (secure(update.url()) || reports) {
        let why = "an https:// address in [update] needs the server's roots: add `[update.tls]` \
                   with `roots = \"FILE.pem\"`";
        return Err(document.whole(why));
    }
    Ok(())
}
