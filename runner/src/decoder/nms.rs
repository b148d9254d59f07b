//! Detections, and making one out of many that overlap (non-maximum suppression).

use crate::picture::Placement;
use serde::{Deserialize, Serialize};

/// Something found in a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detection {
    /// 0…1.
    pub score: f32,
    /// Where.
    #[serde(rename = "box")]
    pub bounds: Rectangle,
    /// Named points on it.
    pub keypoints: Vec<Keypoint>,
}

/// A box: its corner at the top left, and its size. May reach out of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rectangle {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

/// A named point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Keypoint {
    /// Which.
    pub name: &'static str,
    /// From the left.
    pub x: f32,
    /// From the top.
    pub y: f32,
}

/// What becomes of boxes that overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// Their mean, weighted by score, with the best score (BlazeFace: steadier in video).
    #[default]
    Weighted,
    /// The best one alone.
    Best,
}

impl Rectangle {
    fn is_finite(&self) -> bool {
        [self.x, self.y, self.width, self.height].iter().all(|v| v.is_finite())
    }

    /// Intersection over union, 0…1; 0 for boxes without an area.
    pub fn overlap(&self, other: &Self) -> f32 {
        let shared = |a: f32, a_size: f32, b: f32, b_size: f32| {
            ((a + a_size).min(b + b_size) - a.max(b)).max(0.0)
        };
        let both = shared(self.x, self.width, other.x, other.width)
            * shared(self.y, self.height, other.y, other.height);
        let all = self.width * self.height + other.width * other.height - both;
        if both > 0.0 && all > 0.0 { both / all } else { 0.0 }
    }
}

impl Detection {
    /// From fractions of the input tensor to pixels of the picture.
    pub fn place_in_picture(&mut self, placement: &Placement) {
        let b = &mut self.bounds;
        let [x, y] = placement.in_picture([b.x, b.y]);
        let [right, bottom] = placement.in_picture([b.x + b.width, b.y + b.height]);
        *b = Rectangle { x, y, width: right - x, height: bottom - y };
        for point in &mut self.keypoints {
            [point.x, point.y] = placement.in_picture([point.x, point.y]);
        }
    }
}

/// At most `max` detections, best first, no two overlapping by more than `overlap` as they came.
pub fn suppress(
    mut found: Vec<Detection>,
    overlap: f32,
    how: Overlap,
    max: usize,
) -> Vec<Detection> {
    // What is no number overlaps nothing and compares with nothing.
    found.retain(|d| d.score.is_finite() && d.bounds.is_finite());
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept = Vec::new();
    while !found.is_empty() && kept.len() < max {
        let best = found[0].clone();
        let (same, rest): (Vec<_>, Vec<_>) = found
            .into_iter()
            .enumerate()
            .partition(|(i, d)| *i == 0 || best.bounds.overlap(&d.bounds) > overlap);
        found = rest.into_iter().map(|(_, d)| d).collect();
        kept.push(match how {
            Overlap::Best => best,
            Overlap::Weighted => mean(best, same.iter().map(|(_, d)| d)),
        });
    }
    kept
}

fn mean<'a>(best: Detection, same: impl Iterator<Item = &'a Detection> + Clone) -> Detection {
    let total: f32 = same.clone().map(|d| d.score).sum();
    if total <= 0.0 {
        return best;
    }
    let weighted = |value: &dyn Fn(&Detection) -> f32| {
        same.clone().map(|d| value(d) * d.score).sum::<f32>() / total
    };
    Detection {
        score: best.score,
        bounds: Rectangle {
            x: weighted(&|d| d.bounds.x),
            y: weighted(&|d| d.bounds.y),
            width: weighted(&|d| d.bounds.width),
            height: weighted(&|d| d.bounds.height),
        },
        keypoints: best
            .keypoints
            .iter()
            .enumerate()
            .map(|(i, point)| Keypoint {
                name: point.name,
                x: weighted(&|d| d.keypoints[i].x),
                y: weighted(&|d| d.keypoints[i].y),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(x: f32, score: f32) -> Detection {
        Detection {
            score,
            bounds: Rectangle { x, y: 0.0, width: 10.0, height: 10.0 },
            keypoints: vec![Keypoint { name: "p", x, y: 0.0 }],
        }
    }

    #[test]
    fn overlapping_boxes_become_their_weighted_mean() {
        let faces =
            suppress(vec![at(2.0, 0.25), at(0.0, 0.75), at(50.0, 0.5)], 0.3, Overlap::Weighted, 9);
        assert_eq!(faces.len(), 2);
        assert_eq!((faces[0].score, faces[0].bounds.x, faces[0].keypoints[0].x), (0.75, 0.5, 0.5));
        assert_eq!(faces[1].bounds.x, 50.0);
    }

    #[test]
    fn or_the_best_alone() {
        let faces = suppress(vec![at(2.0, 0.25), at(0.0, 0.75)], 0.3, Overlap::Best, 9);
        assert_eq!(faces, [at(0.0, 0.75)]);
    }

    proptest! {
        #[test]
        fn suppression_ends_and_keeps_the_best(list in proptest::collection::vec((-100f32..100.0, 0f32..=1.0), 0..60), max in 1usize..20) {
            let found: Vec<_> = list.iter().map(|(x, s)| at(*x, *s)).collect();
            let best = list.iter().map(|(_, s)| *s).fold(f32::MIN, f32::max);
            let kept = suppress(found, 0.3, Overlap::Best, max);
            prop_assert!(kept.len() <= max);
            prop_assert_eq!(kept.is_empty(), list.is_empty());
            if let Some(first) = kept.first() {
                prop_assert_eq!(first.score, best);
            }
            for (i, a) in kept.iter().enumerate() {
                prop_assert!(kept[i + 1..].iter().all(|b| a.bounds.overlap(&b.bounds) <= 0.3));
            }
        }

        #[test]
        fn overlap_is_a_fraction(a in -50f32..50.0, b in -50f32..50.0) {
            let overlap = at(a, 1.0).bounds.overlap(&at(b, 1.0).bounds);
            prop_assert!((0.0..=1.0).contains(&overlap));
        }
    }
}
