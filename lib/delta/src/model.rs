//! How likely each bit of the new image is, given the old one.
//!
//! A copy goes in lines of 64 bytes: a flag says whether the line differs from what is expected,
//! then a flag each word of four bytes, then the word's difference as a number. Literals are coded
//! byte by byte. All contexts are things both sides know.

use crate::arm64;
use crate::coder::BitCoder;
use crate::mix::{Flags, Mix, Tables, hash};
use crate::segments::Shifts;

/// Bytes that share one flag, on the new image's grid.
const LINE: u64 = 64;

/// The adaptive state; about 2 MB. Encoder and decoder hold the same one at the same byte.
pub struct Model {
    tables: Tables,
    lines: Flags<4>,
    words: Flags<5>,
    guesses: Flags<4>,
    residuals: Mix<6>,
    literals: Mix<7>,
    /// Differences of the last words, by word number of the new image.
    recent: [u32; 64],
    /// The last difference that a hash of an old word (and of what is near it) had.
    seen: Vec<u32>,
    /// How often each kind of guess was right lately.
    hits: [u32; 5],
    /// Which of the last differences were small.
    smalls: u32,
    /// The last differences that were not 0.
    nonzero: [u32; 2],
    line_history: u32,
    word_history: u32,
    /// The last eight bytes of the new image.
    tail: u64,
}

impl Model {
    /// Fresh, with its tables.
    pub fn new() -> Self {
        Model {
            tables: Tables::new(),
            lines: Flags::new(14, 4, 1000),
            words: Flags::new(16, 8, 255),
            guesses: Flags::new(14, 6, 255),
            residuals: Mix::new(13, 8 * 4, 255),
            literals: Mix::apart(12, 16, 255),
            recent: [0; 64],
            seen: vec![0; 1 << 14],
            hits: [0; 5],
            smalls: 0,
            nonzero: [0; 2],
            line_history: 0,
            word_history: 0,
            tail: 0,
        }
    }

    /// Forgets everything: a group starts.
    pub fn reset(&mut self) {
        self.lines.reset();
        self.words.reset();
        self.guesses.reset();
        self.seen.fill(0);
        (self.hits, self.smalls) = ([0; 5], 0);
        self.residuals.reset();
        self.literals.reset();
        self.recent = [0; 64];
        self.nonzero = [0; 2];
        (self.line_history, self.word_history, self.tail) = (0, 0, 0);
    }

    /// Codes bytes `new_at..` of the new image that are nearly the old image's at `old_at..`.
    ///
    /// `old` and `new` have the same length; what `new` holds is what the encoder codes, and what
    /// it holds afterwards is what the decoder got.
    pub fn copy<C: BitCoder>(
        &mut self,
        coder: &mut C,
        shifts: &Shifts,
        (old_at, old): (u32, &[u8]),
        (new_at, new): (u32, &mut [u8]),
    ) {
        let mut at = 0usize;
        while at < new.len() {
            let position = u64::from(new_at) + at as u64;
            let to_line_end = (LINE - position % LINE) as usize;
            let end = new.len().min(at + to_line_end);
            self.line(
                coder,
                shifts,
                (old_at.wrapping_add(at as u32), &old[at..end]),
                (new_at.wrapping_add(at as u32), &mut new[at..end]),
            );
            at = end;
        }
        self.remember(new);
    }

    fn remember(&mut self, new: &[u8]) {
        for byte in &new[new.len().saturating_sub(8)..] {
            self.tail = self.tail << 8 | u64::from(*byte);
        }
    }

    fn line<C: BitCoder>(
        &mut self,
        coder: &mut C,
        shifts: &Shifts,
        (old_at, old): (u32, &[u8]),
        (new_at, new): (u32, &mut [u8]),
    ) {
        // The words of the line, cut at the new image's grid of four bytes.
        let mut words = [Word::default(); 17];
        let mut count = 0;
        let mut at = 0usize;
        let (mut any_expected, mut differs) = (false, false);
        while at < old.len() {
            let end = old.len().min(at + 4 - (new_at as usize + at) % 4);
            let mut word = Word { at, end, old: little(&old[at..end]), ..Word::default() };
            if end - at == 4 {
                let place = old_at.wrapping_add(at as u32);
                word.expected = arm64::expected(word.old, place, new_at + at as u32, shifts);
            }
            any_expected |= word.expected != 0;
            word.given = little(&new[at..end]);
            differs |= word.given != word.old.wrapping_add(word.expected) & word.mask();
            words[count] = word;
            count += 1;
            at = end;
        }
        let words = &mut words[..count];
        let zeros = old.iter().all(|byte| *byte == 0);
        let contexts = [
            self.line_history & 0xff,
            (self.line_history & 0xf) << 2 | u32::from(any_expected) << 1 | u32::from(zeros),
            (self.line_history & 0xffff) | 1 << 31,
            ((new_at % 4096) / 64) << 4 | self.line_history & 3,
        ];
        let set = usize::from(any_expected) * 2 + (self.line_history & 1) as usize;
        let differs = self.lines.flag(coder, &self.tables, &contexts, set, differs);
        self.line_history = self.line_history << 1 | u32::from(differs);
        if !differs && !any_expected {
            // Most lines: nothing to add up.
            new.copy_from_slice(old);
            for word in words.iter() {
                self.recent[(new_at as usize + word.at) / 4 % 64] = 0;
            }
            self.word_history <<= words.len();
            return;
        }
        let mut seen = false;
        let last = words.len() - 1;
        for (index, word) in words.iter().enumerate() {
            let number = (new_at as usize + word.at) / 4;
            let residual = if differs {
                let must = index == last && !seen;
                self.word(coder, word, number, must)
            } else {
                word.expected
            };
            seen |= residual != word.expected;
            self.recent[number % 64] = residual;
            let made = word.old.wrapping_add(residual).to_le_bytes();
            new[word.at..word.end].copy_from_slice(&made[..word.end - word.at]);
        }
        if !differs {
            self.word_history <<= words.len();
        }
    }

    /// Codes one word of a line that differs; returns new - old.
    fn word<C: BitCoder>(&mut self, coder: &mut C, word: &Word, number: usize, must: bool) -> u32 {
        let back = |n: usize| self.recent[number.wrapping_sub(n) % 64];
        let expected = u32::from(word.expected != 0);
        let phase = (number % 2) as u32;
        let (b1, b2, b4, b6) = (back(1), back(2), back(4), back(6));
        let zeroes = u32::from(b1 == 0)
            | u32::from(b2 == 0) << 1
            | u32::from(back(3) == 0) << 2
            | u32::from(b4 == 0) << 3
            | u32::from(b6 == 0) << 4
            | u32::from(back(8) == 0) << 5
            | u32::from(back(12) == 0) << 6;
        let given = word.given.wrapping_sub(word.old) & word.mask();
        let is_given = given != word.expected & word.mask();
        let changed = must || {
            let contexts = [
                zeroes << 2 | phase << 1 | expected,
                hash(word.old, expected),
                hash(b1, hash(b2, expected)),
                hash(b6, hash(word.old, 6)),
                self.word_history & 0xffff | expected << 30,
            ];
            let set = (expected * 2 + phase) as usize;
            self.words.flag(coder, &self.tables, &contexts, set, is_given)
        };
        self.word_history = self.word_history << 1 | u32::from(changed);
        if !changed {
            return word.expected;
        }
        let slot = (hash(word.old, b6) >> 8) as usize % self.seen.len();
        let by_word = (hash(word.old, 0) >> 8) as usize % self.seen.len();
        let candidates = [self.seen[slot], self.seen[by_word], b6, self.nonzero[0], b2];
        let mut found = None;
        for (index, candidate) in candidates.iter().enumerate() {
            // One that was asked already, or is the value that was just denied, says nothing.
            let candidate = candidate & word.mask();
            if candidate == word.expected & word.mask()
                || candidates[..index].iter().any(|before| before & word.mask() == candidate)
            {
                continue;
            }
            let history = self.hits[index];
            let kind = index as u32 | expected << 3 | phase << 4;
            let contexts = [
                hash(kind, history & 0x3f),
                hash(kind, hash(word.old, 1)),
                hash(kind, hash(candidate, 2)),
                hash(kind, hash(b1, zeroes)),
            ];
            let is = given == candidate;
            let is = self.guesses.flag(coder, &self.tables, &contexts, index, is);
            self.hits[index] = history << 1 | u32::from(is);
            if is {
                found = Some(candidate);
                break;
            }
        }
        let coded = match found {
            Some(candidate) => candidate,
            None => self.number(coder, word, given, (b4, b6), expected, phase),
        };
        self.seen[slot] = coded;
        self.seen[by_word] = coded;
        if coded != 0 && coded != self.nonzero[0] {
            self.nonzero = [coded, self.nonzero[0]];
        }
        coded
    }

    /// Codes a difference that none of the guesses gave, byte by byte from the lowest.
    fn number<C: BitCoder>(
        &mut self,
        coder: &mut C,
        word: &Word,
        given: u32,
        (b4, b6): (u32, u32),
        expected: u32,
        phase: u32,
    ) -> u32 {
        let bytes = given.to_le_bytes();
        let mut coded = 0u32;
        let mut length = word.end - word.at;
        if length == 4 {
            // Most differences are small: their upper half is the sign.
            let contexts = [
                expected | phase << 1,
                hash(word.old, 9),
                hash(word.old >> 24, self.smalls & 7),
                self.smalls & 0xff | 1 << 16,
            ];
            let small = given as i16 as i32 as u32 == given;
            let small = self.guesses.flag(coder, &self.tables, &contexts, 5, small);
            self.smalls = self.smalls << 1 | u32::from(small);
            if small {
                length = 2;
            }
        }
        for (index, byte) in bytes[..length].iter().enumerate() {
            let place = hash(coded, index as u32 | (length as u32) << 3);
            let short = index as u32 | expected << 2 | phase << 3;
            let byte_before = if index == 0 { 0 } else { coded >> (8 * (index - 1)) };
            let contexts = [
                hash(short, byte_before & 0xff),
                hash(place, word.old),
                hash(place, self.nonzero[0]),
                hash(place, hash(b6, 6)),
                hash(place, hash(word.old >> 8, hash(b4, 4))),
                hash(short | 64, word.old >> (8 * index as u32) & 0xff | (byte_before & 0xff) << 8),
            ];
            let set = (index + 4 * usize::from(length == 2)) * 4 + (expected * 2 + phase) as usize;
            let byte = self.residuals.byte(coder, &self.tables, &contexts, set, *byte);
            coded |= u32::from(byte) << (8 * index);
        }
        if length == 2 && word.end - word.at == 4 {
            coded = coded as i16 as i32 as u32;
        }
        coded
    }

    /// Codes bytes that have no likeness in the old image.
    pub fn literals<C: BitCoder>(&mut self, coder: &mut C, new_at: u32, new: &mut [u8]) {
        for (index, byte) in new.iter_mut().enumerate() {
            let phase = (new_at as usize + index) % 4;
            let tail = self.tail;
            let (low, high) = (tail as u32, (tail >> 32) as u32);
            let contexts = [
                phase as u32,
                low & 0xff | (phase as u32) << 8,
                hash(low & 0xffff, phase as u32 | (2 << 8)),
                hash((low >> 8) & 0xff, (phase as u32 % 2) | 32),
                hash(low & 0xff_ffff, 3),
                hash(low >> 24, hash(high >> 24, phase as u32 | 16)),
                hash((low >> 24) | ((low << 8) & 0xff00), phase as u32 | 64),
            ];
            *byte = self.literals.byte(
                coder,
                &self.tables,
                &contexts,
                phase * 4 + (low >> 30) as usize,
                *byte,
            );
            self.tail = tail << 8 | u64::from(*byte);
        }
        let first = (new_at as usize + new.len()).saturating_sub(1) / 4;
        self.recent[first % 64] = 0;
    }
}

/// A word of a line: up to four bytes, fewer at the ends of a copy.
#[derive(Clone, Copy, Default)]
struct Word {
    at: usize,
    end: usize,
    old: u32,
    /// new - old as the code's own addresses let it be expected.
    expected: u32,
    /// The new word, where the encoder asks.
    given: u32,
}

impl Word {
    fn mask(&self) -> u32 {
        u32::MAX >> (32 - 8 * (self.end - self.at) as u32)
    }
}

fn little(bytes: &[u8]) -> u32 {
    if let Ok(four) = bytes.try_into() {
        return u32::from_le_bytes(four);
    }
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}
