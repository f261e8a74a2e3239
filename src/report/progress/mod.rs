//! What is shown of a run while it runs, on standard error. Not its result: see [`table`](super::table).

mod bar;
mod json;
mod log;
mod plain;
mod screen;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub use self::screen::Screen;
use self::{bar::Bar, json::JsonLines, log::Log, plain::Plain};
use super::text::{count, duration, figure};
use crate::event::{Event, LimitedBy};

/// The values of `--progress`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressKind {
    /// A bar on a terminal, lines elsewhere, nothing when quiet.
    #[default]
    Auto,
    /// A bar; lines where there is no terminal.
    Bar,
    /// A line now and then, for pipes and logs.
    Plain,
    /// One JSON object a line, for programs.
    Json,
    /// Messages only.
    None,
}

/// How a run stands. Counts are of rows; those of earlier sessions are in `resumed` only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Rows selected.
    pub total: u64,
    /// Answered by earlier sessions.
    pub resumed: u64,
    /// Answered.
    pub ok: u64,
    /// Failed for good.
    pub failed: u64,
    /// Given up without an outcome, as the run is stopping.
    pub unfinished: u64,
    /// Being called.
    pub in_flight: u64,
    /// In backoff.
    pub waiting_retry: u64,
    /// Calls that ignored cancellation.
    pub abandoned: u64,
    /// Since the session's first call.
    #[serde(skip)]
    pub elapsed: Duration,
    /// The present pace, smoothed (see [`RowRate`](crate::stats::RowRate)).
    pub rows_per_s: f64,
    /// What holds the pace below the concurrency.
    pub limited_by: Option<LimitedBy>,
}

impl fmt::Display for LimitedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rpm => "limited by --rpm",
            Self::Tpm => "limited by --tpm",
            Self::Server => "slowed down by the server",
            Self::Outage => "no server: probing",
        })
    }
}

impl Snapshot {
    /// Rows with an outcome, earlier sessions included.
    pub fn done(&self) -> u64 {
        self.resumed + self.ok + self.failed
    }

    /// The time the rest will take at this session's mean pace; none before its first outcome.
    pub fn eta(&self) -> Option<Duration> {
        let done = self.ok + self.failed;
        let left = self.total.saturating_sub(self.done() + self.unfinished);
        (done > 0).then(|| {
            Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * left as f64 / done as f64).ok()
        })?
    }

    /// The figures for people, the most wanted first.
    fn figures(&self) -> Vec<String> {
        let mut figures = vec![
            format!("{}/{} rows", count(self.done()), count(self.total)),
            format!("{} rows/s", figure(self.rows_per_s)),
        ];
        figures.extend(self.eta().filter(|eta| !eta.is_zero()).map(|eta| format!("{} left", duration(eta))));
        figures.push(format!("{} running", count(self.in_flight)));
        let optional =
            [(self.waiting_retry, "retrying"), (self.failed, "failed"), (self.abandoned, "abandoned")];
        figures
            .extend(optional.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))));
        figures.extend(self.limited_by.map(|limit| limit.to_string()));
        figures
    }
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know; not said when quiet.
    Note,
    /// Something is not as it should be.
    Warning,
    /// Something did not work.
    Error,
}

/// Shows a run while it runs. A reader that has gone away is never an error.
pub trait Reporter: Send {
    /// Something happened to a row, and is recorded.
    fn event(&mut self, event: &Event);
    /// Called several times a second; decides for itself what to show and when.
    fn tick(&mut self, snapshot: &Snapshot);
    /// Says something, without tearing what is shown; the text may have several lines.
    fn message(&mut self, level: Level, text: &str);
    /// The last call: shows how the run ended.
    fn finish(&mut self, snapshot: &Snapshot);
}

/// The reporter for `--progress KIND`. With `quiet`, [`ProgressKind::Auto`] shows no progress, and neither notes nor
/// failures are said.
pub fn reporter(
    kind: ProgressKind,
    screen: &Screen,
    is_terminal: bool,
    quiet: bool,
    color: bool,
) -> Box<dyn Reporter> {
    let log = Log::new(screen.clone(), quiet, color);
    match kind {
        ProgressKind::Json => Box::new(JsonLines::new(screen.clone(), quiet)),
        ProgressKind::None => Box::new(log),
        ProgressKind::Auto if quiet => Box::new(log),
        ProgressKind::Auto | ProgressKind::Bar if is_terminal => Box::new(Bar::new(log, screen, color)),
        _ => Box::new(Plain::new(log, screen.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::progress::screen::Captured;

    /// A run of 10,000 rows, 1,000 of them answered before, after so many seconds at 80 rows a second.
    pub(super) fn after(seconds: u64) -> Snapshot {
        Snapshot {
            total: 10_000,
            resumed: 1_000,
            ok: seconds * 80,
            in_flight: 16,
            elapsed: Duration::from_secs(seconds),
            rows_per_s: 80.0,
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_time_left_counts_this_sessions_rows_only() {
        assert_eq!(after(10).eta(), Some(Duration::from_millis(102_500)));
        assert_eq!(after(0).eta(), None);
        let stopping = Snapshot { unfinished: 8_200, ..after(10) };
        assert_eq!(stopping.eta(), Some(Duration::ZERO));
    }

    #[test]
    fn the_figures_name_only_what_there_is() {
        assert_eq!(
            after(10).figures().join(", "),
            "1,800/10,000 rows, 80.0 rows/s, 1 m 43 s left, 16 running"
        );
        let troubled = Snapshot {
            waiting_retry: 2,
            failed: 100,
            abandoned: 1,
            limited_by: Some(LimitedBy::Rpm),
            ok: 0,
            resumed: 9_900,
            ..after(10)
        };
        assert_eq!(
            troubled.figures().join(", "),
            "10,000/10,000 rows, 80.0 rows/s, 16 running, 2 retrying, 100 failed, 1 abandoned, limited by --rpm"
        );
    }

    #[test]
    fn where_there_is_no_terminal_a_bar_becomes_lines() {
        for kind in [ProgressKind::Auto, ProgressKind::Bar] {
            let out = Captured::default();
            reporter(kind, &out.screen(), false, false, false).tick(&after(2));
            assert!(out.text().starts_with("1,160/10,000 rows"), "{}", out.text());
        }
    }

    #[test]
    fn quiet_shows_no_progress_but_what_was_asked_for_and_no_notes() {
        let out = Captured::default();
        let mut quiet = reporter(ProgressKind::Auto, &out.screen(), true, true, false);
        quiet.tick(&after(2));
        quiet.message(Level::Note, "the model is ready");
        quiet.message(Level::Warning, "the disk is nearly full");
        reporter(ProgressKind::Plain, &out.screen(), false, true, false).tick(&after(2));
        insta::assert_snapshot!(out.text(), @r"
        warning: the disk is nearly full
        1,160/10,000 rows, 80.0 rows/s, 1 m 51 s left, 16 running
        ");
    }
}
