//! What happens to pools in order: a disaster takes its time, and steps of chance alone seldom reach its end.

use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha12Rng;
use switchyard_host::pool::Ask;

use super::{Act, Step, Trouble};

/// Longer than any script.
const FOR_GOOD: Duration = Duration::from_secs(3_600);

/// Puts a story into a script: its acts take the place of others, in order.
pub(super) fn tell(rng: &mut ChaCha12Rng, trouble: Trouble, steps: &mut [Step]) {
    let story = story(rng, trouble);
    let pause = steps.len() / (story.len() + 1);
    for (nth, act) in story.into_iter().enumerate() {
        let at = (nth + 1) * pause + rng.random_range(0..pause.max(1));
        if let Some(step) = steps.get_mut(at) {
            step.act = act;
        }
    }
}

fn story(rng: &mut ChaCha12Rng, trouble: Trouble) -> Vec<Act> {
    let pool = usize::from(rng.random_range(0..3) == 0);
    let host = |rng: &mut ChaCha12Rng| rng.random_range(0..4);
    let mut probe = |pool| Act::Probe { pool, edge: host(rng) };
    let (one, other) = (probe(pool), probe(1 - pool));
    let over = Act::Move { pool, ask: Ask::Failover, host: 0 };
    let back = |disaster| Act::Move { pool, ask: Ask::Failback { disaster }, host: 0 };
    let lose = |pool| Act::Lose { pool, down: FOR_GOOD };
    let regain = |pool| Act::Regain { pool };
    let planned = vec![over, one, other, back(false), one];
    let mut story = if trouble.losses {
        let stories = [
            // The disaster day.
            vec![lose(pool), one, other, one, over, one, regain(pool), one, back(false), one],
            // It comes back in the middle: of the outage, of the failover, of the failback.
            vec![
                lose(pool),
                one,
                regain(pool),
                one,
                lose(pool),
                over,
                regain(pool),
                one,
                back(false),
                lose(pool),
                one,
            ],
            // The backup is lost while it has the users.
            vec![over, one, lose(1 - pool), back(true), one, regain(1 - pool), other, one],
            // And while it is getting them.
            vec![over, lose(1 - pool), one, regain(1 - pool), back(false), one],
            planned,
        ];
        stories.choose(rng).cloned().unwrap_or_default()
    } else {
        planned
    };
    // Whoever is asked, and whoever is struck, differs.
    for act in &mut story {
        if let Act::Move { host: asked, .. } | Act::Probe { edge: asked, .. } = act {
            *asked = host(rng);
        }
    }
    if trouble.losses && rng.random_range(0..2) == 0 {
        let moves: Vec<usize> =
            (0..story.len()).filter(|at| matches!(story[*at], Act::Move { .. } | Act::Lose { .. })).collect();
        if let Some(at) = moves.choose(rng) {
            story.insert(*at, Act::Strike(super::chance::strike(rng)));
        }
    }
    story
}
