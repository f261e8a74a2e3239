//! A run's summary as text for a terminal.

use std::fmt::Write as _;
use std::path::Path;

use console::Style;

use super::text::{
    Look, brief, count, counted, dollars, escape, figure, list, millis, reason, seconds, wrapped,
};
use super::{Distribution, Report, versions, workers};
use crate::error::{BLOCKED, CANCELLED, CRASH, hint_of};

/// Columns before a line's value.
const INDENT: usize = 17;
/// Columns of a latency, and the number of latencies on a line.
const LATENCY: usize = 12;
const LATENCIES: usize = 4;

/// The width in columns of a summary that is for no terminal.
const WIDTH: usize = 80;

/// Shorter waits for the server or a rate, in seconds, are not shown.
const SHORTEST_LIMIT_S: f64 = 0.1;

/// Where a run's files are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    /// The answers.
    pub answers: &'a Path,
    /// The timing report, if it was written.
    pub report: Option<&'a Path>,
    /// The page, if it was written.
    pub page: Option<&'a Path>,
    /// The command that answers the remaining rows.
    pub resume: &'a str,
}

/// Summarizes a run: what became of the rows, how fast, where the files are, and how to answer the remaining rows.
pub(crate) fn summary(report: &Report, files: Files<'_>, look: Look) -> String {
    let mut table = Table { look, text: String::new() };
    table.headline(report);
    table.rows(report);
    table.latencies(report);
    table.calls(report);
    table.files(report, files);
    table.text
}

impl Report {
    /// Summarizes the run in text without colours. `answers` is where its answers are.
    pub fn summary(&self, answers: &Path) -> String {
        let files = Files { answers, report: None, page: None, resume: "resume" };
        summary(self, files, Look { color: false, width: WIDTH })
    }
}

struct Table {
    look: Look,
    text: String,
}

impl Table {
    fn headline(&mut self, report: &Report) {
        let rows = &report.rows;
        let style = if rows.ok == rows.total { Style::new().green() } else { Style::new().yellow() };
        let mut answered = format!("Answered {} of {}", count(rows.ok), counted(rows.total, "row"));
        if let Some(shard) = report.run.shard {
            answered += &format!(" of shard {shard}");
        }
        let mut line = self.look.paint(style.bold(), &answered);
        if report.wall_s > 0.0 {
            // A session that found nothing left to do has answered none of them.
            line += if rows.resumed == rows.total { " before, in" } else { " in" };
            line += &format!(" {}", seconds(report.wall_s));
            if report.sessions > 1 {
                line += &format!(" over {} sessions", count(report.sessions));
            }
            line += &format!(" ({} rows/s)", figure(report.rows_per_s));
        }
        self.text += &wrapped(&line, " ", self.look.width).join("\n");
        self.text += "\n\n";
    }

    fn rows(&mut self, report: &Report) {
        let rows = &report.rows;
        if rows.resumed > 0 && rows.resumed < rows.total {
            let resumed = format!("{} answered before", counted(rows.resumed, "row"));
            self.wrapped_line("Resumed", &resumed, " ");
        }
        if let Some(versions) = versions::line(report) {
            self.wrapped_line("Predictor", &versions, " ");
        }
        if rows.failed > 0 {
            let total = format!("{}: ", counted(rows.failed, "row"));
            let columns = self.look.width.saturating_sub(INDENT);
            let most = columns.saturating_sub(count(rows.failed).len() + 1).clamp(8, 40);
            let classes = rows.failed_by_class.most_frequent_first().into_iter();
            let classes: Vec<_> =
                classes.map(|(class, failed)| format!("{} {}", count(failed), brief(class, most))).collect();
            let mut text = total.clone() + &list(&classes, columns.saturating_sub(total.len()));
            if console::measure_text_width(&text) > columns {
                let classes = wrapped(&list(&classes, columns), ", ", columns);
                text =
                    [vec![total.trim_end().to_owned()], classes].concat().join(&format!("\n{:INDENT$}", ""));
            }
            self.line("Failed", &self.look.paint(Style::new().red(), &text));
        }
        if let Some(hint) = hint_of(BLOCKED).filter(|_| rows.failed_by_class.get(BLOCKED) > 0) {
            self.wrapped_line("Blocked", hint, " ");
        }
        if rows.cut_off > 0 {
            let text =
                counted(rows.cut_off, "answer") + " at max_tokens: see `--fields answer,finish_reason`";
            self.wrapped_line("Cut off", &self.look.paint(Style::new().yellow(), &text), " ");
        }
        if rows.unfinished > 0 {
            let text = counted(rows.unfinished, "row");
            self.line("Unfinished", &self.look.paint(Style::new().yellow(), &text));
        }
        if let Some(stopped) = &report.stopped {
            self.wrapped_line("Stopped", &reason(stopped).0, " ");
        }
    }

    fn latencies(&mut self, report: &Report) {
        let kinds = [
            ("  answered", &report.latency_ms.ok),
            ("  failed", &report.latency_ms.failed),
            // The calls' times above include neither waiting nor failed attempts.
            ("  whole row", &report.row_ms),
            ("  first chunk", &report.first_chunk_ms),
        ];
        if kinds[..2].iter().all(|(_, latency)| latency.count == 0) {
            return;
        }
        let names = ["p50", "p90", "p99", "max"];
        let is_table = self.look.width >= INDENT + LATENCIES * LATENCY;
        let heading =
            if is_table { names.map(|name| format!("{name:>LATENCY$}")).concat() } else { String::new() };
        self.line("Latency", &heading);
        for (label, latency) in kinds {
            let Distribution { p50: Some(p50), p90: Some(p90), p99: Some(p99), max: Some(max), .. } =
                *latency
            else {
                continue;
            };
            let figures = [p50, p90, p99, max].map(millis);
            if is_table {
                self.line(label, &figures.map(|figure| format!("{figure:>LATENCY$}")).concat());
            } else {
                let named: Vec<_> =
                    names.iter().zip(figures).map(|(name, figure)| format!("{name} {figure}")).collect();
                self.wrapped_line(label, &named.join(", "), ", ");
            }
        }
    }

    fn attempts(&mut self, report: &Report) {
        let (attempts, concurrency) = (&report.attempts, &report.concurrency);
        self.wrapped_line(
            "Concurrency",
            &format!(
                "{} on average, {} at most{}, {} requested",
                figure(concurrency.achieved_mean),
                count(concurrency.achieved_max),
                // The maximum includes them, the average does not.
                if attempts.abandoned > 0 { ", abandoned included" } else { "" },
                count(concurrency.requested)
            ),
            ", ",
        );
        let cancelled = match attempts.by_error.get(CANCELLED) {
            0 => String::new(),
            calls => format!(", {} cancelled", count(calls)),
        };
        self.wrapped_line(
            "Attempts",
            &format!(
                "{} ({}, {}, {} abandoned{cancelled})",
                count(attempts.total),
                counted(attempts.retries, "retry"),
                counted(attempts.timeouts, "timeout"),
                count(attempts.abandoned)
            ),
            ", ",
        );
    }

    fn calls(&mut self, report: &Report) {
        if report.attempts.total > 0 {
            self.attempts(report);
        }
        let limited = &report.limited_s;
        let limits = [
            (limited.server, "by the server"),
            (limited.outage, "by an outage"),
            (limited.rpm, "by --rpm"),
            (limited.tpm, "by --tpm"),
        ];
        let limits = limits.iter().filter(|(time, _)| *time >= SHORTEST_LIMIT_S);
        let limits: Vec<_> = limits.map(|(time, by)| format!("{} {by}", seconds(*time))).collect();
        if !limits.is_empty() {
            self.wrapped_line("Limited", &limits.join(", "), ", ");
        }
        let tokens = &report.tokens;
        if tokens.input.max(tokens.output) > 0 {
            let cost = report.cost_usd.map_or_else(String::new, |cost| format!(", {}", dollars(cost)));
            let tokens = format!("{} in, {} out{cost}", count(tokens.input), count(tokens.output));
            self.wrapped_line("Tokens", &tokens, ", ");
        }
        if let Some(workers) = workers::line(report) {
            self.wrapped_line("Workers", &workers, ", ");
        }
        if let Some(worst) = report.event_loop.blocked.iter().max_by(|a, b| a.ms.total_cmp(&b.ms)) {
            let place = brief(&worst.place, self.look.width.max(80).saturating_sub(INDENT + 28));
            self.wrapped_line("Event loop", &format!("blocked for {} by {place}", millis(worst.ms)), " ");
        }
    }

    fn files(&mut self, report: &Report, files: Files<'_>) {
        self.line("Answers", &escape(&files.answers.to_string_lossy()));
        for (label, path) in ["Report", ""].into_iter().zip(files.page.into_iter().chain(files.report)) {
            self.line(label, &escape(&path.to_string_lossy()));
        }
        let left = report.rows.failed + report.rows.unfinished;
        // A run that throws its answers away leaves no journal.
        if left > 0 && files.answers != Path::new("/dev/null") {
            let mut command = files.resume.to_owned();
            // Rows that were set aside are called again only on request.
            if report.rows.failed_by_class.get(CRASH) == left {
                command += " --only failed";
            }
            let which = if left == 1 { "row that is" } else { "rows that are" };
            let command = self.look.paint(Style::new().bold(), &command);
            let _ = write!(self.text, "\nTo answer the {} {which} left:\n  {command}\n", count(left));
        }
    }

    fn line(&mut self, label: &str, value: &str) {
        let line = format!("  {label:<15}{value}");
        self.text += line.trim_end();
        self.text.push('\n');
    }

    /// As [`Self::line`], on as many lines as needed.
    fn wrapped_line(&mut self, label: &str, value: &str, separator: &str) {
        let lines = wrapped(value, separator, self.look.width.saturating_sub(INDENT));
        self.line(label, &lines.join(&format!("\n{:INDENT$}", "")));
    }
}

#[cfg(test)]
mod tests;
