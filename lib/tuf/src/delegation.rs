//! Delegations: which other role speaks for which target paths (specification section 4.5).

use crate::envelope::Authority;
use crate::key::KeySchemes;
use crate::key::sha256_hex;
use crate::role::Role;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest encoded role name, in bytes: with a version in front and an ending behind, it still is
/// a file name on every file system.
const MAX_ENCODED_NAME: usize = 200;

/// What targets metadata says of the roles it delegates to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Delegations {
    /// Key objects by key id.
    pub keys: BTreeMap<String, Value>,
    /// The roles, the one trusted most first. Empty where the metadata delegates in a form that is
    /// not known here (succinct roles).
    #[serde(default)]
    pub roles: Vec<DelegatedRole>,
}

/// A role that speaks for some target paths.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct DelegatedRole {
    /// Its name, which is also the name of its file.
    pub name: String,
    /// Ids of its keys.
    pub keyids: Vec<String>,
    /// How many different keys have to sign.
    pub threshold: u64,
    /// Whether nobody after it is asked about its paths.
    #[serde(default)]
    pub terminating: bool,
    /// Patterns of the paths it speaks for.
    #[serde(default)]
    pub paths: Option<Vec<String>>,
    /// How the SHA-256, in hex, of the paths it speaks for begins.
    #[serde(default)]
    pub path_hash_prefixes: Option<Vec<String>>,
}

impl Delegations {
    /// Reads the field `delegations` of targets metadata; the error is for people.
    pub(crate) fn read(value: &Value) -> Result<Delegations, String> {
        let delegations =
            Delegations::deserialize(value).map_err(|error| format!("delegations: {error}"))?;
        let mut names: Vec<&str> = delegations.roles.iter().map(|r| r.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("delegations: the role {:?} comes twice", twice[0]));
        }
        for role in &delegations.roles {
            let problem = if role.threshold == 0 {
                "asks for no signature"
            } else if role.name.is_empty() || encode(&role.name).len() > MAX_ENCODED_NAME {
                "has a name that is empty or too long"
            } else if Role::ALL.iter().any(|top| top.name() == role.name) {
                "has the name of a top-level role"
            } else if role.paths.is_some() && role.path_hash_prefixes.is_some() {
                "has both paths and path_hash_prefixes"
            } else {
                continue;
            };
            return Err(format!("delegations: the role {:?} {problem}", role.name));
        }
        Ok(delegations)
    }

    /// Who signs for `role`, one of [`Delegations::roles`].
    pub(crate) fn authority<'a>(
        &'a self,
        role: &'a DelegatedRole,
        schemes: &'a dyn KeySchemes,
    ) -> Authority<'a> {
        Authority { keys: &self.keys, keyids: &role.keyids, threshold: role.threshold, schemes }
    }
}

impl DelegatedRole {
    /// Whether it speaks for the target. Without paths and prefixes it speaks for none.
    pub fn speaks_for(&self, target: &str) -> bool {
        if let Some(paths) = &self.paths {
            return paths.iter().any(|pattern| path_matches(pattern, target));
        }
        let hash = sha256_hex(target.as_bytes());
        let begins = |prefix: &String| {
            hash.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        };
        self.path_hash_prefixes.as_ref().is_some_and(|prefixes| prefixes.iter().any(begins))
    }
}

/// Whether a target's path fits a PATHPATTERN: part by part between the `/`, which no wildcard
/// matches; `*` is any number of characters, `?` is one, and all others are themselves.
fn path_matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if part_matches(pattern, part) => {}
            _ => return false,
        }
    }
}

/// Takes time in proportion to the product of the lengths at most: after a `*` only the last one
/// is ever tried again, since an earlier one can gain nothing that this cannot.
fn part_matches(pattern: &str, part: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let part: Vec<char> = part.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Behind the last `*`, and how far into the part it reaches.
    let mut star: Option<(usize, usize)> = None;
    while t < part.len() {
        match pattern.get(p) {
            Some('*') => {
                p += 1;
                star = Some((p, t));
            }
            Some(&c) if c == '?' || c == part[t] => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                None => return false,
                Some((behind, reach)) => {
                    *reach += 1;
                    (p, t) = (*behind, *reach);
                }
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// A name as one part of a URL's path: what is neither a letter, a digit nor one of `-._~` is
/// percent-encoded, `/` among it.
pub(crate) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns() {
        for (pattern, path, fits) in [
            ("targets/*.tgz", "targets/foo.tgz", true),
            ("targets/*.tgz", "targets/foo.txt", false),
            ("foo-version-?.tgz", "foo-version-a.tgz", true),
            ("foo-version-?.tgz", "foo-version-alpha.tgz", false),
            ("*.tgz", "foo.tgz", true),
            ("*.tgz", "targets/foo.tgz", false),
            ("foo.tgz", "foo.tgz", true),
            ("foo.tgz", "foo.tgz2", false),
            ("foo.tgz", "FOO.tgz", false),
            ("*", "", true),
            ("?", "", false),
            ("?", "\u{e9}", true),
            ("", "", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("**", "x", true),
            ("*/*", "x", false),
            ("*/x", "/x", true),
            ("[ab]", "a", false),
            ("[ab]", "[ab]", true),
        ] {
            assert_eq!(path_matches(pattern, path), fits, "{pattern:?} {path:?}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends() {
        let pattern = "*a".repeat(2000);
        assert!(!path_matches(&pattern, &"a".repeat(1999)));
        assert!(path_matches(&pattern, &"a".repeat(2000)));
    }

    fn role(fields: Value) -> Value {
        let mut role = json!({"name": "r", "keyids": [], "threshold": 1, "terminating": false});
        for (name, value) in fields.as_object().expect("an object") {
            role[name] = value.clone();
        }
        role
    }

    fn read(roles: &[Value]) -> Result<Delegations, String> {
        Delegations::read(&json!({"keys": {}, "roles": roles}))
    }

    #[test]
    fn hash_prefixes() {
        let hash = sha256_hex(b"a/path");
        let upper = hash[..6].to_uppercase();
        for (prefixes, speaks) in [
            (json!([&hash[..1]]), true),
            (json!(["zz", upper]), true),
            (json!([hash]), true),
            (json!([format!("{hash}0")]), false),
            (json!([]), false),
            (json!(["\u{e9}"]), false),
        ] {
            let read = read(&[role(json!({"path_hash_prefixes": prefixes}))]).expect("sound");
            assert_eq!(read.roles[0].speaks_for("a/path"), speaks, "{prefixes}");
        }
    }

    #[test]
    fn a_role_without_paths_speaks_for_nothing() {
        assert!(!read(&[role(json!({}))]).expect("sound").roles[0].speaks_for("x"));
    }

    #[test]
    fn unsound_delegations_are_refused() {
        for bad in [
            vec![role(json!({"threshold": 0}))],
            vec![role(json!({})), role(json!({}))],
            vec![role(json!({"name": ""}))],
            vec![role(json!({"name": "/".repeat(67)}))],
            vec![role(json!({"name": "timestamp"}))],
            vec![role(json!({"paths": [], "path_hash_prefixes": []}))],
            vec![json!({"name": "r"})],
            vec![role(json!({"terminating": "yes"}))],
            vec![role(json!({"threshold": -1}))],
            vec![role(json!({"paths": "*"}))],
            vec![role(json!({"paths": ["*", 1]}))],
            vec![role(json!({"keyids": {}}))],
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
        for bad in [json!({}), json!([]), json!({"keys": []}), json!({"keys": {}, "roles": {}})] {
            assert!(Delegations::read(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn delegations_in_an_unknown_form_delegate_to_nobody() {
        let succinct = json!({"keys": {}, "succinct_roles": {"bit_length": 8}});
        assert_eq!(Delegations::read(&succinct).expect("read").roles, []);
    }

    #[test]
    fn names_are_one_part_of_a_path() {
        assert_eq!(encode("a-b_c.d~9"), "a-b_c.d~9");
        assert_eq!(encode("../x?#%\u{e9}"), "..%2Fx%3F%23%25%C3%A9");
    }
}
