//! `switchyard drill …`.

use std::io::Write;
use std::time::Duration;

use super::Failure;
use super::arguments::{DrillCommand, DrillFailover, Drilling};
use super::client::Client;
use super::table::printable;
use super::verbs::Done;
use crate::drill::{self, Feature, Observation, Options, Outage, Pair, Report, Verdict};

pub(super) fn drill(
    verb: &DrillCommand,
    client: &Client,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Done {
    match verb {
        DrillCommand::Park(drilling) => {
            show(&drill::feature(Feature::Park, client, &options(drilling, json)?)?, json, out)
        }
        DrillCommand::Pickup(drilling) => {
            show(&drill::feature(Feature::Pickup, client, &options(drilling, json)?)?, json, out)
        }
        DrillCommand::Failover(failover) => {
            if failover.dry_run {
                return steps(failover, out);
            }
            if failover.lose.is_none() {
                writeln!(err, "no --lose: a planned failover of a living pool; the outage is not tried")?;
            }
            show(&drill::walk(&pair(failover), client, &options(&failover.drilling, json)?)?, json, out)
        }
    }
}

fn options(drilling: &Drilling, json: bool) -> Result<Options, Failure> {
    let mut sip = Vec::new();
    for address in &drilling.sip {
        sip.extend(drill::resolve(address.trim_start_matches("udp:"))?);
    }
    // Programs read the report only.
    let tell = if json { |_: &Observation| {} } else { tell };
    Ok(Options { sip, patience: Duration::from_secs(drilling.patience), tell })
}

fn pair(failover: &DrillFailover) -> Pair {
    let outage = match (&failover.lose, &failover.restore) {
        (Some(lose), Some(restore)) => Some(Outage { lose: lose.clone(), restore: restore.clone() }),
        (None, _) | (_, None) => None,
    };
    Pair {
        pool: failover.pool.clone(),
        outage,
        rescue: failover.rescue,
        patience: Duration::from_secs(failover.phase_patience),
    }
}

/// A drill takes minutes: whoever waits sees how it goes.
fn tell(seen: &Observation) {
    let place =
        if seen.column.is_empty() { seen.row.clone() } else { format!("{}, {}", seen.column, seen.row) };
    let mark = match seen.verdict {
        Verdict::AsExpected => "",
        Verdict::Surprise => "  <-- expected: ",
        Verdict::NotTried => "  (not tried)",
    };
    let expected = if seen.verdict == Verdict::Surprise { seen.expected.as_str() } else { "" };
    eprintln!("{}", printable(&format!("{place}: {}{mark}{expected}", seen.observed)));
}

fn steps(failover: &DrillFailover, out: &mut dyn Write) -> Done {
    let planned = failover.lose.is_none();
    for step in drill::STEPS.iter().filter(|step| step.planned.is_none_or(|only| only == planned)) {
        writeln!(out, "{:<16} {}", step.phase, step.does)?;
    }
    Ok(())
}

fn show(report: &Report, json: bool, out: &mut dyn Write) -> Done {
    if json {
        let text = serde_json::to_string_pretty(report).map_err(|error| Failure(error.to_string()))?;
        writeln!(out, "{text}")?;
    } else {
        report.print(out)?;
    }
    match report.is_good() {
        true => Ok(()),
        false => Err(Failure("the drill: not all is as expected".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::run;

    fn types(line: &str) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let words = line.split(' ').map(Into::into);
        let code = run(words, None, &mut out, &mut err);
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_dry_run_tells_the_steps_of_either_kind_and_asks_nobody() {
        let (code, planned, _) = types("switchyard drill failover east --dry-run");
        assert_eq!(code, 0);
        assert!(!planned.contains("run --lose") && planned.contains("fetch the parked call"), "{planned}");
        let (code, lost, _) = types("switchyard drill failover east --dry-run --lose x --restore y");
        assert_eq!(code, 0);
        assert!(lost.contains("run --lose") && lost.contains("run --restore"), "{lost}");
    }

    #[test]
    fn whoever_can_lose_a_pool_says_how_to_bring_it_back() {
        let (code, _, err) = types("switchyard drill failover east --lose x");
        assert!(code == 2 && err.contains("--restore"), "{err}");
    }
}
