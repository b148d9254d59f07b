//! `ctl`: the command line that talks to PID 1.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;

use formats::control::answer::{ERROR, OK};
use formats::control::{MAX_REQUEST, Request};
use formats::layout::CTL_SOCKET;

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
        complain(if words.is_empty() { "no command given" } else { "no such command" });
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

/// The request that a command line makes.
fn request(words: &[&str]) -> Option<Request> {
    let request = match words {
        ["status"] => Request::Status { json: false },
        ["status", "--json"] => Request::Status { json: true },
        ["logs", "-f", name] | ["logs", name, "-f"] => {
            Request::Logs { name: name.to_string(), follow: true }
        }
        ["logs", name] => Request::Logs { name: name.to_string(), follow: false },
        ["start", name] => Request::Start(name.to_string()),
        ["stop", name] => Request::Stop(name.to_string()),
        ["restart", name] => Request::Restart(name.to_string()),
        ["health"] => Request::Health,
        ["reboot"] => Request::Reboot,
        ["poweroff"] => Request::PowerOff,
        _ => return None,
    };
    // A name that is none would make another request, or none.
    let line = request.to_line();
    let stands =
        line.len() < MAX_REQUEST && Request::parse(line.as_bytes()) == Some(request.clone());
    stands.then_some(request)
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
    let mut escaper = std::io::stdout().is_terminal().then(Escaper::default);
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
    let mut out = std::io::stdout();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

fn complain(text: &str) {
    let _ = std::io::stderr().write_all(["ctl: ", text, "\n"].concat().as_bytes());
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
        for line in ["", "logs", "stop", "status --xml", "reboot now", "logs -f"] {
            let words: Vec<&str> = line.split(' ').filter(|w| !w.is_empty()).collect();
            // `logs -f` asks for a workload named -f; init knows none of that name.
            assert_eq!(request(&words).is_some(), line == "logs -f", "{line}");
        }
    }
}
