//! What a supervisor hands over, as a child process finds it.

use std::io::Read;
use std::process::Command;

use readiness::{ReadyNotifier, VARIABLE};

/// Set where this test is its own child.
const CHILD: &str = "READINESS_TEST_CHILD";

#[test]
fn the_descriptor_of_the_environment_is_written_to() {
    if std::env::var_os(CHILD).is_some() {
        let notifier = ReadyNotifier::from_env().unwrap();
        notifier.ready().unwrap();
        return;
    }
    let (mut read, write) = std::io::pipe().unwrap();
    let child = |variable: &str| {
        // The shell moves the pipe from standard input to descriptor 9.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 9>&0 0</dev/null"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "the_descriptor_of_the_environment_is_written_to", "-q"])
            .env(CHILD, "1")
            .env(VARIABLE, variable);
        command
    };
    assert!(child("9").stdin(write).output().unwrap().status.success());
    let mut said = Vec::new();
    read.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"\n");
    for wrong in ["", "x", "2", "99"] {
        let status = child(wrong).output().unwrap().status;
        assert!(!status.success(), "{wrong:?}");
    }
}
