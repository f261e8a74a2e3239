//! The comparison as text for a terminal, in the manner of hyperfine.

use std::fmt::Write as _;

use console::{Alignment, Style, measure_text_width, pad_str};

use super::mode::shown;
use super::{Comparison, Mode};
use crate::report::text::{Look, brief, count, counted, figure, paragraph, seconds};
use crate::stats::Speedup;

/// An interval whose upper bound is more than this many times its lower bound says nothing.
const WIDEST_INTERVAL: f64 = 100.0;
/// Columns before a line, and between two cells.
const GAP: usize = 2;
/// Columns before text that belongs to the line above.
const DEEPER: usize = 4;
const HEADINGS: [&str; 6] = ["", "Wall (mean ± σ)", "Rows/s", "In flight", "Calls", "Failed"];
/// What precedes the same figures where a terminal is too narrow for a table.
const LABELS: [&str; 6] = ["", "Wall (± σ)", "Rows/s", "In flight", "Calls", "Failed"];

/// The width in columns of a summary that is for no terminal.
const WIDTH: usize = 100;

impl Comparison {
    /// Summarizes the comparison in text without colours.
    pub fn summary(&self) -> String {
        self.table(Look { color: false, width: WIDTH })
    }

    /// Formats the comparison for a terminal.
    pub fn table(&self, look: Look) -> String {
        let mut text = self.figures(look.width);
        text += &paragraph(&self.what_was_run(), " ", GAP, look.width);
        let answers = self.answers();
        match answers.split_once(": ") {
            Some((what, differing)) => {
                text += &paragraph(&format!("{what}:"), " ", GAP, look.width);
                text += &paragraph(differing, ", ", DEEPER, look.width);
            }
            None => text += &paragraph(&answers, " ", GAP, look.width),
        }
        if let Some(why) = self.why_stopped() {
            text.push('\n');
            text += &paragraph(&look.paint(Style::new().yellow(), &why), " ", GAP, look.width);
        }
        if let Some((first, others)) = self.modes.split_first() {
            let first = shown(&first.name);
            for mode in others {
                let Some(speedup) = mode.speedup else { continue };
                let times = look.paint(Style::new().green().bold(), &figure(speedup.mean));
                let _ = writeln!(text, "\n{:GAP$}{} was", "", shown(&mode.name));
                text += &paragraph(&format!("{times} times as fast as {first}"), " ", DEEPER, look.width);
                text += &paragraph(&format!("({})", mode.certainty(speedup)), "; ", DEEPER, look.width);
            }
        }
        for (index, warning) in self.warnings.iter().enumerate() {
            let label = look.paint(Style::new().yellow().bold(), "warning:");
            text += if index == 0 { "\n" } else { "" };
            text += &paragraph(&format!("{label} {warning}"), " ", 0, look.width);
        }
        text
    }

    /// The modes' figures as a table, or as one block a mode where the table is wider than `columns`.
    fn figures(&self, columns: usize) -> String {
        let modes: Vec<[String; 6]> = self.modes.iter().map(Mode::cells).collect();
        if modes.is_empty() {
            return String::new();
        }
        let widths: [usize; 6] = std::array::from_fn(|column| {
            let cells = modes.iter().map(|cells| measure_text_width(&cells[column]));
            cells.chain([measure_text_width(HEADINGS[column])]).max().unwrap_or_default()
        });
        let mut text = String::new();
        if widths.iter().map(|width| GAP + width).sum::<usize>() <= columns {
            for cells in [HEADINGS.map(str::to_owned)].iter().chain(&modes) {
                for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
                    let side = if index == 0 { Alignment::Left } else { Alignment::Right };
                    let _ = write!(text, "{:GAP$}{}", "", pad_str(cell, width, side, None));
                }
                text.push('\n');
            }
            text.push('\n');
        } else {
            for [name, figures @ ..] in &modes {
                let _ = writeln!(text, "{:GAP$}{name}", "");
                for (label, figure) in LABELS[1..].iter().zip(figures) {
                    let _ = writeln!(text, "{:DEEPER$}{label:<12}{figure}", "");
                }
                text.push('\n');
            }
        }
        text
    }

    /// How much was run.
    pub(super) fn what_was_run(&self) -> String {
        let asked = counted(self.runs_requested.into(), "run");
        let rows = counted(self.rows, "row");
        let runs = if self.stopped.is_none() {
            format!("{asked} of {rows} in each mode")
        } else if self.modes.is_empty() {
            "no run was finished".to_owned()
        } else {
            let some = self.modes.iter().map(|mode| (mode.runs.len(), &mode.name));
            let none = self.modes_without_runs.iter().map(|name| (0, name));
            let made = some.chain(none).map(|(runs, name)| format!("{runs} of {}", shown(name)));
            format!("finished, of {asked} of {rows} each: {}", made.collect::<Vec<_>>().join(", "))
        };
        let warm_up = self.warm_up.map(|warm_up| counted(warm_up.attempts, "call"));
        runs + &warm_up.map_or_else(String::new, |calls| format!(", after {calls} to warm up (untimed)"))
    }

    /// Why there were no more runs.
    pub(super) fn why_stopped(&self) -> Option<String> {
        let stopped = self.stopped.as_ref()?;
        let left_out = stopped.rows.filter(|rows| *rows > 0);
        let left_out = left_out.map(|rows| format!("; left out: its {}", counted(rows, "finished row")));
        Some(format!(
            "stopped {}: {}{}",
            brief(&stopped.at, usize::MAX),
            brief(&stopped.reason, usize::MAX),
            left_out.unwrap_or_default()
        ))
    }

    /// How far the modes' answers agree; empty where there is only one run.
    pub(super) fn answers(&self) -> String {
        let Some(first) = self.modes.first() else { return String::new() };
        if self.modes.iter().all(|mode| mode.failed >= self.rows as f64) {
            return "no row was answered".to_owned();
        }
        if self.modes.len() == 1 && first.runs.len() == 1 {
            return String::new();
        }
        let name = shown(&first.name);
        if first.runs[0].failed >= self.rows {
            return format!(
                "the first run of {name} answered no row: there is none to hold the others against"
            );
        }
        let differing: Vec<String> = self
            .modes
            .iter()
            .filter(|mode| mode.different > 0)
            .map(|mode| format!("{} in {}", count(mode.different), shown(&mode.name)))
            .collect();
        if differing.is_empty() {
            return "the answers were the same in every run".to_owned();
        }
        format!("answers other than in the first run of {name}: {}", differing.join(", "))
    }
}

impl Mode {
    /// The cells of its line.
    fn cells(&self) -> [String; 6] {
        [
            shown(&self.name),
            self.wall(),
            figure(self.rows_per_s),
            figure(self.in_flight_mean),
            a_run(self.attempts),
            a_run(self.failed),
        ]
    }

    /// The mean wall time, with the standard deviation where there is one.
    pub(super) fn wall(&self) -> String {
        self.stddev_s.map_or_else(
            || seconds(self.mean_s),
            |stddev| format!("{} ± {}", seconds(self.mean_s), seconds(stddev)),
        )
    }

    /// How sure the speedup is, and what it could be at best.
    pub(super) fn certainty(&self, speedup: Speedup) -> String {
        let interval = match speedup.ci95 {
            None => "no interval without 2 runs of each".to_owned(),
            Some([low, high]) if high > WIDEST_INTERVAL * low => "no useful interval".to_owned(),
            Some([low, high]) => format!("95 % confidence: {} to {}", figure(low), figure(high)),
        };
        format!("{interval}; ideal: {}", figure(self.ideal_speedup.unwrap_or(1.0)))
    }
}

/// A mean over runs of a count, written as a whole number where it is one.
pub(super) fn a_run(mean: f64) -> String {
    if mean.fract() == 0.0 { count(mean as u64) } else { format!("{mean:.1}") }
}
