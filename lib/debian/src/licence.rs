//! Which licence an input declares, as an SPDX licence expression (SPDX 2.3, annex D).

use std::collections::BTreeMap;

use super::deb822;

/// Debian's short names (machine-readable copyright format 1.0) that SPDX spells differently.
const DEBIAN_NAMES: [(&str, &str); 16] = [
    ("Expat", "MIT"),
    ("GPL-1", "GPL-1.0-only"),
    ("GPL-1+", "GPL-1.0-or-later"),
    ("GPL-2", "GPL-2.0-only"),
    ("GPL-2+", "GPL-2.0-or-later"),
    ("GPL-3", "GPL-3.0-only"),
    ("GPL-3+", "GPL-3.0-or-later"),
    ("LGPL-2", "LGPL-2.0-only"),
    ("LGPL-2+", "LGPL-2.0-or-later"),
    ("LGPL-2.1", "LGPL-2.1-only"),
    ("LGPL-2.1+", "LGPL-2.1-or-later"),
    ("LGPL-3", "LGPL-3.0-only"),
    ("LGPL-3+", "LGPL-3.0-or-later"),
    ("BSD-2-clause", "BSD-2-Clause"),
    ("BSD-3-clause", "BSD-3-Clause"),
    ("BSD-4-clause", "BSD-4-Clause"),
];
/// Identifiers of SPDX's own list that packages use as they are.
const SPDX_NAMES: [&str; 20] = [
    "0BSD",
    "Apache-2.0",
    "Artistic-1.0",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "OpenSSL",
    "PSF-2.0",
    "Unlicense",
    "Zlib",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-or-later",
    "LGPL-2.1-or-later",
    "curl",
];

/// Names that SPDX has no identifier for: `LicenseRef-…` and what the package calls it.
pub type OwnNames = BTreeMap<String, String>;

/// The expression for a `copyright` file in Debian's machine-readable format: everything that any
/// part of the package is under. `None` if it is not in that format.
pub fn of_copyright(text: &str, own: &mut OwnNames) -> Option<String> {
    let mut stanzas = deb822::stanzas(text);
    stanzas.next()?.get("Format")?;
    let mut terms: Vec<String> = Vec::new();
    for stanza in stanzas.filter(|s| s.get("Files").is_some()) {
        let name = stanza.get("License")?.lines().next().unwrap_or_default().trim();
        let term = expression(name, own)?;
        if !terms.contains(&term) {
            terms.push(term);
        }
    }
    terms.sort();
    (!terms.is_empty()).then(|| terms.join(" AND "))
}

/// The expression for a wheel's `METADATA` (core metadata 2.4): its `License-Expression`, else a
/// `License` of one short line.
pub fn of_wheel(metadata: &str, own: &mut OwnNames) -> Option<String> {
    let header = deb822::stanzas(metadata).next()?;
    let plain = |name: &&str| name.len() <= 64 && !name.contains('\n');
    let name = header.get("License-Expression").or(header.get("License")).filter(plain)?;
    expression(name, own)
}

/// A name, or several joined by `and` or `or`.
fn expression(name: &str, own: &mut OwnNames) -> Option<String> {
    let lower = name.to_lowercase();
    let join = |word: &str, own: &mut OwnNames| -> Option<Vec<String>> {
        let mut parts = Vec::new();
        let mut rest = 0;
        for (at, found) in lower.match_indices(word) {
            parts.push(term(name.get(rest..at)?, own)?);
            rest = at + found.len();
        }
        parts.push(term(name.get(rest..)?, own)?);
        Some(parts)
    };
    let compound = name.contains([',', '(']) || (lower.contains(" and ") && lower.contains(" or "));
    if compound || lower.contains(" with ") {
        return own_name(name, own);
    }
    if lower.contains(" or ") {
        return Some(format!("({})", join(" or ", own)?.join(" OR ")));
    }
    if lower.contains(" and ") {
        return Some(format!("({})", join(" and ", own)?.join(" AND ")));
    }
    term(name, own)
}

fn term(name: &str, own: &mut OwnNames) -> Option<String> {
    let name = name.trim();
    if let Some((_, spdx)) = DEBIAN_NAMES.iter().find(|(d, _)| d.eq_ignore_ascii_case(name)) {
        return Some((*spdx).to_owned());
    }
    if let Some(spdx) = SPDX_NAMES.iter().find(|s| s.eq_ignore_ascii_case(name)) {
        return Some((*spdx).to_owned());
    }
    own_name(name, own)
}

fn own_name(name: &str, own: &mut OwnNames) -> Option<String> {
    let letters: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let letters = letters.trim_matches('-');
    if letters.is_empty() || letters.len() > 200 {
        return None;
    }
    let reference = format!("LicenseRef-{letters}");
    own.entry(reference.clone()).or_insert_with(|| name.to_owned());
    Some(reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn machine_readable_copyright_becomes_an_expression() {
        let text = "Format: x\nSource: y\n\nFiles: *\nCopyright: a\nLicense: GPL-2+\n text\n\nFiles: b\nLicense: Expat or Apache-2.0\n\nFiles: c\nLicense: odd thing\n\nLicense: GPL-2+\n long\n";
        let mut own = OwnNames::new();
        let found = of_copyright(text, &mut own).unwrap();
        assert_eq!(found, "(MIT OR Apache-2.0) AND GPL-2.0-or-later AND LicenseRef-odd-thing");
        assert_eq!(own["LicenseRef-odd-thing"], "odd thing");
        assert_eq!(of_copyright("This package was made by hand.\n", &mut own), None);
    }

    #[test]
    fn wheels_say_it_in_their_metadata() {
        let mut own = OwnNames::new();
        let of = |text: &str, own: &mut OwnNames| of_wheel(text, own);
        assert_eq!(
            of("Name: a\nLicense-Expression: Apache-2.0\n\nbody", &mut own),
            Some("Apache-2.0".into())
        );
        assert_eq!(
            of("Name: a\nLicense: Apache 2.0\n", &mut own),
            Some("LicenseRef-Apache-2.0".into())
        );
        assert_eq!(of("Name: a\n", &mut own), None);
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(name in "\\PC{0,40}") {
            let _ = expression(&name, &mut OwnNames::new());
            let _ = expression(&format!("{name} or {name}"), &mut OwnNames::new());
        }
    }
}
