//! Changes of root metadata: which keys speak for which role (specification section 6.1).

use crate::error::Error;
use crate::key::{PublicKey, key_id, key_object, public_key};
use crate::metadata::{RoleKeys, Root, SPEC_VERSION};
use crate::role::Role;
use crate::time::Time;
use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;

/// Signatures that a file may carry bound how many keys it makes sense to give to a role.
const MAX_KEYS: usize = 16;

/// Private keys at hand, whatever roles they sign for: root metadata says which.
#[derive(Clone, Default)]
pub struct Keyring(Vec<SigningKey>);

impl Keyring {
    /// These keys; one that comes twice counts once.
    pub fn new(keys: impl IntoIterator<Item = SigningKey>) -> Keyring {
        let mut ring = Keyring::default();
        for key in keys {
            if !ring.0.contains(&key) {
                ring.0.push(key);
            }
        }
        ring
    }

    /// The keys among these that `root` lets sign for `role`, with the ids they have there.
    pub fn for_role(&self, root: &Root, role: Role) -> Vec<(String, &SigningKey)> {
        let with_id = |key| root.id_of(role, &SigningKey::verifying_key(key)).map(|id| (id, key));
        self.0.iter().filter_map(with_id).collect()
    }

    /// Whether no key is at hand.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The id that a key gets in metadata written here.
pub fn id_of_key(key: &PublicKey) -> Result<String, Error> {
    key_id(&key_object(key)).ok_or_else(|| refused("a key without an id".into()))
}

fn refused(reason: String) -> Error {
    Error::Malformed { file: "new root metadata".into(), reason }
}

impl Root {
    /// Root metadata of version 1 with no keys at all. [`Root::fit_to_publish`] says when it has
    /// enough of them.
    pub fn empty(expires: Time) -> Root {
        let nobody = || RoleKeys { keyids: Vec::new(), threshold: 1 };
        Root {
            kind: Role::Root.name().into(),
            spec_version: SPEC_VERSION.into(),
            consistent_snapshot: true,
            version: 1,
            expires,
            keys: BTreeMap::new(),
            roles: Role::ALL.iter().map(|role| (role.name().to_string(), nobody())).collect(),
        }
    }

    /// The same keys in the next version.
    pub fn next(&self, expires: Time) -> Root {
        Root { version: self.version.saturating_add(1), expires, ..self.clone() }
    }

    /// Ids of the keys that sign for `role`.
    pub fn ids(&self, role: Role) -> &[String] {
        self.roles.get(role.name()).map_or(&[], |role| &role.keyids)
    }

    /// How many different keys have to sign for `role`.
    pub fn threshold(&self, role: Role) -> u64 {
        self.roles.get(role.name()).map_or(0, |role| role.threshold)
    }

    /// Under which id `key` signs for `role`; `None` when it does not.
    pub fn id_of(&self, role: Role, key: &PublicKey) -> Option<String> {
        let is_it = |id: &&String| self.keys.get(*id).and_then(public_key).as_ref() == Some(key);
        self.ids(role).iter().find(is_it).cloned()
    }

    /// Lets `key` sign for `role`. Fails when it does already, and for a role's 17th key.
    pub fn add_key(&mut self, role: Role, key: &PublicKey) -> Result<(), Error> {
        let id = id_of_key(key)?;
        if self.id_of(role, key).is_some() {
            return Err(refused(format!("the key {id} signs for {} already", role.name())));
        }
        let keys = self
            .roles
            .get_mut(role.name())
            .ok_or_else(|| refused(format!("no role {}", role.name())))?;
        if keys.keyids.len() == MAX_KEYS {
            return Err(refused(format!("{} has {MAX_KEYS} keys already", role.name())));
        }
        keys.keyids.push(id.clone());
        self.keys.insert(id, key_object(key));
        Ok(())
    }

    /// Takes `role` from the key with this id. Fails when the key does not sign for it. A key that
    /// signs for nothing any more is forgotten.
    pub fn remove_key(&mut self, role: Role, id: &str) -> Result<(), Error> {
        let keys = self.roles.get_mut(role.name()).filter(|r| r.keyids.iter().any(|k| k == id));
        let Some(keys) = keys else {
            return Err(refused(format!("the key {id} does not sign for {}", role.name())));
        };
        keys.keyids.retain(|known| known != id);
        if !self.roles.values().any(|role| role.keyids.iter().any(|known| known == id)) {
            self.keys.remove(id);
        }
        Ok(())
    }

    /// How many different keys have to sign for `role` from now on.
    pub fn set_threshold(&mut self, role: Role, threshold: u64) {
        if let Some(role) = self.roles.get_mut(role.name()) {
            role.threshold = threshold;
        }
    }

    /// Whether each role has as many keys as have to sign for it. A root without them could never
    /// be followed by another.
    pub fn fit_to_publish(&self) -> Result<(), Error> {
        for role in Role::ALL {
            let (name, threshold) = (role.name(), self.threshold(role));
            let have = self.ids(role).len() as u64;
            if threshold == 0 {
                return Err(refused(format!("{name}: a threshold of 0 would let anybody sign")));
            }
            if have < threshold {
                return Err(refused(format!(
                    "{name} would have {have} keys and need {threshold} signatures"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> PublicKey {
        SigningKey::from_bytes(&[n; 32]).verifying_key()
    }

    fn root() -> Root {
        let mut root = Root::empty(Time(9));
        for (n, role) in (1..).zip(Role::ALL) {
            root.add_key(role, &key(n)).expect("added");
        }
        root
    }

    #[test]
    fn a_root_needs_as_many_keys_as_signatures() {
        assert!(Root::empty(Time(9)).fit_to_publish().is_err());
        let mut root = root();
        root.fit_to_publish().expect("one key a role");
        root.set_threshold(Role::Targets, 2);
        assert!(root.fit_to_publish().is_err());
        root.add_key(Role::Targets, &key(9)).expect("added");
        root.fit_to_publish().expect("two of two");
        root.set_threshold(Role::Targets, 0);
        assert!(root.fit_to_publish().is_err());
    }

    #[test]
    fn a_key_is_kept_for_as_long_as_it_signs_for_something() {
        let mut root = root();
        root.add_key(Role::Snapshot, &key(4)).expect("the timestamp's key");
        assert!(root.add_key(Role::Snapshot, &key(4)).is_err(), "twice");
        let id = id_of_key(&key(4)).expect("id");
        root.remove_key(Role::Snapshot, &id).expect("removed");
        assert!(root.remove_key(Role::Snapshot, &id).is_err(), "twice");
        assert!(root.keys.contains_key(&id));
        root.remove_key(Role::Timestamp, &id).expect("removed");
        assert!(!root.keys.contains_key(&id));
    }

    #[test]
    fn a_role_has_a_bounded_number_of_keys() {
        let mut root = root();
        for n in 10..25 {
            root.add_key(Role::Root, &key(n)).expect("added");
        }
        assert!(root.add_key(Role::Root, &key(99)).is_err());
    }

    #[test]
    fn a_keyring_gives_what_the_root_lets_sign() {
        let private = |n: u8| SigningKey::from_bytes(&[n; 32]);
        let ring = Keyring::new([private(2), private(2), private(3), private(7)]);
        let root = root();
        let ids = |role| -> Vec<String> {
            ring.for_role(&root, role).into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(ids(Role::Targets), root.ids(Role::Targets));
        assert_eq!(ids(Role::Root), Vec::<String>::new());
    }
}
