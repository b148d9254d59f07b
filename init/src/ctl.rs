//! `ctl`: the command line that talks to PID 1.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use formats::control::answer::{ERROR, OK};
use formats::control::{MAX_REQUEST, Request};
use formats::layout::CTL_SOCKET;
use rustix::io::Errno;
use rustix::stdio::{stderr, stdout};

use crate::printable::{self, Escaper};

const HELP: &str = "\
ctl talks to init, which runs the workloads of this device.

Usage: ctl COMMAND

  status [--json]    what runs, since when, how often restarted
  logs [-f] NAME     a workload's last output; -f keeps showing what comes
  start NAME         start a workload that was stopped or has failed
  stop NAME          stop a workload until it is started again
  restart NAME       stop and start a workload
  health             whether every vital workload is ready and healthy
  reboot             stop everything and reset
  poweroff           stop everything and switch off

Examples:
  ctl status
  ctl logs -f face
  ctl restart face

Exit status: 0 done, 1 init refused or cannot be reached, 2 the command line is wrong.
";

/// Runs `ctl` with these arguments and returns its exit status.
pub fn run(arguments: &[String]) -> i32 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if words.iter().any(|word| matches!(*word, "--help" | "-h")) || words == ["help"] {
        print(HELP.as_bytes());
        return 0;
    }
    let Some(request) = request(&words) else {
        complain(wrong(&words));
        complain("try: ctl --help");
        return 2;
    };
    match talk(&request) {
        Ok(status) => status,
        Err(e) => {
            let hint = match e.kind() {
                std::io::ErrorKind::PermissionDenied => " (run it as root or in the group ctl)",
                std::io::ErrorKind::NotFound => " (does init run here as PID 1?)",
                _ => "",
            };
            complain(&[CTL_SOCKET, ": ", &e.to_string(), hint].concat());
            1
        }
    }
}

/// What is wrong with a command line that makes no request.
fn wrong(words: &[&str]) -> &'static str {
    match words {
        [] => "no command given",
        [command, ..] if request(&[command, "x"]).is_some() => {
            "name one workload behind the command; ctl status lists them"
        }
        [command, ..] if request(&[command]).is_some() => {
            "the command does not take what stands behind it"
        }
        _ => "no such command",
    }
}

/// The request that a command line makes.
fn request(words: &[&str]) -> Option<Request> {
    let request = match words {
        ["status"] => Request::Status { json: false },
        ["status", "--json"] => Request::Status { json: true },
        ["logs", "-f", name] | ["logs", name, "-f"] => {
            Request::Logs { name: name.to_string(), follow: true }
        }
        ["logs", name] if *name != "-f" => Request::Logs { name: name.to_string(), follow: false },
        ["start", name] => Request::Start(name.to_string()),
        ["stop", name] => Request::Stop(name.to_string()),
        ["restart", name] => Request::Restart(name.to_string()),
        ["health"] => Request::Health,
        ["reboot"] => Request::Reboot,
        ["poweroff"] => Request::PowerOff,
        _ => return None,
    };
    // A name that is none would make no request.
    let line = request.to_line();
    Request::parse(line.as_bytes()).filter(|_| line.len() < MAX_REQUEST)
}

/// Sends the request and shows the answer as it comes.
fn talk(request: &Request) -> std::io::Result<i32> {
    let mut stream = UnixStream::connect(CTL_SOCKET)?;
    stream.write_all([&request.to_line(), "\n"].concat().as_bytes())?;
    let mut head = Vec::new();
    let mut byte = [0];
    while head.len() < 1024 && stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        head.push(byte[0]);
    }
    if head != OK.as_bytes() {
        let text = String::from_utf8_lossy(&head).into_owned();
        let text = text.strip_prefix(ERROR).unwrap_or(&text);
        let text = printable::line(text);
        complain(if text.is_empty() { "init gave no answer" } else { &text });
        return Ok(1);
    }
    // A file gets a log as it was written; on a terminal it must not do more than be read.
    let mut escaper = stdout().is_terminal().then(Escaper::default);
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer)?;
        let mut shown = Vec::new();
        let bytes = match &mut escaper {
            None => &buffer[..n],
            Some(escaper) => {
                escaper.push(&buffer[..n], &mut shown);
                if n == 0 {
                    escaper.finish(&mut shown);
                }
                &shown
            }
        };
        if !print(bytes) || n == 0 {
            return Ok(0);
        }
    }
}

/// Writes to standard output; false when nobody reads it any more.
fn print(bytes: &[u8]) -> bool {
    write_all(stdout(), bytes)
}

fn complain(text: &str) {
    write_all(stderr(), ["ctl: ", text, "\n"].concat().as_bytes());
}

/// Without the standard library's buffers, which are a few kilobytes of this program.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) if written > 0 => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_become_requests() {
        for (line, wanted) in [
            ("status", "status"),
            ("status --json", "status json"),
            ("logs face", "logs face"),
            ("logs -f face", "logs-follow face"),
            ("restart face", "restart face"),
            ("poweroff", "poweroff"),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(request(&words).map(|request| request.to_line()).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn a_wrong_command_line_is_told_what_is_wrong_with_it() {
        for (line, told) in [
            ("", "no command given"),
            ("logs", "name one workload"),
            ("logs -f", "name one workload"),
            ("stop", "name one workload"),
            ("restart a b", "name one workload"),
            ("status --xml", "does not take"),
            ("reboot now", "does not take"),
            ("log face", "no such command"),
        ] {
            let words: Vec<&str> = line.split(' ').filter(|w| !w.is_empty()).collect();
            assert_eq!(request(&words), None, "{line}");
            assert!(wrong(&words).contains(told), "{line}");
        }
    }
}
