//! Sections 5.6.7 and 5.7: who speaks for a target, and fetching it.

use super::{Client, SNAPSHOT, entry};
use crate::author::Published;
use crate::delegation::{DelegatedRole, Delegations, encode};
use crate::error::Error;
use crate::metadata::{TargetFile, Targets, target_path};
use crate::role::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A target, and who says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Name of the role that lists it.
    pub role: String,
    /// What that role says of it.
    pub file: TargetFile,
}

/// A role still to be visited: one of the roles in its delegator's metadata, by its place there.
struct Pending {
    delegator: Rc<Delegations>,
    index: usize,
}

impl Pending {
    fn role(&self) -> Option<&DelegatedRole> {
        self.delegator.roles.get(self.index)
    }
}

impl Client<'_> {
    /// 5.6.7: the first role, in pre-order from the top-level targets, that lists `target` and
    /// whose delegators all let it speak for it. `None` when there is none.
    ///
    /// `published` is what [`Client::refresh`] returned. Metadata on the way that cannot be had or
    /// does not verify ends the search with its error: a role that is trusted less must not be
    /// heard only because one that is trusted more was kept away.
    pub fn find_target(
        &mut self,
        published: &Published,
        target: &str,
    ) -> Result<Option<Found>, Error> {
        let mut visited = BTreeSet::new();
        // The next one to visit is the last.
        let mut pending = Vec::new();
        if let Some(found) = visit(Role::Targets.name(), &published.targets, target, &mut pending)?
        {
            return Ok(Some(found));
        }
        while let Some(next) = pending.pop() {
            let Some(role) = next.role() else {
                continue;
            };
            // 5.6.7.1: cycles end here.
            if visited.contains(&role.name) {
                continue;
            }
            // 5.6.7.1: and so do graphs without an end. The top-level role was the first.
            if visited.len() as u64 + 1 >= u64::from(self.limits.roles) {
                return Err(Error::TooManyRoles {
                    target: target.into(),
                    limit: self.limits.roles,
                });
            }
            visited.insert(role.name.clone());
            let targets = self.delegated(published, &next.delegator, role)?;
            if let Some(found) = visit(&role.name, &targets, target, &mut pending)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Each role that is delegated to, however far down, with what it lists: for those who check
    /// a whole repository. Each is verified for everybody who delegates to it.
    pub fn delegated_roles(
        &mut self,
        published: &Published,
    ) -> Result<BTreeMap<String, Targets>, Error> {
        let mut roles: BTreeMap<String, Targets> = BTreeMap::new();
        let unsound = |reason| Error::Malformed { file: "delegations".into(), reason };
        let mut delegators = vec![published.targets.delegations().map_err(unsound)?];
        while let Some(delegator) = delegators.pop() {
            for role in &delegator.roles {
                let targets = self.delegated(published, &delegator, role)?;
                if roles.contains_key(&role.name) {
                    continue;
                }
                if roles.len() as u64 + 1 >= u64::from(self.limits.roles) {
                    return Err(Error::TooManyRoles {
                        target: role.name.clone(),
                        limit: self.limits.roles,
                    });
                }
                delegators.push(targets.delegations().map_err(unsound)?);
                roles.insert(role.name.clone(), targets);
            }
        }
        Ok(roles)
    }

    /// 5.6.1 to 5.6.6 for a delegated role.
    fn delegated(
        &mut self,
        published: &Published,
        delegator: &Delegations,
        role: &DelegatedRole,
    ) -> Result<Targets, Error> {
        let wanted = entry(SNAPSHOT, &published.snapshot.meta, &format!("{}.json", role.name))?;
        self.targets_role(
            &format!("{}.json", encode(&role.name)),
            &stored_name(&role.name),
            published.root.consistent_snapshot,
            wanted,
            delegator.authority(role, self.schemes),
        )
    }

    /// 5.7: the target's bytes, which are in memory whole: for small targets. Fails with
    /// [`Error::NoSuchTarget`] when nobody lists it.
    pub fn fetch_target(&mut self, published: &Published, target: &str) -> Result<Vec<u8>, Error> {
        // 5.7.1, 5.7.2
        let found = self
            .find_target(published, target)?
            .ok_or_else(|| Error::NoSuchTarget { target: target.into() })?;
        self.fetch_found(published, target, &found)
    }

    /// 5.7.3: the bytes of a target that [`Client::find_target`] found.
    pub fn fetch_found(
        &mut self,
        published: &Published,
        target: &str,
        found: &Found,
    ) -> Result<Vec<u8>, Error> {
        let path = target_path(published.root.consistent_snapshot, target, &found.file)
            .ok_or_else(|| Error::Malformed {
                file: format!("{}.json", found.role),
                reason: format!("the target {target:?} has no sound path"),
            })?;
        let parts: Vec<String> = path.split('/').map(encode).collect();
        let bytes = self.get_path(parts.join("/"), found.file.length)?;
        if !found.file.matches(&bytes) {
            return Err(Error::Altered { file: path });
        }
        Ok(bytes)
    }
}

/// Looks for `target` in one role's metadata (5.6.7.1); without it, puts the roles it delegates
/// to, as far as they speak for the target, in front of those still to be visited (5.6.7.2).
fn visit(
    name: &str,
    targets: &Targets,
    target: &str,
    pending: &mut Vec<Pending>,
) -> Result<Option<Found>, Error> {
    if let Some(file) = targets.targets.get(target) {
        return Ok(Some(Found { role: name.into(), file: file.clone() }));
    }
    let delegations = targets
        .delegations()
        .map_err(|reason| Error::Malformed { file: format!("{name}.json"), reason })?;
    let delegator = Rc::new(delegations);
    let mut children = Vec::new();
    for (index, role) in delegator.roles.iter().enumerate() {
        if !role.speaks_for(target) {
            continue;
        }
        children.push(Pending { delegator: delegator.clone(), index });
        // 5.6.7.2.1: nobody after it is asked, neither here nor further up.
        if role.terminating {
            pending.clear();
            break;
        }
    }
    // 5.6.7.2.2: otherwise those that were pending wait until these have been asked.
    pending.extend(children.into_iter().rev());
    Ok(None)
}

/// Under which name a delegated role's metadata is stored. The name in front keeps it apart from
/// the top-level roles' files, whatever a delegator calls its roles.
pub(super) fn stored_name(role: &str) -> String {
    format!("delegated.{}.json", encode(role))
}
