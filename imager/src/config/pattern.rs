//! Names of files and folders in image files, with `*` for any part of a name.

/// Whether this names a path inside an archive or a folder.
pub fn is_pattern(path: &str) -> bool {
    let path = path.trim_matches('/');
    !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether `pattern` is this path or a folder that it lies in. Both without `/` around them.
pub fn names(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    pattern.split('/').all(|pattern| parts.next().is_some_and(|part| is_like(pattern, part)))
}

/// Whether a name is like a pattern with `*` in it.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files_and_all_below_folders() {
        for (pattern, path, expected) in [
            ("usr/lib/x.so", "usr/lib/x.so", true),
            ("usr/lib", "usr/lib/x.so", true),
            ("usr/li", "usr/lib/x.so", false),
            ("usr/lib/x.so/y", "usr/lib/x.so", false),
            ("usr/lib/*.so*", "usr/lib/libcuda.so.1.1", true),
            ("usr/lib/*.so", "usr/lib/libcuda.so.1.1", false),
            ("usr/lib/lib*cu*.so", "usr/lib/libcuda.so", true),
            ("usr/*/x", "usr/lib/x", true),
            ("usr/*", "usr/lib/deep/x", true),
            ("*", "x", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(names(pattern, path), expected, "{pattern} {path}");
        }
    }
}
