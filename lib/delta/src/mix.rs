//! Context mixing: several counters each say how likely a 1 is, and a small online-trained mixer
//! weighs them (the way of lpaq). Integers only, so every machine decodes the same.

use crate::coder::BitCoder;

/// Counters of one table line: fifteen nodes of a four-bit tree behind one check word; 64 bytes,
/// one cache line.
const LINE: usize = 16;
/// A counter that has seen nothing: a half in the upper 22 bits, a count of 0 in the lower 10.
const FRESH: u32 = 1 << 31;
/// log-odds are in 1/256, from -STRETCH_MAX to STRETCH_MAX.
const STRETCH_MAX: i32 = 2815;

/// Tables for the way between probabilities and log-odds, and for the counters' pace.
pub struct Tables {
    /// log-odds of a 12-bit probability.
    stretch: Vec<i16>,
    /// 16-bit probability of log-odds + STRETCH_MAX.
    squash: Vec<u16>,
    /// 65536 / (n + 1.6): how far a counter that has seen n bits goes towards the next one.
    pace: [u32; 1024],
}

impl Tables {
    pub fn new() -> Self {
        // exp by repeated multiplication: IEEE multiplication and division give the same bits
        // everywhere, a platform's exp() need not.
        let mut squash = vec![0u16; 2 * STRETCH_MAX as usize + 1];
        let step = 1.003_913_889_338_347_6_f64; // e^(1/256)
        let mut power = 1.0f64;
        for x in 0..=STRETCH_MAX as usize {
            let p = power / (1.0 + power);
            let p16 = ((p * 65536.0) as i64).clamp(1, 65535) as u16;
            squash[STRETCH_MAX as usize + x] = p16;
            squash[STRETCH_MAX as usize - x] = (65536 - i64::from(p16)).clamp(1, 65535) as u16;
            power *= step;
        }
        let mut stretch = vec![0i16; 4096];
        let mut x = 0usize;
        for (p12, slot) in stretch.iter_mut().enumerate() {
            while x < 2 * STRETCH_MAX as usize && (usize::from(squash[x]) >> 4) < p12 {
                x += 1;
            }
            *slot = (x as i32 - STRETCH_MAX) as i16;
        }
        let mut pace = [0u32; 1024];
        for (n, slot) in pace.iter_mut().enumerate() {
            *slot = (65536.0 / (n as f64 + 1.6)) as u32;
        }
        Tables { stretch, squash, pace }
    }

    #[inline]
    fn squash(&self, x: i32) -> u32 {
        u32::from(self.squash[(x.clamp(-STRETCH_MAX, STRETCH_MAX) + STRETCH_MAX) as usize])
    }
}

/// Moves a counter towards the bit it has seen; `limit` bounds its memory.
#[inline]
fn update(tables: &Tables, counter: &mut u32, bit: u32, limit: u32) {
    let n = *counter & 1023;
    let p = *counter >> 10;
    let pace = tables.pace[n as usize];
    // 15 bits of distance by 16 of pace: no carry, and never past the end.
    let p = if bit == 1 {
        p + (((((1 << 22) - 1 - p) >> 7) * pace) >> 9)
    } else {
        p - (((p >> 7) * pace) >> 9)
    };
    *counter = (p << 10) | if n < limit { n + 1 } else { n };
}

/// What a mixer starts with: a little more than the contexts' average.
fn first_weight<const N: usize>() -> i32 {
    (1 << 16) * 3 / 2 / N as i32
}

/// The counters' log-odds and what the mixer makes of them: the probability of a 1 in 1/65536.
#[inline]
fn predict<const N: usize>(
    tables: &Tables,
    counters: &[u32; N],
    weights: &[i32; N],
) -> ([i32; N], u32) {
    let mut inputs = [0i32; N];
    let mut sum = 0i64;
    for i in 0..N {
        inputs[i] = i32::from(tables.stretch[(counters[i] >> 20) as usize]);
        sum += i64::from(inputs[i]) * i64::from(weights[i]);
    }
    // N inputs of 12 bits, weights of 21 bits: far from i64's end.
    (inputs, tables.squash((sum >> 16).clamp(-100_000, 100_000) as i32))
}

/// Moves the weights so that the inputs that were right count for more.
#[inline]
fn train<const N: usize>(weights: &mut [i32; N], inputs: &[i32; N], bit: u32, p1: u32) {
    let error = ((bit << 16) as i32 - p1 as i32) >> 4; // 12 bits
    for (weight, input) in weights.iter_mut().zip(inputs) {
        *weight = (*weight + ((input * error + (1 << 9)) >> 10)).clamp(-(1 << 20), 1 << 20);
    }
}

/// A hash of two words.
#[inline]
pub fn hash(a: u32, b: u32) -> u32 {
    let x = (u64::from(a) << 32 | u64::from(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> 32) as u32 ^ (x >> 15) as u32
}

/// `N` contexts, their counters and their mixer's weights.
pub struct Mix<const N: usize> {
    lines: Vec<[u32; LINE]>,
    mask: u32,
    /// Lines from one context's to the next one's; 0 where all share.
    apart: usize,
    weights: Vec<[i32; N]>,
    limit: u32,
    /// The line each context stands in now.
    at: [usize; N],
}

impl<const N: usize> Mix<N> {
    /// `lines_log2`: the table has so many lines of 64 bytes; `sets` of weights to choose from,
    /// each one for the upper and one for the lower half of a byte.
    pub fn new(lines_log2: u32, sets: usize, limit: u32) -> Self {
        Mix {
            lines: vec![[FRESH; LINE]; 1 << lines_log2],
            mask: (1 << lines_log2) - 1,
            apart: 0,
            weights: vec![[first_weight::<N>(); N]; 2 * sets],
            limit,
            at: [0; N],
        }
    }

    /// As [`Mix::new`], but each context has that many lines of its own: bytes without a pattern
    /// fill the long contexts' lines and leave the short ones' alone.
    pub fn apart(lines_log2: u32, sets: usize, limit: u32) -> Self {
        let mut mix = Mix::new(lines_log2, sets, limit);
        mix.apart = 1 << lines_log2;
        mix.lines.resize(N << lines_log2, [FRESH; LINE]);
        mix
    }

    /// Forgets all, without giving the memory back.
    pub fn reset(&mut self) {
        self.lines.fill([FRESH; LINE]);
        self.weights.fill([first_weight::<N>(); N]);
    }

    /// Goes to the lines of these contexts, taking over those of others.
    #[inline]
    fn seek(&mut self, contexts: &[u32; N], salt: u32) {
        for (i, context) in contexts.iter().enumerate() {
            let h = hash(*context ^ salt.wrapping_mul(0x85eb_ca6b), i as u32 + 1);
            let index = (h & self.mask) as usize + i * self.apart;
            let line = &mut self.lines[index];
            // 22 bits say enough; an unused line has FRESH here, which is no check word.
            let check = (h >> 10) | 1 << 30;
            if line[0] != check {
                *line = [FRESH; LINE];
                line[0] = check;
            }
            self.at[i] = index;
        }
    }

    #[inline]
    fn bit<C: BitCoder>(
        &mut self,
        coder: &mut C,
        tables: &Tables,
        node: usize,
        set: usize,
        bit: u32,
    ) -> u32 {
        let mut values = [0u32; N];
        for (value, line) in values.iter_mut().zip(&self.at) {
            *value = self.lines[*line][node];
        }
        let (inputs, p1) = predict(tables, &values, &self.weights[set]);
        let bit = coder.code(bit, p1);
        train(&mut self.weights[set], &inputs, bit, p1);
        for line in self.at {
            update(tables, &mut self.lines[line][node], bit, self.limit);
        }
        bit
    }

    /// Codes one byte, its upper four bits first.
    pub fn byte<C: BitCoder>(
        &mut self,
        coder: &mut C,
        tables: &Tables,
        contexts: &[u32; N],
        set: usize,
        byte: u8,
    ) -> u8 {
        let byte = u32::from(byte);
        let mut all = 1u32;
        for half in 0..2 {
            self.seek(contexts, if half == 0 { 1 } else { all + 1 });
            let mut node = 1u32;
            for bit in 0..4 {
                let given = byte >> (7 - 4 * half - bit) & 1;
                let coded = self.bit(coder, tables, node as usize, set * 2 + half as usize, given);
                node = node * 2 + coded;
                all = all * 2 + coded;
            }
        }
        all as u8
    }
}

/// `N` contexts for single flags: one counter a context, without check words.
pub struct Flags<const N: usize> {
    counters: Vec<u32>,
    mask: u32,
    weights: Vec<[i32; N]>,
    limit: u32,
}

impl<const N: usize> Flags<N> {
    /// A table of `2^log2` counters for all contexts together.
    pub fn new(log2: u32, sets: usize, limit: u32) -> Self {
        Flags {
            counters: vec![FRESH; 1 << log2],
            mask: (1 << log2) - 1,
            weights: vec![[first_weight::<N>(); N]; sets],
            limit,
        }
    }

    /// Forgets all, without giving the memory back.
    pub fn reset(&mut self) {
        self.counters.fill(FRESH);
        self.weights.fill([first_weight::<N>(); N]);
    }

    /// Codes one flag with the weights of `set`.
    #[inline]
    pub fn flag<C: BitCoder>(
        &mut self,
        coder: &mut C,
        tables: &Tables,
        contexts: &[u32; N],
        set: usize,
        flag: bool,
    ) -> bool {
        let mut at = [0usize; N];
        let mut values = [0u32; N];
        for i in 0..N {
            at[i] = (hash(contexts[i], i as u32 + 1) & self.mask) as usize;
            values[i] = self.counters[at[i]];
        }
        let (inputs, p1) = predict(tables, &values, &self.weights[set]);
        let bit = coder.code(u32::from(flag), p1);
        train(&mut self.weights[set], &inputs, bit, p1);
        for counter in at {
            update(tables, &mut self.counters[counter], bit, self.limit);
        }
        bit == 1
    }
}
