//! What can be asked of `init`.

/// The verbs, each with its word: one list, so that none can be written and not read.
macro_rules! verbs {
    ($($verb:ident = $word:literal,)*) => {
        /// What can be asked for: the first word of a request, and what an `ask` line of `system.conf`
        /// grants a workload.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Verb {
            $(#[doc = concat!("`", $word, "`")] $verb,)*
        }

        impl Verb {
            /// All of them.
            const ALL: [Verb; [$($word),*].len()] = [$(Verb::$verb),*];

            /// How it is written.
            pub fn word(self) -> &'static str {
                match self {
                    $(Verb::$verb => $word,)*
                }
            }
        }
    };
}

verbs! {
    Status = "status",
    Logs = "logs",
    LogsFollow = "logs-follow",
    Start = "start",
    Stop = "stop",
    Restart = "restart",
    Reboot = "reboot",
    PowerOff = "poweroff",
    Health = "health",
    SignedTime = "signed-time",
    TrialWaits = "trial-waits",
    BootState = "boot-state",
    BootBeginInstall = "boot-begin-install",
    BootArm = "boot-arm",
    BootCommit = "boot-commit",
    BootForbidFallback = "boot-forbid-fallback",
    BootClearTrial = "boot-clear-trial",
}

impl Verb {
    /// The verb that is written like this.
    pub fn parse(word: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.word() == word)
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
        for verb in Verb::ALL {
            assert_eq!(Verb::parse(verb.word()), Some(verb));
        }
    }
}
