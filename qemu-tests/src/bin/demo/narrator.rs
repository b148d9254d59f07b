//! What the person in front of the terminal reads: steps, what was seen, and a sign of life.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Nothing takes longer than this without a line that says so.
const FIRST_SIGN: Duration = Duration::from_secs(2);
/// Then one line each time as long.
const NEXT_SIGN: Duration = Duration::from_secs(10);

/// The demo as it is told.
pub struct Narrator {
    number: usize,
    title: &'static str,
}

impl Narrator {
    /// Nothing told yet.
    pub fn new() -> Narrator {
        Narrator { number: 0, title: "the start" }
    }

    /// Begins the next step.
    pub fn step(&mut self, title: &'static str) {
        self.number += 1;
        self.title = title;
        print(&format!("\n{}. {title}", self.number));
    }

    /// Something that was done or seen.
    pub fn say(&self, text: &str) {
        text.lines().for_each(|line| print(&format!("   {line}")));
    }

    /// Does `work`, and says every few seconds that `what` goes on, with what `detail` adds.
    pub fn during<T>(
        &self,
        what: &str,
        detail: impl Fn() -> String + Sync,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let (done, waiting) = channel::<()>();
            let detail = &detail;
            scope.spawn(move || {
                let mut pause = FIRST_SIGN;
                while waiting.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    print(&format!(
                        "   … {what}, {:.0} s{}",
                        start.elapsed().as_secs_f64(),
                        detail()
                    ));
                    pause = NEXT_SIGN;
                }
            });
            let result = work();
            drop(done);
            result
        })
    }

    /// The end, when a step did not happen.
    pub fn failed(&self, error: &anyhow::Error) {
        eprintln!("\ndemo: step {} ({}) failed: {error:#}", self.number, self.title);
    }
}

fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever closed the pipe no longer reads; the exit code still says how it went.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
