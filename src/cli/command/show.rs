//! The options about what is shown. They belong to a session, and the journal does not record them.

use clap::{Args, ValueEnum};

use crate::report::progress::ProgressKind;

/// The values of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// The options about what is shown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Show")]
pub(crate) struct ShowOptions {
    /// How to show progress on standard error
    #[arg(long, value_name = "KIND", default_value = "auto", env = "TAB_PROGRESS")]
    pub progress: ProgressKind,
    /// Show errors only: no summary and no progress
    #[arg(short, long, env = "TAB_QUIET")]
    pub quiet: bool,
    /// Show each failed attempt, and each distinct traceback once (given twice: every traceback, and more logs)
    #[arg(short, long, action = clap::ArgAction::Count, env = "TAB_VERBOSE")]
    pub verbose: u8,
    /// When to use colours
    #[arg(long, value_name = "WHEN", default_value = "auto", env = "TAB_COLOR")]
    pub color: ColorChoice,
}

impl ShowOptions {
    /// Whether to colour the text on a stream that `suits` colours.
    pub(crate) fn colored(&self, suits: bool) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => suits,
        }
    }
}
