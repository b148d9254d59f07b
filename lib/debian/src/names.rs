//! Which texts are names of packages, versions and suites. What passes has no `/`, blank or control
//! character in it, so it can go into a path, an address or a file.

/// Refuses what is not a package's name (Debian Policy 5.6.1).
pub fn check_package_name(s: &str) -> Result<(), String> {
    let ok = (2..=128).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
        && s.as_bytes()[0].is_ascii_alphanumeric();
    ok.then_some(()).ok_or_else(|| format!("{s:?} is not a Debian package name"))
}

/// Refuses what is not a package's version (Debian Policy 5.6.12): `[epoch:]upstream[-revision]`.
pub fn check_package_version(s: &str) -> Result<(), String> {
    let ok = (1..=128).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-:~".contains(&b));
    ok.then_some(()).ok_or_else(|| format!("{s:?} is not a Debian package version"))
}

/// Refuses what is not a suite's name, like `trixie-backports`.
pub fn check_suite(s: &str) -> Result<(), String> {
    let ok = (1..=64).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    ok.then_some(()).ok_or_else(|| format!("{s:?} is not a suite's name, like \"trixie\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_leads_elsewhere_is_a_name() {
        assert!(check_package_name("libstdc++6").is_ok());
        assert!(check_package_name("../x").is_err());
        assert!(check_package_version("1:2.41~a-1").is_ok());
        assert!(check_package_version("1/2").is_err());
        assert!(check_suite("trixie/../x").is_err());
    }
}
