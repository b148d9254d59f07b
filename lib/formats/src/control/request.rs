//! What is asked of `init`.

use super::verb::Verb;
use crate::boot_request::BootRequest;
use crate::conf;

/// The longest request, in bytes, without its line feed.
pub const MAX_REQUEST: usize = 256;
/// What stands behind `status` for an answer in JSON.
const JSON: &str = "json";

/// A request, as `ctl` and others may make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `status`, `status json`.
    Status {
        /// As JSON.
        json: bool,
    },
    /// `logs NAME`, `logs-follow NAME`.
    Logs {
        /// The workload.
        name: String,
        /// Keep the connection and send what comes.
        follow: bool,
    },
    /// `start NAME`.
    Start(String),
    /// `stop NAME`.
    Stop(String),
    /// `restart NAME`.
    Restart(String),
    /// `reboot`.
    Reboot,
    /// `poweroff`.
    PowerOff,
    /// `health`.
    Health,
    /// `signed-time SECONDS`: when the repository says it was last signed, since 1970.
    SignedTime(u64),
    /// `trial-waits REASON`: what keeps the trial from being committed.
    TrialWaits(String),
    /// `boot-…`.
    Boot(BootRequest),
}

impl Request {
    /// Reads a request line without its line feed; `None` when it is no request.
    pub fn parse(line: &[u8]) -> Option<Request> {
        let line = std::str::from_utf8(line).ok()?;
        let (word, rest) = match line.split_once(' ') {
            Some((word, rest)) => (word, Some(rest)),
            None => (line, None),
        };
        let verb = Verb::parse(word)?;
        // The only request that is a sentence.
        if verb == Verb::TrialWaits {
            let reason = rest?;
            let sound = !reason.is_empty() && !reason.chars().any(char::is_control);
            return sound.then(|| Request::TrialWaits(reason.into()));
        }
        let name = || rest.filter(|name| !name.is_empty() && !name.contains(' ')).map(String::from);
        match (verb, rest) {
            (Verb::Status, None) => Some(Request::Status { json: false }),
            (Verb::Status, Some(JSON)) => Some(Request::Status { json: true }),
            (Verb::Reboot, None) => Some(Request::Reboot),
            (Verb::PowerOff, None) => Some(Request::PowerOff),
            (Verb::Health, None) => Some(Request::Health),
            (Verb::SignedTime, Some(seconds)) => conf::decimal(seconds).map(Request::SignedTime),
            (Verb::Logs, _) => Some(Request::Logs { name: name()?, follow: false }),
            (Verb::LogsFollow, _) => Some(Request::Logs { name: name()?, follow: true }),
            (Verb::Start, _) => name().map(Request::Start),
            (Verb::Stop, _) => name().map(Request::Stop),
            (Verb::Restart, _) => name().map(Request::Restart),
            _ => BootRequest::parse(line).map(Request::Boot),
        }
    }

    /// The request's line, without its line feed.
    pub fn to_line(&self) -> String {
        let object = match self {
            Request::Boot(request) => return request.to_line(),
            Request::Status { json: true } => JSON,
            Request::Status { json: false }
            | Request::Reboot
            | Request::PowerOff
            | Request::Health => return self.verb().word().to_string(),
            Request::Logs { name, .. }
            | Request::Start(name)
            | Request::Stop(name)
            | Request::Restart(name) => name,
            Request::SignedTime(seconds) => &seconds.to_string(),
            Request::TrialWaits(reason) => reason,
        };
        [self.verb().word(), " ", object].concat()
    }

    /// What it asks for.
    pub fn verb(&self) -> Verb {
        match self {
            Request::Status { .. } => Verb::Status,
            Request::Logs { follow: false, .. } => Verb::Logs,
            Request::Logs { follow: true, .. } => Verb::LogsFollow,
            Request::Start(_) => Verb::Start,
            Request::Stop(_) => Verb::Stop,
            Request::Restart(_) => Verb::Restart,
            Request::Reboot => Verb::Reboot,
            Request::PowerOff => Verb::PowerOff,
            Request::Health => Verb::Health,
            Request::SignedTime(_) => Verb::SignedTime,
            Request::TrialWaits(_) => Verb::TrialWaits,
            Request::Boot(request) => request.verb(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slot;
    use proptest::prelude::*;

    #[test]
    fn every_request_of_docs_architecture() {
        let face = || "face".to_string();
        for (line, request) in [
            ("status", Request::Status { json: false }),
            ("status json", Request::Status { json: true }),
            ("logs face", Request::Logs { name: face(), follow: false }),
            ("logs-follow face", Request::Logs { name: face(), follow: true }),
            ("start face", Request::Start(face())),
            ("stop face", Request::Stop(face())),
            ("restart face", Request::Restart(face())),
            ("reboot", Request::Reboot),
            ("poweroff", Request::PowerOff),
            ("health", Request::Health),
            ("boot-commit", Request::Boot(BootRequest::Commit)),
            ("boot-arm b 3", Request::Boot(BootRequest::Arm { slot: Slot::B, tries: 3 })),
            ("signed-time 1795659174", Request::SignedTime(1_795_659_174)),
            ("trial-waits no server", Request::TrialWaits("no server".into())),
        ] {
            assert_eq!(line.split(' ').next(), Some(request.verb().word()));
            assert_eq!(request.to_line(), line);
            assert_eq!(Request::parse(line.as_bytes()), Some(request), "{line}");
        }
    }

    #[test]
    fn refuses_what_is_no_request() {
        for line in [
            "trial-waits",
            "trial-waits ",
            "trial-waits a\u{1b}[2J",
            "",
            "stop",
            "stop ",
            "stop a b",
            "stop a ",
            "status xml",
            "status ",
            "reboot now",
            "STATUS",
            "logs",
            "signed-time -1",
            "boot-commit now",
        ] {
            assert_eq!(Request::parse(line.as_bytes()), None, "{line:?}");
        }
    }

    fn request() -> impl Strategy<Value = Request> {
        let name = "[!-~]{1,40}";
        prop_oneof![
            any::<bool>().prop_map(|json| Request::Status { json }),
            (name, any::<bool>()).prop_map(|(name, follow)| Request::Logs { name, follow }),
            name.prop_map(Request::Start),
            name.prop_map(Request::Stop),
            name.prop_map(Request::Restart),
            Just(Request::Reboot),
            Just(Request::PowerOff),
            Just(Request::Health),
            any::<u64>().prop_map(Request::SignedTime),
            "[^\\p{Cc}]{1,200}".prop_map(Request::TrialWaits),
            crate::boot_request::tests::any_request().prop_map(Request::Boot),
        ]
    }

    proptest! {
        #[test]
        fn a_request_comes_back(request in request()) {
            prop_assert_eq!(Request::parse(request.to_line().as_bytes()), Some(request));
        }

        #[test]
        fn no_bytes_make_it_panic(line: Vec<u8>) {
            let _ = Request::parse(&line);
        }
    }
}
