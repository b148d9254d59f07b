//! `runner bench`: the whole pipeline beside the interpreter's own invoke, in one process.

use crate::config::{Config, read_bounded};
use crate::engine;
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::prepare::Preparer;
use crate::source::MAX_INPUT;
use crate::time;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Untimed runs first: caches, lazy allocation, the processor's clock.
const WARM_UP: usize = 5;

/// Milliseconds.
#[derive(Serialize)]
struct Spread {
    p50: f64,
    p95: f64,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    engine: &'a str,
    delegate: &'a str,
    threads: i32,
    runs: usize,
    /// Everything from the file's bytes to the decoded result.
    total_ms: Spread,
    /// PNG or JPEG to pixels.
    decode_ms: Spread,
    /// Pixels to tensor.
    preprocess_ms: Spread,
    /// Runner's share of an inference: tensor in, invoke, tensors out, decoded result.
    infer_ms: Spread,
    /// The interpreter's invoke with nothing around it, alternating with the line above.
    invoke_ms: Spread,
    /// infer p50 / invoke p50.
    ratio: f64,
}

/// Times `runs` inferences of the golden sample and prints one JSON line.
pub fn run(
    pipeline: &mut Pipeline,
    preparer: &Preparer,
    config: &Config,
    runs: usize,
) -> Result<(), Error> {
    let path = config.folder.join(&config.golden.sample);
    let sample = read_bounded(&path, MAX_INPUT)?;
    let (mut total, mut decode, mut preprocess, mut infer, mut invoke) =
        (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..WARM_UP + runs {
        let started = Instant::now();
        let bad = |e: String| Error::config(format!("{}: {e}", path.display()));
        let prepared = preparer.prepare(sample.clone()).map_err(bad)?;
        let (decoded, preprocessed) = (prepared.decode_duration, prepared.preprocess_duration);
        let filled = pipeline.fill(prepared).map_err(|refusal| bad(refusal.text))?;
        let filled_at = Instant::now();
        let inferred = pipeline.infer(&filled)?;
        let ended = Instant::now();
        drop(inferred);
        // On the same input, which is still in the tensor, and as warm as the run before it.
        let bare = pipeline.invoke_bare()?;
        if round >= WARM_UP {
            total.push(ended - started);
            decode.push(decoded);
            preprocess.push(preprocessed);
            infer.push(ended - filled_at);
            invoke.push(bare);
        }
    }
    let (infer_ms, invoke_ms) = (spread(&mut infer), spread(&mut invoke));
    let report = Report {
        model: &config.name,
        engine: engine::version(),
        delegate: pipeline.delegate(),
        threads: config.threads,
        runs,
        total_ms: spread(&mut total),
        decode_ms: spread(&mut decode),
        preprocess_ms: spread(&mut preprocess),
        ratio: infer_ms.p50 / invoke_ms.p50.max(0.001),
        infer_ms,
        invoke_ms,
    };
    println!(
        "{}",
        serde_json::to_string(&report).map_err(|e| Error::engine(format!("report: {e}")))?
    );
    Ok(())
}

/// Nearest-rank percentiles.
fn spread(times: &mut [Duration]) -> Spread {
    times.sort_unstable();
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).copied().map_or(0.0, time::ms)
    };
    Spread { p50: at(50), p95: at(95) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let s = spread(&mut times);
        assert_eq!((s.p50, s.p95), (50.0, 95.0));
        let mut one = [Duration::from_millis(7)];
        assert_eq!(spread(&mut one).p95, 7.0);
    }
}
