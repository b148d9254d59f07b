//! Is this boot a good one? What follows from how the vital workloads do: strikes are forgiven, a
//! fallback becomes the active slot, a trial that nobody commits ends in a reset.

pub use slot::boot_state::Boot as Kind;

use crate::workload::standing::Verdict;

/// So long every vital workload must have been well before the boot counts as good.
pub const SETTLED_AFTER: u64 = 10_000;

/// What `second_life` has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Tell people that all is well.
    SayHealthy,
    /// Write into the boot state that this boot was a good one.
    Settle,
    /// The trial's time is over: reset unless the boot state says it was committed.
    CheckCommitted,
    /// A vital workload is lost: reset.
    GiveUp(String),
}

/// Watches one boot.
#[derive(Debug)]
pub struct Probation {
    kind: Kind,
    deadline: Option<u64>,
    healthy_since: Option<u64>,
    well_since: Option<u64>,
    settled: bool,
    given_up: bool,
}

impl Probation {
    /// A boot of this kind; a trial must be committed by `deadline`.
    pub fn new(kind: Kind, deadline: u64) -> Probation {
        Probation {
            kind,
            deadline: (kind == Kind::Trial).then_some(deadline),
            healthy_since: None,
            well_since: None,
            settled: false,
            given_up: false,
        }
    }

    /// Takes the verdict of the moment; returns what is to be done, at most one thing a call.
    pub fn step(&mut self, verdict: &Verdict, now: u64) -> Option<Order> {
        if self.given_up {
            return None;
        }
        let was_healthy = self.healthy_since.is_some();
        if *verdict == Verdict::Healthy {
            self.healthy_since.get_or_insert(now);
        } else {
            self.healthy_since = None;
        }
        // A device without a cable is no broken version: its strikes must not add up. To be made
        // the active slot, though, a version has to show that it works.
        match (verdict, self.kind) {
            (Verdict::Healthy, _) | (Verdict::Held(_), Kind::Active) => {
                self.well_since.get_or_insert(now);
            }
            _ => self.well_since = None,
        }
        if let Verdict::Lost(reason) = verdict {
            self.given_up = true;
            return Some(Order::GiveUp(reason.clone()));
        }
        if self.healthy_since.is_some() && !was_healthy {
            return Some(Order::SayHealthy);
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            return Some(Order::CheckCommitted);
        }
        let settled = self.well_since.is_some_and(|since| now - since >= SETTLED_AFTER);
        if settled && !self.settled && self.kind != Kind::Trial {
            self.settled = true;
            return Some(Order::Settle);
        }
        None
    }

    /// When to look again although nothing happened.
    pub fn next_look(&self) -> Option<u64> {
        let settle = match self.kind {
            Kind::Trial => None,
            _ if self.settled => None,
            _ => self.well_since.map(|since| since + SETTLED_AFTER),
        };
        [self.deadline, settle].into_iter().flatten().min()
    }

    /// Milliseconds for which every vital workload has been ready and healthy without a break.
    pub fn healthy_for(&self, now: u64) -> u64 {
        self.healthy_since.map_or(0, |since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> Verdict {
        Verdict::Waiting("face starting".into())
    }

    #[test]
    fn a_good_boot_is_settled_once_after_ten_seconds_without_a_break() {
        let mut boot = Probation::new(Kind::Active, 0);
        assert_eq!(boot.step(&waiting(), 0), None);
        assert_eq!(boot.step(&Verdict::Healthy, 1_000), Some(Order::SayHealthy));
        assert_eq!(boot.step(&waiting(), 9_000), None);
        assert_eq!(boot.step(&Verdict::Healthy, 10_000), Some(Order::SayHealthy));
        assert_eq!(boot.step(&Verdict::Healthy, 19_999), None);
        assert_eq!(boot.next_look(), Some(20_000));
        assert_eq!(boot.step(&Verdict::Healthy, 20_000), Some(Order::Settle));
        assert_eq!(boot.step(&Verdict::Healthy, 90_000), None);
        assert_eq!(boot.healthy_for(90_000), 80_000);
    }

    #[test]
    fn a_trial_is_never_settled_by_itself_and_is_checked_at_its_deadline() {
        let mut boot = Probation::new(Kind::Trial, 120_000);
        assert_eq!(boot.step(&Verdict::Healthy, 5_000), Some(Order::SayHealthy));
        assert_eq!(boot.step(&Verdict::Healthy, 60_000), None);
        assert_eq!(boot.step(&Verdict::Healthy, 120_000), Some(Order::CheckCommitted));
        assert_eq!(boot.step(&Verdict::Healthy, 130_000), None);
    }

    #[test]
    fn a_lost_vital_workload_ends_the_boot_once() {
        let mut boot = Probation::new(Kind::Active, 0);
        let lost = Verdict::Lost("face failed".into());
        assert_eq!(boot.step(&lost, 1), Some(Order::GiveUp("face failed".into())));
        assert_eq!(boot.step(&lost, 2), None);
    }

    #[test]
    fn without_a_cable_strikes_are_forgiven_but_no_fallback_is_made_active() {
        let held = Verdict::Held("face waits for an address".into());
        let mut boot = Probation::new(Kind::Active, 0);
        assert_eq!(boot.step(&held, 0), None);
        assert_eq!(boot.step(&held, 10_000), Some(Order::Settle));
        let mut boot = Probation::new(Kind::Fallback, 0);
        assert_eq!(boot.step(&held, 0), None);
        assert_eq!(boot.step(&held, 100_000), None);
    }
}
