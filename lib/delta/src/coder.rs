//! Binary arithmetic coding: one bit at a time, each with its own probability.
//!
//! The model that gives the probabilities is written once, over [`BitCoder`]: the encoder passes
//! the bit through, the decoder returns the one it reads. So the two sides cannot differ.

/// Probabilities are of a 1 bit, in 1/65536.
pub const PROBABILITY_BITS: u32 = 16;

/// One side of the coder.
pub trait BitCoder {
    /// Codes `bit` (what the decoder is given here is ignored) at the probability `p1` of a 1,
    /// `0 < p1 < 65536`, and returns the bit.
    fn code(&mut self, bit: u32, p1: u32) -> u32;
}

/// The decoding side, over the bytes of one frame.
///
/// Behind the end of its bytes it reads zeros: a damaged frame decodes to wrong bytes, and the work
/// is bounded by the bytes to make, not by what was read.
pub struct Decoder<'a> {
    bytes: std::slice::Iter<'a, u8>,
    low: u32,
    high: u32,
    value: u32,
}

impl<'a> Decoder<'a> {
    /// Reads a whole frame.
    pub fn new(frame: &'a [u8]) -> Self {
        let mut decoder = Decoder { bytes: frame.iter(), low: 0, high: u32::MAX, value: 0 };
        for _ in 0..4 {
            decoder.shift();
        }
        decoder
    }

    #[inline]
    fn shift(&mut self) {
        let byte = self.bytes.next().copied().unwrap_or(0);
        self.value = (self.value << 8) | u32::from(byte);
    }
}

/// Where the interval is cut. Always `low <= cut < high`.
#[inline]
fn cut(low: u32, high: u32, p1: u32) -> u32 {
    low + ((u64::from(high - low) * u64::from(p1)) >> PROBABILITY_BITS) as u32
}

impl BitCoder for Decoder<'_> {
    #[inline]
    fn code(&mut self, _bit: u32, p1: u32) -> u32 {
        let middle = cut(self.low, self.high, p1);
        let bit = if self.value <= middle {
            self.high = middle;
            1
        } else {
            self.low = middle + 1;
            0
        };
        while (self.low ^ self.high) >> 24 == 0 {
            self.low <<= 8;
            self.high = (self.high << 8) | 0xff;
            self.shift();
        }
        bit
    }
}

/// The encoding side.
#[cfg(feature = "make")]
pub struct Encoder {
    bytes: Vec<u8>,
    low: u32,
    high: u32,
}

#[cfg(feature = "make")]
impl Encoder {
    /// Starts with nothing written.
    pub fn new() -> Self {
        Encoder { bytes: Vec::new(), low: 0, high: u32::MAX }
    }

    /// Ends the stream: so many bytes that zeros behind them decode the same. Trailing zeros are
    /// what the decoder reads anyway.
    pub fn finish(mut self) -> Vec<u8> {
        // The shortest number within [low, high] when zeros follow it.
        for bytes in 1..=4u32 {
            let keep = u32::MAX << (32 - 8 * bytes);
            let candidate = if self.low & !keep == 0 {
                Some(self.low)
            } else {
                (self.low & keep).checked_add(1 << (32 - 8 * bytes))
            };
            if let Some(value) = candidate.filter(|value| *value <= self.high) {
                self.bytes.extend_from_slice(&value.to_be_bytes()[..bytes as usize]);
                break;
            }
        }
        while self.bytes.last() == Some(&0) {
            self.bytes.pop();
        }
        self.bytes
    }
}

#[cfg(feature = "make")]
impl BitCoder for Encoder {
    #[inline]
    fn code(&mut self, bit: u32, p1: u32) -> u32 {
        let middle = cut(self.low, self.high, p1);
        if bit == 1 {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        while (self.low ^ self.high) >> 24 == 0 {
            self.bytes.push((self.low >> 24) as u8);
            self.low <<= 8;
            self.high = (self.high << 8) | 0xff;
        }
        bit
    }
}
