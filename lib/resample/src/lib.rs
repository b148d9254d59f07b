//! Resizes pictures with a linear filter, rows and columns one after the other.
//!
//! A crate of its own so that it alone is optimised for speed where the rest of the device's
//! programs is optimised for size: each pixel of a photograph goes through here.

use std::collections::VecDeque;

/// How pixels are interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Linear, its reach growing with the reduction.
    Antialias,
    /// The four nearest pixels.
    Bilinear,
}

/// Resizes a picture that comes row by row: what is kept of it is a few rows.
pub struct Resizer {
    stride: usize,
    columns: Vec<Taps>,
    rows: Vec<Taps>,
    /// Rows of the picture that came.
    came: usize,
    /// Target rows that are done.
    done: usize,
    kept: Kept,
    out: Vec<f32>,
}

/// What is kept of rows that target rows still need.
enum Kept {
    /// Fewer target rows than source rows: the sums of the target rows that are begun, at most four.
    Sums(VecDeque<Vec<f32>>),
    /// More target rows: the source rows, at most three.
    Rows(VecDeque<Vec<u8>>),
}

/// The first source position of a target position, and the weights from there on.
type Taps = (usize, Vec<f32>);

impl Resizer {
    /// Takes a picture of `from` = [columns, rows] to `to`.
    pub fn new(from: [usize; 2], to: [usize; 2], filter: Filter) -> Resizer {
        let empty = from.contains(&0) || to.contains(&0);
        let taps =
            |axis: usize| if empty { Vec::new() } else { taps(from[axis], to[axis], filter) };
        Resizer {
            stride: from[0] * 3,
            columns: taps(0),
            rows: taps(1),
            came: 0,
            done: 0,
            kept: match to[1] > from[1] {
                true => Kept::Rows(VecDeque::new()),
                false => Kept::Sums(VecDeque::new()),
            },
            out: Vec::with_capacity(if empty { 0 } else { to[0] * to[1] * 3 }),
        }
    }

    /// The most bytes that one of these takes.
    pub fn peak(from: [usize; 2], to: [usize; 2]) -> u64 {
        let [from, to] = [from, to].map(|size| size.map(|n| n as u64));
        // Weights: two source positions' worth a target position at least, as many in all as there
        // are source positions twice, and 32 bytes of a vector each.
        let weights = |axis: usize| to[axis] * 48 + from[axis] * 12;
        from[0] * 3 * 4 * 5 + to[0] * to[1] * 12 + weights(0) + weights(1)
    }

    /// The picture's next row: red, green, blue, 8 bits each. A row of another length, or one too
    /// many, is left out.
    // Inlined into a caller that is optimised for size it would be too.
    #[inline(never)]
    pub fn push(&mut self, row: &[u8]) {
        if row.len() != self.stride || self.done == self.rows.len() {
            return;
        }
        match &mut self.kept {
            Kept::Sums(sums) => {
                for (index, (first, weights)) in self.rows[self.done..].iter().enumerate() {
                    if *first > self.came {
                        break;
                    }
                    if index == sums.len() {
                        sums.push_back(vec![0.0; self.stride]);
                    }
                    if let Some(weight) = weights.get(self.came - first) {
                        add(&mut sums[index], row, *weight);
                    }
                }
            }
            Kept::Rows(rows) => rows.push_back(row.to_vec()),
        }
        self.came += 1;
        while let Some((first, weights)) = self.rows.get(self.done) {
            if first + weights.len() > self.came {
                break;
            }
            match &mut self.kept {
                Kept::Sums(sums) => {
                    let sum = sums.pop_front().unwrap_or_else(|| vec![0.0; self.stride]);
                    shrink(&sum, &self.columns, &mut self.out);
                }
                Kept::Rows(rows) => {
                    while self.came - rows.len() < *first {
                        rows.pop_front();
                    }
                    let mut sum = vec![0.0; self.stride];
                    for (row, weight) in rows.iter().zip(weights) {
                        add(&mut sum, row, *weight);
                    }
                    shrink(&sum, &self.columns, &mut self.out);
                }
            }
            self.done += 1;
        }
    }

    /// Rows of red, green, blue as 0…255; black where the picture had too few rows. Empty when the
    /// picture or the target is.
    pub fn finish(mut self) -> Vec<f32> {
        self.out.resize(self.columns.len() * self.rows.len() * 3, 0.0);
        self.out
    }
}

fn add(sum: &mut [f32], row: &[u8], weight: f32) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum += f32::from(*value) * weight;
    }
}

fn shrink(line: &[f32], columns: &[Taps], out: &mut Vec<f32>) {
    for (first, weights) in columns {
        let mut pixel = [0.0f32; 3];
        for (source, weight) in line[first * 3..].chunks_exact(3).zip(weights) {
            for c in 0..3 {
                pixel[c] += source[c] * weight;
            }
        }
        out.extend_from_slice(&pixel);
    }
}

/// Source positions and weights of one target position: linear, pixel centres at half.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let step = from as f32 / to as f32;
    let reach = match filter {
        Filter::Antialias => step.max(1.0),
        Filter::Bilinear => 1.0,
    };
    (0..to)
        .map(|i| {
            let centre = (i as f32 + 0.5) * step - 0.5;
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach).floor().max(0.0) as usize).min(from - 1).max(first);
            let mut weights: Vec<f32> = (first..=last)
                .map(|s| (1.0 - (s as f32 - centre).abs() / reach).max(0.0))
                .collect();
            let sum: f32 = weights.iter().sum();
            if sum > 0.0 {
                weights.iter_mut().for_each(|w| *w /= sum);
            } else {
                weights.fill(1.0 / (last - first + 1) as f32);
            }
            (first, weights)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resize(pixels: &[u8], width: usize, size: [usize; 2], filter: Filter) -> Vec<f32> {
        let rows = pixels.len().checked_div(width * 3).unwrap_or(0);
        let mut resizer = Resizer::new([width, rows], size, filter);
        pixels.chunks_exact((width * 3).max(1)).for_each(|row| resizer.push(row));
        resizer.finish()
    }

    /// The whole picture at once, as it is written in books.
    fn at_once(pixels: &[u8], width: usize, size: [usize; 2], filter: Filter) -> Vec<f32> {
        let stride = width * 3;
        let columns = taps(width, size[0], filter);
        let mut out = Vec::new();
        for (first, weights) in taps(pixels.len() / stride, size[1], filter) {
            let mut line = vec![0.0f32; stride];
            for (row, weight) in pixels[first * stride..].chunks_exact(stride).zip(&weights) {
                add(&mut line, row, *weight);
            }
            shrink(&line, &columns, &mut out);
        }
        out
    }

    proptest! {
        #[test]
        fn row_by_row_is_the_same_to_the_last_bit(w in 1usize..40, h in 1usize..40, to_w in 1usize..50, to_h in 1usize..50, seed: u8, soft: bool) {
            let filter = if soft { Filter::Antialias } else { Filter::Bilinear };
            let pixels: Vec<u8> = (0..w * h * 3).map(|i| (i as u8).wrapping_mul(37).wrapping_add(seed)).collect();
            prop_assert_eq!(resize(&pixels, w, [to_w, to_h], filter), at_once(&pixels, w, [to_w, to_h], filter));
        }

        #[test]
        fn a_few_rows_are_kept(w in 1usize..20, h in 1usize..200, to_h in 1usize..200, soft: bool) {
            let filter = if soft { Filter::Antialias } else { Filter::Bilinear };
            let mut resizer = Resizer::new([w, h], [4, to_h], filter);
            for _ in 0..h {
                resizer.push(&vec![1; w * 3]);
                let kept = match &resizer.kept {
                    Kept::Sums(sums) => sums.len(),
                    Kept::Rows(rows) => rows.len(),
                };
                prop_assert!(kept <= 4, "{} rows", kept);
            }
            prop_assert_eq!(resizer.done, to_h);
        }

        #[test]
        fn a_flat_picture_stays_flat(w in 1usize..70, h in 1usize..70, to_w in 1usize..50, to_h in 1usize..50, value: u8, soft: bool) {
            let filter = if soft { Filter::Antialias } else { Filter::Bilinear };
            let out = resize(&vec![value; w * h * 3], w, [to_w, to_h], filter);
            prop_assert_eq!(out.len(), to_w * to_h * 3);
            prop_assert!(out.iter().all(|v| (v - f32::from(value)).abs() < 0.01));
        }
    }

    #[test]
    fn bilinear_halves_by_averaging_neighbours() {
        assert_eq!(
            resize(&[0, 0, 0, 200, 100, 50], 2, [1, 1], Filter::Bilinear),
            [100.0, 50.0, 25.0]
        );
    }

    #[test]
    fn nothing_becomes_nothing() {
        assert!(resize(&[], 0, [4, 4], Filter::Antialias).is_empty());
        assert!(resize(&[1, 2], 1, [4, 4], Filter::Antialias).is_empty());
        assert!(resize(&[1, 2, 3], 1, [0, 4], Filter::Antialias).is_empty());
    }
}
