//! Resizes pictures with a linear filter, rows and columns one after the other.
//!
//! A crate of its own so that it alone is optimised for speed where the rest of the device's
//! programs is optimised for size: each pixel of a photograph goes through here.

/// How pixels are interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Linear, its reach growing with the reduction.
    Antialias,
    /// The four nearest pixels.
    Bilinear,
}

/// Resizes rows of red, green, blue, 8 bits each, to `size` = [columns, rows]. `width` is the
/// picture's columns; its rows follow from the length of `pixels`.
///
/// Returns rows of red, green, blue as 0…255. Empty when the picture or `size` is.
// Inlined into a caller that is optimised for size it would be too.
#[inline(never)]
pub fn resize(pixels: &[u8], width: usize, size: [usize; 2], filter: Filter) -> Vec<f32> {
    let stride = width * 3;
    if pixels.len() < stride || stride == 0 || size.contains(&0) {
        return Vec::new();
    }
    let columns = taps(width, size[0], filter);
    let rows = taps(pixels.len() / stride, size[1], filter);
    let mut out = Vec::with_capacity(size[0] * size[1] * 3);
    let mut line = vec![0.0f32; stride];
    for (first, weights) in rows {
        line.fill(0.0);
        for (source, weight) in pixels[first * stride..].chunks_exact(stride).zip(&weights) {
            for (sum, value) in line.iter_mut().zip(source) {
                *sum += f32::from(*value) * weight;
            }
        }
        for (first, weights) in &columns {
            let mut pixel = [0.0f32; 3];
            for (source, weight) in line[first * 3..].chunks_exact(3).zip(weights) {
                for c in 0..3 {
                    pixel[c] += source[c] * weight;
                }
            }
            out.extend_from_slice(&pixel);
        }
    }
    out
}

/// Source positions and weights of one target position: linear, pixel centres at half.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<(usize, Vec<f32>)> {
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

    proptest! {
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
