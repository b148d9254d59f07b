//! What each workload may take of the data partition, in proportion to the others: `data-max` and
//! `data-files` of `system.conf`.

/// Of what there is for workloads, so much stays for those that the image file gives no number,
/// even where the others' numbers come to more than the partition has: one part in this many.
const SHARED: u64 = 8;

/// One workload's limit of one thing, in terms of all workloads' limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What the image file says; else an equal share.
    pub own: Option<u64>,
    /// The sum of what it says for all workloads. 128 bits: each may be as large as a disk.
    pub claimed: u128,
    /// How many workloads share the rest.
    pub sharers: u64,
}

impl Share {
    /// The limit where there is `room` for all workloads together. The sum of all limits is at most
    /// that, and none is 0.
    pub fn of(self, room: u64) -> u64 {
        let shared = if self.sharers == 0 { 0 } else { room / SHARED };
        let claimable = room.saturating_sub(shared);
        let limit = match self.own {
            Some(own) if self.claimed > u128::from(claimable) => {
                (u128::from(own) * u128::from(claimable) / self.claimed) as u64
            }
            Some(own) => own,
            None => (room - self.claimed.min(claimable.into()) as u64) / self.sharers.max(1),
        };
        limit.max(1)
    }
}

/// The shares of all workloads, from what the image file says for each.
pub fn shares(own: &[Option<u64>]) -> Vec<Share> {
    let claimed = own.iter().flatten().map(|own| u128::from(*own)).sum();
    let sharers = own.iter().filter(|own| own.is_none()).count() as u64;
    own.iter().map(|own| Share { own: *own, claimed, sharers }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_is_not_named_has_an_equal_share_of_the_rest() {
        let all = |own: &[Option<u64>], room| -> Vec<u64> {
            shares(own).into_iter().map(|share| share.of(room)).collect()
        };
        assert_eq!(all(&[None], 1000), [1000]);
        assert_eq!(all(&[None, None], 1000), [500, 500]);
        assert_eq!(all(&[Some(600), None, None], 1000), [600, 200, 200]);
        // More than there is: in proportion, and something is left for the others.
        assert_eq!(all(&[Some(3000), Some(1000), None], 800), [525, 175, 100]);
        assert_eq!(all(&[Some(3000), Some(1000)], 800), [600, 200]);
        assert_eq!(all(&[Some(300)], 800), [300]);
    }

    proptest! {
        #[test]
        fn together_they_never_have_more_than_there_is(
            own in proptest::collection::vec(proptest::option::of(any::<u64>()), 1..64),
            room in 64u64..,
        ) {
            let limits: Vec<u64> = shares(&own).into_iter().map(|share| share.of(room)).collect();
            prop_assert!(limits.iter().all(|limit| *limit > 0));
            // Nobody's limit is 0, which would be none: that may be one each too much.
            let sum: u128 = limits.iter().map(|limit| u128::from(*limit)).sum();
            prop_assert!(sum <= u128::from(room) + limits.len() as u128);
        }
    }
}
