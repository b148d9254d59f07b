//! The sweep: cuts the power after every event of a record, in every way the caches allow (or a
//! seeded sample of them), and lets a fresh board live on from there.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::board::{Board, Root, Scenario};
use crate::disk::{Event, Image, Moment};
use crate::loader::Loader;

/// How thorough to be.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// All ways a cut can end are tried where there are at most so many, else this many of them.
    pub ways: usize,
    /// One in so many recoveries is cut as well.
    pub nested: u64,
    /// One in so many points also loses the data partition.
    pub data_lost: u64,
}

impl Effort {
    /// What `FERRITE_SWEEP` says: `full`, or what CI does.
    pub fn wanted() -> Effort {
        match std::env::var("FERRITE_SWEEP").as_deref() {
            Ok("full") => Effort { ways: 20_000, nested: 1, data_lost: 2 },
            _ => Effort { ways: 600, nested: 8, data_lost: 8 },
        }
    }
}

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Tally {
    /// Power cuts: moments, times the ways each can end.
    pub points: usize,
    /// Different disks that these left.
    pub disks: usize,
    /// Of these, how many were lived on from and cut a second time.
    pub nested: usize,
    /// The first disks from which the board did not get where it should, and why.
    pub bricks: Vec<String>,
}

/// Numbers that look random and can be had again: xorshift64*.
pub struct Dice(u64);

impl Dice {
    /// From `FERRITE_SEED`, or always the same.
    pub fn seeded() -> Dice {
        let seed = std::env::var("FERRITE_SEED").ok().and_then(|seed| seed.parse().ok());
        Dice::new(seed.unwrap_or(0x5EED_u64))
    }

    /// From this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.max(1))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n as usize) == 0
    }
}

/// Sweeps over all that happens from `start` until the board runs what it should.
pub fn sweep(scenario: &Scenario, start: Image, effort: Effort) -> Tally {
    let root = Root::new(Loader::of(&start));
    let board = Board::new(&root, start.clone());
    board.live(scenario).expect("it gets there when nothing is cut");
    sweep_record(scenario, start, &board.disk.record(), effort)
}

/// Sweeps over this record.
pub fn sweep_record(scenario: &Scenario, start: Image, record: &[Event], effort: Effort) -> Tally {
    let mut sweep = Sweep {
        scenario,
        root: Root::new(Loader::of(&start)),
        effort,
        dice: Dice::seeded(),
        seen: HashSet::new(),
        tally: Tally::default(),
    };
    let mut moment = Moment::start(start);
    sweep.cut(&moment);
    for (index, event) in record.iter().enumerate() {
        moment.apply(event);
        let known = sweep.tally.bricks.len();
        sweep.cut(&moment);
        for brick in &mut sweep.tally.bricks[known..] {
            *brick = format!("cut after event {index} of {}: {brick}", record.len());
        }
    }
    sweep.tally.disks = sweep.seen.len();
    sweep.tally
}

struct Sweep<'a> {
    scenario: &'a Scenario<'a>,
    root: Root,
    effort: Effort,
    dice: Dice,
    seen: HashSet<u64>,
    tally: Tally,
}

impl Sweep<'_> {
    /// Every way, or a sample of them, in which a cut at this moment can end.
    fn cut(&mut self, moment: &Moment) {
        match moment.ways(self.effort.ways) {
            Some(ways) => {
                for way in 0..ways {
                    let mut rest = way;
                    let image = moment.left(|contents| {
                        let chosen = rest % contents;
                        rest /= contents;
                        chosen
                    });
                    self.point(image);
                }
            }
            None => {
                self.point(moment.left(|_| 0));
                self.point(moment.left(|contents| contents - 1));
                for sample in 2..self.effort.ways {
                    // Few sectors lost, few sectors kept, and all between.
                    let share = 1 + sample % 15;
                    let dice = &mut self.dice;
                    let image = moment.left(|contents| match dice.below(16) < share {
                        true => dice.below(contents),
                        false if sample % 2 == 0 => 0,
                        false => contents - 1,
                    });
                    self.point(image);
                }
            }
        }
    }

    fn point(&mut self, image: Image) {
        if self.dice.one_in(self.effort.data_lost) {
            let mut lost = image.clone();
            lost.data.clear();
            self.power_on(lost);
        }
        self.power_on(image);
    }

    /// Lives on from a disk, unless that has been done.
    fn power_on(&mut self, image: Image) {
        self.tally.points += 1;
        let mut hasher = DefaultHasher::new();
        image.hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return;
        }
        let record = match self.live(image.clone()) {
            Ok(record) => record,
            Err(brick) => return self.brick(brick),
        };
        if self.dice.one_in(self.effort.nested) {
            let mut moment = Moment::start(image);
            let end = self.dice.below(record.len() + 1);
            record[..end].iter().for_each(|event| moment.apply(event));
            let dice = &mut self.dice;
            let again = moment.left(|contents| dice.below(contents));
            self.tally.nested += 1;
            if let Err(brick) = self.live(again) {
                self.brick(format!("a second cut, after event {end} of the recovery: {brick}"));
            }
        }
    }

    /// What happened to the disk until the board ran what it should.
    fn live(&self, image: Image) -> Result<Vec<Event>, String> {
        self.scenario.check(&image)?;
        let board = Board::new(&self.root, image);
        board.live(self.scenario).map(|()| board.disk.record())
    }

    fn brick(&mut self, brick: String) {
        self.tally.bricks.push(brick);
    }
}
