//! What the time is, by all who say something of it: one decision over plain data.
//!
//! Who is heard:
//! - the time servers, each with a margin within which it is right if it is honest;
//! - our own clock as it would be had no single server changed it since the start (`anchor`): the
//!   hardware's, or the last time written down, and what ran since then;
//! - the image: its newest package was made at `built`, so it is later than that;
//! - the repository: `signed` is what its newest timestamp says of when it was signed.
//!
//! What holds, whatever anybody says (each is a test below):
//! 1. The time of more than half of the servers that answered is taken, or none.
//! 2. One server alone moves the clock forward by at most a year from the anchor, however often it
//!    is asked, and never back.
//! 3. Two servers that agree, or one whose time is what the repository signed within the last year,
//!    set the clock whichever way: no clock stays wrong for good.
//! 4. No time before the image was made, unless two servers and the repository say so; none from
//!    2100 on.
//! 5. The order in which servers answer changes nothing.

/// Microseconds of a second, a day and a year.
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
const YEAR: i64 = 366 * DAY;
/// 2024-01-01: a clock before this was never set.
const NEVER_SET: i64 = 1_704_067_200 * SECOND;
/// 2100-01-01: a time behind this is a broken file or server.
pub const LATEST: i64 = 4_102_444_800 * SECOND;
/// Smaller differences are slewed away, in microseconds.
const SMALL: i64 = SECOND / 2;

/// What a time server said, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// How much later it is there than by our clock.
    pub offset: i64,
    /// By how much that may be wrong.
    pub margin: i64,
}

/// What is known without a time server; microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Our clock, as nobody has changed it who was alone with his opinion.
    pub anchor: i64,
    /// When the newest part of the image was made; 0: unknown.
    pub built: i64,
    /// When the repository was last signed, by its newest timestamp; 0: nothing was told.
    pub signed: i64,
}

/// How to get from our time to the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// Set the clock by so many microseconds.
    Step(i64),
    /// Let it run faster or slower until it has moved by so many microseconds.
    Slew(i64),
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What to do.
    pub correction: Correction,
    /// How much later it is than by our clock, in microseconds.
    pub offset: i64,
    /// How many servers say so.
    pub servers: usize,
    /// Whether somebody confirms what they say: another server, or the repository.
    pub confirmed: bool,
}

/// Why nothing follows from what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// No time is that of more than half of them.
    Disagreement,
    /// It cannot be that time.
    Impossible,
    /// A single server says what needs a second witness.
    Alone,
}

impl Doubt {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Doubt::Disagreement => "the time servers disagree",
            Doubt::Impossible => "a time server says what cannot be",
            Doubt::Alone => "a single time server is more than a year ahead of all else",
        }
    }
}

/// Decides what to do with a clock that shows `now` (microseconds since 1970).
pub fn judge(now: i64, witnesses: &[Witness], known: &Known) -> Result<Judgement, Doubt> {
    let (servers, offset) = majority(witnesses).ok_or(Doubt::Disagreement)?;
    let time = now.saturating_add(offset);
    // It is that time, or up to a year later: a repository is signed now and then.
    let signed_lately =
        known.signed > 0 && time >= known.signed - DAY && time <= known.signed.saturating_add(YEAR);
    let confirmed = servers >= 2 || signed_lately;
    if !(0..LATEST).contains(&time) || (time < known.built && !(servers >= 2 && signed_lately)) {
        return Err(Doubt::Impossible);
    }
    if !confirmed {
        let start = known.anchor.max(known.built);
        // Without a date of the image, a clock that was never set is no witness either.
        let is_known = known.built > 0 || known.anchor >= NEVER_SET;
        let leaps = is_known && time > start.saturating_add(YEAR);
        // The repository was signed after that.
        if leaps || time < known.signed - DAY {
            return Err(Doubt::Alone);
        }
    }
    let correction = match confirmed {
        _ if offset.unsigned_abs() <= SMALL.unsigned_abs() => Correction::Slew(offset),
        false if offset < 0 => Correction::Slew(-SMALL),
        _ => Correction::Step(offset),
    };
    Ok(Judgement { correction, offset, servers, confirmed })
}

/// The most servers that agree, when they are more than half, and the middle of what they agree on:
/// the intersection algorithm of Marzullo, which NTP builds on (RFC 5905, section 11.2.1).
fn majority(witnesses: &[Witness]) -> Option<(usize, i64)> {
    let mut edges: Vec<(i64, bool)> = Vec::with_capacity(witnesses.len() * 2);
    for witness in witnesses {
        let margin = witness.margin.max(0);
        // `false` sorts first: intervals that touch overlap.
        edges.push((witness.offset.saturating_sub(margin), false));
        edges.push((witness.offset.saturating_add(margin), true));
    }
    edges.sort_unstable();
    let (mut open, mut best) = (0usize, None);
    for (index, (edge, ends)) in edges.iter().enumerate() {
        if *ends {
            open -= 1;
            continue;
        }
        open += 1;
        if best.is_none_or(|(most, _)| open > most) {
            // Where the most of them are open, the next edge is an end.
            let end = edges.get(index + 1).map_or(*edge, |(end, _)| *end);
            best = Some((open, edge.saturating_add(end.saturating_sub(*edge) / 2)));
        }
    }
    best.filter(|(most, _)| most * 2 > witnesses.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2027-01-15.
    const NOW: i64 = 1_800_000_000 * SECOND;
    const BUILT: i64 = NOW - 30 * DAY;

    fn known() -> Known {
        Known { anchor: NOW, built: BUILT, signed: 0 }
    }

    fn said(offset: i64) -> Witness {
        Witness { offset, margin: 50_000 }
    }

    fn correction(now: i64, offsets: &[i64], known: &Known) -> Result<Correction, Doubt> {
        let witnesses: Vec<_> = offsets.iter().copied().map(said).collect();
        judge(now, &witnesses, known).map(|judgement| judgement.correction)
    }

    #[test]
    fn small_differences_are_slewed_and_large_ones_ahead_stepped() {
        let one = |offset| correction(NOW, &[offset], &known());
        assert_eq!(one(10 * SECOND), Ok(Correction::Step(10 * SECOND)));
        assert_eq!(one(400_000), Ok(Correction::Slew(400_000)));
        assert_eq!(one(-400_000), Ok(Correction::Slew(-400_000)));
        assert_eq!(one(-10 * SECOND), Ok(Correction::Slew(-SMALL)), "back needs two");
        assert_eq!(correction(NOW, &[], &known()), Err(Doubt::Disagreement));
    }

    #[test]
    fn one_wrong_answer_does_not_put_a_device_into_2099() {
        let far = 70 * YEAR;
        assert_eq!(correction(NOW, &[far], &known()), Err(Doubt::Alone));
        assert_eq!(correction(NOW, &[far, 0, 10_000], &known()), Ok(Correction::Slew(5_000)));
        assert_eq!(correction(NOW, &[far, 0], &known()), Err(Doubt::Disagreement));
        // A clock that was never set, in an image a month old.
        let unset = Known { anchor: 60 * SECOND, ..known() };
        let to_now = NOW - 60 * SECOND;
        assert_eq!(correction(60 * SECOND, &[to_now], &unset), Ok(Correction::Step(to_now)));
        assert_eq!(correction(60 * SECOND, &[to_now + far], &unset), Err(Doubt::Alone));
        assert_eq!(correction(60 * SECOND, &[to_now - YEAR], &unset), Err(Doubt::Impossible));
    }

    #[test]
    fn an_old_image_with_one_server_waits_for_what_the_repository_signed() {
        let unset = Known { anchor: 0, built: NOW - 5 * YEAR, signed: 0 };
        assert_eq!(correction(0, &[NOW], &unset), Err(Doubt::Alone));
        assert_eq!(correction(0, &[NOW, NOW], &unset), Ok(Correction::Step(NOW)));
        let told = Known { signed: NOW - 20 * DAY, ..unset };
        assert_eq!(correction(0, &[NOW], &told), Ok(Correction::Step(NOW)));
        assert_eq!(correction(0, &[NOW + 2 * YEAR], &told), Err(Doubt::Alone));
        // The repository was signed later than that one server says.
        assert_eq!(correction(0, &[NOW - YEAR], &told), Err(Doubt::Alone));
    }

    #[test]
    fn a_clock_that_is_years_ahead_comes_back_when_two_agree() {
        let ahead = NOW + 70 * YEAR;
        let known = Known { anchor: ahead, ..known() };
        assert_eq!(correction(ahead, &[-70 * YEAR], &known), Ok(Correction::Slew(-SMALL)));
        let two = correction(ahead, &[-70 * YEAR, -70 * YEAR], &known);
        assert_eq!(two, Ok(Correction::Step(-70 * YEAR)));
        let signed = Known { signed: NOW - DAY, ..known };
        assert_eq!(correction(ahead, &[-70 * YEAR], &signed), Ok(Correction::Step(-70 * YEAR)));
    }

    #[test]
    fn an_image_with_a_wrong_date_is_outvoted() {
        let known = Known { built: NOW + YEAR, anchor: NOW + YEAR, signed: NOW - DAY };
        assert_eq!(correction(NOW, &[0], &known), Err(Doubt::Impossible));
        assert_eq!(correction(NOW, &[0, 0], &known), Ok(Correction::Slew(0)));
        assert_eq!(correction(NOW, &[0, 0], &Known { signed: 0, ..known }), Err(Doubt::Impossible));
    }

    fn any_witness() -> impl Strategy<Value = Witness> {
        let offset = prop_oneof![-80 * YEAR..80 * YEAR, -10 * SECOND..10 * SECOND, any::<i64>(),];
        (offset, 0..20 * SECOND).prop_map(|(offset, margin)| Witness { offset, margin })
    }

    fn any_known() -> impl Strategy<Value = Known> {
        let time = || prop_oneof![Just(0), 0..LATEST];
        (time(), time(), time()).prop_map(|(anchor, built, signed)| Known { anchor, built, signed })
    }

    proptest! {
        #[test]
        fn no_impossible_time_and_no_minority(
            now in 0..LATEST,
            witnesses in proptest::collection::vec(any_witness(), 0..8),
            known in any_known(),
        ) {
            let Ok(judgement) = judge(now, &witnesses, &known) else { return Ok(()) };
            prop_assert!(judgement.servers * 2 > witnesses.len());
            let time = now.saturating_add(judgement.offset);
            prop_assert!((0..LATEST).contains(&time));
            let agree = witnesses.iter().filter(|w| {
                judgement.offset.abs_diff(w.offset) <= w.margin as u64
            });
            prop_assert_eq!(agree.count(), judgement.servers);
            if let Correction::Step(by) = judgement.correction {
                prop_assert_eq!(by, judgement.offset);
                prop_assert!(time >= known.built || judgement.servers >= 2);
                if !judgement.confirmed {
                    prop_assert!(by > 0);
                    let start = known.anchor.max(known.built);
                    prop_assert!(known.built == 0 && start < NEVER_SET || time <= start + YEAR);
                }
            }
        }

        #[test]
        fn the_order_of_answers_changes_nothing(
            now in 0..LATEST,
            mut witnesses in proptest::collection::vec(any_witness(), 0..6),
            known in any_known(),
            turn in 0usize..6,
        ) {
            let before = judge(now, &witnesses, &known);
            if !witnesses.is_empty() {
                let turn = turn % witnesses.len();
                witnesses.rotate_left(turn);
                witnesses.reverse();
            }
            prop_assert_eq!(judge(now, &witnesses, &known), before);
        }

        #[test]
        fn liars_in_the_minority_change_nothing_and_the_honest_heal_every_clock(
            now in 0..LATEST,
            right in 1_700_000_000 * SECOND..LATEST - DAY,
            noise in proptest::collection::vec(-40_000i64..40_000, 3..6),
            liars in proptest::collection::vec(any_witness(), 0..2),
            anchor in 0..LATEST,
            age in 0..10 * YEAR,
        ) {
            let honest = noise.iter().map(|noise| said(right - now + noise));
            let witnesses: Vec<_> = honest.chain(liars).collect();
            let known = Known { anchor, built: right - age, signed: 0 };
            let judgement = judge(now, &witnesses, &known);
            let judgement = judgement.expect("more than half agree");
            prop_assert!((now + judgement.offset - right).abs() <= 100_000);
            match judgement.correction {
                Correction::Step(by) => prop_assert_eq!(by, judgement.offset),
                Correction::Slew(by) => prop_assert!(by == judgement.offset && by.abs() <= SMALL),
            }
        }

        #[test]
        fn one_server_gets_no_further_than_a_year_however_often_it_is_asked(
            answers in proptest::collection::vec((any::<i64>(), 0..5 * SECOND), 1..30),
            built in 1_704_067_200 * SECOND..2_000_000_000 * SECOND,
        ) {
            let known = Known { anchor: built, built, signed: 0 };
            let mut now = built;
            for (offset, margin) in answers {
                let by = judge(now, &[Witness { offset, margin }], &known);
                if let Ok(Judgement { correction: Correction::Step(by), .. }) = by {
                    now += by;
                }
                prop_assert!(now >= built && now <= built + YEAR);
            }
        }
    }
}
