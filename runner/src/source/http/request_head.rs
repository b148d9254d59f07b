//! The head of a request to the HTTP server: the few things in it that matter.

/// Header lines that are read; a head with more is refused.
const MAX_HEADERS: usize = 32;

/// What matters of a request's head.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// As it came.
    pub method: String,
    /// Without what follows a `?`.
    pub path: String,
    /// How long the body is, if that was said.
    pub length: Option<Length>,
    /// What the body is, as it was said; else empty.
    pub content_type: String,
    /// The body comes after a word of ours.
    pub expects_continue: bool,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Bytes(u64),
    /// As its chunks say.
    Chunked,
}

/// The head and its length in bytes, or `None` while it is not whole. Fails, with a sentence for who
/// sent it, on what is no head of HTTP/1.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("not an HTTP request: {error}")),
    };
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: request.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned(),
        length: None,
        content_type: String::new(),
        expects_continue: false,
    };
    let mut chunked = false;
    for header in request.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = value
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| value.parse::<u64>().ok())
                .flatten();
            let length = length.map(Length::Bytes);
            if length.is_none() || head.length.is_some_and(|before| Some(before) != length) {
                return Err("Content-Length is not a number of bytes".into());
            }
            head.length = length;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") || chunked {
                return Err("Transfer-Encoding may be chunked and nothing else".into());
            }
            chunked = true;
        } else if header.name.eq_ignore_ascii_case("content-type") {
            head.content_type = value.to_owned();
        } else if header.name.eq_ignore_ascii_case("expect") {
            head.expects_continue = value.eq_ignore_ascii_case("100-continue");
        }
    }
    if chunked {
        // Two lengths that disagree are two requests to somebody in between (RFC 9112, 6.3).
        if head.length.is_some() {
            return Err("Content-Length and Transfer-Encoding exclude each other".into());
        }
        head.length = Some(Length::Chunked);
    }
    Ok(Some((head, length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let text = "POST /infer?x=1 HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 12\r\nExpect: 100-continue\r\n\r\n";
        for cut in 0..text.len() {
            assert!(parse(&text.as_bytes()[..cut]).unwrap().is_none(), "{cut}");
        }
        let (parsed, length) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (parsed.method.as_str(), parsed.path.as_str(), parsed.length),
            ("POST", "/infer", Some(Length::Bytes(12)))
        );
        assert!(parsed.expects_continue);
        assert_eq!(length, text.len());
    }

    #[test]
    fn lengths_that_disagree_or_are_no_numbers_are_refused() {
        for wrong in ["-1", "+5", "12x", "99999999999999999999999", "", "5\r\nContent-Length: 6"] {
            let text = format!("POST /infer HTTP/1.1\r\nContent-Length: {wrong}\r\n\r\n");
            let refusal = parse(text.as_bytes()).unwrap_err();
            assert_eq!(refusal, "Content-Length is not a number of bytes", "{wrong:?}");
        }
    }

    #[test]
    fn a_body_in_chunks_has_no_other_length() {
        let of = |lines: &str| parse(format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes());
        let (head, _) = of("transfer-encoding: Chunked").unwrap().unwrap();
        assert_eq!(head.length, Some(Length::Chunked));
        for wrong in [
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
