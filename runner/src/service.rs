//! The workload: ready, then the inference loop until SIGTERM.

use crate::config::{Config, read_bounded};
use crate::decoder::Outcome;
use crate::error::{Error, Exit};
use crate::pipeline::Pipeline;
use crate::prepare::{Preparer, Received};
use crate::results::ResultLog;
use crate::source::{self, Event, MAX_INPUT, Metrics, Verdict};
use crate::time;
use nix::sys::signal::{SigSet, Signal};
use readiness::ReadyNotifier;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// A running inference may finish before a stop; longer than this it is taken to hang.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// One line of output.
#[derive(Serialize)]
struct ResultLine<'a> {
    time: String,
    boot_ms: u64,
    model: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    /// The picture was turned upright: everything is of it as it is then.
    #[serde(skip_serializing_if = "Option::is_none")]
    exif_orientation: Option<u8>,
    #[serde(flatten)]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invoke_ms: Option<f64>,
    total_ms: f64,
}

/// The workload before it is ready: what its folder holds is being prepared, and waits.
pub struct Service {
    preparer: Arc<Preparer>,
    events: SyncSender<Event>,
    inbox: Receiver<Event>,
    watching: bool,
}

impl Service {
    /// Begins to prepare what comes, as far as the inbox has room for it. A folder that cannot be
    /// read is left for [`Service::run`] to complain about.
    pub fn begin(config: &Config, preparer: Arc<Preparer>) -> Result<Service, Error> {
        // As many waiting as are being worked on; the rest waits where it came from.
        let (events, inbox) = sync_channel::<Event>(1);
        let watching = source::folder::check(config).is_ok();
        if watching {
            source::folder::watch(config, Arc::clone(&preparer), events.clone())?;
        }
        Ok(Service { preparer, events, inbox, watching })
    }

    /// Says ready and works until SIGTERM or SIGINT. `started` is when the process began.
    pub fn run(self, pipeline: &Pipeline, config: &Config, started: Instant) -> Result<(), Error> {
        let Service { preparer, events, inbox, watching } = self;
        let metrics = Arc::new(Metrics::default());
        stop_on_signals(events.clone())?;
        let listener = source::http::open(config)?;
        source::folder::check(config)?;
        if listener.is_none() && config.source.folder.is_none() {
            return Err(Error::new(
                Exit::Source,
                "no source: set source.folder or source.http in model.toml",
            ));
        }
        // Those of the HTTP source, and one of the folder.
        let room = preparer.model_loaded(source::http::MAX_WAITING + 1);
        let notifier = notifier(Duration::from_millis(config.heartbeat_ms));
        let mut log = ResultLog::new(&config.results);
        told(notifier.ready());
        eprintln!("{}: ready in {} ms", config.name, started.elapsed().as_millis());
        if let Some(listener) = listener {
            source::http::serve(
                listener,
                Arc::clone(&preparer),
                events.clone(),
                Arc::clone(&metrics),
                room.arriving,
            )?;
        }
        if !watching {
            source::folder::watch(config, preparer, events)?;
        }
        loop {
            match inbox.recv_timeout(Duration::from_millis(config.heartbeat_ms)) {
                Ok(Event::Input { name, input, reply }) => {
                    let (line, verdict) = infer_one(pipeline, &config.name, &name, input)?;
                    metrics.count(verdict);
                    emit(&line);
                    if let Some(trouble) = log.append(&line) {
                        eprintln!("{}: {trouble}", config.name);
                    }
                    if let Some(reply) = reply {
                        // Whoever asked may have gone.
                        let _ = reply.send((verdict, line));
                    }
                }
                Ok(Event::Stop) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(Exit::Source, "all sources have ended"));
                }
            }
            // From this loop only, so that an inference that hangs silences it.
            told(notifier.beat());
        }
    }
}

/// The way to the supervisor; nobody is told where what it handed over is no good.
fn notifier(interval: Duration) -> ReadyNotifier {
    ReadyNotifier::from_env()
        .unwrap_or_else(|e| {
            eprintln!("runner: {e}");
            ReadyNotifier::disconnected()
        })
        .at_most_every(interval)
}

fn told(result: Result<(), readiness::Error>) {
    if let Err(e) = result {
        eprintln!("runner: {e}");
    }
}

/// One line for each file; fails at the end when one of them could not be used.
pub fn infer(
    pipeline: &Pipeline,
    preparer: &Preparer,
    model: &str,
    files: &[PathBuf],
) -> Result<(), Error> {
    preparer.model_loaded(1);
    let mut bad = 0;
    for file in files {
        let input = preparer.receive(read_bounded(file, MAX_INPUT)?);
        let (line, verdict) = infer_one(pipeline, model, &file.display().to_string(), input)?;
        emit(&line);
        bad += usize::from(verdict != Verdict::Result);
    }
    if bad > 0 {
        return Err(Error::config(format!(
            "{bad} of {} files could not be used; see their lines",
            files.len()
        )));
    }
    Ok(())
}

/// The result line, and what became of the input. Fails when the engine does.
fn infer_one(
    pipeline: &Pipeline,
    model: &str,
    source: &str,
    input: Received,
) -> Result<(String, Verdict), Error> {
    let started = Instant::now();
    let mut line = ResultLine {
        time: time::now(),
        boot_ms: 0,
        model,
        source,
        width: None,
        height: None,
        exif_orientation: None,
        outcome: None,
        error: None,
        invoke_ms: None,
        total_ms: 0.0,
    };
    let verdict = match input.prepared.and_then(|prepared| pipeline.fill(prepared)) {
        Ok(filled) => {
            let inferred = pipeline.infer(&filled)?;
            if let Some([width, height]) = filled.picture_size() {
                (line.width, line.height) = (Some(width), Some(height));
            }
            line.exif_orientation = filled.turned();
            line.invoke_ms = Some(time::ms(inferred.engine));
            match inferred.not_finite.filter(|_| pipeline.refuses_nan()) {
                None => {
                    line.outcome = Some(inferred.outcome);
                    Verdict::Result
                }
                Some(what) => {
                    line.error = Some(what);
                    Verdict::NoNumber
                }
            }
        }
        Err(refusal) => {
            line.error = Some(refusal.text);
            if refusal.too_large { Verdict::TooLarge } else { Verdict::Wrong }
        }
    };
    line.total_ms = time::ms(input.duration + started.elapsed());
    line.boot_ms = time::boot_ms();
    let text = serde_json::to_string(&line)
        .map_err(|e| Error::engine(format!("{source}: result: {e}")))?;
    Ok((text, verdict))
}

/// A console that has gone must not end inference, so a failed write is let go.
fn emit(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(line.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
}

fn stop_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT])
}

/// Keeps SIGTERM and SIGINT for [`Service::run`]. Has to be called before any thread is made, the
/// engine's own among them: they inherit what is blocked, and one that did not would end the process.
pub fn hold_signals() -> Result<(), Error> {
    stop_signals().thread_block().map_err(|e| Error::engine(format!("cannot block SIGTERM: {e}")))
}

/// Turns the signals that were held into an event.
fn stop_on_signals(events: SyncSender<Event>) -> Result<(), Error> {
    let signals = stop_signals();
    source::thread("signals", move || {
        if signals.wait().is_ok() {
            source::thread("patience", || {
                std::thread::sleep(STOP_PATIENCE);
                eprintln!(
                    "runner: an inference did not end within {} s of SIGTERM",
                    STOP_PATIENCE.as_secs()
                );
                std::process::exit(i32::from(Exit::Engine as u8));
            })
            .ok();
            let _ = events.send(Event::Stop);
        }
    })
}
