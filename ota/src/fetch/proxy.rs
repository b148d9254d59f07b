//! Which proxy a connection goes through: the image's, else the environment's.

use ureq::{Proxy, ProxyProtocol};

use crate::{Error, Result};

/// The proxy for URLs like `url`. `setting` is the image's; `variable` reads the environment
/// (`HTTPS_PROXY` or `HTTP_PROXY` as the URL goes, `ALL_PROXY`, and `NO_PROXY`, in capitals or not).
/// A tunnel (CONNECT) is asked for in every case, so the proxy sees no request.
pub fn choose(
    setting: Option<&str>,
    url: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>> {
    let either = |name: &str| {
        let found = variable(name).or_else(|| variable(&name.to_lowercase()));
        found.filter(|value| !value.is_empty())
    };
    let own = if url.starts_with("https:") { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let Some(text) =
        setting.map(String::from).or_else(|| either(own)).or_else(|| either("ALL_PROXY"))
    else {
        return Ok(None);
    };
    // The address may hold a password, so no error repeats it.
    let wrong = || Error::failed("the proxy's address is not like http://HOST:PORT");
    let proxy = Proxy::new(&text).map_err(|_| wrong())?;
    if proxy.protocol() != ProxyProtocol::Http {
        return Err(wrong());
    }
    let mut builder = Proxy::builder(ProxyProtocol::Http).host(proxy.host()).port(proxy.port());
    if let Some(name) = proxy.username() {
        builder = builder.username(name);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    let except = if setting.is_none() { either("NO_PROXY") } else { None };
    for host in except.iter().flat_map(|list| list.split(',')).map(str::trim) {
        if !host.is_empty() {
            builder = builder.no_proxy(host);
        }
    }
    builder.build().map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(setting: Option<&str>, url: &str, environment: &[(&str, &str)]) -> Option<Proxy> {
        let variable = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
        };
        choose(setting, url, &variable).unwrap()
    }

    #[test]
    fn the_image_comes_before_the_environment_and_each_scheme_has_its_variable() {
        let environment = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "http://p:2")];
        let host = |setting, url| {
            chosen(setting, url, &environment).map(|p| (p.host().to_string(), p.port()))
        };
        assert_eq!(host(None, "https://h/"), Some(("s".into(), 1)));
        assert_eq!(host(None, "http://h/"), Some(("p".into(), 2)));
        assert_eq!(host(Some("http://i:3"), "http://h/"), Some(("i".into(), 3)));
        assert!(chosen(None, "http://h/", &[("HTTP_PROXY", "")]).is_none());
        let all = [("ALL_PROXY", "http://a:4")];
        assert_eq!(chosen(None, "http://h/", &all).unwrap().port(), 4);
    }

    #[test]
    fn exceptions_and_passwords() {
        let environment = [("HTTP_PROXY", "http://u:p%40ss@p:2"), ("NO_PROXY", "h, .in.example")];
        let proxy = chosen(None, "http://h/", &environment).unwrap();
        assert_eq!((proxy.username(), proxy.password()), (Some("u"), Some("p@ss")));
        let passes = |url: &str| proxy.is_no_proxy(&url.parse().unwrap());
        assert!(passes("http://h/") && passes("http://x.in.example/") && !passes("http://i/"));
        for bad in ["socks5://u:geheim@h", "https://u:geheim@h", "http://", "u:geheim@"] {
            let error = choose(Some(bad), "http://h/", &|_| None).unwrap_err().to_string();
            assert!(error.contains("proxy") && !error.contains("geheim"), "{error}");
        }
    }
}
