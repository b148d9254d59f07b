//! What people and programs ask PID 1 for, through `ctl`.

use formats::boot_request::BootRequest;
use formats::boot_state::NO_LONGER_WAITS;
use formats::control::Request;
use formats::control::status::{Status, Wifi};

use super::Init;
use crate::boot_state::requests::{Moment, Rights};
use crate::control::Answer;
use crate::rootfs::shutdown::End;
use crate::rootfs::status;
use crate::workload::state_machine::Event;
use crate::workload::vital_health::Verdict;

impl Init {
    pub(super) fn on_client(&mut self, index: usize, now: u64) {
        let request = self.control.as_mut().and_then(|control| control.on_readable(index));
        let answer = match request {
            None => return,
            Some(Err(answer)) => answer,
            Some(Ok(request)) => match self.answer_or_hold(index, request, now) {
                Some(answer) => answer,
                None => return,
            },
        };
        if let Some(control) = &mut self.control {
            control.answer(index, answer);
        }
    }

    /// The answer, unless a helper has to find it first.
    fn answer_or_hold(&mut self, index: usize, request: Request, now: u64) -> Option<Answer> {
        let (number, peer) = self.control.as_ref()?.client(index)?;
        // Whom the kernel does not name is nobody in particular.
        let peer = peer.unwrap_or(u32::MAX);
        let rights = Rights::of(peer, self.supervisor.units.iter().map(|unit| &unit.conf));
        let person = rights == Rights::Root;
        if !rights.allow(&request, self.boot_requests.have_armed()) {
            let user = peer.to_string();
            let refused = ["user ", &user, " may not ask for `", request.verb().word(), "` now"];
            return Some(Answer::error(&refused.concat()));
        }
        let Request::Boot(request) = request else { return Some(self.answer(request, now)) };
        if request == BootRequest::Commit {
            // Whatever kept it from being committed does so no more.
            self.trial_waits.clear();
        }
        if self.shutdown.is_some() {
            return Some(Answer::error("the device is shutting down"));
        }
        let moment = Moment {
            chooser: self.booted.chooser.clone(),
            running: self.booted.running(),
            healthy: self.supervisor.verdict(now) == Verdict::Healthy,
            person,
        };
        match self.boot_requests.start(&mut self.helpers, number, request, moment, now) {
            Ok(()) => {
                self.control.as_mut()?.hold(index, now);
                None
            }
            Err(answer) => Some(answer),
        }
    }

    fn answer(&mut self, request: Request, now: u64) -> Answer {
        match request {
            Request::Status { json: true } => Answer::ok(&self.status(now).to_json()),
            Request::Status { json: false } => Answer::ok(&status::text(&self.status(now))),
            Request::Health => {
                let healthy_for = self.assessment.healthy_for(now);
                Answer::ok(&status::health(&self.supervisor.verdict(now), healthy_for))
            }
            Request::Logs { name, follow } => match self.supervisor.find(&name) {
                Some(index) => Answer { log: Some((index, follow)), ..Answer::ok("") },
                None => unknown(&name),
            },
            Request::Start(name) => self.ask(&name, Event::AskStart, now),
            Request::Stop(name) => self.ask(&name, Event::AskStop, now),
            Request::Restart(name) => self.ask(&name, Event::AskRestart, now),
            Request::SignedTime(seconds) => {
                self.clock.signed_at(seconds, now);
                Answer::ok("")
            }
            Request::TrialWaits(reason) => {
                self.trial_waits = if reason == NO_LONGER_WAITS { String::new() } else { reason };
                Answer::ok("")
            }
            Request::Reboot => {
                self.end(End::Reboot, now);
                Answer::ok("")
            }
            Request::PowerOff => {
                self.end(End::PowerOff, now);
                Answer::ok("")
            }
            Request::Boot(_) => Answer::error("unknown request"),
        }
    }

    fn status(&self, now: u64) -> Status<&str> {
        Status {
            running: self.booted.clone(),
            address: Some(self.network.address()).filter(|address| !address.is_empty()),
            wifi: self.wireless.status().map(|(network, state)| Wifi { network, state }),
            data: self.data.clone(),
            stuck: self.helpers.stuck(),
            up_ms: now,
            workloads: status::workloads(&self.supervisor, now),
        }
    }

    fn ask(&mut self, name: &str, event: Event, now: u64) -> Answer {
        let Some(index) = self.supervisor.find(name) else { return unknown(name) };
        if self.shutdown.is_some() {
            return Answer::error("the device is shutting down");
        }
        self.supervisor.ask(index, event, now);
        Answer::ok("")
    }
}

fn unknown(name: &str) -> Answer {
    Answer::error(&["no workload is named ", name, "; see `ctl status`"].concat())
}
