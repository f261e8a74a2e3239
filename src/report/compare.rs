//! The result of `compare` as one value, and its table. Not the statistics behind the speedup: see [`Speedup`].

use std::fmt::Write as _;
use std::time::Duration;

use console::Style;
use serde::Serialize;

use super::text::{Look, brief, count, figure, seconds};
use super::warning::Warning;
use crate::stats::{Speedup, mean, stddev};

/// An interval whose bounds lie further apart than this says nothing.
const WIDEST_INTERVAL: f64 = 100.0;
/// Columns of a mode's name that are shown.
pub(super) const NAME_WIDTH: usize = 19;

/// What was measured of one mode, over all its runs.
#[derive(Debug, Clone)]
pub struct ModeRuns {
    /// What the mode is called: `sequential`, `concurrent -c 16`.
    pub name: String,
    /// The most calls allowed in flight.
    pub concurrency: u64,
    /// Wall time of each run, first call handed over to last outcome recorded.
    pub walls: Vec<Duration>,
    /// Failed rows.
    pub failed: u64,
    /// Calls handed to the bridge.
    pub attempts: u64,
}

/// Modes side by side; field for field the JSON that `--export-json` writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Rows of each run.
    pub rows: u64,
    /// The modes, in the order they were asked for; the first is the baseline.
    pub modes: Vec<Mode>,
    /// The last mode's speedup over the first; null with one mode only.
    pub speedup: Option<Speedup>,
    /// The last mode's [`Mode::ideal_speedup`].
    pub ideal_speedup: Option<f64>,
    /// What makes the figures doubtful.
    pub warnings: Vec<Warning>,
}

/// One mode's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mode {
    /// What the mode is called.
    pub name: String,
    /// The most calls allowed in flight.
    pub concurrency: u64,
    /// Wall time of each run, in the order they were made.
    pub wall_s: Vec<f64>,
    /// Arithmetic mean of the wall times.
    pub mean_s: f64,
    /// Standard deviation of the wall times (n - 1); null for a single run.
    pub stddev_s: Option<f64>,
    /// Rows of a run divided by the mean wall time.
    pub rows_per_s: f64,
    /// Failed rows of all runs.
    pub failed: u64,
    /// Calls of all runs.
    pub attempts: u64,
    /// Over the first mode; null for that one itself.
    pub speedup: Option<Speedup>,
    /// What concurrency alone could give over the first mode, if every call took equally long and nothing else limited
    /// them: the rounds of calls needed, `ceil(rows / c)`, there over here. Null for the first mode itself.
    pub ideal_speedup: Option<f64>,
}

impl Comparison {
    /// Compares modes that each answered so many rows in every run; modes without runs are left out.
    pub fn new(rows: u64, runs: Vec<ModeRuns>) -> Self {
        let mut modes: Vec<Mode> = Vec::new();
        for mode in runs.into_iter().filter(|mode| !mode.walls.is_empty()) {
            modes.push(Mode::new(rows, mode, modes.first()));
        }
        let (speedup, ideal_speedup) =
            modes.last().map_or((None, None), |last| (last.speedup, last.ideal_speedup));
        let warnings = Warning::all(rows, &modes);
        Self { rows, modes, speedup, ideal_speedup, warnings }
    }

    /// The comparison for people.
    pub fn table(&self, look: Look) -> String {
        let mut text = format!(
            "  {:<20}{:>20}{:>10}{:>8}  {}\n",
            "", "Wall (mean ± σ)", "Rows/s", "Failed", "Speedup (ideal)"
        );
        for mode in &self.modes {
            let wall = mode.stddev_s.map_or_else(
                || seconds(mode.mean_s),
                |stddev| format!("{} ± {}", seconds(mode.mean_s), seconds(stddev)),
            );
            let speedup =
                mode.speedup.zip(mode.ideal_speedup).map_or_else(String::new, |(speedup, ideal)| {
                    format!("{} ({})", figure(speedup.mean), figure(ideal))
                });
            let name = console::pad_str(
                &brief(&mode.name, NAME_WIDTH),
                NAME_WIDTH + 1,
                console::Alignment::Left,
                None,
            )
            .into_owned();
            let line = format!(
                "  {name}{wall:>20}{:>10}{:>8}  {speedup}",
                figure(mode.rows_per_s),
                count(mode.failed)
            );
            text += line.trim_end();
            text.push('\n');
        }
        if let [first, .., last] = self.modes.as_slice()
            && let Some(speedup) = last.speedup
        {
            let times = look.paint(Style::new().green().bold(), &figure(speedup.mean));
            let interval = match speedup.ci95 {
                None => String::new(),
                Some([low, high]) if high > WIDEST_INTERVAL * low => " (no useful interval)".into(),
                Some([low, high]) => format!(" (95 % confidence: {} to {})", figure(low), figure(high)),
            };
            let (last, first) = (brief(&last.name, NAME_WIDTH), brief(&first.name, NAME_WIDTH));
            let _ = writeln!(text, "\n  {last} was\n    {times} times as fast as {first}{interval}");
        }
        for (index, warning) in self.warnings.iter().enumerate() {
            let label = look.paint(Style::new().yellow().bold(), "warning:");
            let gap = if index == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{gap}{label} {warning}");
        }
        text
    }
}

impl Mode {
    fn new(rows: u64, runs: ModeRuns, baseline: Option<&Self>) -> Self {
        let wall_s: Vec<f64> = runs.walls.iter().map(Duration::as_secs_f64).collect();
        let mean_s = mean(&wall_s);
        let rounds = |concurrency: u64| rows.div_ceil(concurrency.max(1)).max(1) as f64;
        Self {
            speedup: baseline.and_then(|baseline| Speedup::of(&baseline.wall_s, &wall_s)),
            ideal_speedup: baseline.map(|baseline| rounds(baseline.concurrency) / rounds(runs.concurrency)),
            name: runs.name,
            concurrency: runs.concurrency,
            mean_s,
            stddev_s: stddev(&wall_s),
            rows_per_s: if mean_s > 0.0 { rows as f64 / mean_s } else { 0.0 },
            wall_s,
            failed: runs.failed,
            attempts: runs.attempts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(name: &str, concurrency: u64, walls: &[u64]) -> ModeRuns {
        ModeRuns {
            name: name.into(),
            concurrency,
            walls: walls.iter().map(|&millis| Duration::from_millis(millis)).collect(),
            failed: 0,
            attempts: 100 * walls.len() as u64,
        }
    }

    fn sequential() -> ModeRuns {
        runs("sequential", 1, &[12_300, 12_400, 12_200])
    }

    const LOOK: Look = Look { color: false, width: 80 };

    #[test]
    fn two_steady_modes_give_a_table_and_a_speedup_without_warnings() {
        let comparison =
            Comparison::new(100, vec![sequential(), runs("concurrent -c 16", 16, &[850, 870, 840])]);
        insta::assert_snapshot!(comparison.table(LOOK), @r"
                                 Wall (mean ± σ)    Rows/s  Failed  Speedup (ideal)
        sequential               12.3 s ± 100 ms      8.13       0
        concurrent -c 16          853 ms ± 15 ms       117       0  14.4 (14.3)

        concurrent -c 16 was
          14.4 times as fast as sequential (95 % confidence: 13.9 to 15.0)
        ");
    }

    #[test]
    fn every_doubt_is_said_with_the_flag_that_mends_it() {
        let mut troubled = runs("concurrent -c 128", 128, &[100, 14_000]);
        (troubled.failed, troubled.attempts) = (3, 212);
        let comparison = Comparison::new(
            100,
            vec![sequential(), runs("concurrent -c 16", 16, &[300, 310, 300]), troubled],
        );
        insta::assert_snapshot!(comparison.table(LOOK), @r"
                                   Wall (mean ± σ)    Rows/s  Failed  Speedup (ideal)
          sequential               12.3 s ± 100 ms      8.13       0
          concurrent -c 16         303 ms ± 5.8 ms       330       0  40.6 (14.3)
          concurrent -c 128        7.05 s ± 9.83 s      14.2       3  10.4 (100)

          concurrent -c 128 was
            10.4 times as fast as sequential (no useful interval)

        warning: 2 runs of each mode: give `--runs 3` or more
        warning: `concurrent -c 16` took only 303 ms: raise `--limit`
        warning: the runs of `concurrent -c 128` vary by 139 %: raise `--runs`
        warning: `concurrent -c 128` has only 100 rows: raise `--limit` or lower `-c`
        warning: `concurrent -c 128` had 3 failed rows: raise `--retries`
        warning: `concurrent -c 128` had 12 retries: lower `-c` or set `--rpm`
        warning: the speedup of `concurrent -c 128` may be none: raise `--runs`
        ");
    }

    #[test]
    fn a_comparison_is_exported_with_the_names_scripts_rely_on() {
        let modes = vec![runs("sequential", 1, &[2_000]), runs("concurrent", 10, &[1_000])];
        insta::assert_snapshot!(serde_json::to_string(&Comparison::new(100, modes)).unwrap(), @r#"
        {"rows":100,"modes":[{"name":"sequential","concurrency":1,"wall_s":[2.0],"mean_s":2.0,"stddev_s":null,"rows_per_s":50.0,"failed":0,"attempts":100,"speedup":null,"ideal_speedup":null},{"name":"concurrent","concurrency":10,"wall_s":[1.0],"mean_s":1.0,"stddev_s":null,"rows_per_s":100.0,"failed":0,"attempts":100,"speedup":{"mean":2.0,"ci95":null},"ideal_speedup":10.0}],"speedup":{"mean":2.0,"ci95":null},"ideal_speedup":10.0,"warnings":[{"kind":"few_runs","runs":1}]}
        "#);
    }

    #[test]
    fn the_ideal_counts_whole_rounds_of_calls() {
        let ideal = |rows, c| {
            Comparison::new(rows, vec![sequential(), runs("concurrent", c, &[1_000])]).ideal_speedup
        };
        assert_eq!(
            [ideal(100, 16), ideal(10, 16), ideal(96, 16)],
            [Some(100.0 / 7.0), Some(10.0), Some(16.0)]
        );
    }

    #[test]
    fn one_mode_or_none_has_no_speedup() {
        let comparison = Comparison::new(100, vec![sequential(), runs("concurrent", 16, &[])]);
        assert_eq!((comparison.modes.len(), comparison.speedup, comparison.ideal_speedup), (1, None, None));
        assert_eq!(Comparison::new(100, Vec::new()).modes, []);
    }

    #[test]
    fn the_table_keeps_to_eighty_columns() {
        let long = "n".repeat(99);
        let mut modes =
            vec![runs(&long, 1, &[7_100_000, 7_300_000]), runs(&long, 100_000, &[3_700_000, 9_800_000])];
        modes[1].failed = 999_999;
        modes[1].attempts = 3_000_000;
        for line in Comparison::new(1_000_000, modes).table(LOOK).lines() {
            assert!(console::measure_text_width(line) <= 80, "{line}");
        }
    }
}
