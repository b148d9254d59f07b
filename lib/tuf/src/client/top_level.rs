//! Sections 5.4 to 5.6.6: timestamp, snapshot and the metadata of a targets role.

use super::{Client, SNAPSHOT, TARGETS, TIMESTAMP, entry, no_rollback};
use crate::envelope::{Authority, Envelope};
use crate::error::Error;
use crate::metadata::{MetaFile, Root, Snapshot, Targets, Timestamp};
use crate::role::Role;

impl Client<'_> {
    /// Section 5.4.
    pub(super) fn update_timestamp(&mut self, root: &Root) -> Result<Timestamp, Error> {
        let authority = root.authority(Role::Timestamp, self.schemes)?;
        let trusted: Option<Timestamp> = self.trusted(TIMESTAMP, authority)?.map(|(t, _)| t);

        // 5.4.1
        let bytes = self.get(TIMESTAMP, self.limits.timestamp)?;
        // 5.4.2
        let new: Timestamp = Envelope::parse(TIMESTAMP, &bytes)?.verify(TIMESTAMP, authority)?;
        let snapshot = entry(TIMESTAMP, &new.meta, SNAPSHOT)?;
        if let Some(trusted) = trusted {
            // 5.4.3.1
            no_rollback(TIMESTAMP, trusted.version, new.version)?;
            if trusted.version == new.version {
                // What is trusted stays, so that one version has one content. The refresh goes on
                // with it: the last one may have been cut off before snapshot or targets came.
                self.check_expiry(TIMESTAMP, &trusted)?;
                return Ok(trusted);
            }
            // 5.4.3.2
            if let Some(before) = trusted.meta.get(SNAPSHOT) {
                no_rollback("snapshot.json in timestamp.json", before.version, snapshot.version)?;
            }
        }
        self.learn_time(&new);
        // 5.4.4
        self.check_expiry(TIMESTAMP, &new)?;
        // 5.4.5
        self.save(TIMESTAMP, &bytes)?;
        Ok(new)
    }

    /// Section 5.5.
    pub(super) fn update_snapshot(
        &mut self,
        root: &Root,
        timestamp: &Timestamp,
    ) -> Result<Snapshot, Error> {
        let authority = root.authority(Role::Snapshot, self.schemes)?;
        let wanted = entry(TIMESTAMP, &timestamp.meta, SNAPSHOT)?;
        let trusted: Option<(Snapshot, Vec<u8>)> = self.trusted(SNAPSHOT, authority)?;
        if let Some((snapshot, bytes)) = &trusted
            && snapshot.version == wanted.version
            && wanted.matches(bytes)
        {
            self.check_expiry(SNAPSHOT, snapshot)?;
            return Ok(snapshot.clone());
        }
        // 5.5.1 to 5.5.4
        let (new, bytes): (Snapshot, _) = self.fetch_described(
            SNAPSHOT,
            root.consistent_snapshot,
            wanted,
            authority,
            self.limits.snapshot,
        )?;
        entry(SNAPSHOT, &new.meta, TARGETS)?;
        // 5.5.5: no role goes back, none goes away.
        for (name, before) in trusted.iter().flat_map(|(trusted, _)| &trusted.meta) {
            let offered = new.meta.get(name).map_or(0, |file| file.version);
            no_rollback(&format!("{name} in snapshot.json"), before.version, offered)?;
        }
        // 5.5.6
        self.check_expiry(SNAPSHOT, &new)?;
        // 5.5.7
        self.save(SNAPSHOT, &bytes)?;
        Ok(new)
    }

    /// Section 5.6, for the top-level targets.
    pub(super) fn update_targets(
        &mut self,
        root: &Root,
        snapshot: &Snapshot,
    ) -> Result<Targets, Error> {
        let wanted = entry(SNAPSHOT, &snapshot.meta, TARGETS)?;
        let authority = root.authority(Role::Targets, self.schemes)?;
        self.targets_role(TARGETS, TARGETS, root.consistent_snapshot, wanted, authority)
    }

    /// 5.6.1 to 5.6.6 for any targets role: its file is called `file` in the repository (version
    /// aside) and `stored` here. What is stored was perhaps verified for another delegator and is
    /// verified for this one again.
    pub(super) fn targets_role(
        &mut self,
        file: &str,
        stored: &str,
        consistent_snapshot: bool,
        wanted: &MetaFile,
        authority: Authority<'_>,
    ) -> Result<Targets, Error> {
        if let Some((targets, bytes)) = self.trusted::<Targets>(stored, authority)?
            && targets.version == wanted.version
            && wanted.matches(&bytes)
        {
            self.check_expiry(file, &targets)?;
            return Ok(targets);
        }
        // 5.6.1 to 5.6.4
        let (new, bytes): (Targets, _) = self.fetch_described(
            file,
            consistent_snapshot,
            wanted,
            authority,
            self.limits.targets,
        )?;
        // 5.6.5
        self.check_expiry(file, &new)?;
        // 5.6.6
        self.save(stored, &bytes)?;
        Ok(new)
    }
}
