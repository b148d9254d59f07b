//! Which packages are needed: what was asked for, and what that depends on.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Result, bail};

use super::packages::{AnyOf, Index, Package, Relation};
use super::version;
use wording::nearest;

/// Packages that others depend on for their maintainer scripts alone. No script is ever run here,
/// so they are left out unless somebody asks for them by name.
pub const FOR_SCRIPTS: [&str; 7] =
    ["adduser", "cdebconf", "debconf", "debconf-2.0", "dpkg", "init-system-helpers", "ucf"];

/// The packages that `wanted` comes to, sorted by name. Of several versions the one for which
/// `pinned` says yes is taken, else the highest. Dependencies on a name in `without` count as met.
///
/// There is no search for another way when two packages want different versions of a third:
/// within a release of Debian that does not happen, and an error is clearer.
pub fn resolve<'a>(
    index: &'a Index,
    wanted: &[&str],
    without: &[&str],
    pinned: &dyn Fn(&Package) -> bool,
) -> Result<Vec<&'a Package>> {
    let mut chosen: BTreeMap<&str, &Package> = BTreeMap::new();
    let mut open: VecDeque<&Package> = VecDeque::new();
    for name in wanted {
        let relation = Relation { name: (*name).to_owned(), version: None };
        let Some(package) = best_named(index, &relation, pinned) else {
            bail!("there is no package `{name}` in the board's suites{}", hint(index, name));
        };
        if chosen.insert(&package.name, package).is_none() {
            open.push_back(package);
        }
    }
    let skipped = |r: &Relation| {
        let name = r.name.as_str();
        without.contains(&name) || (FOR_SCRIPTS.contains(&name) && !wanted.contains(&name))
    };
    while let Some(package) = open.pop_front() {
        for need in &package.needs {
            if need.iter().any(|r| skipped(r) || chosen.values().any(|c| satisfies(c, r))) {
                continue;
            }
            let Some(found) = need.iter().find_map(|r| best(index, r, pinned)) else {
                bail!(
                    "package {} {} needs {}, which the board's suites do not have",
                    package.name,
                    package.version,
                    show(need)
                );
            };
            if let Some(other) = chosen.insert(&found.name, found) {
                bail!(
                    "package {} {} needs {}, but {} {} is taken already",
                    package.name,
                    package.version,
                    show(need),
                    other.name,
                    other.version
                );
            }
            open.push_back(found);
        }
    }
    Ok(chosen.into_values().collect())
}

/// The package that was meant, for the end of a message: how Debian calls that project's package,
/// else the name most like it.
fn hint(index: &Index, name: &str) -> String {
    let bare = name.strip_prefix("python-").unwrap_or(name);
    let of_debian = [format!("python3-{bare}"), format!("lib{name}"), format!("{name}-bin")];
    let there = of_debian.iter().map(String::as_str).find(|n| index.named(n).next().is_some());
    let meant = there.or_else(|| nearest(name, index.names()));
    meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The package of exactly that name and version.
pub fn exact<'a>(index: &'a Index, name: &str, wanted: &str) -> Result<&'a Package> {
    let mut versions: Vec<&Package> = index.named(name).collect();
    if let Some(package) = versions.iter().find(|p| p.version == wanted) {
        return Ok(package);
    }
    versions.sort_by(|a, b| version::compare(&a.version, &b.version));
    match versions.last() {
        Some(newest) => bail!(
            "package {name} has no version {wanted} any more; the newest is {}: change the board file",
            newest.version
        ),
        None => bail!("there is no package {name}: change the board file"),
    }
}

/// The package of that name that `pinned` says yes to, else the one of the highest version.
pub fn newest<'a>(
    index: &'a Index,
    name: &str,
    pinned: &dyn Fn(&Package) -> bool,
) -> Result<&'a Package> {
    let relation = Relation { name: name.to_owned(), version: None };
    match best_named(index, &relation, pinned) {
        Some(package) => Ok(package),
        None => bail!("there is no package `{name}` in the board's suites{}", hint(index, name)),
    }
}

fn show(need: &AnyOf) -> String {
    need.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | ")
}

fn satisfies(package: &Package, relation: &Relation) -> bool {
    let by_name = package.name == relation.name && relation.admits(&package.version);
    by_name
        || package.provides.iter().any(|p| {
            // A provided name without a version meets no condition on versions (Policy 7.5).
            p.name == relation.name
                && p.version.as_deref().map_or(relation.version.is_none(), |v| relation.admits(v))
        })
}

fn best_named<'a>(
    index: &'a Index,
    relation: &Relation,
    pinned: &dyn Fn(&Package) -> bool,
) -> Option<&'a Package> {
    index.named(&relation.name).filter(|p| relation.admits(&p.version)).max_by(|a, b| {
        pinned(a).cmp(&pinned(b)).then_with(|| version::compare(&a.version, &b.version))
    })
}

fn best<'a>(
    index: &'a Index,
    relation: &Relation,
    pinned: &dyn Fn(&Package) -> bool,
) -> Option<&'a Package> {
    best_named(index, relation, pinned).or_else(|| {
        index.providing(&relation.name).filter(|p| satisfies(p, relation)).max_by(|a, b| {
            // First by name, so that it does not depend on the index's order.
            pinned(a)
                .cmp(&pinned(b))
                .then_with(|| b.name.cmp(&a.name))
                .then_with(|| version::compare(&a.version, &b.version))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index from lines of `name version | field: value | …`.
    fn index(lines: &[&str]) -> Index {
        let mut index = Index::default();
        for line in lines {
            let mut parts = line.split('|').map(str::trim);
            let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
            let mut entry = format!(
                "Package: {name}\nVersion: {version}\nArchitecture: arm64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {}\n",
                "0".repeat(64)
            );
            for part in parts {
                entry += &format!("{}\n", part.replace('/', "|"));
            }
            index.add(&entry, "trixie", "arm64").unwrap();
        }
        index
    }

    fn names(index: &Index, wanted: &[&str], without: &[&str]) -> Result<Vec<String>, String> {
        resolve(index, wanted, without, &|_| false)
            .map(|all| all.iter().map(|p| format!("{} {}", p.name, p.version)).collect())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_highest_version_and_all_it_depends_on() {
        let index = index(&[
            "aa 1",
            "aa 2 | Depends: bb (>= 2)",
            "bb 1",
            "bb 3 | Pre-Depends: cc",
            "cc 1 | Depends: aa",
        ]);
        assert_eq!(names(&index, &["aa"], &[]).unwrap(), ["aa 2", "bb 3", "cc 1"]);
        assert_eq!(names(&index, &["aa"], &["bb"]).unwrap(), ["aa 2"]);
        let pinned =
            resolve(&index, &["aa"], &[], &|p| p.name == "aa" && p.version == "1").unwrap();
        assert_eq!(pinned.len(), 1);
    }

    #[test]
    fn alternatives_and_provided_names() {
        let index = index(&[
            "aa 1 | Depends: xx / bb, vv (>= 2), debconf",
            "bb 1",
            "p1 1 | Provides: vv",
            "p2 1 | Provides: vv (= 2)",
            "p3 1 | Provides: vv (= 3)",
            "debconf 1",
        ]);
        assert_eq!(names(&index, &["aa"], &[]).unwrap(), ["aa 1", "bb 1", "p2 1"]);
        assert_eq!(names(&index, &["aa", "p3"], &[]).unwrap(), ["aa 1", "bb 1", "p3 1"]);
        assert!(names(&index, &["aa", "debconf"], &[]).unwrap().contains(&"debconf 1".to_owned()));
    }

    #[test]
    fn a_python_projects_name_leads_to_debians_package_of_it() {
        let index = index(&["numpy-stl 1", "python3-numpy 1", "libjpeg 1", "dd 1"]);
        for (name, meant) in
            [("numpy", "python3-numpy"), ("python-numpy", "python3-numpy"), ("jpeg", "libjpeg")]
        {
            let message = names(&index, &[name], &[]).unwrap_err();
            assert!(message.ends_with(&format!("did you mean `{meant}`?")), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_is_said_by_name() {
        let index = index(&[
            "libfoo 1 | Depends: bar (>= 2)",
            "bar 1",
            "dd 1 | Depends: ee (<< 2)",
            "ee 1",
            "ee 3",
        ]);
        assert!(names(&index, &["libfo"], &[]).unwrap_err().contains("did you mean `libfoo`?"));
        let message = names(&index, &["libfoo"], &[]).unwrap_err();
        assert!(message.contains("libfoo 1 needs bar (>= 2)"), "{message}");
        let message = names(&index, &["dd", "ee"], &[]).unwrap_err();
        assert!(message.contains("ee 3 is taken already"), "{message}");
        assert_eq!(names(&index, &["dd"], &[]).unwrap(), ["dd 1", "ee 1"]);
        assert!(exact(&index, "ee", "2").unwrap_err().to_string().contains("the newest is 3"));
        assert_eq!(exact(&index, "ee", "1").unwrap().version, "1");
    }
}
