//! Long runs outside CI: `make simulate SEEDS=… CALLS=…`.

use std::collections::BTreeMap;

use super::coverage::Coverage;
use super::run::run;
use super::script::Script;
use super::shrink::kind;
use super::told;

/// Of the steps of a script, this many begin one call on average.
const STEPS_PER_CALL: usize = 2;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// SEEDS scripts of about CALLS calls each, beginning with SEED.
#[test]
#[ignore = "takes as long as it is told to: make simulate"]
#[expect(clippy::disallowed_methods, reason = "measures how fast the simulation itself is")]
fn soak() {
    let first = number("SEED", 0);
    let seeds = number("SEEDS", 1_000);
    let steps = number("CALLS", 20) as usize * STEPS_PER_CALL;
    // Of hosts that work together, if it says so.
    let together = number("TOGETHER", 0) > 0;
    let script = |seed| if together { Script::together(seed, steps) } else { Script::of(seed, steps) };
    let (mut calls, mut faults, mut coverage) = (0, BTreeMap::new(), Coverage::default());
    let mut failed: BTreeMap<String, Vec<(u64, super::run::Failure)>> = BTreeMap::new();
    let start = std::time::Instant::now();
    for seed in first..first + seeds {
        match run(&script(seed), false) {
            Ok(report) => {
                calls += report.calls;
                coverage.merge(&report.coverage);
                for (what, times) in report.faults {
                    *faults.entry(what).or_insert(0) += times;
                }
            }
            Err(failure) => {
                // Long before the end of a long run.
                println!("seed {seed}: {}", failure.what);
                failed.entry(kind(&failure)).or_default().push((seed, failure));
            }
        }
    }
    let took = start.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds from {first}, {calls} calls in {took:.1} s: {:.0} calls a second",
        calls as f64 / took
    );
    println!("faults:");
    for (what, times) in &faults {
        println!("  {what:<16} {times}");
    }
    println!("states and events:\n{}", coverage.table());
    let kinds = failed.len();
    for (_, seeds) in failed {
        let all: Vec<u64> = seeds.iter().map(|(seed, _)| *seed).collect();
        println!("FAILED in {} seeds: {:?}", all.len(), &all[..all.len().min(12)]);
        if let Some((seed, failure)) = seeds.into_iter().next() {
            println!("{}", told(&script(seed), failure));
        }
    }
    assert_eq!(kinds, 0, "kinds of failures");
}
