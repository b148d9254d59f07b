//! Where the chunks of an update come from, the cheapest source first. Each supplies what it can; what
//! it leaves is for the next. docs/updates.md, "Chunk sources".

mod blocks;
pub mod companion;
mod delta_frames;
mod local_copy;
mod payload;
pub mod plan;
mod tree;
pub(crate) mod work;

use self::companion::Companion;
use self::work::{Abort, Work};
use crate::Result;
use crate::fetch::resource::Resource;

impl Work<'_> {
    /// Supplies everything that is missing, out of `payload` and what lies beside it.
    pub fn supply_all(
        &self,
        payload: &Resource,
        delta: Option<plan::Delta<'_>>,
        index: Option<&Companion>,
    ) -> Result<()> {
        local_copy::supply(self)?;
        if let (Some(old), Some(delta)) = (self.old, delta) {
            let cached = self.cache.length(delta.head_sha256);
            if plan::takes_delta(self.table, &self.missing(), &delta, cached) {
                self.or_next("delta", delta_frames::supply(self, old, &delta, payload))?;
            }
        }
        if let (Some(old), Some(index)) = (self.old, index) {
            let lacks = self.lacks_before_tree();
            let left = index.length.saturating_sub(self.cache.length(&index.sha256));
            if plan::takes_index(self.table, &lacks, left) {
                self.or_next("blocks", blocks::supply(self, old, index))?;
            }
        }
        payload::supply(self, &self.lacks_before_tree(), payload)?;
        tree::supply(self)?;
        payload::supply(self, &self.missing(), payload)
    }

    /// What is wrong with one source leaves the rest to the next; a medium that fails does not.
    fn or_next(&self, source: &str, result: std::result::Result<(), Abort>) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(Abort::NextSource(reason)) => {
                self.progress.gave_up(source, &reason);
                Ok(())
            }
            Err(Abort::Fatal(error)) => Err(error),
        }
    }
}
