//! A tensor's numbers as people and programs write them: a JSON list, nested as they like, or CSV.

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};
use std::fmt;

/// The numbers in `bytes`, at most one more than `count`; `None` if that is no text of numbers. Fails
/// on a list that is not whole or has something else in it, with a sentence for who sent it.
pub fn read(bytes: &[u8], count: usize) -> Option<Result<Vec<f64>, String>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    if text.starts_with('[') {
        return Some(json(text, count).and_then(finite));
    }
    let numeric = |c: char| c.is_ascii_digit() || c.is_ascii_whitespace() || "+-.eE,;".contains(c);
    if text.is_empty() || !text.chars().all(numeric) {
        return None;
    }
    Some(csv(text, count).and_then(finite))
}

/// Numbers with commas, semicolons, spaces or line ends between them.
fn csv(text: &str, count: usize) -> Result<Vec<f64>, String> {
    let separator = |c: char| c == ',' || c == ';' || c.is_ascii_whitespace();
    let words = text.split(separator).filter(|word| !word.is_empty());
    let number = |(at, word): (usize, &str)| {
        word.parse().map_err(|_| format!("CSV: value {} is no number: {word:?}", at + 1))
    };
    (0..).zip(words).take(count.saturating_add(1)).map(number).collect()
}

fn json(text: &str, count: usize) -> Result<Vec<f64>, String> {
    let numbers = Vec::with_capacity(count.saturating_add(1).min(text.len()));
    let mut list = List { numbers, count };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = reader.deserialize_any(&mut list).and_then(|()| reader.end());
    match read {
        Err(_) if list.numbers.len() > count => Ok(list.numbers),
        Err(error) => Err(format!(
            "JSON: not a whole list of numbers, or something else in it, at line {} column {}",
            error.line(),
            error.column()
        )),
        Ok(()) => Ok(list.numbers),
    }
}

fn finite(numbers: Vec<f64>) -> Result<Vec<f64>, String> {
    match numbers.iter().position(|number| !(*number as f32).is_finite()) {
        Some(at) => Err(format!("value {} is too large", at + 1)),
        None => Ok(numbers),
    }
}

/// Gathers the numbers of all lists in lists; ends at the first that is too many.
struct List {
    numbers: Vec<f64>,
    count: usize,
}

impl List {
    fn push<E: Error>(&mut self, number: f64) -> Result<(), E> {
        self.numbers.push(number);
        match self.numbers.len() > self.count {
            true => Err(E::custom("too many")),
            false => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut List {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut List {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers in lists")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.push(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.push(number as f64)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.push(number as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_and_csv_are_the_same_numbers() {
        for text in
            ["[1,2.5,-3e2]", " [[1], [2.5, -300]]\n", "1,2.5,-3e2\n", "1;2.5\r\n-300", "1 2.5 -300"]
        {
            assert_eq!(read(text.as_bytes(), 3), Some(Ok(vec![1.0, 2.5, -300.0])), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_whole_list_of_numbers_is_refused() {
        for (text, word) in [
            ("[1,2", "not a whole list"),
            ("[1,null]", "something else in it"),
            ("[1,\"2\"]", "something else in it"),
            ("[1] [2]", "not a whole list"),
            ("[NaN]", "not a whole list"),
            ("1,2-3", "value 2 is no number"),
            ("1,1e99", "value 2 is too large"),
        ] {
            let error = read(text.as_bytes(), 9).unwrap().unwrap_err();
            assert!(error.contains(word), "{text:?}: {error}");
        }
        for other in [&b""[..], b" \n", b"{\"a\": 1}", b"\0\0\x80\x3f", b"garbage", b"nan"] {
            assert_eq!(read(other, 9), None, "{other:?}");
        }
    }

    #[test]
    fn no_more_is_read_than_one_too_many() {
        let list = format!("[{}0]", "0,".repeat(1000));
        assert_eq!(read(list.as_bytes(), 3).unwrap().unwrap().len(), 4);
        assert_eq!(read(list.trim_matches(['[', ']']).as_bytes(), 3).unwrap().unwrap().len(), 4);
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_read(numbers in proptest::collection::vec(-1e30f64..1e30, 1..20)) {
            let text = serde_json::to_string(&numbers).unwrap();
            let read = read(text.as_bytes(), numbers.len()).unwrap().unwrap();
            for (ours, theirs) in read.iter().zip(&numbers) {
                prop_assert!((ours - theirs).abs() <= theirs.abs() * 1e-12);
            }
        }

        #[test]
        fn no_bytes_make_it_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..80), list: bool) {
            let head: &[u8] = if list { b"[" } else { b"1," };
            let _ = read(&[head, &bytes].concat(), 5);
        }
    }
}
