//! A `Packages` index (Debian's repository format): what each package is, where it lies and what
//! it needs.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

use super::deb822::{self, Stanza};
use super::hash::Sha256;
use super::names::{check_package_name, check_package_version};
use super::version;

/// One package of an index.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture; `all` if it fits every one.
    pub architecture: String,
    /// The suite whose index lists it.
    pub suite: String,
    /// Its path under the archive's root.
    pub path: String,
    /// Bytes of the `.deb`.
    pub size: u64,
    /// Hash of the `.deb`.
    pub sha256: Sha256,
    /// What must be there for it to run (Depends and Pre-Depends).
    pub needs: Vec<AnyOf>,
    /// What else it stands for.
    pub provides: Vec<Provided>,
}

/// Alternatives, in the order of preference: one of them is enough.
pub type AnyOf = Vec<Relation>;

/// A package's name, perhaps with a condition on its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The name.
    pub name: String,
    /// The operator and the version it compares with.
    pub version: Option<(Operator, String)>,
}

/// A virtual name that a package provides, perhaps with a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// The virtual name.
    pub name: String,
    /// The version it is provided in.
    pub version: Option<String>,
}

/// How a version must compare (Debian Policy 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Relation {
    /// Whether a package of this `version` satisfies the condition.
    pub fn admits(&self, version: &str) -> bool {
        let Some((operator, wanted)) = &self.version else {
            return true;
        };
        let order = version::compare(version, wanted);
        match operator {
            Operator::Earlier => order.is_lt(),
            Operator::EarlierOrEqual => order.is_le(),
            Operator::Equal => order.is_eq(),
            Operator::LaterOrEqual => order.is_ge(),
            Operator::Later => order.is_gt(),
        }
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if let Some((operator, version)) = &self.version {
            let sign = match operator {
                Operator::Earlier => "<<",
                Operator::EarlierOrEqual => "<=",
                Operator::Equal => "=",
                Operator::LaterOrEqual => ">=",
                Operator::Later => ">>",
            };
            write!(f, " ({sign} {version})")?;
        }
        Ok(())
    }
}

/// Packages by name and by what they provide.
#[derive(Debug, Default)]
pub struct Index {
    packages: Vec<Package>,
    by_name: HashMap<String, Vec<usize>>,
    by_provided: HashMap<String, Vec<usize>>,
}

impl Index {
    /// Adds all packages of a `Packages` text of `suite` that fit `architecture`.
    pub fn add(&mut self, text: &str, suite: &str, architecture: &str) -> Result<()> {
        for stanza in deb822::stanzas(text) {
            let name = stanza.get("Package").unwrap_or("without a name");
            let package = read_package(&stanza, suite)
                .with_context(|| format!("index of {suite}: package {name}"))?;
            if package.architecture != architecture && package.architecture != "all" {
                continue;
            }
            let at = self.packages.len();
            self.by_name.entry(package.name.clone()).or_default().push(at);
            for provided in &package.provides {
                let providers = self.by_provided.entry(provided.name.clone()).or_default();
                if providers.last() != Some(&at) {
                    providers.push(at);
                }
            }
            self.packages.push(package);
        }
        Ok(())
    }

    /// All packages of that name, from all suites.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Package> {
        self.by_name.get(name).into_iter().flatten().map(|i| &self.packages[*i])
    }

    /// All packages that provide that name.
    pub fn providing(&self, name: &str) -> impl Iterator<Item = &Package> {
        self.by_provided.get(name).into_iter().flatten().map(|i| &self.packages[*i])
    }

    /// All names, for hints.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

fn read_package(stanza: &Stanza<'_>, suite: &str) -> Result<Package> {
    let field = |name: &str| stanza.get(name).with_context(|| format!("has no field {name}"));
    let name = field("Package")?;
    check_package_name(name).map_err(anyhow::Error::msg)?;
    let version = field("Version")?;
    check_package_version(version).map_err(anyhow::Error::msg)?;
    let path = field("Filename")?;
    check_archive_path(path)?;
    let mut needs = Vec::new();
    for key in ["Pre-Depends", "Depends"] {
        needs.extend(read_relations(stanza.get(key).unwrap_or_default())?);
    }
    let provides = read_relations(stanza.get("Provides").unwrap_or_default())?
        .into_iter()
        .flatten()
        .map(|r| Provided { name: r.name, version: r.version.map(|(_, v)| v) })
        .collect();
    Ok(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: field("Architecture")?.to_owned(),
        suite: suite.to_owned(),
        path: path.to_owned(),
        size: field("Size")?.parse().context("its Size is not a number")?,
        sha256: field("SHA256")?.parse().context("its SHA256 cannot be read")?,
        needs,
        provides,
    })
}

/// Refuses paths that would lead outside the archive or into a query.
pub fn check_archive_path(path: &str) -> Result<()> {
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\\"".contains(&b));
    let inside = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !plain || !inside || path.len() > 512 {
        bail!("{path:?} is not a path in an archive");
    }
    Ok(())
}

/// Reads a relation field: `a (>= 1) | b, c:any`.
pub fn read_relations(value: &str) -> Result<Vec<AnyOf>> {
    let mut all = Vec::new();
    for group in value.split(',').map(str::trim).filter(|g| !g.is_empty()) {
        all.push(group.split('|').map(read_relation).collect::<Result<AnyOf>>()?);
    }
    Ok(all)
}

fn read_relation(text: &str) -> Result<Relation> {
    let text = text.trim();
    let (name, condition) = match text.split_once('(') {
        Some((name, rest)) => {
            let inner =
                rest.split_once(')').with_context(|| format!("relation {text:?} has no )"))?.0;
            (name.trim(), Some(inner.trim()))
        }
        None => (text, None),
    };
    // `:any` and the like choose among architectures; one is enough here.
    let name = name.split([':', ' ', '[', '<']).next().unwrap_or_default();
    check_package_name(name).map_err(|e| anyhow::anyhow!("relation {text:?}: {e}"))?;
    let version = match condition {
        None => None,
        Some(condition) => {
            let end = condition.find(|c: char| !"<>=".contains(c)).unwrap_or(condition.len());
            let operator = match &condition[..end] {
                "<<" => Operator::Earlier,
                "<=" | "<" => Operator::EarlierOrEqual,
                "=" => Operator::Equal,
                ">=" | ">" => Operator::LaterOrEqual,
                ">>" => Operator::Later,
                _ => bail!("relation {text:?} has no operator"),
            };
            Some((operator, condition[end..].trim().to_owned()))
        }
    };
    Ok(Relation { name: name.to_owned(), version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn relations_with_alternatives_versions_and_architectures() {
        let all = read_relations("libc6 (>= 2.38), aa:any | bb (<< 2~) , cc [arm64]").unwrap();
        assert_eq!(all.len(), 3);
        assert!(all[0][0].admits("2.41-12") && !all[0][0].admits("2.36-9"));
        assert_eq!(all[1][0], Relation { name: "aa".into(), version: None });
        assert!(all[1][1].admits("1.9") && !all[1][1].admits("2"));
        assert_eq!(all[2][0].name, "cc");
        assert!(read_relations("aa (1)").is_err());
        assert!(read_relations("aa (>= 1").is_err());
    }

    const ENTRY: &str = "Package: aa\nVersion: 1\nArchitecture: arm64\nFilename: pool/a/aa.deb\nSize: 3\nSHA256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\nProvides: vv (= 2), vv\n";

    #[test]
    fn entries_are_found_by_name_and_by_what_they_provide() {
        let mut index = Index::default();
        index.add(ENTRY, "trixie", "arm64").unwrap();
        assert_eq!(index.named("aa").count(), 1);
        assert_eq!(index.providing("vv").count(), 1);
        index.add(&ENTRY.replace("arm64", "amd64"), "trixie", "arm64").unwrap();
        assert_eq!(index.named("aa").count(), 1);
    }

    #[test]
    fn entries_that_lead_outside_or_lack_a_hash_are_refused() {
        for (from, to) in [
            ("pool/a/aa.deb", "../../etc/passwd"),
            ("pool/a/aa.deb", "/etc/passwd"),
            ("pool/a/aa.deb", "pool/a?x=1"),
            ("SHA256: b", "SHA256: x"),
            ("SHA256: ", "MD5sum: "),
            ("Size: 3", "Size: -3"),
            ("Package: aa", "Package: ../aa"),
        ] {
            let text = ENTRY.replace(from, to);
            assert_ne!(text, ENTRY);
            assert!(Index::default().add(&text, "trixie", "arm64").is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn no_field_makes_it_panic(text in "[a-c:()<>=|, 0-9\\[\\]ü]{0,60}") {
            let _ = read_relations(&text);
        }
    }
}
