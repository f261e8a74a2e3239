//! Progress as a bar at the bottom of a terminal; messages scroll by above it.

use indicatif::{ProgressBar, ProgressStyle};

use super::{Level, Log, Reporter, Screen, Snapshot};
use crate::event::Event;

pub(super) struct Bar {
    log: Log,
    bar: ProgressBar,
}

impl Bar {
    pub(super) fn new(log: Log, screen: &Screen, color: bool) -> Self {
        let template = if color { "{bar:20.green} {wide_msg}" } else { "{bar:20} {wide_msg}" };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = screen.bars().add(ProgressBar::new(0).with_style(style.progress_chars("█▉▊▋▌▍▎▏░")));
        Self { log, bar }
    }
}

impl Reporter for Bar {
    fn event(&mut self, event: &Event) {
        self.log.event(event);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.bar.set_length(snapshot.total);
        self.bar.set_position(snapshot.done());
        self.bar.set_message(snapshot.figures().join("  "));
    }

    fn message(&mut self, level: Level, text: &str) {
        self.log.message(level, text);
    }

    fn finish(&mut self, _: &Snapshot) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use indicatif::{InMemoryTerm, MultiProgress, ProgressDrawTarget, TermLike as _};

    use super::super::tests::after;
    use super::*;

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

    fn bar(terminal: &InMemoryTerm) -> Bar {
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let screen = Screen::new(MultiProgress::with_draw_target(target), Terminal(terminal.clone()));
        Bar::new(Log::new(screen.clone(), false, false), &screen, false)
    }

    #[test]
    fn messages_scroll_by_above_a_whole_bar_that_is_gone_at_the_end() {
        let terminal = InMemoryTerm::new(10, 80);
        let mut bar = bar(&terminal);
        bar.tick(&after(10));
        bar.message(Level::Warning, "the server is slow\nhint: wait");
        bar.tick(&after(20));
        bar.message(Level::Note, "still here");
        insta::assert_snapshot!(terminal.contents(), @r"
        warning: the server is slow
        hint: wait
        still here
        █████▎░░░░░░░░░░░░░░ 2,600/10,000 rows  80.0 rows/s  1 m 33 s left  16 running
        ");
        bar.finish(&after(30));
        insta::assert_snapshot!(terminal.contents(), @r"
        warning: the server is slow
        hint: wait
        still here
        ");
    }

    #[test]
    fn a_narrow_terminal_cuts_the_figures_and_keeps_to_one_line() {
        let terminal = InMemoryTerm::new(10, 40);
        let mut bar = bar(&terminal);
        (0..5).for_each(|second| bar.tick(&after(second)));
        insta::assert_snapshot!(terminal.contents(), @r"
        ██▋░░░░░░░░░░░░░░░░░ 1,320/10,000 rows
        ");
    }
}
