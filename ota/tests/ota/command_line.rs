//! The program itself, as a person starts it.

use std::process::{Command, Output};

fn ota(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ota")).args(arguments).output().unwrap()
}

#[test]
fn help_is_no_error() {
    for arguments in [&["--help"][..], &["-h"], &["help"], &["install", "--help"]] {
        let output = ota(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stdout.starts_with(b"usage:\n  ota run "), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_wrong_command_line_is_one() {
    for arguments in [&[][..], &["instal"], &["status", "--xml"]] {
        let output = ota(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage:"), "{arguments:?}");
    }
}
