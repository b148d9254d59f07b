//! What `init` is asked about the boot state: the requests as lines of its control socket's
//! protocol, and the rules by which each is granted or refused.
//!
//! Only PID 1 writes the boot state. Whoever else wants it changed asks for one of these steps, and
//! the rules here are PID 1's own: they go by what it read and verified itself, never by what the
//! asker says. docs/architecture.md, "ctl protocol".

use crate::boot_state::{BLOB_SIZE, BootState};
use crate::conf;
use crate::control::answer::OK;
use crate::control::verb::Verb;
use crate::manifest::Manifest;
use crate::{Error, Result, Slot, hex, key};

/// One request about the boot state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootRequest {
    /// `boot-state`: tell it.
    State,
    /// `boot-begin-install`: the idle slot is about to be overwritten, so nothing may boot it.
    BeginInstall,
    /// `boot-arm SLOT TRIES`: boot the idle slot next, up to so many times.
    Arm {
        /// The idle slot.
        slot: Slot,
        /// Boots that its trial gets, at least 1.
        tries: u8,
    },
    /// `boot-commit`: what runs is the active slot from now on.
    Commit,
    /// `boot-forbid-fallback`: nothing may fall back to the idle slot, which has decayed.
    ForbidFallback,
    /// `boot-clear-trial`: forget a trial, armed or failed.
    ClearTrial,
}

/// What the rules go by.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The slot that runs.
    pub running: Slot,
    /// Its manifest, verified.
    pub manifest: &'a Manifest,
    /// The manifest of the idle slot, if its header holds one that a trusted key signed.
    pub idle: Option<&'a Manifest>,
    /// Every vital workload is ready and healthy.
    pub healthy: bool,
    /// A person asks, as root. What is left to a person's judgement is not asked of the device:
    /// committing what is not healthy, and going back to an older version.
    pub person: bool,
}

impl BootRequest {
    /// Understands a request line without its line feed; `None` when it is about something else.
    pub fn parse(line: &str) -> Option<BootRequest> {
        let words: Vec<&str> = line.split(' ').take(4).collect();
        let (verb, objects) = words.split_first()?;
        match (Verb::parse(verb)?, objects) {
            (Verb::BootState, []) => Some(BootRequest::State),
            (Verb::BootBeginInstall, []) => Some(BootRequest::BeginInstall),
            (Verb::BootCommit, []) => Some(BootRequest::Commit),
            (Verb::BootForbidFallback, []) => Some(BootRequest::ForbidFallback),
            (Verb::BootClearTrial, []) => Some(BootRequest::ClearTrial),
            (Verb::BootArm, [slot, tries]) => {
                let tries = u8::try_from(conf::decimal(tries)?).ok().filter(|n| *n > 0)?;
                Some(BootRequest::Arm { slot: Slot::parse(slot).ok()?, tries })
            }
            _ => None,
        }
    }

    /// The request's line, without its line feed.
    pub fn to_line(self) -> String {
        let word = self.verb().word();
        match self {
            BootRequest::Arm { slot, tries } => {
                [word, " ", slot.letter(), " ", &tries.to_string()].concat()
            }
            _ => word.to_string(),
        }
    }

    /// What it asks for.
    pub fn verb(self) -> Verb {
        match self {
            BootRequest::State => Verb::BootState,
            BootRequest::BeginInstall => Verb::BootBeginInstall,
            BootRequest::Arm { .. } => Verb::BootArm,
            BootRequest::Commit => Verb::BootCommit,
            BootRequest::ForbidFallback => Verb::BootForbidFallback,
            BootRequest::ClearTrial => Verb::BootClearTrial,
        }
    }

    /// Whether the rules look at what lies in the idle slot.
    pub fn needs_idle(self) -> bool {
        matches!(self, BootRequest::Arm { .. } | BootRequest::Commit)
    }

    /// Changes the state as asked. A refusal says why, and leaves the state as it was.
    pub fn apply(self, state: &mut BootState, facts: &Facts<'_>) -> Result<()> {
        let running = facts.running;
        match self {
            BootRequest::State => {}
            BootRequest::BeginInstall => {
                require_committed(state, running)?;
                state.begin_install();
            }
            BootRequest::Arm { slot, tries } => {
                if slot != running.other() {
                    return Err(refused(&["slot ", slot.letter(), " is the one that runs"]));
                }
                require_committed(state, running)?;
                let idle = facts.idle.ok_or_else(|| {
                    refused(&["slot ", slot.letter(), " has no header that a trusted key signed"])
                })?;
                may_follow(idle, facts)?;
                state.arm(slot, tries);
            }
            BootRequest::Commit => {
                if state.trial != Some(running) && state.active != running {
                    return Err(refused(&[
                        "slot ",
                        running.letter(),
                        " is neither on trial nor active any more; nothing was committed",
                    ]));
                }
                if !facts.healthy && !facts.person {
                    return Err(refused(&["not every vital workload is healthy"]));
                }
                state.commit(running);
                // What must not come back does not come back by a reset either.
                if facts.idle.is_some_and(|idle| idle.sequence < facts.manifest.rollback_floor) {
                    state.forbid_fallback();
                }
            }
            BootRequest::ForbidFallback => {
                require_committed(state, running)?;
                state.forbid_fallback();
            }
            BootRequest::ClearTrial => state.clear_trial(),
        }
        Ok(())
    }
}

/// An install overwrites the slot to come back to, and a trial of the other slot forgets this one.
fn require_committed(state: &BootState, running: Slot) -> Result<()> {
    if state.active != running {
        return Err(refused(&["what runs in slot ", running.letter(), " is not committed"]));
    }
    Ok(())
}

/// Whether a version whose signature holds may be tried on this device.
fn may_follow(idle: &Manifest, facts: &Facts<'_>) -> Result<()> {
    let running = facts.manifest;
    if (&idle.board, &idle.name) != (&running.board, &running.name) {
        let what = [&idle.name[..], " for ", &idle.board].concat();
        return Err(refused(&["the idle slot holds ", &what, ", which is another image"]));
    }
    if idle.sequence < running.rollback_floor {
        let (sequence, floor) = (idle.sequence.to_string(), running.rollback_floor.to_string());
        return Err(refused(&["its sequence ", &sequence, " is below the floor ", &floor]));
    }
    if idle.sequence <= running.sequence && !facts.person {
        let (sequence, newer) = (idle.sequence.to_string(), running.sequence.to_string());
        return Err(refused(&["its sequence ", &sequence, " is not above ", &newer]));
    }
    Ok(())
}

fn refused(parts: &[&str]) -> Error {
    Error::new(parts.concat())
}

/// The body of the answer to every request: the boot state in the form that the medium has it in.
pub fn answer(state: &BootState) -> String {
    [key::STATE, " ", &hex::encode(&state.to_blob()), "\n"].concat()
}

/// Reads what [`answer`] wrote, behind the `ok` line of the protocol.
pub fn parse_answer(bytes: &[u8]) -> Result<BootState> {
    let head = conf::parse(bytes, OK)?.head;
    BootState::from_blob(&hex::decode::<BLOB_SIZE>(conf::one(&head, key::STATE)?.value)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest(sequence: u64, rollback_floor: u64) -> Manifest {
        Manifest {
            board: "b".into(),
            name: "n".into(),
            version: "1".into(),
            sequence,
            rollback_floor,
            root_size: 4096,
            root_hash_size: 4096,
            root_verity_hash: [0; 32],
            root_verity_salt: [0; 32],
            boot_size: 4096,
            chunk_size: 65536,
            chunk_table_sha256: [0; 32],
            boot_files: vec![],
            models: vec![],
        }
    }

    const ARM: BootRequest = BootRequest::Arm { slot: Slot::B, tries: 3 };

    /// Applies a request in slot a with `running` and `idle` there; gives the error's text.
    fn apply(
        request: BootRequest,
        state: &mut BootState,
        running: &Manifest,
        idle: Option<&Manifest>,
        (healthy, person): (bool, bool),
    ) -> std::result::Result<(), String> {
        let facts = Facts { running: Slot::A, manifest: running, idle, healthy, person };
        request.apply(state, &facts).map_err(|e| e.to_string())
    }

    pub(crate) fn any_request() -> impl Strategy<Value = BootRequest> {
        let slot = prop_oneof![Just(Slot::A), Just(Slot::B)];
        prop_oneof![
            Just(BootRequest::State),
            Just(BootRequest::BeginInstall),
            (slot, 1u8..).prop_map(|(slot, tries)| BootRequest::Arm { slot, tries }),
            Just(BootRequest::Commit),
            Just(BootRequest::ForbidFallback),
            Just(BootRequest::ClearTrial),
        ]
    }

    fn any_state() -> impl Strategy<Value = BootState> {
        let slot = prop_oneof![Just(Slot::A), Just(Slot::B)];
        let maybe = proptest::option::of(slot.clone());
        (slot, maybe.clone(), any::<(u8, u8)>(), maybe).prop_map(
            |(active, trial, (tries, strikes), fallback)| BootState {
                active,
                trial,
                tries,
                strikes,
                fallback,
                ..BootState::fresh()
            },
        )
    }

    proptest! {
        #[test]
        fn a_request_comes_back_from_its_line(request in any_request()) {
            prop_assert_eq!(BootRequest::parse(&request.to_line()), Some(request));
        }

        #[test]
        fn lines_never_panic(line in "(boot-[a-z-]{0,14})?[ a-z0-9-]{0,30}") {
            let _ = BootRequest::parse(&line);
        }

        #[test]
        fn an_answer_comes_back(state in any_state()) {
            let text = ["ok\n", &answer(&state)].concat();
            prop_assert_eq!(parse_answer(text.as_bytes()).unwrap(), state);
        }

        /// Whatever a program asks, and in whatever state: it never makes a slot boot that is not
        /// signed, older than what runs, or another image; a refusal changes nothing.
        #[test]
        fn nothing_asked_for_makes_an_unfit_slot_boot(
            request in any_request(),
            before in any_state(),
            signed: bool,
            sequences in (0u64..9, 0u64..9, 0u64..9),
            healthy: bool,
            another: bool,
        ) {
            let (sequence, rollback_floor, idle) = sequences;
            let running = manifest(sequence.max(rollback_floor), rollback_floor);
            let idle = Manifest { name: if another { "m" } else { "n" }.into(), ..manifest(idle, 0) };
            let mut after = before.clone();
            let result =
                apply(request, &mut after, &running, signed.then_some(&idle), (healthy, false));
            if result.is_err() {
                prop_assert_eq!(&after, &before);
            }
            let armed = after.trial == Some(Slot::B) && after.tries > 0
                && (before.trial != after.trial || before.tries != after.tries);
            if armed {
                prop_assert!(signed && !another && idle.sequence > running.sequence);
                prop_assert!(before.active == Slot::A);
            }
            prop_assert!(after.active == before.active || after.active == Slot::A && healthy);
            if after.fallback.is_some() && after.fallback != before.fallback {
                prop_assert_eq!((before.active, after.active), (Slot::B, Slot::A));
            }
        }
    }

    #[test]
    fn lines_that_are_no_requests() {
        for line in [
            "boot",
            "boot-arm",
            "boot-arm b",
            "boot-arm c 1",
            "boot-arm b 0",
            "boot-arm b 256",
            "boot-arm b 01",
            "boot-arm b 1 2",
            "boot-commit a",
            "boot-state json",
            "BOOT-STATE",
        ] {
            assert_eq!(BootRequest::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn only_a_newer_signed_version_of_this_image_is_armed() {
        let running = manifest(5, 3);
        let mut state = BootState::fresh();
        let mut arm = |idle: Option<&Manifest>, person| {
            state = BootState::fresh();
            apply(ARM, &mut state, &running, idle, (true, person))
        };
        assert!(arm(None, true).unwrap_err().contains("no header that a trusted key signed"));
        assert!(arm(Some(&manifest(2, 0)), true).unwrap_err().contains("below the floor 3"));
        assert!(arm(Some(&manifest(4, 0)), false).unwrap_err().contains("not above 5"));
        assert_eq!(arm(Some(&manifest(4, 0)), true), Ok(()), "a person may go back");
        assert_eq!(arm(Some(&manifest(6, 0)), false), Ok(()));
        let other = Manifest { board: "c".into(), ..manifest(6, 0) };
        assert!(arm(Some(&other), true).unwrap_err().contains("another image"));
        assert_eq!((state.trial, state.tries), (None, 0));
        let wrong = BootRequest::Arm { slot: Slot::A, tries: 1 };
        let error = apply(wrong, &mut state, &running, Some(&manifest(6, 0)), (true, true));
        assert!(error.unwrap_err().contains("is the one that runs"));
    }

    #[test]
    fn what_is_not_committed_overwrites_and_arms_nothing() {
        let running = manifest(5, 0);
        let on_trial = BootState { active: Slot::B, trial: Some(Slot::A), ..BootState::fresh() };
        for request in [ARM, BootRequest::BeginInstall, BootRequest::ForbidFallback] {
            let mut state = on_trial.clone();
            let error = apply(request, &mut state, &running, Some(&manifest(6, 0)), (true, true));
            assert!(error.unwrap_err().contains("is not committed"));
            assert_eq!(state, on_trial);
        }
    }

    #[test]
    fn a_commit_needs_a_trial_and_health_and_shuts_out_what_is_below_the_floor() {
        let running = manifest(5, 5);
        let on_trial = BootState { active: Slot::B, trial: Some(Slot::A), ..BootState::fresh() };
        let mut state = on_trial.clone();
        let mut commit = |from: &BootState, idle: Option<&Manifest>, how| {
            state = from.clone();
            let result = apply(BootRequest::Commit, &mut state, &running, idle, how);
            (result, state.active, state.fallback)
        };
        let old = manifest(4, 0);
        let (result, active, _) = commit(&on_trial, Some(&old), (false, false));
        assert!(result.unwrap_err().contains("healthy") && active == Slot::B);
        let (result, active, fallback) = commit(&on_trial, Some(&old), (true, false));
        assert_eq!((result, active, fallback), (Ok(()), Slot::A, None), "below the floor");
        let (_, _, fallback) = commit(&on_trial, Some(&manifest(5, 0)), (false, true));
        assert_eq!(fallback, Some(Slot::B));
        let given_up = BootState { trial: None, ..on_trial };
        let (result, ..) = commit(&given_up, Some(&old), (true, true));
        assert!(result.unwrap_err().contains("nothing was committed"));
    }
}
