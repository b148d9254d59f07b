//! What PID 1 does about the data partition; the work on it is a helper's.

use formats::data_state::Kind as DataKind;

use super::Init;
use crate::boot_state::assessment::Kind;
use crate::console::say;
use crate::data::{self, Partition, Place, Remedy};
use crate::helper::Task;
use crate::quota::{self, Limits};
use crate::rootfs::shutdown::End;
use crate::workload::state_machine::{Event, State};

impl Init {
    /// Mounts the data partition, if it is in order.
    pub(super) fn start_data(&mut self, now: u64) {
        // What keeps it from being mounted says the repair, which tries again.
        if !self.helpers.ask(Task::Data, now, || data::mount_in_order().is_ok()) {
            self.start_repair(now);
        }
    }

    /// Makes `/data` ready after a check or afresh where that is needed, or memory in its place.
    pub(super) fn start_repair(&mut self, now: u64) {
        let places = self.places();
        let on_trial = self.booted.boot == Kind::Trial;
        let work = move || data::prepare(&places, on_trial).map_err(|e| e.within("data"));
        if !self.helpers.start(Task::Repair, now, work) {
            self.helper_ended(Task::Repair, false, now);
        }
    }

    /// A helper mounted the partition, or memory in its place.
    pub(super) fn take_over_data(&mut self, now: u64) {
        let is_volatile = data::state().is_some_and(|state| state.kind == DataKind::Volatile);
        match is_volatile || data::take_over().map_err(|e| say(&[&e.to_string()])).is_ok() {
            true => self.data_is_there(now),
            false => self.data_is_lost("it could not be mounted", Partition::Answers, now),
        }
    }

    /// There is no partition to be had: memory takes its place. Not for a version on trial, which would
    /// look well on it, and be committed.
    pub(super) fn data_is_lost(&mut self, reason: &'static str, partition: Partition, now: u64) {
        match self.booted.boot {
            Kind::Trial => self.volatile_is_there(false, now),
            Kind::Active | Kind::Fallback => self.start_volatile(reason, partition, now),
        }
    }

    /// The medium does not let a helper go.
    pub(super) fn data_hangs(&mut self, now: u64) {
        self.data_is_lost("its medium does not answer", Partition::Hangs, now);
    }

    /// Lets `/data` grow to the disk's end, and what each workload may take of it.
    pub(super) fn start_growth(&mut self, now: u64) {
        if self.data.kind == DataKind::Volatile {
            return;
        }
        let disk = self.booted.disk.clone();
        let units = &self.supervisor.units;
        let limits: Vec<Limits> = units.iter().filter_map(|unit| Limits::of(&unit.conf)).collect();
        self.helpers.start(Task::Growth, now, move || {
            data::grow(&disk);
            quota::limit_all(&limits);
            Ok(())
        });
    }

    /// Mounts memory in the place of `/data`.
    pub(super) fn start_volatile(&mut self, reason: &'static str, partition: Partition, now: u64) {
        let places = self.places();
        let work =
            move || data::go_volatile(reason, partition, &places).map_err(|e| e.within("data"));
        if !self.helpers.start(Task::Volatile(partition), now, work) {
            self.volatile_is_there(false, now);
        }
    }

    pub(super) fn volatile_is_there(&mut self, success: bool, now: u64) {
        if !success {
            self.supervisor.conditions.data = Some(false);
            say(&["data: not available"]);
        } else if self.supervisor.conditions.data == Some(true) {
            // In the place of a partition that was there: who has that one starts again.
            self.data = data::state().unwrap_or_else(data::kept);
            for index in 0..self.supervisor.units.len() {
                let unit = &self.supervisor.units[index];
                let runs = !matches!(unit.state, State::Waiting | State::Stopped | State::Finished);
                if unit.conf.data && runs {
                    self.supervisor.ask(index, Event::AskRestart, now);
                }
            }
        } else {
            self.data_is_there(now);
        }
    }

    /// Begins to look for errors in `/data`.
    pub(super) fn watch_data(&mut self) {
        if self.data.kind != DataKind::Volatile {
            self.data_watch = data::Watch::begin();
        }
    }

    /// Looks whether the kernel has found errors, now and then.
    pub(super) fn look_for_data_errors(&mut self, now: u64) {
        if self.data_watch.as_mut().map_or(0, |watch| watch.new_errors(now)) == 0 {
            return;
        }
        // Once is enough: whatever is done about it ends with another /data.
        self.data_watch = None;
        let on_trial = self.booted.boot == Kind::Trial;
        say(&["data: the kernel found errors in the file system; it is read-only now"]);
        match data::remedy(self.data.kind, on_trial) {
            Remedy::Check => self.check_data(now),
            Remedy::CheckLater => self.data_check_waits = true,
            Remedy::Volatile => {
                self.start_volatile("it fails again after a check", Partition::Answers, now);
            }
        }
    }

    /// Restarts, once, so that the file system is checked before it is mounted.
    pub(super) fn check_data(&mut self, now: u64) {
        self.data_check_waits = false;
        say(&["data: restarting to check the file system"]);
        self.end(End::Reboot, now);
    }

    fn places(&self) -> Vec<Place> {
        let with_data = self.supervisor.units.iter().filter(|unit| unit.conf.data);
        with_data.map(|unit| Place { name: unit.conf.name.clone(), uid: unit.conf.uid }).collect()
    }
}
