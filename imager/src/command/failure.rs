//! The last line of a command that failed.

/// An error and its causes, from the outermost in, each once, in the words for people: without the
/// numbers that the system has for its errors.
pub fn in_words(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = plain(&without_numbers(&cause.to_string()));
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

/// What Rust's own library says, in other words.
fn plain(text: &str) -> String {
    const WORDS: [(&str, &str); 5] = [
        ("failed to fill whole buffer", "it is cut off"),
        ("stream did not contain valid UTF-8", "it is no text in UTF-8"),
        (
            "invalid socket address syntax",
            "an address is like 192.0.2.7:8080 or [2001:db8::7]:8080",
        ),
        ("invalid IP address syntax", "an address is like 192.0.2.7 or 2001:db8::7"),
        ("invalid IPv4 address syntax", "an address is like 192.0.2.7"),
    ];
    WORDS.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
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

    #[test]
    fn what_the_library_says_is_said_in_plain_words() {
        use std::io::Read;
        let short = std::io::Cursor::new([0; 3]).read_exact(&mut [0; 9]).unwrap_err();
        let error = anyhow!(short).context("it ends within its slot header");
        assert_eq!(in_words(&error), "it ends within its slot header: it is cut off");
        let text = std::io::read_to_string(&[0xFF_u8][..]).unwrap_err();
        let error = anyhow!(text).context("a.toml: cannot be read");
        assert_eq!(in_words(&error), "a.toml: cannot be read: it is no text in UTF-8");
        for error in [
            anyhow!("x:y".parse::<std::net::SocketAddr>().unwrap_err()),
            anyhow!("x".parse::<std::net::IpAddr>().unwrap_err()),
        ] {
            let words = in_words(&error);
            assert!(words.starts_with("an address is like 192.0.2.7"), "{words}");
        }
    }
}
