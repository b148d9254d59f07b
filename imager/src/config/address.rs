//! Addresses of servers in image and board files.

/// What is wrong with an address that should be `http://HOST…` or `https://HOST…`, if anything.
pub fn problem(url: &str) -> Option<&'static str> {
    let Some((_, rest)) =
        url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
    else {
        return Some("does not start with http:// or https://");
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if url.chars().any(char::is_whitespace) {
        return Some("has a space in it");
    }
    host.is_empty().then_some("names no host behind http:// or https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_address_is_what_is_said() {
        assert_eq!(problem("http://my server"), Some("has a space in it"));
        assert_eq!(problem("https://"), Some("names no host behind http:// or https://"));
        assert_eq!(problem("https:///x"), Some("names no host behind http:// or https://"));
        for other in ["ftp://x", "my-server", "http:/x", "HTTP//x", ""] {
            assert_eq!(problem(other), Some("does not start with http:// or https://"), "{other}");
        }
        assert_eq!(problem("http://10.0.2.2:8080/x"), None);
        assert_eq!(problem("https://[::1]/"), None);
    }
}
