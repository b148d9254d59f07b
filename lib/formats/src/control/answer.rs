//! What `init` answers.

use crate::conf::{self, Writer};
use crate::{Error, Result, key};

/// The first line of the answer to a request that was granted.
pub const OK: &str = "ok";
/// What comes before the reason in the only line of the answer to one that was not.
pub const ERROR: &str = "error ";

/// How the vital workloads are, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vital {
    /// All of them are ready and healthy.
    Healthy,
    /// One has failed.
    Unhealthy,
    /// One is on its way, or waits for something.
    Starting,
}

const VITAL_WORDS: [(Vital, &str); 3] =
    [(Vital::Healthy, "healthy"), (Vital::Unhealthy, "unhealthy"), (Vital::Starting, "starting")];

/// The answer to `health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How the vital workloads are.
    pub vital: Vital,
    /// For how long all of them have been healthy without a break, in seconds.
    pub healthy_for: u64,
    /// What is wrong, when something is, in one line for people.
    pub reason: String,
}

impl Health {
    /// The longest reason that is written, in characters.
    pub const MAX_REASON: usize = 1000;

    /// The answer's body; control characters and what is too long of the reason are left out.
    pub fn to_body(&self) -> String {
        let word = VITAL_WORDS.iter().find(|(vital, _)| *vital == self.vital);
        let printable = self.reason.chars().filter(|c| !c.is_control());
        let reason: String = printable.take(Health::MAX_REASON).collect();
        let mut body = Writer::empty();
        body.line(key::VITAL, word.map_or("", |(_, word)| word))
            .number(key::HEALTHY_FOR, self.healthy_for)
            .line(key::REASON, &reason);
        body.finish()
    }

    /// Reads the whole answer, with its first line.
    pub fn parse(answer: &[u8]) -> Result<Health> {
        let head = conf::parse(answer, OK)?.head;
        let line = conf::one(&head, key::VITAL)?;
        let known = VITAL_WORDS.iter().find(|(_, word)| *word == line.value);
        let (vital, _) =
            known.ok_or_else(|| line.error("must be healthy, unhealthy or starting"))?;
        Ok(Health {
            vital: *vital,
            healthy_for: conf::one(&head, key::HEALTHY_FOR)?.number()?,
            reason: conf::one(&head, key::REASON)?.value.to_string(),
        })
    }
}

/// The whole answer to a request that was granted: the first line, and this body.
pub fn granted(body: &str) -> String {
    [OK, "\n", body].concat()
}

/// The whole answer to a request that was not.
pub fn refused(reason: &str) -> String {
    [ERROR, reason, "\n"].concat()
}

/// Tells a refusal, as an error with its reason, from every other answer.
pub fn check(answer: &[u8]) -> Result<()> {
    match answer.strip_prefix(ERROR.as_bytes()) {
        None => Ok(()),
        Some(reason) => Err(Error::new(String::from_utf8_lossy(reason).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers() {
        let health = Health { vital: Vital::Healthy, healthy_for: 31, reason: String::new() };
        let answer = "ok\nvital healthy\nhealthy-for 31\nreason\n";
        assert_eq!(granted(&health.to_body()), answer);
        assert_eq!(Health::parse(answer.as_bytes()).unwrap(), health);
        let starting = b"ok\nvital starting\nhealthy-for 0\nreason face: starting\n";
        assert_eq!(Health::parse(starting).unwrap().reason, "face: starting");
        assert!(Health::parse(b"ok\n").is_err() && Health::parse(b"").is_err());

        assert_eq!(refused("no such workload"), "error no such workload\n");
        let refusal = check(b"error no such workload\n").unwrap_err();
        assert_eq!(refusal.to_string(), "no such workload");
        assert_eq!(check(answer.as_bytes()), Ok(()));
    }

    proptest! {
        #[test]
        fn a_health_comes_back(at in 0..3usize, healthy_for: u64, reason in "[^\\p{Cc}]{0,1000}") {
            let health = Health { vital: VITAL_WORDS[at].0, healthy_for, reason };
            let answer = granted(&health.to_body());
            prop_assert_eq!(Health::parse(answer.as_bytes()).unwrap(), health);
        }

        #[test]
        fn no_bytes_make_it_panic(answer: Vec<u8>) {
            let _ = (Health::parse(&answer), check(&answer));
        }
    }
}
