//! The comparison for people, like hyperfine's. Not the figures.

use std::fmt::Write as _;

use console::{Alignment, Style, pad_str};

use super::{Comparison, Mode, NAME_WIDTH};
use crate::report::text::{Look, brief, count, counted, figure, seconds};
use crate::stats::Speedup;

/// An interval whose bounds lie further apart than this says nothing.
const WIDEST_INTERVAL: f64 = 100.0;

impl Comparison {
    /// The comparison for people.
    pub fn table(&self, look: Look) -> String {
        let mut text = format!(
            "  {:<20}{:>19}{:>9}{:>11}{:>9}{:>9}\n",
            "", "Wall (mean ± σ)", "Rows/s", "In flight", "Calls", "Failed"
        );
        for mode in &self.modes {
            let name =
                pad_str(&brief(&mode.name, NAME_WIDTH), NAME_WIDTH + 1, Alignment::Left, None).into_owned();
            let _ = writeln!(
                text,
                "  {name}{:>19}{:>9}{:>11}{:>9}{:>9}",
                mode.wall(),
                figure(mode.rows_per_s),
                figure(mode.in_flight_mean),
                a_run(mode.attempts),
                a_run(mode.failed)
            );
        }
        let _ = write!(text, "\n  {}", self.what_was_run());
        let _ = writeln!(text, "\n  {}", self.answers());
        if let Some((first, others)) = self.modes.split_first() {
            let first = brief(&first.name, NAME_WIDTH);
            for mode in others {
                let Some(speedup) = mode.speedup else { continue };
                let times = look.paint(Style::new().green().bold(), &figure(speedup.mean));
                let (name, certainty) = (brief(&mode.name, NAME_WIDTH), mode.certainty(speedup));
                let _ =
                    write!(text, "\n  {name} was\n    {times} times as fast as {first}\n    ({certainty})\n");
            }
        }
        for (index, warning) in self.warnings.iter().enumerate() {
            let label = look.paint(Style::new().yellow().bold(), "warning:");
            let gap = if index == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{gap}{label} {warning}");
        }
        text
    }

    /// How much was run.
    pub(super) fn what_was_run(&self) -> String {
        let runs = self.modes.iter().map(|mode| mode.runs.len()).max().unwrap_or_default() as u64;
        format!(
            "{} of {} in each mode, after {} to warm up (untimed)",
            counted(runs, "run"),
            counted(self.rows, "row"),
            counted(self.warm_up.attempts, "call")
        )
    }

    /// In how far the modes answered alike.
    pub(super) fn answers(&self) -> String {
        let Some(first) = self.modes.first() else { return String::new() };
        let differing: Vec<String> = self
            .modes
            .iter()
            .filter(|mode| mode.different > 0)
            .map(|mode| format!("{} in {}", count(mode.different), brief(&mode.name, NAME_WIDTH)))
            .collect();
        if self.modes.iter().all(|mode| mode.failed >= self.rows as f64) {
            return "no row was answered".to_owned();
        }
        if differing.is_empty() {
            return "the answers were the same in every run".to_owned();
        }
        format!(
            "answers other than in the first run of {}:\n    {}",
            brief(&first.name, NAME_WIDTH),
            differing.join(", ")
        )
    }
}

impl Mode {
    /// The wall time, with its standard deviation where there is one.
    pub(super) fn wall(&self) -> String {
        self.stddev_s.map_or_else(
            || seconds(self.mean_s),
            |stddev| format!("{} ± {}", seconds(self.mean_s), seconds(stddev)),
        )
    }

    /// How sure the speedup is, and what it could be at best.
    pub(super) fn certainty(&self, speedup: Speedup) -> String {
        let interval = match speedup.ci95 {
            None => String::new(),
            Some([low, high]) if high > WIDEST_INTERVAL * low => "no useful interval; ".to_owned(),
            Some([low, high]) => format!("95 % confidence: {} to {}; ", figure(low), figure(high)),
        };
        format!("{interval}ideal: {}", figure(self.ideal_speedup.unwrap_or(1.0)))
    }
}

/// A mean over runs of what is counted: whole where all runs had as many.
pub(super) fn a_run(mean: f64) -> String {
    if mean.fract() == 0.0 { count(mean as u64) } else { format!("{mean:.1}") }
}
