//! Which mirror of the Debian archive this machine uses (sources.list(5)), and what its signed
//! indexes say.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::cache::{Cache, read_whole};
use super::deb822;
use super::download::{Downloader, Missing};
use super::openpgp::Keyring;
use super::packages::Index;
use super::release::{Expired, Release};

/// Debian's suites and the code names of its releases since 11; a source with another name is
/// another distribution's.
const DEBIAN: [&str; 12] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "experimental",
];
/// What Debian appends to a release's name for its other suites.
const SUFFIXES: [&str; 7] = [
    "",
    "-updates",
    "-security",
    "-backports",
    "-backports-sloppy",
    "-proposed-updates",
    "/updates",
];
/// `InRelease` of a whole release is 140 KB.
const MAX_IN_RELEASE: u64 = 4 << 20;
/// `Packages.xz` of trixie's main is 10 MB, 60 MB unpacked.
const MAX_INDEX: u64 = 64 << 20;
const MAX_INDEX_TEXT: u64 = 512 << 20;

/// A mirror's addresses: the archive proper and the one with the `-security` suites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    main: String,
    security: Option<String>,
}

impl Mirror {
    /// The mirror at `url`, with the security archive beside it.
    pub fn at(url: &str) -> Result<Self> {
        let main = url.trim_end_matches('/');
        let host = main.strip_prefix("http://").or_else(|| main.strip_prefix("https://"));
        if host.is_none_or(str::is_empty) {
            bail!("--mirror {url}: is not an address that starts with http:// or https://");
        }
        Ok(Self { main: main.to_owned(), security: Some(format!("{main}-security")) })
    }

    /// The mirror that the apt configuration in `folder` (`/etc/apt`) names.
    pub fn of_machine(folder: &Path) -> Result<Self> {
        let mut sources = Vec::new();
        let list = folder.join("sources.list");
        if list.is_file() {
            sources.extend(one_line_sources(&read_text(&list)?));
        }
        let parts = folder.join("sources.list.d");
        let mut paths = Vec::new();
        if parts.is_dir() {
            let entries = fs::read_dir(&parts)
                .with_context(|| format!("{}: cannot be listed", parts.display()))?;
            for entry in entries {
                paths.push(
                    entry.with_context(|| format!("{}: cannot be listed", parts.display()))?.path(),
                );
            }
        }
        paths.sort();
        for path in paths {
            match path.extension().and_then(|e| e.to_str()) {
                Some("list") => sources.extend(one_line_sources(&read_text(&path)?)),
                Some("sources") => sources.extend(deb822_sources(&read_text(&path)?)),
                _ => {}
            }
        }
        Self::among(&sources).with_context(|| {
            format!(
                "{} names no mirror of Debian: give one with --mirror URL or in $FERRITE_MIRROR",
                folder.display()
            )
        })
    }

    fn among(sources: &[Source]) -> Option<Self> {
        let is_security = |s: &&Source| s.suite.ends_with("-security");
        // Other archives use Debian's suite names too; Debian's own ends in /debian.
        let pick = |security: bool, ending: &str| {
            let all = || sources.iter().filter(move |s| is_security(s) == security);
            all().find(|s| s.uri.ends_with(ending)).or_else(|| all().next()).map(|s| s.uri.clone())
        };
        let main = pick(false, "/debian")?;
        // A machine that does without security updates: its mirror keeps them beside the archive.
        let beside = || main.ends_with("/debian").then(|| format!("{main}-security"));
        Some(Self { security: pick(true, "/debian-security").or_else(beside), main })
    }

    /// The archive that has `suite`, if there is one.
    pub fn base(&self, suite: &str) -> Option<&str> {
        if suite.ends_with("-security") {
            return self.security.as_deref();
        }
        Some(&self.main)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = read_whole(path, 1 << 20)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_debian(suite: &str, components: &[&str]) -> bool {
    let known = DEBIAN
        .iter()
        .filter_map(|name| suite.strip_prefix(name))
        .any(|suffix| SUFFIXES.contains(&suffix));
    known && components.contains(&"main")
}

fn source(uri: &str, suite: &str, components: &[&str]) -> Option<Source> {
    let web = uri.starts_with("http://") || uri.starts_with("https://");
    (web && is_debian(suite, components))
        .then(|| Source { uri: uri.trim_end_matches('/').to_owned(), suite: suite.to_owned() })
}

fn one_line_sources(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb").filter(|r| r.starts_with([' ', '\t'])) else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((_options, rest)) => rest,
            None => rest,
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        if let [uri, suite, components @ ..] = &words[..] {
            found.extend(source(uri, suite, components));
        }
    }
    found
}

fn deb822_sources(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for stanza in deb822::stanzas(text) {
        let off = stanza.get("Enabled").is_some_and(|v| matches!(v, "no" | "false" | "0"));
        if off || !stanza.words("Types").any(|t| t == "deb") {
            continue;
        }
        let components: Vec<&str> = stanza.words("Components").collect();
        for uri in stanza.words("URIs") {
            for suite in stanza.words("Suites") {
                found.extend(source(uri, suite, &components));
            }
        }
    }
    found
}

/// A part of a suite (Debian Policy 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The distribution proper.
    Main,
    /// Firmware without sources that may be passed on: what a board's own processors run.
    NonFreeFirmware,
}

impl Component {
    fn as_str(self) -> &'static str {
        match self {
            Component::Main => "main",
            Component::NonFreeFirmware => "non-free-firmware",
        }
    }
}

/// A mirror together with whom to trust about it.
pub struct Archive {
    mirror: Mirror,
    keyring: Keyring,
    expired: Expired,
    now: u64,
    cache: Cache,
    downloader: Downloader,
    suites: BTreeMap<(String, &'static str, String), Option<String>>,
}

impl Archive {
    /// The archive at `mirror`, trusted as far as `keyring` signed it, at `now` seconds since 1970.
    pub fn new(mirror: Mirror, keyring: Keyring, expired: Expired, now: u64, cache: Cache) -> Self {
        Self {
            mirror,
            keyring,
            expired,
            now,
            cache,
            downloader: Downloader::new(),
            suites: BTreeMap::new(),
        }
    }

    /// The verified packages of one part of all `suites` for `architecture`. A mirror without the
    /// `-security` suite gets a notice; without another one it is an error.
    pub fn index(
        &mut self,
        suites: &[&str],
        component: Component,
        architecture: &str,
    ) -> Result<Index> {
        let mut index = Index::default();
        for suite in suites {
            let key = ((*suite).to_owned(), component.as_str(), architecture.to_owned());
            if !self.suites.contains_key(&key) {
                let text = self.fetch_index(suite, component, architecture)?;
                self.suites.insert(key.clone(), text);
            }
            match self.suites.get(&key) {
                Some(Some(text)) => index.add(text, suite, architecture)?,
                _ => eprintln!(
                    "NOTICE: the mirror has no {suite}: its security fixes will be missing; name a mirror that has it with --mirror"
                ),
            }
        }
        Ok(index)
    }

    fn fetch_index(
        &self,
        suite: &str,
        component: Component,
        architecture: &str,
    ) -> Result<Option<String>> {
        let Some(base) = self.mirror.base(suite) else {
            return Ok(None);
        };
        let folder = format!("{base}/dists/{suite}");
        eprintln!("reading the index of {suite} ({architecture})");
        let in_release =
            match self.downloader.fetch_text(&format!("{folder}/InRelease"), MAX_IN_RELEASE) {
                Err(e) if e.is::<Missing>() && suite.ends_with("-security") => return Ok(None),
                other => other?,
            };
        let release = Release::verify(&in_release, suite, &self.keyring, self.now, self.expired)?;
        let path = format!("{}/binary-{architecture}/Packages.xz", component.as_str());
        let (hash, size) = release.file(&path)?;
        if size > MAX_INDEX {
            bail!(
                "index of {suite}: its {size} bytes are more than the {MAX_INDEX} that are plausible"
            );
        }
        let file = match self.cache.find(&hash)? {
            Some(file) => file,
            None => self
                .cache
                .store(&hash, |to| self.downloader.fetch(&format!("{folder}/{path}"), size, to))
                .with_context(|| format!("index of {suite} does not match its signed InRelease"))?,
        };
        let packed = read_whole(&file, MAX_INDEX)?;
        let mut text = String::new();
        liblzma::read::XzDecoder::new(&packed[..])
            .take(MAX_INDEX_TEXT)
            .read_to_string(&mut text)
            .with_context(|| format!("index of {suite}: cannot be unpacked"))?;
        Ok(Some(text))
    }

    /// Fetches a package's file of `size` bytes from the archive that has `suite`.
    pub fn fetch(
        &self,
        suite: &str,
        path: &str,
        size: u64,
        to: &mut dyn std::io::Write,
    ) -> Result<()> {
        let base = self.mirror.base(suite).with_context(|| {
            format!("the mirror has no {suite}: give another with --mirror URL")
        })?;
        self.downloader.fetch(&format!("{base}/{path}"), size, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(list: &str, sources: &str) -> Result<Mirror> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sources.list"), list).unwrap();
        fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        fs::write(folder.path().join("sources.list.d/debian.sources"), sources).unwrap();
        Mirror::of_machine(folder.path())
    }

    #[test]
    fn both_kinds_of_apt_configuration_are_read() {
        let expected = Mirror {
            main: "http://m.example/debian".into(),
            security: Some("http://m.example/debian-security".into()),
        };
        let list = "# c\ndeb-src http://src.example/debian trixie main\ndeb [arch=amd64 signed-by=/x] http://m.example/debian/ bookworm main non-free # c\ndeb http://m.example/debian-security bookworm-security main\n";
        assert_eq!(machine(list, "").unwrap(), expected);
        let sources = "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\nTypes: deb deb-src\nURIs: http://m.example/debian-security/\nSuites: bookworm-security\nComponents: main\n";
        assert_eq!(machine("", sources).unwrap(), expected);
        let off = format!("Enabled: no\n{sources}");
        assert_eq!(machine(list, &off).unwrap(), expected);
    }

    #[test]
    fn other_distributions_and_third_parties_are_not_taken_for_debian() {
        for list in [
            "deb http://m.example/ubuntu noble main",
            "deb http://m.example/x bookworm stable",
            "deb http://m.example/x bookworm-pgdg main",
            "deb cdrom:[Debian]/ bookworm main",
            "",
        ] {
            let message = machine(list, "").unwrap_err().to_string();
            assert!(message.contains("--mirror URL"), "{list}: {message}");
        }
        let list =
            "deb http://other.example/apt stable main\ndeb http://m.example/debian bookworm main\n";
        assert_eq!(machine(list, "").unwrap().base("trixie"), Some("http://m.example/debian"));
    }

    #[test]
    fn a_mirror_has_its_security_archive_beside_it() {
        let mirror = Mirror::at("http://m.example/debian/").unwrap();
        assert_eq!(mirror.base("trixie-backports"), Some("http://m.example/debian"));
        assert_eq!(mirror.base("trixie-security"), Some("http://m.example/debian-security"));
        assert!(Mirror::at("m.example").is_err());
        let without = machine("deb http://m.example/debian trixie main\n", "").unwrap();
        assert_eq!(without, mirror);
        let odd = machine("deb http://m.example/d trixie main\n", "").unwrap();
        assert_eq!(odd.base("trixie-security"), None);
    }
}
