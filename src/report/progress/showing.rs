//! What is shown of a run, and in which form.

/// The values of `--progress`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProgressKind {
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

impl ProgressKind {
    /// The form in which this is shown.
    pub(crate) fn form(self) -> Form {
        if self == Self::Json { Form::Json } else { Form::Text }
    }
}

/// The form of what is written to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Text for people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// What is shown, and to whom.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Showing {
    /// `--progress`.
    pub kind: ProgressKind,
    /// Whether standard error is a terminal.
    pub is_terminal: bool,
    /// Whether notes are left out, and progress too with [`ProgressKind::Auto`].
    pub quiet: bool,
    /// 1 shows every failed attempt, 2 or more also shows every traceback again.
    pub verbose: u8,
    /// Whether to colour it.
    pub color: bool,
}

impl Showing {
    /// Whether a bar is drawn.
    pub(crate) fn has_bar(self) -> bool {
        match self.kind {
            ProgressKind::Auto => self.is_terminal && !self.quiet,
            ProgressKind::Bar => self.is_terminal,
            _ => false,
        }
    }
}
