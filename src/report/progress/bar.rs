//! Progress as a bar at the bottom of a terminal. Messages, and what Python prints, scroll by above it.

use console::measure_text_width;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Form, Log, Screen};
use crate::event::Event;
use crate::observe::{Level, Observer, Snapshot};

/// Separates two figures.
const GAP: &str = "  ";
/// The number of figures that take room from the bar: all up to the elapsed time.
const MUST: usize = 6;
/// A bar with fewer columns would show nothing.
const LEAST: usize = 5;

pub(super) struct Bar {
    log: Log,
    drawn: ProgressBar,
    screen: Screen,
    color: bool,
    /// Columns of the bar, without the figures.
    width: usize,
}

impl Bar {
    pub(super) fn new(log: Log, screen: &Screen, color: bool) -> Self {
        let bar = screen.bars().add(ProgressBar::new(0));
        Self { log, drawn: bar, screen: screen.clone(), color, width: usize::MAX }
    }

    /// Sets the columns of the bar.
    fn widen(&mut self, width: usize) {
        if width != self.width {
            let color = if self.color { ".green" } else { "" };
            let template =
                if width > 0 { format!("{{bar:{width}{color}}}{GAP}{{msg}}") } else { "{msg}".into() };
            let style =
                ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            self.drawn.set_style(style.progress_chars("█▉▊▋▌▍▎▏░"));
            self.width = width;
        }
    }
}

/// The columns that the necessary figures leave for the bar.
fn bar_width(figures: &[String], columns: usize) -> usize {
    let few = fitting(&figures[..figures.len().min(MUST)], usize::MAX);
    let left = columns.saturating_sub(measure_text_width(&few) + GAP.len());
    if left < LEAST { 0 } else { left.min((columns / 6).max(10)) }
}

/// Joins the figures that fit into `columns`, the most important first. A figure that is left out makes room for
/// shorter ones.
fn fitting(figures: &[String], columns: usize) -> String {
    let mut text = String::new();
    for figure in figures {
        let gap = if text.is_empty() { "" } else { GAP };
        if measure_text_width(&text) + gap.len() + measure_text_width(figure) <= columns {
            text += gap;
            text += figure;
        }
    }
    text
}

impl Observer for Bar {
    fn event(&mut self, event: &Event) {
        self.log.event(event);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        // The last column stays free, for some terminals begin a new line after it.
        let columns = self.screen.columns().saturating_sub(1);
        let figures = snapshot.figures();
        self.widen(bar_width(&figures, columns));
        let room = if self.width > 0 { columns.saturating_sub(self.width + GAP.len()) } else { columns };
        self.screen.draws(true);
        self.drawn.set_length(snapshot.total);
        self.drawn.set_position(snapshot.done());
        self.drawn.set_message(fitting(&figures, room));
    }

    fn message(&mut self, level: Level, text: &str) {
        self.log.message(level, text);
    }

    fn finish(&mut self, _: &Snapshot) {
        self.drawn.finish_and_clear();
        self.screen.draws(false);
        self.screen.end_line(Form::Text);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use indicatif::{InMemoryTerm, MultiProgress, ProgressDrawTarget, TermLike as _};

    use super::super::Showing;
    use super::super::tests::after;
    use super::*;
    use crate::event::LimitedBy;
    use crate::report::commands::Commands;

    /// Writes into the terminal on which the bar is drawn.
    struct Terminal(InMemoryTerm);

    impl Write for Terminal {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.write_str(&String::from_utf8_lossy(text).replace('\n', "\r\n"))?;
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    fn bar(terminal: &InMemoryTerm, columns: fn() -> usize) -> (Bar, Screen) {
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let bars = MultiProgress::with_draw_target(target);
        let screen = Screen::new(bars, Terminal(terminal.clone()), columns);
        (
            Bar::new(
                Log::new(&screen, Showing::default(), Commands::new("tab".as_ref(), None)),
                &screen,
                false,
            ),
            screen,
        )
    }

    /// A run with something of everything to tell.
    fn troubled(seconds: u64) -> Snapshot {
        Snapshot {
            failed: 31,
            waiting_retry: 7,
            abandoned: 1,
            cost_usd: Some(0.42),
            limited_by: Some(LimitedBy::Server),
            ..after(seconds)
        }
    }

    #[test]
    fn messages_scroll_by_above_a_whole_bar_that_is_gone_at_the_end() {
        let terminal = InMemoryTerm::new(10, 80);
        let (mut bar, screen) = bar(&terminal, || 80);
        bar.tick(&after(10));
        bar.message(Level::Warning, "the server is slow\nhint: wait");
        bar.tick(&after(20));
        bar.message(Level::Note, "still here");
        screen.print(b"from Python\nand a line that has not", Form::Text);
        bar.tick(&after(20));
        insta::assert_snapshot!(terminal.contents(), @r"
        warning: the server is slow
        hint: wait
        still here
        from Python
        ██▏░░░░░  2,600/10,000 rows  26 %  0:20  1 m 33 s left  80.0 rows/s  16 running
        ");
        screen.print(b" ended\nand one that never will", Form::Text);
        bar.finish(&after(30));
        insta::assert_snapshot!(terminal.contents(), @r"
        warning: the server is slow
        hint: wait
        still here
        from Python
        and a line that has not ended
        and one that never will
        ");
    }

    #[test]
    fn what_went_wrong_and_what_it_costs_are_shown_first_in_any_width() {
        let shown = |columns: u16, width: fn() -> usize| {
            let terminal = InMemoryTerm::new(10, columns);
            let (mut bar, _) = bar(&terminal, width);
            (1..5).for_each(|second| bar.tick(&troubled(20 * second)));
            terminal.contents()
        };
        insta::assert_snapshot!(shown(40, || 40), @r"
        7,431/10,000 rows  31 failed  $0.42
        ");
        insta::assert_snapshot!(shown(80, || 80), @r"
        ████████▎░░  7,431/10,000 rows  31 failed  limited by server  $0.42  74 %  1:20
        ");
        insta::assert_snapshot!(shown(120, || 120), @r"
        ██████████████▏░░░░  7,431/10,000 rows  31 failed  limited by server  $0.42  74 %  1:20  1 abandoned  32.0 s left
        ");
    }
}
