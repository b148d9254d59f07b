//! The last line of a command that failed.

/// An error and its causes, from the outermost in, each once, in the words for people: without the
/// numbers that the system has for its errors.
pub fn in_words(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = without_numbers(&cause.to_string());
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

/// `No such file or directory (os error 2)` without what stands in brackets.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |said, part| {
        said + part.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(')')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn each_cause_is_said_once_and_without_a_number() {
        let missing = std::io::Error::from_raw_os_error(2);
        let error = anyhow!(missing).context("a.toml: cannot be read");
        assert_eq!(in_words(&error), "a.toml: cannot be read: No such file or directory");
        let error = anyhow!("longer than its limit").context("root.json is longer than its limit");
        assert_eq!(in_words(&error), "root.json is longer than its limit");
        let twice = Err::<(), _>(anyhow!("x (os error 17), y (os error 5)")).context("z");
        assert_eq!(in_words(&twice.unwrap_err()), "z: x, y");
    }
}
