//! How long metadata is good for where nothing is said.

use tuf::Time;
use tuf::author::{Dates, Published};

/// Days that snapshot and targets are good for where nothing else was said.
pub const DAYS: u64 = 5 * 365;

/// For metadata that only follows a change elsewhere: it stays good for as long as before, and a
/// month at least.
pub fn dates_as_before(before: Option<&Published>, now: Time) -> Dates {
    let fresh = now.plus_days(DAYS);
    let at_least = |expires: Option<Time>| expires.unwrap_or(fresh).max(now.plus_days(30));
    Dates {
        signed_at: now,
        targets: at_least(before.map(|before| before.targets.expires)),
        snapshot: at_least(before.map(|before| before.snapshot.expires)),
        timestamp: at_least(before.map(|before| before.timestamp.expires)),
    }
}
