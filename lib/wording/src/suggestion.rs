//! "Did you mean …?"

/// The candidate most like `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|c| (strsim::jaro_winkler(word, c), c))
        .filter(|(score, _)| *score >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_corrected_and_another_word_is_not() {
        let names = || ["libc6", "busybox-static", "e2fsprogs"].into_iter();
        assert_eq!(nearest("e2fsprog", names()), Some("e2fsprogs"));
        assert_eq!(nearest("qqq", names()), None);
    }
}
