//! What the phones saw, held against what was to be expected.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::cli::table;

/// How an observation compares with what was expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is as it should be.
    AsExpected,
    /// It is not.
    Surprise,
    /// It could not be observed; why, the observation says.
    NotTried,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Verdict::AsExpected => "ok",
            Verdict::Surprise => "SURPRISE",
            Verdict::NotTried => "not tried",
        }
    }

    const fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Verdict::Surprise, _) | (_, Verdict::Surprise) => Verdict::Surprise,
            (Verdict::AsExpected, _) | (_, Verdict::AsExpected) => Verdict::AsExpected,
            (Verdict::NotTried, Verdict::NotTried) => Verdict::NotTried,
        }
    }
}

/// What somebody saw: in words, and whether that is what was expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// In words.
    pub text: String,
    /// Whether it is as expected.
    pub verdict: Verdict,
}

impl Seen {
    /// As expected.
    pub fn good(text: impl Into<String>) -> Self {
        Self { text: text.into(), verdict: Verdict::AsExpected }
    }

    /// Not as expected.
    pub fn bad(text: impl Into<String>) -> Self {
        Self { text: text.into(), verdict: Verdict::Surprise }
    }

    /// Not observed.
    pub fn not_tried(why: impl Into<String>) -> Self {
        Self { text: why.into(), verdict: Verdict::NotTried }
    }

    /// Both are to be as expected.
    pub fn and(self, other: Self) -> Self {
        Self { text: format!("{}; {}", self.text, other.text), verdict: self.verdict.worse(other.verdict) }
    }
}

/// One observation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Observation {
    /// Of which matrix, or drill.
    pub matrix: &'static str,
    /// Which state of calls, or which step.
    pub row: String,
    /// In which phase; empty in drills without phases.
    pub column: &'static str,
    /// What should be.
    pub expected: String,
    /// What was.
    pub observed: String,
    /// How long it took to see it.
    pub took_ms: u64,
    /// How the two compare.
    pub verdict: Verdict,
}

/// All of a drill.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// In the order in which it was observed.
    pub observations: Vec<Observation>,
    /// What took how long, in milliseconds.
    pub times: Vec<(String, u64)>,
    /// Calls that should have gone on.
    pub calls: u64,
    /// How many of them did not.
    pub calls_lost: u64,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// What has not been observed, because the drill ended early.
    pub broken_off: Option<String>,
}

impl Report {
    /// Whether all that was tried was as expected.
    pub fn is_good(&self) -> bool {
        self.broken_off.is_none()
            && self.observations.iter().all(|observation| observation.verdict != Verdict::Surprise)
    }

    /// Notes how long something took.
    pub fn time(&mut self, what: impl Into<String>, took: Duration) {
        self.times.push((what.into(), millis(took)));
    }

    /// Everything, for people.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut matrices: Vec<&str> = Vec::new();
        for observation in &self.observations {
            if !matrices.contains(&observation.matrix) {
                matrices.push(observation.matrix);
            }
        }
        for matrix in matrices {
            let of_it = || self.observations.iter().filter(move |seen| seen.matrix == matrix);
            let phases = of_it().any(|seen| !seen.column.is_empty());
            writeln!(out, "\n{matrix}")?;
            if phases {
                overview(out, &of_it().collect::<Vec<_>>())?;
                writeln!(out)?;
            }
            let row = |seen: &Observation| {
                let mut cells = vec![seen.row.clone()];
                cells.extend(phases.then(|| seen.column.to_owned()));
                cells.extend([seen.expected.clone(), seen.observed.clone(), seconds(seen.took_ms)]);
                cells.push(seen.verdict.word().to_owned());
                cells
            };
            let head: &[&str] = if phases {
                &["CALLS", "PHASE", "EXPECTED", "OBSERVED", "TIME", ""]
            } else {
                &["STEP", "EXPECTED", "OBSERVED", "TIME", ""]
            };
            table::print(out, head, &of_it().map(row).collect::<Vec<_>>())?;
        }
        if !self.times.is_empty() {
            writeln!(out, "\nTimes")?;
            let pairs: Vec<(&str, String)> =
                self.times.iter().map(|(what, ms)| (what.as_str(), seconds(*ms))).collect();
            table::print_pairs(out, &pairs)?;
        }
        if self.calls > 0 {
            writeln!(out, "\n{} of {} talking calls were lost.", self.calls_lost, self.calls)?;
        }
        for note in &self.notes {
            writeln!(out, "{}", table::printable(note))?;
        }
        let count = |verdict| self.observations.iter().filter(|seen| seen.verdict == verdict).count();
        let (good, bad, open) =
            (count(Verdict::AsExpected), count(Verdict::Surprise), count(Verdict::NotTried));
        writeln!(out, "\n{good} as expected, {bad} not, {open} not tried.")?;
        match &self.broken_off {
            Some(why) => writeln!(out, "The drill ended early: {}", table::printable(why)),
            None => Ok(()),
        }
    }
}

/// Rows and columns as the matrix has them, with nothing but the verdicts in them.
fn overview(out: &mut dyn Write, cells: &[&Observation]) -> io::Result<()> {
    let (mut rows, mut columns): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for cell in cells {
        if !rows.contains(&cell.row.as_str()) {
            rows.push(&cell.row);
        }
        if !columns.contains(&cell.column) {
            columns.push(cell.column);
        }
    }
    let verdict = |row: &str, column: &str| {
        let of_it = cells.iter().filter(|cell| cell.row == row && cell.column == column);
        let worst = of_it.map(|cell| cell.verdict).reduce(Verdict::worse);
        worst.map_or("", Verdict::word).to_owned()
    };
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mut line = vec![(*row).to_owned()];
            line.extend(columns.iter().map(|column| verdict(row, column)));
            line
        })
        .collect();
    let head: Vec<&str> = std::iter::once("").chain(columns.iter().copied()).collect();
    table::print(out, &head, &lines)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn seconds(ms: u64) -> String {
    format!("{:.2} s", Duration::from_millis(ms).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let seen = |row: &str, column, observed: &str, verdict| Observation {
            matrix: "Call Park",
            row: row.to_owned(),
            column,
            expected: "stays up".to_owned(),
            observed: observed.to_owned(),
            took_ms: 20,
            verdict,
        };
        let observations = vec![
            seen("talking", "before", "up", Verdict::AsExpected),
            seen("parked", "before", "up", Verdict::AsExpected),
            seen("talking", "outage", "up", Verdict::NotTried),
            seen("talking", "outage", "gone", Verdict::Surprise),
        ];
        let times = vec![("full service".to_owned(), 1_500)];
        Report { observations, times, calls: 3, calls_lost: 1, ..Report::default() }
    }

    #[test]
    fn a_surprise_is_seen_at_a_glance() {
        let mut out = Vec::new();
        report().print(&mut out).unwrap();
        expect_test::expect![[r#"

            Call Park
                     before  outage
            talking  ok      SURPRISE
            parked   ok

            CALLS    PHASE   EXPECTED  OBSERVED  TIME
            talking  before  stays up  up        0.02 s  ok
            parked   before  stays up  up        0.02 s  ok
            talking  outage  stays up  up        0.02 s  not tried
            talking  outage  stays up  gone      0.02 s  SURPRISE

            Times
            full service  1.50 s

            1 of 3 talking calls were lost.

            2 as expected, 1 not, 1 not tried.
        "#]]
        .assert_eq(&String::from_utf8(out).unwrap());
    }

    #[test]
    fn only_a_surprise_or_an_early_end_is_bad() {
        let mut all = report();
        assert!(!all.is_good());
        all.observations.pop();
        assert!(all.is_good(), "what could not be tried is no failure");
        all.broken_off = Some("Ctrl-C".to_owned());
        assert!(!all.is_good());
    }
}
