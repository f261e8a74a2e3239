//! What is shown of a run on standard error while it runs.

mod bar;
mod json;
mod line;
mod log;
mod plain;
mod screen;
mod showing;
mod snapshot;
mod standing;

use bar::Bar;
pub use bar::TerminalBar;
pub(crate) use bar::stderr_columns;
use json::JsonLines;
pub(crate) use line::{Written, message_line};
use log::Log;
use plain::Plain;
pub(crate) use screen::Screen;
pub(crate) use showing::{Form, ProgressKind, Showing};
pub(crate) use standing::Standing;

use super::commands::Commands;
use crate::observe::{Fanout, Observer};

/// The observers that show a run on `screen` and keep how it stands in `standing`. Commands in hints are completed
/// with `commands`.
pub(crate) fn observer(
    showing: Showing,
    screen: &Screen,
    standing: &Standing,
    commands: &Commands,
) -> Fanout {
    let log = Log::new(screen, showing, commands.clone());
    let shown: Box<dyn Observer> = match showing.kind {
        _ if showing.has_bar() => Box::new(Bar::new(log, screen, showing.color)),
        ProgressKind::Json => Box::new(JsonLines::new(log, screen.clone())),
        ProgressKind::None => Box::new(log),
        ProgressKind::Auto if showing.quiet => Box::new(log),
        _ => Box::new(Plain::new(log, screen.clone())),
    };
    Fanout(vec![Box::new(standing.clone()), shown])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::LimitedBy;
    use crate::observe::{Level, Snapshot};
    use crate::report::progress::screen::Captured;

    fn observer_of(out: &Captured, kind: ProgressKind, quiet: bool) -> Fanout {
        let screen = out.screen();
        let standing = Standing::new(screen.clone(), kind.form());
        let showing = Showing { kind, is_terminal: quiet, quiet, verbose: 0, color: false };
        observer(showing, &screen, &standing, &Commands::new("tab".as_ref(), None))
    }

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
            "1,800/10,000 rows, 18 %, 0:10, 1 m 43 s left, 80.0 rows/s, 16 running"
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
            "10,000/10,000 rows, 100 failed, limited by --rpm, 100 %, 0:10, 1 abandoned, 80.0 rows/s, 16 running, 2 retrying"
        );
        let endless = Snapshot { total: 0, ..after(10) };
        assert_eq!(endless.figures().join(", "), "1,800 rows, 0:10, 80.0 rows/s, 16 running");
    }

    #[test]
    fn where_there_is_no_terminal_a_bar_becomes_lines() {
        for kind in [ProgressKind::Auto, ProgressKind::Bar] {
            let out = Captured::default();
            observer_of(&out, kind, false).tick(&after(2));
            assert!(out.text().starts_with("1,160/10,000 rows"), "{}", out.text());
        }
    }

    #[test]
    fn quiet_shows_no_progress_but_what_was_asked_for_and_no_notes() {
        let out = Captured::default();
        let mut quiet = observer_of(&out, ProgressKind::Auto, true);
        quiet.tick(&after(2));
        quiet.message(Level::Note, "the model is ready");
        quiet.message(Level::Warning, "the disk is nearly full");
        observer_of(&out, ProgressKind::Plain, true).tick(&after(2));
        insta::assert_snapshot!(out.text(), @r"
        warning: the disk is nearly full
        1,160/10,000 rows, 11 %, 0:02, 1 m 51 s left, 80.0 rows/s, 16 running
        ");
    }
}
