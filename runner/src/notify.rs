//! Telling the supervisor: ready once, then heartbeats, each one newline.

use crate::sys;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

/// The channel to the supervisor, or nothing when there is none.
pub struct Notify {
    channel: Option<File>,
    interval: Duration,
    last: Option<Instant>,
}

impl Notify {
    /// Takes the channel that FERRITE_NOTIFY_FD names. Beats are at least `interval` apart.
    pub fn from_environment(interval: Duration) -> Self {
        let number = std::env::var("FERRITE_NOTIFY_FD").ok();
        let channel = number.as_deref().and_then(|text| match text.parse::<i32>() {
            Ok(fd) if fd > 2 => Some(sys::inherited(fd)),
            _ => {
                eprintln!("runner: FERRITE_NOTIFY_FD={text} is not a descriptor number above 2: nobody is told");
                None
            }
        });
        Self { channel, interval, last: None }
    }

    /// Says ready, or, later, that the loop still turns. Called from the inference loop only, so
    /// that an invoke that hangs silences it.
    pub fn beat(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() < self.interval) {
            return;
        }
        self.last = Some(Instant::now());
        if let Some(Err(error)) = self.channel.as_mut().map(|channel| channel.write_all(b"\n")) {
            eprintln!("runner: the supervisor's channel (FERRITE_NOTIFY_FD) is gone: {error}");
            self.channel = None;
        }
    }
}
