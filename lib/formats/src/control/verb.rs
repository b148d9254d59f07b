//! What can be asked of `init`.

/// What can be asked for: the first word of a request, and what an `ask` line of `system.conf`
/// grants a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "WORDS has them")]
pub enum Verb {
    Status,
    Logs,
    LogsFollow,
    Start,
    Stop,
    Restart,
    Reboot,
    PowerOff,
    Health,
    SignedTime,
    TrialWaits,
    BootState,
    BootBeginInstall,
    BootArm,
    BootCommit,
    BootForbidFallback,
    BootClearTrial,
}

const WORDS: [(Verb, &str); 17] = [
    (Verb::Status, "status"),
    (Verb::Logs, "logs"),
    (Verb::LogsFollow, "logs-follow"),
    (Verb::Start, "start"),
    (Verb::Stop, "stop"),
    (Verb::Restart, "restart"),
    (Verb::Reboot, "reboot"),
    (Verb::PowerOff, "poweroff"),
    (Verb::Health, "health"),
    (Verb::SignedTime, "signed-time"),
    (Verb::TrialWaits, "trial-waits"),
    (Verb::BootState, "boot-state"),
    (Verb::BootBeginInstall, "boot-begin-install"),
    (Verb::BootArm, "boot-arm"),
    (Verb::BootCommit, "boot-commit"),
    (Verb::BootForbidFallback, "boot-forbid-fallback"),
    (Verb::BootClearTrial, "boot-clear-trial"),
];
impl Verb {
    /// The verb that is written like this.
    pub fn parse(word: &str) -> Option<Verb> {
        WORDS.iter().find(|(_, known)| *known == word).map(|(verb, _)| *verb)
    }

    /// How it is written.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(verb, _)| *verb == self).map_or("", |(_, word)| word)
    }

    /// Whether an `ask` line of `system.conf` may grant it: what the update client needs.
    pub fn may_be_granted(self) -> bool {
        use Verb::*;
        !matches!(self, Status | Logs | LogsFollow | Start | Stop | Restart | PowerOff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_its_own_word() {
        for (verb, word) in WORDS {
            assert_eq!((Verb::parse(word), verb.word()), (Some(verb), word));
        }
    }
}
