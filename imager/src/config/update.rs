//! `[update]`: where a newer version comes from, when it may be taken, and how devices reach their
//! server: when, how much, through what, and whom they trust to be it.

use std::path::PathBuf;

use formats::day_window::DayWindow;
use formats::ota_settings::Reboot;
use serde::Deserialize;
use toml::Spanned;
use tuf::ferrite::is_group;

use super::address;
use super::diagnostics::{Document, Finding};
use super::values::{Line, Size, Span};

/// Smaller budgets would not bring one chunk of an update, in bytes.
const LEAST_BUDGET: u64 = 2 << 20;

/// A server that brings less is taken to be hanging, in bytes a second (`ota`).
const LEAST_RATE: u64 = 1 << 10;

/// `[update]`: where a newer version comes from and when it may be taken.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The repository, http or https.
    #[cfg_attr(feature = "schema", schemars(with = "Line"))]
    url: Spanned<Line>,
    /// Time between two looks.
    #[serde(default = "default_poll")]
    pub poll: Span,
    /// Random extra time, so that a fleet does not ask all at once.
    #[serde(default = "default_jitter")]
    pub jitter: Span,
    /// How long all vital workloads must be healthy before the new version stays.
    #[serde(default = "default_commit_after")]
    pub commit_after: Span,
    /// Longest time a trial may take until the device resets.
    #[serde(default = "default_trial_timeout")]
    pub trial_timeout: Span,
    /// Starts of a new version before the device falls back, 1 to 255.
    #[cfg_attr(feature = "schema", schemars(with = "Option<u32>"))]
    tries: Option<Spanned<u32>>,
    /// When the device may reboot into a new version.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "super::schema::Reboot"))]
    pub reboot: Reboot,
    /// A USB stick with a bundle on it updates the device.
    #[serde(default)]
    pub sticks: bool,
    /// Groups of a rollout that the devices are in.
    #[serde(default)]
    pub groups: Vec<Line>,
    /// When something may be fetched; at any time if absent.
    #[cfg_attr(feature = "schema", schemars(with = "Option<super::schema::DayWindow>"))]
    pub hours: Option<DayWindow>,
    /// Bytes that may go over the link in a day.
    pub daily_budget: Option<Size>,
    /// The rate limit of downloads; none if absent.
    pub max_bytes_per_second: Option<Size>,
    /// The proxy that every connection goes through.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Line>"))]
    pub proxy: Option<Spanned<Line>>,
    /// A device's token may be sent over plain HTTP too.
    #[serde(default)]
    pub token_over_http: bool,
    /// Where devices tell how an update ended.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Line>"))]
    pub report_url: Option<Spanned<Line>>,
    /// What `https://` needs.
    pub tls: Option<Tls>,
}

/// `[update.tls]`: the roots of the certificates that the server may have.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A PEM file, relative to the image file.
    pub roots: PathBuf,
}

impl Update {
    /// The repository's address, http or https, without a slash at its end.
    pub fn url(&self) -> &str {
        self.url.get_ref().trim_end_matches('/')
    }

    /// How often a new version is started before the device falls back.
    pub fn tries(&self) -> u8 {
        let tries = self.tries.as_ref().map_or(3, |t| *t.get_ref());
        u8::try_from(tries).unwrap_or(u8::MAX)
    }
}

fn default_poll() -> Span {
    Span::seconds(3600)
}
fn default_jitter() -> Span {
    Span::seconds(600)
}
fn default_commit_after() -> Span {
    Span::seconds(30)
}
fn default_trial_timeout() -> Span {
    Span::seconds(300)
}

/// What the address and the times have to be.
pub fn check(update: &Update, document: &Document) -> Result<(), Finding> {
    let url = update.url();
    if let Some(why) = address::problem(url) {
        return Err(document.at(update.url.span(), format!("`url` {url:?} {why}")));
    }
    if let Some(tries) = update.tries.as_ref().filter(|t| !(1..=255).contains(t.get_ref())) {
        return Err(document.at(tries.span(), "`tries` is between 1 and 255"));
    }
    if update.poll.0 < 1000 || update.trial_timeout <= update.commit_after {
        let why = "[update] needs `poll` of at least 1s and `trial_timeout` above `commit_after`";
        return Err(document.at(update.url.span(), why));
    }
    Ok(())
}

/// What the types of the single keys do not say.
pub fn check_link(update: &Update, document: &Document) -> Result<(), Finding> {
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
        if !text.starts_with("http://") || address::problem(text).is_some() {
            return Err(document.at(proxy.span(), "`proxy` is not like \"http://HOST:PORT\""));
        }
    }
    let secure = |url: &str| url.starts_with("https://");
    if let Some(report) = &update.report_url {
        let text = report.get_ref();
        if let Some(why) = address::problem(text) {
            let why = format!("`report_url` {:?} {why}", text.as_str());
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
