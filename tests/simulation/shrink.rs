//! Cuts a script that fails down to the steps that matter.

use super::run::{Failure, run};
use super::script::Script;

/// The shortest script found that fails as this one does, and how.
pub fn shrink(script: &Script, failure: Failure) -> (Script, Failure) {
    let mut best = script.clone();
    best.steps.truncate(failure.steps);
    let mut failure = match run(&best, false) {
        Err(shorter) if kind(&shorter) == kind(&failure) => shorter,
        // It took the steps after it to show.
        _ => {
            best = script.clone();
            failure
        }
    };
    let mut size = best.steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < best.steps.len() {
            let mut shorter = best.clone();
            let cut: std::time::Duration =
                shorter.steps.drain(at..(at + size).min(best.steps.len())).map(|step| step.after).sum();
            // The time that passed still passes.
            if let Some(next) = shorter.steps.get_mut(at) {
                next.after += cut;
            }
            match run(&shorter, false) {
                Err(found) if kind(&found) == kind(&failure) => {
                    best = shorter;
                    failure = found;
                }
                _ => at += size,
            }
        }
        size /= 2;
    }
    match run(&best, true) {
        Err(failure) => (best, failure),
        Ok(_) => (best, failure),
    }
}

/// What two failures have in common if they are the same: their words without names and numbers.
pub fn kind(failure: &Failure) -> String {
    let words = failure
        .what
        .split('{')
        .next()
        .unwrap_or_default()
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| word.len() > 3);
    words.filter(|word| !["alice", "carol", "dave"].contains(word)).take(8).collect::<Vec<_>>().join(" ")
}
