//! Order of Debian package versions (Debian Policy 5.6.12).

use std::cmp::Ordering;

/// Compares two versions as dpkg does: epoch, then upstream version, then revision.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (epoch_a, upstream_a, revision_a) = split(a);
    let (epoch_b, upstream_b, revision_b) = split(b);
    compare_numbers(epoch_a, epoch_b)
        .then_with(|| compare_part(upstream_a, upstream_b))
        .then_with(|| compare_part(revision_a, revision_b))
}

fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    (epoch, upstream, revision)
}

/// Compares digit strings of any length as numbers.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Where a character stands among non-digits: `~` before the end of the text, letters before the
/// rest.
fn rank(c: Option<u8>) -> i32 {
    match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(c),
        Some(c) => i32::from(c) + 256,
    }
}

/// Compares upstream versions or revisions: runs of non-digits by [`rank`], runs of digits as
/// numbers, in turn.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (text_b, rest_b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        for i in 0..text_a.len().max(text_b.len()) {
            let order = rank(text_a.as_bytes().get(i).copied())
                .cmp(&rank(text_b.as_bytes().get(i).copied()));
            if order.is_ne() {
                return order;
            }
        }
        let end_a = rest_a.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest_a.len());
        let end_b = rest_b.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest_b.len());
        let order = compare_numbers(&rest_a[..end_a], &rest_b[..end_b]);
        if order.is_ne() {
            return order;
        }
        (a, b) = (&rest_a[end_a..], &rest_b[end_b..]);
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    const RISING: [&str; 16] = [
        "0.9",
        "1.0~rc1-1",
        "1.0~rc1-2",
        "1.0-0",
        "1.0-1~bpo13+1",
        "1.0-1",
        "1.0-1+b1",
        "1.0-1+deb13u2",
        "1.0-1+deb13u10",
        "1.0-1.1",
        "1.0+dfsg-1",
        "1.0a-1",
        "1.0.1-1",
        "1.10-1",
        "2.0",
        "1:0.1",
    ];

    #[test]
    #[ignore = "needs dpkg: `just unit`"]
    fn the_examples_rise() {
        for pair in RISING.windows(2) {
            let expected = dpkg(pair[0], pair[1]);
            assert_eq!(compare(pair[0], pair[1]), expected, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), expected.reverse(), "{pair:?}");
        }
        assert_eq!(compare("1.0", "1.0-0"), Ordering::Equal);
        assert_eq!(compare("0:1.00", "1.0"), Ordering::Equal);
    }

    fn dpkg(a: &str, b: &str) -> Ordering {
        let holds = |operator: &str| {
            Command::new("dpkg")
                .args(["--compare-versions", a, operator, b])
                .status()
                .expect("this test needs the command dpkg from the package dpkg")
                .success()
        };
        match (holds("lt"), holds("gt")) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            _ => Ordering::Equal,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        #[ignore = "needs dpkg: `just unit`"]
        fn agrees_with_dpkg(
            a in "([0-3]:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-b.+~]{1,4})?",
            b in "([0-3]:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-b.+~]{1,4})?",
        ) {
            prop_assert_eq!(compare(&a, &b), dpkg(&a, &b));
        }

        #[test]
        fn no_text_makes_it_panic(a in "\\PC{0,20}", b in "\\PC{0,20}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}
