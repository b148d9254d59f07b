//! The bill of materials that lies beside an image: SPDX 2.3 in JSON, the same bytes for the same
//! inputs.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::archive::Archive;
use super::inputs::Inputs;
use crate::config::{Board, Image};
use debian::deb::Deb;
use debian::hash::Sha256;
use debian::licence::{self, OwnNames};
use debian::release::format_date;
use debian::tarball::MemberKind;

/// Stands for "we do not know" in SPDX.
const UNKNOWN: &str = "NOASSERTION";

/// A part of the image that is not an input by itself: a program built together with `imager`.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name, like `init`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Hash of the file on the device.
    pub sha256: Sha256,
}

/// The SPDX document of `image` on `board`. `epoch` is the time it claims to be made at, in
/// seconds since 1970 (`SOURCE_DATE_EPOCH`), 0 if nobody said.
pub fn spdx(
    image: &Image,
    board: &Board,
    inputs: &Inputs,
    programs: &[Program],
    epoch: u64,
) -> Result<String> {
    let mut own = OwnNames::new();
    let mut packages = Vec::new();
    let firmware = inputs.board_firmware.iter().chain(&inputs.wifi_firmware);
    let boot = firmware.chain(&inputs.stub);
    for deb in inputs.root.iter().chain(&inputs.kernel).chain(boot) {
        let licence = copyright_of(deb, &inputs.root)?
            .and_then(|text| licence::of_copyright(&text, &mut own));
        let purl = format!(
            "pkg:deb/debian/{}@{}?arch={}",
            encode(&deb.name),
            encode(&deb.version),
            deb.architecture
        );
        packages.push(package(&deb.name, &deb.version, &deb.sha256, licence, Some(purl)));
    }
    for wheel in &inputs.wheels {
        let metadata = wheel.paths()?.into_iter().find(|p| p.ends_with(".dist-info/METADATA"));
        let licence = match metadata {
            Some(path) => {
                licence::of_wheel(&String::from_utf8_lossy(&wheel.member(&path)?), &mut own)
            }
            None => None,
        };
        let name = wheel.name.to_lowercase().replace(['_', '.'], "-");
        let purl = format!("pkg:pypi/{}@{}", encode(&name), encode(&wheel.version));
        packages.push(package(&wheel.name, &wheel.version, &wheel.sha256, licence, Some(purl)));
    }
    let kernel = inputs.kernel_archives.iter().map(|a| (a, board.kernel.release.as_str()));
    let others = inputs.archives.iter().map(|a| (a, UNKNOWN));
    for (archive, version) in kernel.chain(others) {
        packages.push(archive_package(archive, version));
    }
    for program in programs {
        let licence = Some("MIT OR Apache-2.0".to_owned());
        packages.push(package(&program.name, &program.version, &program.sha256, licence, None));
    }
    for file in &inputs.files {
        packages.push(package(&file.path, &image.version, &file.sha256, None, None));
    }
    for (number, package) in packages.iter_mut().enumerate() {
        package["SPDXID"] = json!(format!("SPDXRef-Input-{}", number + 1));
    }
    let name = format!("{}-{}-{}", image.name, board.name(), image.version);
    let contents = serde_json::to_string(&packages).context("SBOM")?;
    let relationships: Vec<Value> = std::iter::once(json!({
        "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-Image",
    }))
    .chain(packages.iter().map(|p| {
        json!({"spdxElementId": "SPDXRef-Image", "relationshipType": "CONTAINS", "relatedSpdxElement": p["SPDXID"]})
    }))
    .collect();
    let whole = json!({
        "SPDXID": "SPDXRef-Image", "name": image.name.as_str(), "versionInfo": image.version.as_str(),
        "downloadLocation": UNKNOWN, "filesAnalyzed": false, "licenseConcluded": UNKNOWN, "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN, "primaryPackagePurpose": "OPERATING-SYSTEM",
    });
    packages.insert(0, whole);
    let own_names: Vec<Value> = own
        .iter()
        .map(|(id, name)| json!({"licenseId": id, "name": name, "extractedText": format!("As named in the package's own copyright file: {name}")}))
        .collect();
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{name}-{}", Sha256::of(contents.as_bytes())),
        "creationInfo": {
            "created": format_date(epoch),
            "creators": [concat!("Tool: imager-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relationships,
        "hasExtractedLicensingInfos": own_names,
    });
    let mut text = serde_json::to_string_pretty(&document).context("SBOM")?;
    text.push('\n');
    Ok(text)
}

fn package(
    name: &str,
    version: &str,
    sha256: &Sha256,
    licence: Option<String>,
    purl: Option<String>,
) -> Value {
    let mut package = json!({
        "name": name,
        "versionInfo": version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256.to_string()}],
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": licence.unwrap_or_else(|| UNKNOWN.to_owned()),
        "copyrightText": UNKNOWN,
    });
    if let Some(purl) = purl {
        package["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl,
        }]);
    }
    package
}

/// An archive of the user's own. Who may have it, and under which terms, is not known here.
fn archive_package(archive: &Archive, version: &str) -> Value {
    let from = archive.from.trim_end_matches('/');
    let name = from.split(['?', '#']).next().unwrap_or(from).rsplit('/').next().unwrap_or(from);
    let mut package = package(name, version, &archive.sha256, None, None);
    if from.contains("://") {
        package["downloadLocation"] = json!(from);
    }
    if archive.is_folder {
        package["comment"] = json!(
            "A folder: the checksum is over a line for each of its files, `file`, `program` or `link`, the file's SHA-256 (of a link, its target's) and its path, sorted by path."
        );
    }
    package
}

/// The package's `copyright` file; packages of one source may link to another one's folder.
fn copyright_of(deb: &Deb, others: &[Deb]) -> Result<Option<String>> {
    let folder = format!("usr/share/doc/{}", deb.name);
    let file = format!("{folder}/copyright");
    for member in deb.members(|p| p == folder || p == file)? {
        match member.kind {
            MemberKind::File(bytes) => {
                return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
            }
            MemberKind::SymbolicLink(target) => {
                let named = |d: &&Deb| target.split('/').any(|part| part == d.name);
                let Some(other) = others.iter().find(named) else {
                    return Ok(None);
                };
                let path = format!("usr/share/doc/{}/copyright", other.name);
                let found = other.file(&path).ok();
                return Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
            }
            MemberKind::Folder | MemberKind::HardLink(_) => {}
        }
    }
    Ok(None)
}

/// Percent-encodes what a purl's name and version may not hold as it is.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                (b as char).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purls_are_encoded() {
        assert_eq!(encode("libstdc++6"), "libstdc%2B%2B6");
        assert_eq!(encode("1:2.41~a-1"), "1%3A2.41~a-1");
    }
}
