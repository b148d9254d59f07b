//! Packages of the Debian archive, without apt, dpkg or root: found through a mirror, trusted
//! through its signatures, resolved, fetched into a cache and read. No maintainer script is run.
//!
//! From the network inwards:
//!
//! 1. [`apt`] knows which mirror this machine uses (sources.list(5)) and reads a suite's indexes
//!    from it. Before a byte of one is read, [`openpgp`] has checked the signature of the suite's
//!    `InRelease`, [`release`] its name and date, and the index's hash is the one that it names.
//! 2. [`packages`] parses an index (in the syntax of [`deb822`]); [`resolver`] chooses the packages
//!    that a list of names comes to, by the order of [`version`]s.
//! 3. [`lock`] has the pins of what was chosen: from then on only a file of the same hash is taken.
//!    [`package_source`] takes all of these steps, and obeys pins that are there already.
//! 4. [`download`] fetches with a limit on size and time into the [`cache`], by [`hash`].
//! 5. [`deb`] opens a package, [`tarball`] reads the files in it, and [`licence`] says which
//!    licence its `copyright` file declares.
//!
//! # Example
//!
//! What `curl` comes to, from an index of two packages:
//!
//! ```
//! use debian::packages::Index;
//! use debian::resolver;
//!
//! # fn main() -> anyhow::Result<()> {
//! let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
//! let text = format!(
//!     "Package: curl\nVersion: 8.14.1-2\nArchitecture: arm64\nDepends: libcurl4t64 (>= 8.14)\n\
//!      Filename: pool/main/c/curl/curl.deb\nSize: 3\nSHA256: {hash}\n\n\
//!      Package: libcurl4t64\nVersion: 8.14.1-2+deb13u1\nArchitecture: arm64\n\
//!      Filename: pool/main/c/curl/libcurl4t64.deb\nSize: 3\nSHA256: {hash}\n"
//! );
//! let mut index = Index::default();
//! index.add(&text, "trixie", "arm64")?;
//!
//! let is_pinned = |_: &debian::packages::Package| false;
//! let chosen = resolver::resolve(&index, &["curl"], &[], &is_pinned)?;
//! let names: Vec<&str> = chosen.iter().map(|package| package.name.as_str()).collect();
//! assert_eq!(names, ["curl", "libcurl4t64"]);
//! # Ok(())
//! # }
//! ```

pub mod apt;
pub mod cache;
pub mod deb;
pub mod deb822;
pub mod download;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod hash;
pub mod licence;
pub mod lock;
pub mod names;
pub mod openpgp;
pub mod package_source;
pub mod packages;
pub mod release;
pub mod resolver;
pub mod tarball;
pub mod version;
