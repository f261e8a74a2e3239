//! The result of `compare` as one value, and its table. Not the statistics behind the speedup: see [`Speedup`].

use std::fmt;
use std::time::Duration;

use console::Style;
use serde::{Deserialize, Serialize};

use super::text::{Look, brief, count, counted, figure, seconds};
use crate::stats::{Speedup, mean, stddev};

/// Fewer runs a mode give an interval too wide to be of use.
const FEWEST_RUNS: usize = 3;
/// Shorter runs measure the start-up rather than the rows.
const SHORTEST_RUN_S: f64 = 0.5;
/// A greater standard deviation, relative to the mean, comes from something else on the machine or the server.
const GREATEST_SPREAD: f64 = 0.1;

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// What makes a comparison doubtful, and the flag that mends it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Warning {
    /// Too few runs for a useful interval.
    FewRuns {
        /// Runs of the mode with the fewest.
        runs: usize,
    },
    /// The runs are over before they have begun.
    ShortRuns {
        /// The mode.
        mode: String,
        /// Its mean wall time.
        mean_s: f64,
    },
    /// The runs of one mode differ much.
    UnsteadyRuns {
        /// The mode.
        mode: String,
        /// Standard deviation over mean.
        spread: f64,
    },
    /// Slots stay empty for want of rows.
    FewRows {
        /// The mode.
        mode: String,
        /// Its concurrency.
        concurrency: u64,
        /// Rows of each run.
        rows: u64,
    },
    /// Failed rows take another time than answered ones.
    FailedRows {
        /// The mode.
        mode: String,
        /// How many, over all runs.
        failed: u64,
    },
    /// Waiting to retry is part of the wall time.
    RetriedRows {
        /// The mode.
        mode: String,
        /// Retries, over all runs.
        retries: u64,
    },
    /// The interval holds 1, so there may be no difference at all.
    NoDifference {
        /// The mode.
        mode: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewRuns { runs } => {
                write!(
                    f,
                    "{} of each mode: give `--runs {FEWEST_RUNS}` or more",
                    counted(*runs as u64, "run")
                )
            }
            Self::ShortRuns { mode, mean_s } => {
                write!(f, "`{}` took only {}: use more rows (`--limit`)", brief(mode, 30), seconds(*mean_s))
            }
            Self::UnsteadyRuns { mode, spread } => {
                write!(f, "the runs of `{}` vary by {:.0} %: raise `--runs`", brief(mode, 30), spread * 100.0)
            }
            Self::FewRows { mode, concurrency, rows } => write!(
                f,
                "`{}` has {} for {}: use more rows (`--limit`) or a lower `-c`",
                brief(mode, 30),
                counted(*rows, "row"),
                counted(*concurrency, "slot")
            ),
            Self::FailedRows { mode, failed } => {
                write!(f, "`{}` had {}: raise `--retries`", brief(mode, 30), counted(*failed, "failed row"))
            }
            Self::RetriedRows { mode, retries } => write!(
                f,
                "`{}` waited for {} repeated calls: lower `-c` or set `--rpm`",
                brief(mode, 30),
                count(*retries)
            ),
            Self::NoDifference { mode } => {
                write!(f, "the speedup of `{}` may be none: raise `--runs`", brief(mode, 30))
            }
        }
    }
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
        let warnings = warnings(rows, &modes);
        Self { rows, modes, speedup, ideal_speedup, warnings }
    }

    /// The comparison for people.
    pub fn table(&self, look: Look) -> String {
        let mut text = format!(
            "  {:<20}{:>18}{:>10}{:>8}  {}\n",
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
            let name =
                console::pad_str(&brief(&mode.name, 19), 20, console::Alignment::Left, None).into_owned();
            let line = format!(
                "  {name}{wall:>18}{:>10}{:>8}  {speedup}",
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
            let interval = speedup.ci95.map_or_else(String::new, |[low, high]| {
                format!(" (95 % confidence: {} to {})", figure(low), figure(high))
            });
            let (last, first) = (brief(&last.name, 30), brief(&first.name, 30));
            text += &format!("\n  {last} was\n    {times} times as fast as {first}{interval}\n");
        }
        for (index, warning) in self.warnings.iter().enumerate() {
            let label = look.paint(Style::new().yellow().bold(), "warning:");
            text += &format!("{}{label} {warning}\n", if index == 0 { "\n" } else { "" });
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

    /// What is doubtful about this mode alone.
    fn warnings(&self, rows: u64) -> Vec<Warning> {
        let mode = || self.name.clone();
        let spread = self.stddev_s.unwrap_or_default() / self.mean_s;
        let retries = self.attempts.saturating_sub(rows * self.wall_s.len() as u64);
        let alike = self
            .speedup
            .and_then(|speedup| speedup.ci95)
            .is_some_and(|[low, high]| low <= 1.0 && 1.0 <= high);
        let doubts = [
            (self.mean_s < SHORTEST_RUN_S).then(|| Warning::ShortRuns { mode: mode(), mean_s: self.mean_s }),
            (spread > GREATEST_SPREAD).then(|| Warning::UnsteadyRuns { mode: mode(), spread }),
            (rows < self.concurrency).then(|| Warning::FewRows {
                mode: mode(),
                concurrency: self.concurrency,
                rows,
            }),
            (self.failed > 0).then(|| Warning::FailedRows { mode: mode(), failed: self.failed }),
            (retries > 0).then(|| Warning::RetriedRows { mode: mode(), retries }),
            alike.then(|| Warning::NoDifference { mode: mode() }),
        ];
        doubts.into_iter().flatten().collect()
    }
}

fn warnings(rows: u64, modes: &[Mode]) -> Vec<Warning> {
    let fewest = modes.iter().map(|mode| mode.wall_s.len()).min();
    let few_runs = fewest.filter(|runs| *runs < FEWEST_RUNS).map(|runs| Warning::FewRuns { runs });
    few_runs.into_iter().chain(modes.iter().flat_map(|mode| mode.warnings(rows))).collect()
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
        sequential             12.3 s ± 100 ms      8.13       0
        concurrent -c 16        853 ms ± 15 ms       117       0  14.4 (14.3)

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
          sequential             12.3 s ± 100 ms      8.13       0
          concurrent -c 16       303 ms ± 5.8 ms       330       0  40.6 (14.3)
          concurrent -c 128      7.05 s ± 9.83 s      14.2       3  10.4 (100)

          concurrent -c 128 was
            10.4 times as fast as sequential (95 % confidence: 0.00 to 133,165,903,672,935,216)

        warning: 2 runs of each mode: give `--runs 3` or more
        warning: `concurrent -c 16` took only 303 ms: use more rows (`--limit`)
        warning: the runs of `concurrent -c 128` vary by 139 %: raise `--runs`
        warning: `concurrent -c 128` has 100 rows for 128 slots: use more rows (`--limit`) or a lower `-c`
        warning: `concurrent -c 128` had 3 failed rows: raise `--retries`
        warning: `concurrent -c 128` waited for 12 repeated calls: lower `-c` or set `--rpm`
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
        for line in Comparison::new(1_000_000, modes).table(LOOK).lines() {
            assert!(console::measure_text_width(line) <= 80, "{line}");
        }
    }
}
