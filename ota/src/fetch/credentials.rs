//! What shows the server which device asks: files in `ota`'s own folder, put there when flashing or
//! by hand, never part of an image. None of them is ever printed.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ureq::http::Uri;
use ureq::http::uri::Scheme;

use crate::bounded_file::open_own;
use crate::device::Device;
use crate::fetch::tls::ClientIdentity;
use crate::{Error, Result};

/// The device's certificate and those up to a root that the server knows.
const CERTIFICATES: &str = "client.pem";
/// Its key.
const KEY: &str = "client.key";
/// A bearer token (RFC 6750), one line.
const TOKEN: &str = "token";
/// None of them is longer, in bytes.
const MAX_FILE: u64 = 32 << 10;
/// Longer tokens do not fit into a request, in bytes.
const MAX_TOKEN: usize = 4096;

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token in `ota`'s folder, if there is one.
    pub fn load(device: &Device) -> Result<Option<Token>> {
        let path = device.data().join(TOKEN);
        let Some(bytes) = secret(&path)? else { return Ok(None) };
        let text = String::from_utf8(bytes).unwrap_or_default();
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() || text.len() > MAX_TOKEN || !text.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(Error::at(&path, "not a token: one line of visible ASCII"));
        }
        Ok(Some(Token(text.into())))
    }

    /// The value of the `Authorization` header.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The device's certificate and key, if there are both.
pub fn identity(device: &Device) -> Result<Option<ClientIdentity>> {
    let (certificates, key) = (device.data().join(CERTIFICATES), device.data().join(KEY));
    match (bounded(&certificates)?, secret(&key)?) {
        (Some((certificates, _)), Some(key)) => Ok(Some(ClientIdentity { certificates, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Error::at(&key, "missing, while client.pem is there; add both")),
        (None, Some(_)) => {
            Err(Error::at(&certificates, "missing, while client.key is there; add both"))
        }
    }
}

/// Whether a token may be sent to `to`, when `home` is the repository it is for. `plain`: the image
/// allows it over plain HTTP, as within a network of one's own.
pub fn may_send(home: &Uri, to: &Uri, plain: bool) -> bool {
    let port = |uri: &Uri| match (uri.port_u16(), uri.scheme() == Some(&Scheme::HTTPS)) {
        (Some(port), _) => port,
        (None, true) => 443,
        (None, false) => 80,
    };
    let same = home.scheme() == to.scheme() && home.host() == to.host() && port(home) == port(to);
    let private = to.scheme() == Some(&Scheme::HTTPS) || to.host().is_some_and(is_loopback);
    same && (private || plain)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A file that nobody else may read.
fn secret(path: &Path) -> Result<Option<Vec<u8>>> {
    match bounded(path)? {
        Some((_, mode)) if mode & 0o077 != 0 => Err(Error::at(
            path,
            format!("others may read it (mode {:03o}); `chmod 600` it", mode & 0o777),
        )),
        other => Ok(other.map(|(bytes, _)| bytes)),
    }
}

/// A short regular file and its mode.
fn bounded(path: &Path) -> Result<Option<(Vec<u8>, u32)>> {
    let file = match open_own(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| Error::at(path, e))?,
    };
    let about = file.metadata().map_err(|e| Error::at(path, e))?;
    if !about.is_file() || about.len() > MAX_FILE {
        return Err(Error::at(path, format!("not a file of at most {MAX_FILE} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| Error::at(path, e))?;
    Ok(Some((bytes, about.mode())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn device_with(files: &[(&str, &str, u32)]) -> (tempfile::TempDir, Device) {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::below(dir.path());
        std::fs::create_dir(device.data()).unwrap();
        for (name, text, mode) in files {
            let path = device.data().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(*mode)).unwrap();
        }
        (dir, device)
    }

    #[test]
    fn a_token_is_one_line_that_nobody_else_reads_and_that_is_never_shown() {
        let (_dir, device) = device_with(&[("token", "s3cret\n", 0o600)]);
        let token = Token::load(&device).unwrap().unwrap();
        assert_eq!(token.header(), "Bearer s3cret");
        assert!(!format!("{token:?}").contains("s3cret"));
        assert_eq!(Token::load(&device_with(&[]).1).unwrap(), None);
        for (text, mode, word) in [
            ("s3cret", 0o640, "chmod 600"),
            ("s3cret", 0o604, "chmod 600"),
            ("", 0o600, "not a token"),
            ("s3\ncret", 0o600, "not a token"),
            ("s3 cret", 0o600, "not a token"),
        ] {
            let (_dir, device) = device_with(&[("token", text, mode)]);
            let error = Token::load(&device).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn half_an_identity_is_an_error_that_names_the_other_half() {
        let both = [("client.pem", "c", 0o644), ("client.key", "k", 0o600)];
        let (_dir, device) = device_with(&both);
        assert!(identity(&device).unwrap().is_some());
        for (have, missing) in [(0, "client.key"), (1, "client.pem")] {
            let (_dir, device) = device_with(&both[have..=have]);
            let error = identity(&device).err().unwrap().to_string();
            assert!(error.contains(missing) && error.contains("missing"), "{error}");
        }
        let (_dir, device) = device_with(&[("client.pem", "c", 0o644), ("client.key", "k", 0o644)]);
        assert!(identity(&device).err().unwrap().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_token_goes_to_its_repository_only_and_not_in_the_clear() {
        let may = |home: &str, to: &str, plain| {
            may_send(&home.parse().unwrap(), &to.parse().unwrap(), plain)
        };
        assert!(may("https://h/r", "https://h/r/x", false));
        assert!(may("https://h/r", "https://h:443/", false));
        assert!(may("http://127.0.0.1:8/r", "http://127.0.0.1:8/", false));
        assert!(may("http://localhost/", "http://localhost/", false));
        assert!(may("http://[::1]:8/", "http://[::1]:8/", false));
        assert!(may("http://h/r", "http://h/", true));
        for (home, to, plain) in [
            ("http://h/r", "http://h/", false),
            ("https://h/r", "https://i/", true),
            ("https://h/r", "https://h:444/", true),
            ("https://h/r", "http://h/", true),
            ("http://127.0.0.1.example/", "http://127.0.0.1.example/", false),
        ] {
            assert!(!may(home, to, plain), "{home} to {to}");
        }
    }
}
