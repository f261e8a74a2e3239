//! One check of `doctor`, and how it is shown.

use console::Style;

use crate::report::text::{Look, escape};

/// Columns of what was checked.
const NAME: usize = 20;

/// What was found; or what is wrong and, after `hint: `, the remedy.
pub(super) type Finding = Result<String, String>;

/// What was checked, and what was found.
pub(super) type Check = (&'static str, Finding);

/// Formats a check as `✓ DSPy  3.4.1`, with further lines below the first.
pub(super) fn line((name, found): &Check, look: Look) -> String {
    let (mark, text) = match found {
        Ok(text) => (look.paint(Style::new().green(), "✓"), text),
        Err(text) => (look.paint(Style::new().red(), "✗"), text),
    };
    let indent = " ".repeat(NAME + 3);
    let lines: Vec<_> = text.lines().map(escape).collect();
    format!("{mark} {name:<NAME$} {}\n", lines.join(&format!("\n{indent}")))
}
