//! The options about what is shown. Not part of a job: each session has its own.

use clap::{Args, ValueEnum};

use crate::report::progress::ProgressKind;

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// What is shown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Show")]
pub(crate) struct ShowOptions {
    /// Progress on standard error
    #[arg(long, value_name = "KIND", default_value = "auto", env = "TAB_PROGRESS")]
    pub progress: ProgressKind,
    /// No summary and no progress; errors only
    #[arg(short, long, env = "TAB_QUIET")]
    pub quiet: bool,
    /// Show each failed attempt, and each traceback once (twice: every traceback, and more logs)
    #[arg(short, long, action = clap::ArgAction::Count, env = "TAB_VERBOSE")]
    pub verbose: u8,
    /// Colours
    #[arg(long, value_name = "WHEN", default_value = "auto", env = "TAB_COLOR")]
    pub color: ColorChoice,
}

impl ShowOptions {
    /// Whether to colour what goes to a stream that is, or is not, a terminal.
    pub(crate) fn colored(&self, is_terminal: bool) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}
