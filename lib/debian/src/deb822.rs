//! Debian's control file syntax (deb822(5)): stanzas of `Field: value` lines.

/// One stanza: its fields in the order they were written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Stanza<'a> {
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Stanza<'a> {
    /// The value of a field, names compared without case. Lines of a folded or multi-line value
    /// stay separated by `\n`, each with its leading space.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
    }

    /// The words of a field's value; none if the field is absent.
    pub fn words(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.get(name).unwrap_or_default().split_whitespace()
    }
}

/// Splits `text` into stanzas. Comment lines are skipped; a line that is neither a field nor a
/// continuation is ignored, as no value can be read from it.
pub fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut stanza = Stanza::default();
        while !rest.is_empty() {
            let line_end = rest.find('\n').map_or(rest.len(), |i| i + 1);
            let line = rest[..line_end].trim_end_matches(['\n', '\r']);
            if line.trim().is_empty() {
                rest = &rest[line_end..];
                if stanza.fields.is_empty() {
                    continue;
                }
                return Some(stanza);
            }
            if line.starts_with('#') {
                rest = &rest[line_end..];
                continue;
            }
            // A value reaches over all following lines that start with a blank.
            let mut end = line_end;
            while rest[end..].starts_with([' ', '\t']) {
                let next = rest[end..].find('\n').map_or(rest.len(), |i| end + i + 1);
                if rest[end..next].trim().is_empty() {
                    break;
                }
                end = next;
            }
            if let Some((name, _)) = line.split_once(':')
                && !name.is_empty()
                && !name.starts_with([' ', '\t'])
            {
                stanza.fields.push((name, rest[name.len() + 1..end].trim()));
            }
            rest = &rest[end..];
        }
        (!stanza.fields.is_empty()).then_some(stanza)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stanzas_fields_and_continuations() {
        let text = "\n# c\nPackage: a\nDescription: x\n y\n .\n z\nVersion: 1\n\n\nPackage: b\n";
        let all: Vec<_> = stanzas(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("package"), Some("a"));
        assert_eq!(all[0].get("Description"), Some("x\n y\n .\n z"));
        assert_eq!(all[0].get("Version"), Some("1"));
        assert_eq!(all[1].get("Package"), Some("b"));
        assert_eq!(all[1].get("Version"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_run_for_ever(text in "[A-Za-z:# \\n\\t\\r.ü]{0,200}") {
            prop_assert!(stanzas(&text).count() <= text.len());
        }
    }
}
