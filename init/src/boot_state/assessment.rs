//! Is this boot a good one? What follows from how the vital workloads do: strikes are forgiven, a
//! fallback becomes the active slot, a trial that nobody commits or whose vital workload is lost
//! ends in a reset, and a committed version is reset only where that may help (`recovery`).

pub use formats::boot_state::Boot as Kind;
use formats::boot_state::TRIAL_HELD;

use crate::boot_state::recovery::{self, FORGOTTEN_AFTER, Illness};
use crate::workload::vital_health::Verdict;

/// So long every vital workload must have been well before the boot counts as good.
pub const SETTLED_AFTER: u64 = 10_000;

/// What `rootfs` has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell people that all is well.
    ReportHealthy,
    /// Tell people that this vital workload is lost, and when a reset is tried.
    ReportDead {
        /// Which one, and why.
        reason: String,
        /// Milliseconds of uptime.
        reset_at: u64,
    },
    /// Write into the boot state that this boot was a good one.
    Settle,
    /// Take this boot's own strike back: what is missing is no fault of the version.
    Forgive,
    /// The trial is to end: find out whether it was committed meanwhile, and tell
    /// [`BootAssessment::checked`].
    CheckCommitted,
    /// The trial's time is over, and nobody committed it: reset.
    EndTrial,
    /// A vital workload is lost: reset.
    GiveUp(String),
    /// The device has been well for hours: resets that did not help no longer count.
    ForgetResets,
}

/// Why a trial ends that nobody committed: how the reason begins, and the reason. `waits` is what
/// `ota` says that it waits for, if anything; it knows whose fault that is.
pub fn uncommitted<'a>(verdict: &'a Verdict, waits: &'a str) -> (&'static str, &'a str) {
    const NOT_COMMITTED: &str = "trial not committed: ";
    match (waits, verdict) {
        ("", Verdict::Blocked(why)) => (TRIAL_HELD, why),
        ("", Verdict::Healthy) => (NOT_COMMITTED, "nobody committed it"),
        ("", _) => (NOT_COMMITTED, verdict.reason()),
        _ => (NOT_COMMITTED, waits),
    }
}

/// Watches one boot.
#[derive(Debug)]
pub struct BootAssessment {
    kind: Kind,
    deadline: Option<u64>,
    healthy_since: Option<u64>,
    /// As `healthy_since`, also while nothing but the conditions is missing.
    well_since: Option<u64>,
    /// Since when not all has been well; a few good moments in between do not end it.
    ill_since: Option<u64>,
    /// Every vital workload was healthy in this boot for as long as settles it.
    was_well: bool,
    /// Resets in a row that did not help, once they could be read.
    resets: Option<u32>,
    /// When the reset comes that was announced.
    reset_at: Option<u64>,
    settled: bool,
    forgiven: bool,
    given_up: bool,
    /// What is to be done if the boot state says that the trial is not committed.
    checking: Option<Action>,
}

impl BootAssessment {
    /// A boot of this kind; a trial must be committed by `deadline`.
    pub fn new(kind: Kind, deadline: u64) -> BootAssessment {
        BootAssessment {
            kind,
            deadline: (kind == Kind::Trial).then_some(deadline),
            healthy_since: None,
            well_since: None,
            ill_since: None,
            was_well: false,
            resets: None,
            reset_at: None,
            settled: false,
            forgiven: false,
            given_up: false,
            checking: None,
        }
    }

    /// The boot state says whether the version on trial is committed; returns what is to be done if it
    /// is not. If it is, this is the boot of a committed version, and what was seen of it still counts.
    pub fn checked(&mut self, is_committed: bool) -> Option<Action> {
        let action = self.checking.take();
        if is_committed {
            self.kind = Kind::Active;
            self.deadline = None;
            return None;
        }
        self.given_up = action.is_some();
        action
    }

    /// The number of resets in a row that did not help was read.
    pub fn set_resets(&mut self, resets: u32) {
        self.resets = Some(resets);
        self.reset_at = None;
    }

    /// What their number is after one more; `None` where it is not to be written down.
    pub fn resets_after_this(&self) -> Option<u32> {
        self.resets.filter(|_| self.kind != Kind::Trial).map(|resets| resets.saturating_add(1))
    }

    /// The watchdog may be fed: PID 1 turns over, and has not decided that a reset is needed.
    pub fn may_feed(&self) -> bool {
        !self.given_up
    }

    /// Takes the verdict of the moment; returns what is to be done, at most one thing a call.
    pub fn step(&mut self, verdict: &Verdict, now: u64) -> Option<Action> {
        if self.given_up {
            return None;
        }
        let was_healthy = self.healthy_since.is_some();
        self.observe(verdict, now);
        if self.checking.is_some() {
            return None;
        }
        match verdict {
            Verdict::Dead(reason) | Verdict::Stuck(reason) => {
                let stuck = matches!(verdict, Verdict::Stuck(_));
                if let Some(action) = self.lost(reason, stuck, now) {
                    return Some(action);
                }
            }
            _ => self.reset_at = None,
        }
        if self.healthy_since.is_some() && !was_healthy {
            return Some(Action::ReportHealthy);
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            self.checking = Some(Action::EndTrial);
            return Some(Action::CheckCommitted);
        }
        let is_over = |since: Option<u64>| since.is_some_and(|since| now - since >= SETTLED_AFTER);
        if is_over(self.healthy_since) && !self.settled && self.kind != Kind::Trial {
            self.settled = true;
            return Some(Action::Settle);
        }
        if is_over(self.well_since) && !self.settled && !self.forgiven && self.kind == Kind::Active
        {
            self.forgiven = true;
            return Some(Action::Forgive);
        }
        if self.forgets_at().is_some_and(|at| now >= at) {
            self.resets = Some(0);
            return Some(Action::ForgetResets);
        }
        None
    }

    /// Keeps the times that the decisions are made from.
    fn observe(&mut self, verdict: &Verdict, now: u64) {
        if *verdict == Verdict::Healthy {
            self.healthy_since.get_or_insert(now);
        } else {
            self.healthy_since = None;
        }
        // A device without a cable is no broken version: its strikes must not add up. To be made
        // the active slot, though, a version has to show that it works.
        match (verdict, self.kind) {
            (Verdict::Healthy, _) | (Verdict::Blocked(_), Kind::Active) => {
                self.well_since.get_or_insert(now);
            }
            _ => self.well_since = None,
        }
        match verdict {
            Verdict::Healthy if self.healthy_for(now) >= SETTLED_AFTER => {
                self.was_well = true;
                self.ill_since = None;
            }
            Verdict::Healthy => {}
            Verdict::Blocked(_) => self.ill_since = None,
            _ => {
                self.ill_since.get_or_insert(now);
            }
        }
    }

    /// A vital workload is lost. That ends a trial; a committed version goes on, and is reset when
    /// that may help.
    fn lost(&mut self, reason: &str, stuck: bool, now: u64) -> Option<Action> {
        let at = match self.kind {
            Kind::Trial => now,
            Kind::Active | Kind::Fallback => recovery::reset_at(&Illness {
                ill_since: self.ill_since.unwrap_or(now),
                was_well: self.was_well,
                stuck,
                resets: self.resets,
            }),
        };
        if now >= at {
            let action = Action::GiveUp(reason.to_string());
            if self.kind == Kind::Trial {
                // It may have been committed before its time was over: a committed version goes on.
                self.checking = Some(action);
                return Some(Action::CheckCommitted);
            }
            self.given_up = true;
            return Some(action);
        }
        let announced = self.reset_at.replace(at).is_some();
        (!announced).then(|| Action::ReportDead { reason: reason.to_string(), reset_at: at })
    }

    fn forgets_at(&self) -> Option<u64> {
        let any = self.resets.is_some_and(|resets| resets > 0);
        self.healthy_since.filter(|_| any).map(|since| since + FORGOTTEN_AFTER)
    }

    /// When to look again although nothing happened.
    pub fn next_look(&self) -> Option<u64> {
        let settle = match self.kind {
            Kind::Trial => None,
            _ if self.settled => None,
            _ if self.forgiven => self.healthy_since.map(|since| since + SETTLED_AFTER),
            _ => self.well_since.map(|since| since + SETTLED_AFTER),
        };
        // That it was well has to be seen before it falls ill again.
        let well = self.healthy_since.filter(|_| !self.was_well).map(|since| since + SETTLED_AFTER);
        let looks = [self.deadline, settle, well, self.reset_at, self.forgets_at()];
        looks.into_iter().flatten().min()
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
        Verdict::Recovering("face starting".into())
    }

    #[test]
    fn a_good_boot_is_settled_once_after_ten_seconds_without_a_break() {
        let mut boot = BootAssessment::new(Kind::Active, 0);
        assert_eq!(boot.step(&waiting(), 0), None);
        assert_eq!(boot.step(&Verdict::Healthy, 1_000), Some(Action::ReportHealthy));
        assert_eq!(boot.step(&waiting(), 9_000), None);
        assert_eq!(boot.step(&Verdict::Healthy, 10_000), Some(Action::ReportHealthy));
        assert_eq!(boot.step(&Verdict::Healthy, 19_999), None);
        assert_eq!(boot.next_look(), Some(20_000));
        assert_eq!(boot.step(&Verdict::Healthy, 20_000), Some(Action::Settle));
        assert_eq!(boot.step(&Verdict::Healthy, 90_000), None);
        assert_eq!(boot.healthy_for(90_000), 80_000);
    }

    #[test]
    fn a_trial_is_never_settled_by_itself_and_is_checked_at_its_deadline() {
        let mut boot = BootAssessment::new(Kind::Trial, 120_000);
        assert_eq!(boot.step(&Verdict::Healthy, 5_000), Some(Action::ReportHealthy));
        assert_eq!(boot.step(&Verdict::Healthy, 60_000), None);
        assert_eq!(boot.step(&Verdict::Healthy, 120_000), Some(Action::CheckCommitted));
        assert_eq!(boot.step(&Verdict::Healthy, 130_000), None);
        assert!(boot.may_feed(), "the boot state is being read");
        assert_eq!(boot.checked(false), Some(Action::EndTrial));
        assert!(!boot.may_feed());
        assert_eq!(boot.step(&Verdict::Healthy, 140_000), None);
    }

    fn lost() -> Verdict {
        Verdict::Dead("face failed".into())
    }

    const MINUTE: u64 = 60_000;

    #[test]
    fn a_lost_vital_workload_ends_a_trial_at_once_and_once() {
        let mut boot = BootAssessment::new(Kind::Trial, 120_000);
        assert_eq!(boot.step(&Verdict::Healthy, 0), Some(Action::ReportHealthy));
        assert_eq!(boot.step(&lost(), 60_000), Some(Action::CheckCommitted));
        assert!(boot.may_feed(), "the boot state is being read");
        assert_eq!(boot.step(&lost(), 60_000), None);
        assert_eq!(boot.checked(false), Some(Action::GiveUp("face failed".into())));
        assert!(!boot.may_feed());
        assert_eq!(boot.step(&lost(), 60_001), None);
        assert_eq!(boot.resets_after_this(), None, "a trial's end is no reset that did not help");
    }

    /// A boot of a committed slot that was well for a minute.
    fn well(kind: Kind, resets: u32) -> BootAssessment {
        let mut boot = BootAssessment::new(kind, 0);
        boot.set_resets(resets);
        assert_eq!(boot.step(&Verdict::Healthy, 1_000), Some(Action::ReportHealthy));
        assert_eq!(boot.step(&Verdict::Healthy, MINUTE), Some(Action::Settle));
        boot
    }

    #[test]
    fn a_committed_version_that_was_well_is_not_reset_for_half_an_hour() {
        for kind in [Kind::Active, Kind::Fallback] {
            let mut boot = well(kind, 0);
            assert_eq!(boot.step(&waiting(), 2 * MINUTE), None);
            let said = Action::ReportDead { reason: "face failed".into(), reset_at: 32 * MINUTE };
            assert_eq!(boot.step(&lost(), 3 * MINUTE), Some(said));
            for minute in 4..32 {
                assert_eq!(boot.step(&lost(), minute * MINUTE), None, "minute {minute}");
                assert!(boot.may_feed());
            }
            assert_eq!(boot.next_look(), Some(32 * MINUTE));
            let given_up = Action::GiveUp("face failed".into());
            assert_eq!(boot.step(&lost(), 32 * MINUTE), Some(given_up));
            assert_eq!(boot.resets_after_this(), Some(1));
        }
    }

    /// 29 pictures that kill a workload: it is lost again and again, and comes back each time.
    #[test]
    fn whatever_input_kills_a_workload_the_board_goes_on() {
        let mut boot = well(Kind::Active, 0);
        let mut now = MINUTE;
        for _ in 0..29 {
            for verdict in [waiting(), lost(), waiting(), Verdict::Healthy] {
                let action = boot.step(&verdict, now);
                assert!(!matches!(action, Some(Action::GiveUp(_))), "{action:?} at {now}");
                assert!(boot.may_feed());
                now += SETTLED_AFTER;
            }
        }
    }

    #[test]
    fn a_few_good_moments_do_not_end_an_illness() {
        let mut boot = well(Kind::Active, 0);
        boot.step(&lost(), MINUTE);
        boot.step(&Verdict::Healthy, 20 * MINUTE);
        boot.step(&lost(), 20 * MINUTE + 1_000);
        assert_eq!(boot.next_look(), Some(31 * MINUTE));
        boot.step(&Verdict::Healthy, 22 * MINUTE);
        boot.step(&Verdict::Healthy, 22 * MINUTE + SETTLED_AFTER);
        boot.step(&lost(), 23 * MINUTE);
        assert_eq!(boot.next_look(), Some(53 * MINUTE));
    }

    #[test]
    fn resets_that_did_not_help_grow_rarer_and_are_forgotten_after_hours_of_health() {
        let mut boot = well(Kind::Active, 3);
        let action = boot.step(&lost(), 2 * MINUTE);
        let reset_at = 2 * MINUTE + 4 * 60 * MINUTE;
        assert_eq!(action, Some(Action::ReportDead { reason: "face failed".into(), reset_at }));
        assert_eq!(boot.step(&Verdict::Healthy, 3 * MINUTE), Some(Action::ReportHealthy));
        let later = 3 * MINUTE + FORGOTTEN_AFTER;
        assert_eq!(boot.step(&Verdict::Healthy, later - 1), None);
        assert_eq!(boot.next_look(), Some(later));
        assert_eq!(boot.step(&Verdict::Healthy, later), Some(Action::ForgetResets));
        assert_eq!(boot.step(&Verdict::Healthy, later + 1), None);
        assert_eq!(boot.resets_after_this(), Some(1));
    }

    /// Its strikes have to add up, so that the other slot is reached.
    #[test]
    fn a_committed_version_that_never_got_well_is_reset_after_a_minute() {
        let mut boot = BootAssessment::new(Kind::Active, 0);
        boot.set_resets(0);
        boot.step(&waiting(), 0);
        boot.step(&Verdict::Healthy, 5_000);
        let said = Action::ReportDead { reason: "face failed".into(), reset_at: MINUTE };
        assert_eq!(boot.step(&lost(), 9_000), Some(said));
        assert_eq!(boot.step(&lost(), MINUTE), Some(Action::GiveUp("face failed".into())));
    }

    #[test]
    fn a_process_that_nothing_kills_is_reset_at_once_the_first_time() {
        let stuck = Verdict::Stuck("face unhealthy".into());
        let given_up = Action::GiveUp("face unhealthy".into());
        assert_eq!(well(Kind::Active, 0).step(&stuck, 2 * MINUTE), Some(given_up));
        let mut again = well(Kind::Active, 1);
        assert!(matches!(again.step(&stuck, 2 * MINUTE), Some(Action::ReportDead { .. })));
    }

    #[test]
    fn a_trial_that_was_committed_meanwhile_is_judged_as_a_committed_version() {
        let mut boot = BootAssessment::new(Kind::Trial, 300_000);
        boot.set_resets(0);
        boot.step(&Verdict::Healthy, 1_000);
        boot.step(&Verdict::Healthy, MINUTE);
        assert_eq!(boot.step(&lost(), 2 * MINUTE), Some(Action::CheckCommitted));
        assert_eq!(boot.checked(true), None);
        assert!(matches!(boot.step(&lost(), 2 * MINUTE), Some(Action::ReportDead { .. })));
        assert!(boot.may_feed());
    }

    #[test]
    fn a_trial_says_what_is_missing_from_outside() {
        let held = Verdict::Blocked("face waits for an address".into());
        let waiting = Verdict::Recovering("face starting".into());
        let reason = |verdict, waits| {
            let (why, reason) = uncommitted(verdict, waits);
            [why, reason].concat()
        };
        assert_eq!(reason(&held, ""), "trial held from outside: face waits for an address");
        assert_eq!(reason(&waiting, ""), "trial not committed: face starting");
        assert_eq!(reason(&Verdict::Healthy, ""), "trial not committed: nobody committed it");
        for verdict in [&held, &waiting, &Verdict::Healthy] {
            assert_eq!(reason(verdict, "no server"), "trial not committed: no server");
        }
    }

    #[test]
    fn without_a_cable_strikes_are_forgiven_but_no_fallback_is_made_active() {
        let held = Verdict::Blocked("face waits for an address".into());
        let mut boot = BootAssessment::new(Kind::Active, 0);
        assert_eq!(boot.step(&held, 0), None);
        assert_eq!(boot.step(&held, 10_000), Some(Action::Forgive));
        assert_eq!(boot.step(&held, 20_000), None);
        assert_eq!(boot.step(&Verdict::Healthy, 30_000), Some(Action::ReportHealthy));
        assert_eq!(boot.step(&Verdict::Healthy, 40_000), Some(Action::Settle));
        let mut boot = BootAssessment::new(Kind::Fallback, 0);
        assert_eq!(boot.step(&held, 0), None);
        assert_eq!(boot.step(&held, 100_000), None);
    }
}
