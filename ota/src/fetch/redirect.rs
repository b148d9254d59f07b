//! Where a server may send this device.
//!
//! Whoever answers for the repository can make the device ask anybody it reaches: services of its
//! own that trust whoever is on the loopback, or a machine in its network that strangers cannot
//! reach. So a redirection leads to the same scheme or a better one, and to addresses of the
//! internet, or of the kind that the repository itself has. What is judged are the addresses that
//! are connected to, so that a name which means something else the second time does not pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::uri::Scheme;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Redirections in a row that are followed.
pub const MOST: usize = 4;
/// No longer URL is followed, in bytes.
const MAX_URL: usize = 4096;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The internet.
    Public,
    /// This device.
    Loopback,
    /// A network of somebody's own (RFC 1918, RFC 4193).
    Private,
    /// This link (RFC 3927, RFC 4291).
    LinkLocal,
    /// A provider's own (RFC 6598).
    Shared,
    /// Many, nobody, or not to be used: no server is there.
    NoHost,
}

/// What `address` is for. An IPv6 address that stands for one of IPv4 is for what that is for.
pub fn scope(address: IpAddr) -> Scope {
    match address {
        IpAddr::V4(v4) => scope_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => scope_v4(v4),
            None => scope_v6(v6),
        },
    }
}

fn scope_v4(address: Ipv4Addr) -> Scope {
    match address.octets() {
        [127, ..] => Scope::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Scope::Private,
        [169, 254, ..] => Scope::LinkLocal,
        [100, 64..=127, ..] => Scope::Shared,
        // "This network", protocol assignments, benchmarks, multicast, reserved (RFC 6890).
        [0, ..] | [192, 0, 0, _] | [198, 18..=19, ..] | [224..=255, ..] => Scope::NoHost,
        _ => Scope::Public,
    }
}

/// The IPv4 address that is mapped (RFC 4291), translated (RFC 6052) or tunnelled (RFC 3056) by it.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(v4(g, h)),
        [0, 0, 0, 0, 0, 0] if g != 0 => Some(v4(g, h)),
        [0x2002, ..] => Some(v4(b, c)),
        _ => None,
    }
}

fn scope_v6(address: Ipv6Addr) -> Scope {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Loopback,
        [0xfe80..=0xfebf, ..] => Scope::LinkLocal,
        // Unique local, and the site local of old.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Scope::Private,
        // Global unicast; local translation (RFC 8215) and Teredo lead who knows where.
        [0x2001, 0, ..] => Scope::NoHost,
        [0x2000..=0x3fff, ..] => Scope::Public,
        _ => Scope::NoHost,
    }
}

/// Whether a redirection may lead to `target`, when the repository is at `home`. `own` tells the
/// addresses of this device.
pub fn may_lead_to(target: IpAddr, home: &[IpAddr], own: impl Fn(IpAddr) -> bool) -> bool {
    let target = target.to_canonical();
    let kind = scope(target);
    if kind == Scope::NoHost {
        return false;
    }
    if home.iter().any(|home| home.to_canonical() == target) {
        return true;
    }
    let neighbour = !home.is_empty() && home.iter().all(|home| scope(*home) == kind);
    !own(target) && (kind == Scope::Public || neighbour)
}

/// Whether an address is this device's: nobody can bind a socket to another one.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The URL that the answer to `from` leads to by its `Location` (RFC 9110, section 10.2.2).
pub fn follow(from: &str, location: &str) -> Result<String, String> {
    let sound = location.bytes().all(|b| b.is_ascii_graphic()) && location.len() <= MAX_URL;
    let unsound = || "it redirects to something that is no URL".to_string();
    let base: Uri = from.parse().map_err(|_| unsound())?;
    let (scheme, authority) = (base.scheme_str(), base.authority());
    let (Some(scheme), Some(authority), true) = (scheme, authority, sound) else {
        return Err(unsound());
    };
    let location = location.split('#').next().unwrap_or_default();
    let to = if location.contains("://") {
        location.to_string()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let folder = base.path().rfind('/').map_or("", |end| &base.path()[..end]);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let target: Uri = to.parse().map_err(|_| unsound())?;
    let (Some(host), Some(next)) = (target.host(), target.scheme()) else { return Err(unsound()) };
    let has_user = target.authority().is_some_and(|a| a.as_str().contains('@'));
    if host.is_empty() || has_user || (*next != Scheme::HTTP && *next != Scheme::HTTPS) {
        return Err(unsound());
    }
    if base.scheme() == Some(&Scheme::HTTPS) && *next != Scheme::HTTPS {
        return Err("it redirects from https to http, where anybody could listen".into());
    }
    Ok(to)
}

/// Whether two URLs are served by the same server: scheme, host and port.
pub fn same_server(one: &str, other: &str) -> bool {
    let parts = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?.as_str().to_ascii_lowercase();
        Some((uri.scheme_str()?.to_string(), authority))
    };
    parts(one).is_some_and(|one| Some(one) == parts(other))
}

/// Where the repository was found to be when it was asked last.
#[derive(Clone, Debug, Default)]
pub struct Home(Arc<Mutex<Vec<IpAddr>>>);

impl Home {
    /// Starts a chain of redirections at `url`: an address in it is where it is.
    pub fn begin(&self, url: &str) {
        let literal = url.parse::<Uri>().ok().and_then(|uri| literal(&uri));
        self.set(literal.into_iter().collect());
    }

    fn set(&self, addresses: Vec<IpAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refuses a URL with an address in it that no redirection may lead to. A proxy that is asked
    /// to connect there resolves names by itself: what it lets the device reach is its own affair,
    /// but for `localhost`.
    pub fn check(&self, url: &str) -> Result<(), String> {
        let uri: Uri = url.parse().map_err(|_| "it redirects to something that is no URL")?;
        let name = uri.host().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let local = name == "localhost" || name.ends_with(".localhost");
        let address = literal(&uri).or(local.then_some(Ipv4Addr::LOCALHOST.into()));
        match address {
            Some(address) if !may_lead_to(address, &self.addresses(), is_own) => {
                Err(refusal(&name))
            }
            _ => Ok(()),
        }
    }
}

fn literal(uri: &Uri) -> Option<IpAddr> {
    uri.host()?.trim_matches(['[', ']']).parse().ok()
}

fn refusal(host: &str) -> String {
    format!(
        "it redirects to {host}, which is this device or within its network, where the repository \
         is not"
    )
}

/// Whether this is the address of the proxy, which the image or its environment named.
fn is_proxy(uri: &Uri, config: &Config) -> bool {
    config
        .proxy()
        .is_some_and(|proxy| proxy.uri().authority() == uri.authority() && !proxy.is_no_proxy(uri))
}

/// Finds the addresses of the repository, and notes them.
#[derive(Debug)]
pub struct HomeResolver<R = DefaultResolver> {
    /// Asks.
    pub inner: R,
    /// Where they are noted.
    pub home: Home,
}

impl<R: Resolver> Resolver for HomeResolver<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if !is_proxy(uri, config) {
            self.home.set(found.iter().map(|address| address.ip()).collect());
        }
        Ok(found)
    }
}

/// Finds the addresses of a server that a redirection led to, and leaves out those that it may not
/// lead to. What it gives is what is connected to.
#[derive(Debug)]
pub struct GuardedResolver<R = DefaultResolver> {
    /// Asks.
    pub inner: R,
    /// Where the repository is.
    pub home: Home,
}

impl<R: Resolver> Resolver for GuardedResolver<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if is_proxy(uri, config) {
            return Ok(found);
        }
        let home = self.home.addresses();
        let mut allowed = self.empty();
        for address in found.iter().filter(|a| may_lead_to(a.ip(), &home, is_own)) {
            allowed.push(*address);
        }
        match allowed.is_empty() {
            true => Err(ureq::Error::Other(refusal(uri.host().unwrap_or_default()).into())),
            false => Ok(allowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_special_address_is_known() {
        for (scope_of, addresses) in [
            (Scope::Public, "1.1.1.1 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 2606:4700::1111"),
            (Scope::Loopback, "127.0.0.1 127.255.0.9 ::1 ::ffff:127.0.0.1 64:ff9b::7f00:1"),
            (Scope::Private, "10.0.0.1 172.16.0.1 172.31.9.9 192.168.1.1 fd00::1 fec0::1"),
            (Scope::Private, "::ffff:10.0.0.1 ::10.0.0.1 2002:c0a8:0101::1 64:ff9b::a00:1"),
            (Scope::LinkLocal, "169.254.169.254 fe80::1 febf::1 ::ffff:169.254.169.254"),
            (Scope::Shared, "100.64.0.1 100.127.255.255"),
            (Scope::NoHost, "0.0.0.0 0.1.2.3 224.0.0.1 255.255.255.255 240.0.0.1 192.0.0.8"),
            (Scope::NoHost, ":: ff02::1 64:ff9b:1::1 2001::1 ::ffff:0.0.0.0 198.18.0.1 100::1"),
        ] {
            for address in addresses.split(' ') {
                assert_eq!(scope(ip(address)), scope_of, "{address}");
            }
        }
    }

    #[test]
    fn a_redirection_leads_to_the_internet_or_to_where_the_repository_is() {
        let own = |address: IpAddr| scope(address) == Scope::Loopback || address == ip("10.0.0.5");
        let may = |target: &str, home: &[&str]| {
            let home: Vec<_> = home.iter().map(|h| ip(h)).collect();
            may_lead_to(ip(target), &home, own)
        };
        let internet = &["1.1.1.1"];
        assert!(may("9.9.9.9", internet) && may("9.9.9.9", &["10.0.0.1"]) && may("9.9.9.9", &[]));
        for target in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"] {
            assert!(!may(target, internet) && !may(target, &[]), "{target}");
        }
        // Within a network of one's own the next machine may be meant, and not the device itself.
        assert!(may("10.0.0.2", &["192.168.1.1"]) && !may("10.0.0.5", &["10.0.0.1"]));
        assert!(!may("169.254.169.254", &["10.0.0.1"]) && !may("127.0.0.1", &["10.0.0.1"]));
        // A name that means the internet and the inside at once says nothing of where it is.
        assert!(!may("10.0.0.2", &["1.1.1.1", "10.0.0.1"]));
        assert!(may("127.0.0.1", &["127.0.0.1"]) && may("::ffff:127.0.0.1", &["127.0.0.1"]));
        assert!(!may("127.0.0.2", &["127.0.0.1"]) && !may("0.0.0.0", &["0.0.0.0"]));
    }

    #[test]
    fn every_form_of_a_location_is_understood() {
        let from = "https://h:8/a/b?c";
        for (location, to) in [
            ("https://i/x", "https://i/x"),
            ("//i/x", "https://i/x"),
            ("/x?y", "https://h:8/x?y"),
            ("x", "https://h:8/a/x"),
            ("?y", "https://h:8/a/b?y"),
            ("/x#part", "https://h:8/x"),
        ] {
            assert_eq!(follow(from, location).as_deref(), Ok(to), "{location}");
        }
        for bad in
            ["http://h:8/a", "ftp://i/", "file:///etc/x", "https://u:p@i/", "https://", "/x y"]
        {
            assert!(follow(from, bad).is_err(), "{bad}");
        }
        assert!(follow(from, &format!("/{}", "x".repeat(MAX_URL))).is_err());
        assert!(follow("http://h/", "https://i/").is_ok());
        assert!(follow("http://h", "x").is_ok_and(|to| to == "http://h/x"));
    }

    #[test]
    fn addresses_in_urls_are_judged_without_a_resolver() {
        let home = Home::default();
        home.begin("https://1.1.1.1/");
        for bad in ["http://localhost/", "http://LOCALHOST.:8/", "http://x.localhost/"] {
            assert!(home.check(bad).is_err(), "{bad}");
        }
        assert!(home.check("http://[::1]:9/").is_err() && home.check("http://10.1.1.1/").is_err());
        assert!(home.check("http://example/").is_ok() && home.check("http://9.9.9.9/").is_ok());
    }

    #[test]
    fn a_name_is_judged_by_the_addresses_it_has_when_it_is_connected_to() {
        #[derive(Debug)]
        struct Says(&'static str);
        impl Resolver for Says {
            fn resolve(
                &self,
                _: &Uri,
                _: &Config,
                _: NextTimeout,
            ) -> Result<ResolvedSocketAddrs, ureq::Error> {
                let mut found = self.empty();
                self.0.split(' ').for_each(|text| found.push(text.parse().unwrap()));
                Ok(found)
            }
        }
        let (uri, config) = ("http://name/".parse().unwrap(), Config::default());
        let resolve = |says| {
            let home = Home::default();
            home.begin("https://1.1.1.1/");
            GuardedResolver { inner: Says(says), home }.resolve(
                &uri,
                &config,
                NextTimeout::default(),
            )
        };
        assert_eq!(resolve("9.9.9.9:80 127.0.0.1:80 10.0.0.1:80").unwrap().len(), 1);
        let error = resolve("127.0.0.1:80 10.0.0.1:80").unwrap_err().to_string();
        assert!(error.contains("name"), "{error}");
    }
}
