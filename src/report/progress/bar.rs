//! Progress as a bar at the bottom of a terminal. Messages, and what Python prints, scroll by above it.

use std::sync::LazyLock;

use console::{Term, measure_text_width};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Form, Log, Screen};
use crate::event::Event;
use crate::observe::{Level, Observer, Snapshot};

/// Separates two figures.
const GAP: &str = "  ";
/// The number of figures that take room from the bar: all up to the elapsed time.
const MUST: usize = 6;
/// A bar with fewer columns would show nothing.
const LEAST: usize = 5;

/// A bar on a terminal and the figures of a run beside it. It has no thread: whoever has it draws it.
#[derive(Debug)]
pub struct TerminalBar {
    bars: MultiProgress,
    terminal_columns: fn() -> usize,
    color: bool,
    drawn: Option<ProgressBar>,
    /// Columns of the bar, without the figures.
    width: usize,
}

impl TerminalBar {
    /// A bar on standard error, which should be a terminal. Nothing is drawn yet. Each of several has a line of its
    /// own.
    pub fn stderr() -> Self {
        static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
        Self::new(BARS.clone(), stderr_columns, console::colors_enabled_stderr())
    }

    fn new(bars: MultiProgress, terminal_columns: fn() -> usize, color: bool) -> Self {
        Self { bars, terminal_columns, color, drawn: None, width: usize::MAX }
    }

    /// Draws how the run stands, in place of what was drawn before.
    pub fn draw(&mut self, snapshot: &Snapshot) {
        // The last column stays free, for some terminals begin a new line after it.
        let columns = (self.terminal_columns)().saturating_sub(1);
        let figures = snapshot.figures();
        let bars = &self.bars;
        let drawn = self.drawn.get_or_insert_with(|| bars.add(ProgressBar::new(0)));
        let width = if snapshot.total > 0 { bar_width(&figures, columns) } else { 0 };
        if width != self.width {
            drawn.set_style(style(width, self.color));
            self.width = width;
        }
        let room = if width > 0 { columns.saturating_sub(width + GAP.len()) } else { columns };
        drawn.set_length(snapshot.total);
        drawn.set_position(snapshot.done());
        drawn.set_message(fitting(&figures, room));
    }

    /// Removes what is drawn. The next [`draw`](Self::draw) draws it again.
    pub fn clear(&mut self) {
        if let Some(drawn) = self.drawn.take() {
            drawn.finish_and_clear();
            self.bars.remove(&drawn);
            self.width = usize::MAX;
        }
    }
}

/// The columns of standard error.
pub(crate) fn stderr_columns() -> usize {
    usize::from(Term::stderr().size().1)
}

/// The look of a bar of so many columns.
fn style(width: usize, color: bool) -> ProgressStyle {
    let color = if color { ".green" } else { "" };
    let template = if width > 0 { format!("{{bar:{width}{color}}}{GAP}{{msg}}") } else { "{msg}".into() };
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("█▉▊▋▌▍▎▏░")
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

/// Shows a run as a bar, with its messages above.
pub(super) struct Bar {
    log: Log,
    line: TerminalBar,
    screen: Screen,
}

impl Bar {
    pub(super) fn new(log: Log, screen: &Screen, color: bool) -> Self {
        let line = TerminalBar::new(screen.bars().clone(), screen.columns(), color);
        Self { log, line, screen: screen.clone() }
    }
}

impl Observer for Bar {
    fn event(&mut self, event: &Event) {
        self.log.event(event);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.screen.draws(true);
        self.line.draw(snapshot);
    }

    fn message(&mut self, level: Level, text: &str) {
        self.log.message(level, text);
    }

    fn finish(&mut self, _: &Snapshot) {
        self.line.clear();
        self.screen.draws(false);
        self.screen.end_line(Form::Text);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike as _};

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
