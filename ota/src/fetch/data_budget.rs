//! Metered links: how many bytes may go over the link in a day, and in which hours.
//!
//! What counts are the bytes of the connections themselves, both ways: headers, TLS and all. The
//! count is written down every `SAVE_EVERY` bytes and when a client is done, so that a reboot does
//! not give a second budget.
//!
//! Whatever waits for a server waits below this: so it is here that the process's heart beats, once
//! before and after each wait, of which none is longer than the client's timeouts.

use std::fmt;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use formats::day_window::DayWindow;

use crate::clock;
use crate::device::Device;
use crate::heart;
use crate::settings::Settings;

/// Where the day's count is kept, in `ota`'s folder.
const FILE: &str = "budget.json";
/// The file is not longer, in bytes.
const MAX_FILE: u64 = 1024;
/// So many bytes may go uncounted when the power is cut.
const SAVE_EVERY: u64 = 1 << 20;
const DAY: u64 = 86_400;

/// Who asked for a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The daemon, when its time had come: it keeps to waves, hours and budget.
    Scheduled,
    /// The daemon, of what is on a stick: somebody brought it, so waves are not kept, but nobody need
    /// be there any more, so what was put off waits.
    Media,
    /// A person. The waves are told and not kept, the bytes counted and not refused.
    Manual,
}

/// What was used of a day's budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Days since 1970, by the device's time.
    pub day: u64,
    /// Bytes on that day.
    pub bytes: u64,
}

impl Used {
    /// The same on `day`: another day starts from nothing, wherever the clock has jumped.
    fn on(self, day: u64) -> Used {
        match self.day == day {
            true => self,
            false => Used { day, bytes: 0 },
        }
    }
}

/// Counts the bytes of a client's connections, and stops them when no more may flow.
pub struct DataBudget {
    device: Device,
    budget: Option<u64>,
    hours: Option<DayWindow>,
    count: Mutex<Count>,
    now: fn() -> u64,
}

struct Count {
    used: Used,
    unsaved: u64,
}

impl DataBudget {
    /// The device's budget; `None` when its image sets no limits.
    pub fn open(device: &Device, settings: &Settings, trigger: Trigger) -> Option<Arc<DataBudget>> {
        DataBudget::with_clock(device, settings, trigger, clock::now)
    }

    fn with_clock(
        device: &Device,
        settings: &Settings,
        trigger: Trigger,
        now: fn() -> u64,
    ) -> Option<Arc<DataBudget>> {
        if settings.daily_budget.is_none() && settings.hours.is_none() {
            return None;
        }
        let kept = device.data_folder().read(FILE, MAX_FILE).ok();
        let used: Used =
            kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let keep = trigger == Trigger::Scheduled;
        Some(Arc::new(DataBudget {
            device: device.clone(),
            budget: settings.daily_budget.filter(|_| keep),
            hours: settings.hours.filter(|_| keep),
            count: Mutex::new(Count { used, unsaved: 0 }),
            now,
        }))
    }

    /// Why nothing may flow now, if so.
    pub fn barred(&self) -> Option<String> {
        let now = (self.now)();
        if let Some(hours) = self.hours.filter(|hours| is_closed(*hours, now)) {
            return Some(format!("downloads are for {hours}; it goes on then"));
        }
        let used = self.count().used.on(now / DAY);
        let budget = self.budget.filter(|budget| used.bytes >= *budget)?;
        Some(format!(
            "today's budget of {budget} bytes is used up; it goes on after 00:00 UTC, from what is \
             there already"
        ))
    }

    fn pass(&self, bytes: usize) {
        let mut count = self.count();
        count.used = count.used.on((self.now)() / DAY);
        // What was written down is on a partition that nothing verifies.
        count.used.bytes = count.used.bytes.saturating_add(bytes as u64);
        count.unsaved += bytes as u64;
        if count.unsaved >= SAVE_EVERY {
            self.save(&mut count);
        }
    }

    fn count(&self) -> std::sync::MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A count that cannot be written costs money and is no reason to stop: an update may be what
    /// makes room.
    fn save(&self, count: &mut Count) {
        if let Ok(text) = serde_json::to_vec(&count.used) {
            let _ = self.device.data_folder().replace(FILE, &text);
        }
        count.unsaved = 0;
    }
}

/// Whether these hours bar a download now. A device whose clock was never set cannot know them, and
/// an update is worth more than the tariff.
pub fn is_closed(hours: DayWindow, now: u64) -> bool {
    clock::was_set(now) && !hours.is_open(now)
}

impl Drop for DataBudget {
    fn drop(&mut self) {
        let mut count = self.count();
        if count.unsaved > 0 {
            self.save(&mut count);
        }
    }
}

impl fmt::Debug for DataBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataBudget of {:?}", self.budget)
    }
}

/// Puts the budget under every connection.
#[derive(Debug)]
pub struct BudgetConnector(pub Option<Arc<DataBudget>>);

/// A connection that is counted, if there is a budget.
#[derive(Debug)]
pub struct Counted<T> {
    inner: T,
    budget: Option<Arc<DataBudget>>,
}

impl<In: Transport> Connector<In> for BudgetConnector {
    type Out = Counted<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        heart::beat();
        let Some(inner) = chained else { return Ok(None) };
        // A tunnel's connection to its proxy has been through here already.
        let tunnel = details.config.proxy().is_some_and(|proxy| !proxy.is_no_proxy(details.uri));
        let budget = self.0.clone().filter(|_| !tunnel);
        budget.as_ref().map_or(Ok(()), |budget| budget.check())?;
        Ok(Some(Counted { inner, budget }))
    }
}

impl<T> Counted<T> {
    fn check(&self) -> Result<(), ureq::Error> {
        heart::beat();
        self.budget.as_ref().map_or(Ok(()), |budget| budget.check())
    }

    fn pass(&self, bytes: usize) {
        heart::beat();
        if let Some(budget) = &self.budget {
            budget.pass(bytes);
        }
    }
}

impl DataBudget {
    fn check(&self) -> Result<(), ureq::Error> {
        self.barred().map_or(Ok(()), |reason| Err(ureq::Error::Other(reason.into())))
    }
}

impl<T: Transport> Transport for Counted<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.check()?;
        self.inner.transmit_output(amount, timeout)?;
        self.pass(amount);
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.check()?;
        let before = self.inner.buffers().input().len();
        let some = self.inner.await_input(timeout)?;
        let after = self.inner.buffers().input().len();
        self.pass(after.saturating_sub(before));
        Ok(some)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 20_000 * DAY + DAY / 2;

    fn settings(more: &str) -> Settings {
        let text = format!(
            r#"{{"url": "http://u", "name": "n", "poll_seconds": 1, "jitter_seconds": 0,
            "commit_after_seconds": 0, "tries": 1, "reboot": "now", {more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn device() -> (tempfile::TempDir, Device) {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::below(dir.path());
        std::fs::create_dir(device.data()).unwrap();
        (dir, device)
    }

    #[test]
    fn a_budget_outlives_a_reboot_and_comes_back_the_next_day() {
        let (_dir, device) = device();
        let settings = settings(r#""daily_budget": 3000000"#);
        let at = |now: fn() -> u64, trigger| {
            DataBudget::with_clock(&device, &settings, trigger, now).unwrap()
        };
        let budget = at(|| NOON, Trigger::Scheduled);
        budget.pass(2_000_000);
        assert_eq!(budget.barred(), None);
        // The power is cut: what was written down after each MiB counts.
        let again = at(|| NOON + 60, Trigger::Scheduled);
        again.pass(1_000_000);
        assert!(again.barred().unwrap().contains("budget of 3000000 bytes is used up"));
        drop(again);
        let kept = std::fs::read_to_string(device.data().join(FILE)).unwrap();
        assert_eq!(kept, r#"{"day":20000,"bytes":3000000}"#);
        assert!(at(|| NOON + DAY / 2 - 1, Trigger::Scheduled).barred().is_some());
        assert_eq!(at(|| NOON, Trigger::Manual).barred(), None);
        assert_eq!(at(|| NOON + DAY / 2, Trigger::Scheduled).barred(), None);
        // A clock that jumped ten years ahead and came back stops nothing for ten years.
        assert_eq!(at(|| NOON + 3660 * DAY, Trigger::Scheduled).barred(), None);
    }

    #[test]
    fn a_count_that_somebody_wrote_ends_nothing() {
        let (_dir, device) = device();
        let kept = format!(r#"{{"day":20000,"bytes":{}}}"#, u64::MAX);
        std::fs::write(device.data().join(FILE), kept).unwrap();
        let settings = settings(r#""daily_budget": 3000000"#);
        let budget = DataBudget::with_clock(&device, &settings, Trigger::Manual, || NOON).unwrap();
        budget.pass(1);
        assert_eq!(budget.count().used.bytes, u64::MAX);
    }

    #[test]
    fn hours_bar_who_knows_the_time() {
        let (_dir, device) = device();
        let settings = settings(r#""hours": "01:00-05:00""#);
        let barred = |now: fn() -> u64, trigger| {
            DataBudget::with_clock(&device, &settings, trigger, now).unwrap().barred()
        };
        assert!(
            barred(|| NOON, Trigger::Scheduled).unwrap().contains("between 01:00 and 05:00 UTC")
        );
        assert_eq!(barred(|| NOON, Trigger::Manual), None);
        assert_eq!(barred(|| NOON - 10 * 3600, Trigger::Scheduled), None);
        assert_eq!(barred(|| DAY / 2, Trigger::Scheduled), None, "no clock");
        assert!(
            DataBudget::open(&device, &self::settings(r#""sticks": false"#), Trigger::Scheduled)
                .is_none()
        );
    }
}
