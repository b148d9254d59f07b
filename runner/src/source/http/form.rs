//! The file in a form, as browsers, `curl -F` and `requests.post(files=…)` send it
//! (multipart/form-data, RFC 7578).

use std::ops::Range;

/// Longest boundary (RFC 2046, 5.1.1).
const MAX_BOUNDARY: usize = 70;
/// Header lines of a part that are read.
const MAX_HEADERS: usize = 16;
/// Parts that are looked at.
const MAX_PARTS: usize = 32;

/// The boundary in the value of a Content-Type, if that is a form's. Fails where it has none that can
/// be used.
pub fn boundary(content_type: &str) -> Result<Option<&str>, String> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let boundary = parameter(parameters, "boundary").unwrap_or_default();
    match boundary.len() {
        1..=MAX_BOUNDARY => Ok(Some(boundary)),
        _ => {
            Err("the form's Content-Type has no boundary; leave that header to your program".into())
        }
    }
}

/// Where the first file of the form is. Fails, with a sentence for who sent it, on a form without one
/// and on one that is not whole.
pub fn first_file(body: &[u8], boundary: &str) -> Result<Range<usize>, String> {
    let delimiter = format!("--{boundary}");
    let end = || "the form ends early".to_owned();
    let mut at = match body.starts_with(delimiter.as_bytes()) {
        true => delimiter.len(),
        false => find(body, 0, format!("\r\n{delimiter}").as_bytes())
            .map(|at| at + 2 + delimiter.len())
            .ok_or_else(end)?,
    };
    let delimiter = format!("\r\n{delimiter}");
    for _ in 0..MAX_PARTS {
        if body[at..].starts_with(b"--") {
            return Err(
                "the form has no file; send one: curl -F file=@photo.jpg, or requests.post(url, files={\"file\": open(\"photo.jpg\", \"rb\")})".into(),
            );
        }
        let head = find(body, at, b"\r\n").ok_or_else(end)? + 2;
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let (length, headers) = match httparse::parse_headers(&body[head..], &mut headers) {
            Ok(httparse::Status::Complete(parsed)) => parsed,
            Ok(httparse::Status::Partial) => return Err(end()),
            Err(error) => return Err(format!("a part of the form has no sound head: {error}")),
        };
        let start = head + length;
        // A part without data: its delimiter shares the line end with the head.
        let last = find(body, start - 2, delimiter.as_bytes()).ok_or_else(end)?;
        let is_file = headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("content-disposition")
                && std::str::from_utf8(header.value).is_ok_and(names_file)
        });
        if is_file {
            return Ok(start..last.max(start));
        }
        at = last + delimiter.len();
    }
    Err(format!("the form has more than {MAX_PARTS} fields before its file"))
}

fn names_file(disposition: &str) -> bool {
    let parameters = disposition.split_once(';').map_or("", |(_, rest)| rest);
    parameter(parameters, "filename").is_some() || parameter(parameters, "filename*").is_some()
}

/// The value of `; NAME=VALUE` or `; NAME="VALUE"`.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = parameters;
    while let Some((key, value)) = rest.split_once('=') {
        let value = value.trim_start();
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_once(';').map_or((value.trim(), ""), |(v, rest)| (v.trim(), rest)),
        };
        if key.trim_matches([' ', ';', '\t']).eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = behind;
    }
    None
}

/// Where `needle` begins in `hay`, from `from` on.
fn find(hay: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = from;
    loop {
        at += hay.get(at..)?.iter().position(|byte| *byte == first)?;
        if hay[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (head, data) in parts {
            body.extend_from_slice(format!("--XY\r\n{head}\r\n\r\n").as_bytes());
            body.extend_from_slice(data);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--XY--\r\n");
        body
    }

    const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"x.jpg\"\r\nContent-Type: image/jpeg";
    const FIELD: &str = "Content-Disposition: form-data; name=\"camera\"";

    #[test]
    fn the_first_file_is_found_behind_other_fields() {
        let data = b"\xff\xd8\r\n--X\r\n\0";
        let body = form(&[(FIELD, b"front"), (FILE, data), (FILE, b"second")]);
        assert_eq!(&body[first_file(&body, "XY").unwrap()], data);
        let body = [&b"a preamble\r\n"[..], &form(&[(FILE, b"")])].concat();
        assert_eq!(&body[first_file(&body, "XY").unwrap()], b"");
    }

    #[test]
    fn a_form_without_a_whole_file_is_told_what_to_send() {
        let body = form(&[(FIELD, b"front")]);
        assert!(first_file(&body, "XY").unwrap_err().contains("curl -F file=@"));
        let whole = form(&[(FILE, b"data")]);
        for cut in 0..whole.len() - 10 {
            assert_eq!(
                first_file(&whole[..cut], "XY").unwrap_err(),
                "the form ends early",
                "{cut}"
            );
        }
    }

    #[test]
    fn only_a_form_has_a_boundary() {
        let of = |text| boundary(text);
        assert_eq!(of("multipart/form-data; boundary=abc"), Ok(Some("abc")));
        assert_eq!(of("Multipart/Form-Data; charset=x; BOUNDARY=\"a b;c\""), Ok(Some("a b;c")));
        assert_eq!(of("application/x-www-form-urlencoded"), Ok(None));
        assert_eq!(of(""), Ok(None));
        assert!(of("multipart/form-data").is_err());
        assert!(of(&format!("multipart/form-data; boundary={}", "a".repeat(71))).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..200), text: String) {
            let _ = boundary(&text);
            let _ = boundary(&format!("multipart/form-data; {text}"));
            let _ = first_file(&bytes, "XY");
            let _ = first_file(&[b"--XY\r\n", &bytes[..], b"\r\n\r\n", &bytes, b"\r\n--XY"].concat(), "XY");
        }
    }
}
